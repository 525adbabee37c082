package proxy

import (
	"slices"
	"time"
)

// KeptBackend is a backend whose address new settings do not have any more, and
// that may still hold sessions.
type KeptBackend struct {
	Name    string
	Address string
	// Until is when the proxy is to forget it. Sessions that are found in use
	// there, or that have a longer time-out than any before, put that off.
	Until time.Time
}

// kept returns the backends of t's settings whose address s does not have, but
// that are asked for sessions all the same. Routing changes at at.
func (t *table) kept(s *Settings, window time.Duration, at, now time.Time) (list []KeptBackend) {
	if t == nil {
		return nil
	}
	members := t.members
	if t.next != nil {
		members = t.next.members
	}
	for _, m := range members {
		stays := func(b Backend) bool { return b.Address == m.Address } // by whatever name
		if slices.ContainsFunc(s.Backends, stays) {
			continue
		}
		if until := t.keptUntil(m.place, window, at); until.After(now) {
			list = append(list, KeptBackend{m.Name, m.Address, until})
		}
	}
	return list
}

// keptUntil returns when nobody asks at the place for sessions any more, if it
// ceases to own any at at; zero if nobody does now.
func (t *table) keptUntil(p *place, window time.Duration, at time.Time) (until time.Time) {
	for _, q := range t.pools {
		if slices.Contains(q.owners, p) {
			return at.Add(window)
		}
		for i := range q.formers {
			f := &q.formers[i]
			if end := f.openUntil(window); slices.Contains(f.owners, p) && p.emptied.Load() < f.ended.UnixNano() && end.After(until) {
				until = end
			}
		}
	}
	return until
}

// when returns when the change comes into force.
func (c *Change) when(now time.Time) time.Time {
	if c.At.IsZero() {
		return now
	}
	return c.At
}
