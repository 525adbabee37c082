package xray

import "slices"

// together adds applications up. What is known of single sessions, and the
// time-outs, stay with them.
func together(apps []App) App {
	all := App{Ops: []Op{}, Largest: []Session{}, Busiest: []Session{}, Timeouts: []Timeout{}, Waits: emptyTimes(), Holds: emptyTimes()}
	all.Sizes = Histogram{AtMost: sizeBounds, Counts: make([]int64, sizeBuckets)}
	for i := range apps {
		a := &apps[i]
		if all.Since.IsZero() || a.Since.Before(all.Since) {
			all.Since = a.Since
		}
		for _, op := range a.Ops {
			j := slices.IndexFunc(all.Ops, func(o Op) bool { return o.Op == op.Op })
			if j < 0 {
				all.Ops = append(all.Ops, op)
				continue
			}
			all.Ops[j].Count += op.Count
			all.Ops[j].Rate += op.Rate
		}
		all.Polls += a.Polls
		all.PollRate += a.PollRate
		all.Compared += a.Compared
		all.Identical += a.Identical
		all.Sizes.add(a.Sizes)
		all.Waits.add(a.Waits)
		all.Holds.add(a.Holds)
	}
	return all
}

func emptyTimes() Histogram { return Histogram{AtMost: timeBounds, Counts: make([]int64, timeBuckets)} }

// add adds the values of another one with the same buckets.
func (h *Histogram) add(other Histogram) {
	for i, n := range other.Counts {
		h.Counts[i] += n
	}
	h.Sum += other.Sum
}
