package proxy

import (
	"slices"
	"strings"
	"time"

	"stateproxy/ring"
)

// build makes the table for s. It keeps the places of old that s still names at
// the same address, and remembers old's rings where the new ones differ. down
// holds the names of ejected backends.
func (p *Proxy) build(s *Settings, old *table, down map[string]bool, now time.Time) (*table, error) {
	t := &table{settings: s}
	for _, b := range s.Backends {
		m := &member{Backend: b, up: !down[b.Name], place: old.place(b.Name, b.Address)}
		if m.place == nil {
			m.place = p.newPlace(b)
		}
		t.members = append(t.members, m)
	}
	slices.SortFunc(t.members, func(a, b *member) int { return strings.Compare(a.Name, b.Name) })
	for _, sp := range s.poolsWithDefault() {
		q, err := t.newPool(sp, now)
		if err != nil {
			return nil, err
		}
		t.pools = append(t.pools, q)
	}
	same := old != nil && slices.EqualFunc(t.pools, old.pools, (*pool).servesSame)
	for i, q := range t.pools {
		switch {
		case old == nil:
		case same:
			q.remember(now, s.HandoffWindow, old.pools[i])
		default: // any of the old pools may have served what q does now
			q.remember(now, s.HandoffWindow, old.pools...)
		}
		q.markGone(t, down)
		q.via = plain{p, q}
		if len(q.formers) > 0 {
			q.via = &handoff{plain: plain{p, q}}
		}
	}
	return t, nil
}

// defaultPool is the name of the pool that takes what no other pool does.
const defaultPool = "default"

// poolsWithDefault returns the pools of the settings and behind them the
// default one, over all backends that no pool names, if there are any.
func (s *Settings) poolsWithDefault() []Pool {
	named := map[string]bool{}
	for _, p := range s.Pools {
		for _, name := range p.Backends {
			named[name] = true
		}
	}
	rest := Pool{Name: defaultPool}
	for _, b := range s.Backends {
		if !named[b.Name] {
			rest.Backends = append(rest.Backends, b.Name)
		}
	}
	if rest.Backends == nil {
		return s.Pools
	}
	return append(slices.Clone(s.Pools), rest)
}

func (t *table) newPool(sp Pool, now time.Time) (*pool, error) {
	q := &pool{name: sp.Name, patterns: sp.Applications, since: now}
	var members []ring.Member
	byName := map[string]*place{}
	for _, name := range sp.Backends {
		if m := t.member(name); m != nil && m.owns() {
			members = append(members, ring.Member{Name: name, Weight: m.Weight})
			byName[name] = m.place
		}
	}
	r, err := ring.New(members)
	if err != nil {
		return nil, err
	}
	q.ring = r
	for _, m := range r.Members() {
		q.owners = append(q.owners, byName[m.Name])
	}
	return q, nil
}

func (q *pool) servesSame(old *pool) bool {
	return q.name == old.name && slices.Equal(q.patterns, old.patterns)
}

// sameOwners reports whether both rings send every session to the same place.
func sameOwners(a *ring.Ring, aOwners []*place, b *ring.Ring, bOwners []*place) bool {
	return a.Fingerprint() == b.Fingerprint() && slices.Equal(aOwners, bOwners)
}

// remember takes over what rings the sessions of olds went by.
func (q *pool) remember(now time.Time, window time.Duration, olds ...*pool) {
	for _, old := range olds {
		if sameOwners(q.ring, q.owners, old.ring, old.owners) {
			q.since, q.settled = old.since, old.settled
		} else {
			q.addFormer(former{ring: old.ring, owners: old.owners, ended: now, until: now.Add(window)})
		}
	}
	for _, old := range olds {
		for _, f := range old.formers {
			if f.until.After(now) {
				q.addFormer(f)
			}
		}
	}
	slices.SortStableFunc(q.formers, func(a, b former) int { return b.ended.Compare(a.ended) })
	if len(q.formers) > 0 && (len(olds) != 1 || q.settled == nil) {
		q.settled = new(settled)
	}
}

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

// markGone notes which former owners are ejected: nobody waits for those.
func (q *pool) markGone(t *table, down map[string]bool) {
	for i := range q.formers {
		f := &q.formers[i]
		f.gone = make([]bool, len(f.owners))
		for j, place := range f.owners {
			f.gone[j] = down[t.targetName(place)]
		}
	}
}

// targetName is the name under which a place's health is watched: the
// backend's, or with its address if the backend is at another one now.
func (t *table) targetName(p *place) string {
	if m := t.member(p.name); m != nil && m.place != p {
		return p.name + "@" + p.address
	}
	return p.name
}

func (t *table) member(name string) *member {
	i, ok := slices.BinarySearchFunc(t.members, name, func(m *member, name string) int { return strings.Compare(m.Name, name) })
	if !ok {
		return nil
	}
	return t.members[i]
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
func (t *table) places() []*place {
	if t == nil {
		return nil
	}
	var all []*place
	for _, m := range t.members {
		all = append(all, m.place)
	}
	for _, q := range t.pools {
		for _, f := range q.formers {
			for _, p := range f.owners {
				if !slices.Contains(all, p) {
					all = append(all, p)
				}
			}
		}
	}
	return all
}

// nextEnd returns when the first of the handoff windows is over, zero if there
// is none.
func (t *table) nextEnd() (next time.Time) {
	for _, q := range t.pools {
		for _, f := range q.formers {
			if next.IsZero() || f.until.Before(next) {
				next = f.until
			}
		}
	}
	return next
}
