package proxy

import (
	"slices"
	"strings"
	"time"

	"stateproxy/ring"
	"stateproxy/wire"
)

// plan is what a table is built from.
type plan struct {
	settings *Settings
	routing  *Routing // in force
	next     *Routing // to come, nil if nothing is
	nextAt   time.Time
	old      *table // nil for the first
	down     map[string]bool
	close    string // pool whose former rings are forgotten
	now      time.Time
}

// build makes a table. It keeps the places of the old one that are still named
// at the same address, and remembers its rings where the new ones differ.
func (p *Proxy) build(pl plan) (*table, error) {
	t := &table{settings: pl.settings, routing: pl.routing}
	t.members = p.membersOf(pl.routing, pl, nil)
	var err error
	if t.pools, err = poolsOf(pl.routing, t.members, pl.now); err != nil {
		return nil, err
	}
	if pl.next != nil {
		n := &next{members: p.membersOf(pl.next, pl, t.members), at: pl.nextAt}
		if n.pools, err = poolsOf(pl.next, n.members, pl.now); err != nil {
			return nil, err
		}
		t.next = n
	}
	window := p.window(pl.settings)
	t.remember(pl, window)
	for _, q := range t.pools {
		q.via = plain{p, q}
		if len(q.formers) > 0 || t.next != nil || q.mayHoldOld(pl.now.Add(-window)) {
			q.via = &handoff{plain: plain{p, q}, t: t}
		} else {
			q.forgetOutages()
		}
	}
	return t, nil
}

// membersOf makes the members of r, with the places that old or beside have.
func (p *Proxy) membersOf(r *Routing, pl plan, beside []*member) (list []*member) {
	for _, b := range r.Backends {
		m := &member{Backend: b}
		for _, other := range beside {
			if other.Name == b.Name && other.Address == b.Address {
				m.place = other.place
			}
		}
		if m.place == nil {
			m.place = pl.old.place(b.Name, b.Address)
		}
		if m.place == nil {
			m.place = p.newPlace(b)
			m.place.inherit(pl.old.places())
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b *member) int { return strings.Compare(a.Name, b.Name) })
	inForce, next := list, []*member(nil)
	if beside != nil {
		inForce, next = beside, list
	}
	for _, m := range list {
		m.up = !pl.down[targetName(m.place, inForce, next)]
	}
	return list
}

// defaultPool is the name of the pool that takes what no other pool does.
const defaultPool = "default"

// withDefaultPool returns the pools of r and behind them the default one, over
// all backends that no pool names, if there are any.
func (r *Routing) withDefaultPool() []Pool {
	named := map[string]bool{}
	for _, p := range r.Pools {
		for _, name := range p.Backends {
			named[name] = true
		}
	}
	rest := Pool{Name: defaultPool}
	for _, b := range r.Backends {
		if !named[b.Name] {
			rest.Backends = append(rest.Backends, b.Name)
		}
	}
	if rest.Backends == nil {
		return r.Pools
	}
	return append(slices.Clone(r.Pools), rest)
}

func poolsOf(r *Routing, members []*member, now time.Time) (list []*pool, err error) {
	for _, sp := range r.withDefaultPool() {
		q := &pool{name: sp.Name, patterns: sp.Applications, since: now}
		var owners []ring.Member
		byName := map[string]*place{}
		for _, name := range sp.Backends {
			if m := memberNamed(members, name); m != nil && m.owns() {
				owners = append(owners, ring.Member{Name: name, Weight: m.Weight})
				byName[name] = m.place
			}
		}
		if q.ring, err = ring.New(owners); err != nil {
			return nil, err
		}
		for _, m := range q.ring.Members() {
			q.owners = append(q.owners, byName[m.Name])
		}
		list = append(list, q)
	}
	return list, nil
}

// samePools reports whether two lists of pools split the applications alike.
func samePools(a, b []*pool) bool {
	return slices.EqualFunc(a, b, func(p, q *pool) bool {
		return p.name == q.name && slices.Equal(p.patterns, q.patterns)
	})
}

// sameOwners reports whether two rings send every session to the same place.
func sameOwners(a *ring.Ring, aOwners []*place, b *ring.Ring, bOwners []*place) bool {
	return a.Fingerprint() == b.Fingerprint() && slices.Equal(aOwners, bOwners)
}

// sawTimeout takes note of a session's time-out.
func (p *Proxy) sawTimeout(minutes wire.Int) {
	for old := p.longest.Load(); minutes.N > old; old = p.longest.Load() {
		if p.longest.CompareAndSwap(old, minutes.N) {
			return
		}
	}
}

// maxWindow bounds a handoff window, for sessions may be given time-outs of a
// year.
const maxWindow = 24 * time.Hour

// window returns for how long former owners are asked: as long as the longest
// session time-out that was seen, and not less than the settings say.
func (p *Proxy) window(s *Settings) time.Duration {
	longest := time.Duration(p.longest.Load()) * time.Minute
	return max(s.HandoffWindow, min(longest, maxWindow))
}

// remember takes over what rings the sessions of the old table went by.
func (t *table) remember(pl plan, window time.Duration) {
	if pl.old == nil {
		return
	}
	same := samePools(t.pools, pl.old.pools)
	for i, q := range t.pools {
		olds := pl.old.pools // any of which may have served what q does now
		if same {
			olds = olds[i : i+1]
		}
		q.remember(pl.now, window, olds)
		t.rememberNext(q, pl, window)
		if q.name == pl.close {
			q.formers = nil
		}
		isDown := func(p *place) bool { return pl.down[t.targetName(p)] }
		q.addRingsBehind(pl.now.Add(-t.settings.HandoffDelay), isDown)
	}
	t.markGone(pl.down)
}

// markGone notes which former owners can't be asked.
func (t *table) markGone(down map[string]bool) {
	for _, q := range t.pools {
		for i := range q.formers {
			f := &q.formers[i]
			f.gone = make([]bool, len(f.owners))
			for j, place := range f.owners {
				f.gone[j] = down[t.targetName(place)] || place.loops.Load()
			}
		}
	}
}

// addRingsBehind adds the rings that proxies go by which are behind: former ones
// that ended after since, without the backends that are down now.
func (q *pool) addRingsBehind(since time.Time, isDown func(*place) bool) {
	for _, f := range slices.Clone(q.formers) {
		if !f.ended.After(since) || !slices.ContainsFunc(f.owners, isDown) {
			continue
		}
		var members []ring.Member
		up := former{ended: f.ended, until: f.until}
		for j, m := range f.ring.Members() {
			if !isDown(f.owners[j]) {
				members = append(members, m)
				up.owners = append(up.owners, f.owners[j])
			}
		}
		var err error
		if up.ring, err = ring.New(members); err == nil { // some of the members of a ring are one
			q.addFormer(up)
		}
	}
	slices.SortStableFunc(q.formers, func(a, b former) int { return b.ended.Compare(a.ended) })
}

func (q *pool) remember(now time.Time, window time.Duration, olds []*pool) {
	for _, old := range olds {
		if sameOwners(q.ring, q.owners, old.ring, old.owners) {
			q.since, q.settled = old.since, old.settled
		} else {
			q.addFormer(former{ring: old.ring, owners: old.owners, ended: now, until: now.Add(window)})
		}
	}
	for _, old := range olds {
		for _, f := range old.formers {
			if f.until = f.openUntil(window); f.until.After(now) {
				q.addFormer(f)
			}
		}
	}
	slices.SortStableFunc(q.formers, func(a, b former) int { return b.ended.Compare(a.ended) })
	if len(olds) != 1 || q.settled == nil {
		q.settled = new(settled)
	}
}

// rememberNext takes over the rings that were to come and now are neither to come
// nor in force, be it that a backend has fallen out or that the settings have
// changed: a proxy that is ahead may have gone by them.
func (t *table) rememberNext(q *pool, pl plan, window time.Duration) {
	if pl.old.next == nil {
		return
	}
	pools := t.pools
	if t.next != nil {
		pools = slices.Concat(pools, t.next.pools)
	}
	same := samePools(pl.old.pools, pl.old.next.pools)
	for _, old := range pl.old.next.pools {
		f := former{ring: old.ring, owners: old.owners, ended: pl.now, until: pl.now.Add(window)}
		if same && old.name != q.name || slices.ContainsFunc(pools, f.sameAs) {
			continue
		}
		before := len(q.formers)
		if q.addFormer(f); len(q.formers) > before {
			q.since, q.settled = pl.now, new(settled)
		}
	}
	slices.SortStableFunc(q.formers, func(a, b former) int { return b.ended.Compare(a.ended) })
}

func (f *former) sameAs(q *pool) bool { return sameOwners(f.ring, f.owners, q.ring, q.owners) }

// maxFormers bounds the look-ups that one session may need. A flapping backend
// brings the same few rings again and again, and they count once.
const maxFormers = 16

// addFormer adds f unless it sends every session to where the present ring does
// or a later former ring did.
func (q *pool) addFormer(f former) {
	if len(f.owners) == 0 || len(q.formers) == maxFormers || sameOwners(q.ring, q.owners, f.ring, f.owners) {
		return
	}
	for _, g := range q.formers {
		if sameOwners(g.ring, g.owners, f.ring, f.owners) {
			return
		}
	}
	q.formers = append(q.formers, f)
}

// mayHoldOld reports whether one of the owners was ejected after since, so that
// copies from before may be there even if the windows were closed by hand.
func (q *pool) mayHoldOld(since time.Time) bool {
	return slices.ContainsFunc(q.owners, func(p *place) bool { return p.lastDown() > since.UnixNano() })
}

// forgetOutages is called when all handoff windows are over: by then the copies
// from before an outage have expired.
func (q *pool) forgetOutages() {
	for _, place := range q.owners {
		place.overtaken().clear()
		place.outages.Load().last.Store(0)
	}
}

// targetName is the name under which a place's health is watched: the
// backend's, or with its address if the backend is, will be or was later at
// another one.
func (t *table) targetName(p *place) string {
	for _, other := range t.places() { // members come first, then former owners, the latest first
		if other.name == p.name {
			if other != p {
				return p.name + "@" + p.address
			}
			break
		}
	}
	return p.name
}

func targetName(p *place, members, next []*member) string {
	m := memberNamed(members, p.name)
	if m == nil {
		m = memberNamed(next, p.name)
	}
	if m != nil && m.place != p {
		return p.name + "@" + p.address
	}
	return p.name
}

// memberNamed looks a member up in a list that is sorted by name.
func memberNamed(list []*member, name string) *member {
	i, ok := slices.BinarySearchFunc(list, name, func(m *member, name string) int { return strings.Compare(m.Name, name) })
	if !ok {
		return nil
	}
	return list[i]
}

// place returns the place of that name and address, be it a member's or a
// former owner's that comes back; nil if there is none.
func (t *table) place(name, address string) *place {
	for _, p := range t.places() {
		if p.name == name && p.address == address {
			return p
		}
	}
	return nil
}

// places returns every place that a session may be at, each once.
func (t *table) places() (all []*place) {
	if t == nil {
		return nil
	}
	add := func(p *place) {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	for _, m := range t.members {
		add(m.place)
	}
	if t.next != nil {
		for _, m := range t.next.members {
			add(m.place)
		}
	}
	for _, q := range t.pools {
		for _, f := range q.formers {
			for _, p := range f.owners {
				if !p.loops.Load() { // it never held anything
					add(p)
				}
			}
		}
	}
	return all
}

// nextEvent returns when the table changes by the clock alone: the first
// handoff window is over, or the next routing comes into force. Zero is never.
func (t *table) nextEvent() (at time.Time) {
	sooner := func(x time.Time) {
		if at.IsZero() || x.Before(at) {
			at = x
		}
	}
	for _, q := range t.pools {
		for _, f := range q.formers {
			sooner(f.until)
		}
	}
	if t.next != nil {
		sooner(t.next.at)
	}
	return at
}

// changeFrom tells what t changes against old, or will when its next routing is
// in force.
func (t *table) changeFrom(old *table) Change {
	var c Change
	pools := t.pools
	if t.next != nil {
		pools, c.At = t.next.pools, t.next.at
	}
	for _, q := range pools {
		pc := PoolChange{Name: q.name, Fingerprint: q.ring.Fingerprint()}
		if o := old.poolNamed(q.name); o != nil {
			pc.Moved = ring.Moved(o.ring, q.ring)
		}
		c.Pools = append(c.Pools, pc)
	}
	return c
}

func (t *table) poolNamed(name string) *pool {
	if t == nil {
		return nil
	}
	for _, q := range t.pools {
		if q.name == name {
			return q
		}
	}
	return nil
}
