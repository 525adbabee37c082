package admin

import (
	"slices"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// totals are the counters at one moment.
type totals struct {
	at       time.Time
	requests int64
	locked   int64 // answers 423
	moved    int64
	refused  int64 // client connections
	shut     int64 // of them, those that no limit is the reason for
	failures [len(reasons)]int64
	times    buckets
	backends map[string]backendTotals
}

// backendTotals are the counters of one backend.
type backendTotals struct {
	failed int64 // requests that ended with 400 or no answer
	times  buckets
}

// buckets are a histogram's counts.
type buckets [len(bounds) + 1]int64

func (b *buckets) sum() (n int64) {
	for _, v := range b {
		n += v
	}
	return n
}

// less returns what came to b since before, nothing if it has begun anew.
func (b *buckets) less(before *buckets) (d buckets) {
	for i := range b {
		d[i] = max(0, b[i]-before[i])
	}
	return d
}

// quantile returns an estimate in seconds, 0 if nothing was counted. Within a
// bucket all durations are taken to be equally likely; beyond the last bound it
// is that bound.
func (b *buckets) quantile(q float64) float64 {
	rank := q * float64(b.sum())
	if rank == 0 {
		return 0
	}
	below := 0.0
	for i, n := range b {
		if n := float64(n); below+n < rank || n == 0 {
			below += n
			continue
		}
		if i == len(bounds) {
			break
		}
		low := 0.0
		if i > 0 {
			low = bounds[i-1].Seconds()
		}
		return low + (bounds[i].Seconds()-low)*(rank-below)/float64(b[i])
	}
	return bounds[len(bounds)-1].Seconds()
}

// totals adds up the counters.
func (s *snapshot) totals() *totals {
	c := &s.counts
	t := &totals{at: s.now, refused: s.proxy.Refused, shut: s.shutOut(), backends: make(map[string]backendTotals, len(s.proxy.Backends))}
	for i := range c.shards {
		shard := &c.shards[i]
		t.moved += shard.moved.Load()
		for r := range shard.failures {
			t.failures[r] += shard.failures[r].Load()
		}
		for op := range shard.durations {
			shard.durations[op].addTo(&t.times)
		}
	}
	t.requests = t.times.sum()
	locked, closed, failed := statusIndex(wire.StatusLocked), statusIndex(0), statusIndex(wire.StatusBadRequest)
	known := c.known()
	for op := range numOps {
		t.locked += int64(c.none.requests(op, locked))
		for _, b := range known {
			t.locked += int64(b.requests(op, locked))
		}
	}
	for _, p := range s.proxy.Backends {
		b := known[p.Name]
		if b == nil {
			continue
		}
		var bt backendTotals
		for op := range numOps {
			bt.failed += int64(b.requests(op, closed) + b.requests(op, failed))
		}
		for i := range b.shards {
			b.shards[i].wait.addTo(&bt.times)
		}
		t.backends[p.Name] = bt
	}
	return t
}

// limitReasons are those of connections that were refused for a limit.
var limitReasons = []proxy.Reason{proxy.ConnLimit, proxy.ClientConnLimit, proxy.ClientConnRate}

// shutOut counts the connections whose clients are not to come in at all.
func (s *snapshot) shutOut() (n int64) {
	for _, r := range s.proxy.Refusals {
		if !slices.Contains(limitReasons, r.Reason) {
			n += r.Count
		}
	}
	return n
}

func (h *histogram) addTo(b *buckets) {
	for i := range h.buckets {
		b[i] += h.buckets[i].Load()
	}
}

// since returns what happened between two moments; what there is now, such as
// connections, is the caller's to add.
func (t *totals) since(before *totals) point {
	times := t.times.less(&before.times)
	p := point{
		at:       t.at,
		requests: max(0, t.requests-before.requests),
		locked:   max(0, t.locked-before.locked),
		moved:    max(0, t.moved-before.moved),
		refused:  max(0, t.refused-before.refused),
		shut:     max(0, t.shut-before.shut),
		p50:      float32(times.quantile(.5)), p99: float32(times.quantile(.99)),
	}
	for i := range p.failures {
		p.failures[i] = uint32(max(0, t.failures[i]-before.failures[i]))
	}
	return p
}

// cellSince returns a backend's part of it.
func (t *totals) cellSince(before *totals, name string) cell {
	now, was := t.backends[name], before.backends[name]
	times := now.times.less(&was.times)
	return cell{
		requests: uint32(times.sum()), failed: uint32(max(0, now.failed-was.failed)),
		p50: float32(times.quantile(.5)), p99: float32(times.quantile(.99)),
	}
}
