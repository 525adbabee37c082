package proxy

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Absorb adds to what the proxy knows what another one did before the same
// backends, as its Snapshot tells: one that this proxy has taken over from, and
// that went on for a while. Where the other's routing was another, by its view of
// the backends' health, its ring becomes a former one, so that what was stored by
// it is found. Numbers of sessions are understood only if this proxy began by the
// other's Snapshot.
func (p *Proxy) Absorb(s Snapshot) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.table.Load()
	if old == nil {
		return errors.New("absorb: the proxy has no settings yet")
	}
	now := time.Now()
	theirs, err := p.tableOf(s, old, now)
	if err != nil {
		return fmt.Errorf("absorb: %w", err)
	}
	t, err := p.build(old.again(p.down, now))
	if err != nil {
		return fmt.Errorf("absorb: %w", err)
	}
	window := p.window(t.settings)
	for _, q := range t.pools {
		q.absorb(theirs.poolNamed(q.name), now, window)
		if len(q.formers) > 0 {
			q.via = &handoff{plain: plain{p, q}, t: t}
		}
	}
	for _, ps := range s.Places {
		if place := t.place(ps.Name, ps.Address); place != nil && s.Salt == p.salt {
			place.absorb(ps)
		}
	}
	t.markGone(p.down)
	p.longest.Store(max(p.longest.Load(), s.Longest))
	p.publish(t, old)
	return nil
}

// absorb takes the other's ring, and its former ones, for former rings of q.
func (q *pool) absorb(o *pool, now time.Time, window time.Duration) {
	if o == nil {
		return
	}
	before := len(q.formers)
	q.addFormer(former{ring: o.ring, owners: o.owners, ended: now, until: now.Add(window)})
	for _, f := range o.formers {
		q.addFormer(f)
	}
	if len(q.formers) == before {
		return
	}
	slices.SortStableFunc(q.formers, func(a, b former) int { return b.ended.Compare(a.ended) })
	q.settled = new(settled)
}

// absorb adds to what is known of the place.
func (p *place) absorb(s PlaceState) {
	out := p.outages.Load()
	out.last.Store(max(out.last.Load(), toNano(s.LastDown)))
	for _, h := range s.Overtaken {
		p.overtaken().add(h, toNano(s.LastDown))
	}
	p.began.Store(max(p.began.Load(), toNano(s.Began)))
	p.inUse.Store(max(p.inUse.Load(), toNano(s.InUse)))
}
