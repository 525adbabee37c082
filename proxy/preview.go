package proxy

import (
	"slices"
	"time"

	"stateproxy/ring"
)

// Preview tells what Reconfigure would change with s, and changes nothing. The
// errors are those of Reconfigure.
//
// A pool's Moved is the largest share of any of the applications that it would
// serve, those included that another pool serves now. A pool whose applications
// no pool would serve any more is there too, with all of its sessions moved.
func (p *Proxy) Preview(s Settings) (Change, error) {
	if err := s.validate(); err != nil {
		return Change{}, err
	}
	s.setDefaults()
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.before()
	pl := plan{settings: &s, routing: s.routing(), old: old, down: p.down, now: time.Now()}
	var c Change
	var beside []*member
	if old != nil && s.HandoffDelay > 0 && !pl.routing.equal(old.routing) {
		beside, c.At = old.members, pl.now.Add(s.HandoffDelay)
		if old.next != nil && pl.routing.equal(old.settings.routing()) {
			c.At = old.next.at
		}
	}
	pools, err := poolsOf(pl.routing, p.membersOf(pl.routing, pl, beside), pl.now)
	if err != nil {
		return Change{}, err
	}
	for _, q := range pools {
		c.Pools = append(c.Pools, PoolChange{Name: q.name, Fingerprint: q.ring.Fingerprint()})
	}
	c.Kept = old.kept(&s, p.window(&s), c.when(pl.now), pl.now)
	if old == nil {
		return c, nil
	}
	for _, x := range passages(old.pools, pools) {
		c.note(x)
	}
	return c, nil
}

// note adds what the sessions of a passage do.
func (c *Change) note(x passage) {
	name, moved := "", 1.0
	switch {
	case x.from == nil:
		return // they were served by nobody
	case x.to == nil:
		name = x.from.name
	default:
		name, moved = x.to.name, ring.Moved(x.from.ring, x.to.ring)
	}
	i := slices.IndexFunc(c.Pools, func(pc PoolChange) bool { return pc.Name == name })
	if i < 0 {
		i = len(c.Pools)
		c.Pools = append(c.Pools, PoolChange{Name: name})
	}
	c.Pools[i].Moved = max(c.Pools[i].Moved, moved)
}
