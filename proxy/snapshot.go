package proxy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"stateproxy/ring"
)

// Snapshot is what a proxy must know to go on after a restart as if it had not
// been away: which routing is in force, which is to come, and which former
// owners may still hold sessions. It is plain data and holds no session ID.
type Snapshot struct {
	Routing Routing
	Next    *Routing  // nil if nothing is to come
	NextAt  time.Time // when it comes into force
	Down    []string  // names of ejected backends
	Windows []WindowState
	Places  []PlaceState
	Longest int64  // longest session time-out seen, in minutes
	Salt    uint64 // of the numbers in Overtaken
}

// WindowState is a ring that a pool had before.
type WindowState struct {
	Pool    string
	Ended   time.Time
	Until   time.Time
	Members []WindowMember
}

// WindowMember is a backend of a former ring.
type WindowMember struct {
	Name, Address string
	Weight        int
}

// PlaceState is what is known of a backend at an address.
type PlaceState struct {
	Name, Address string
	Instance      string    `json:",omitempty"` // nonce of its sentinel
	Servers       []string  `json:",omitempty"` // nonces behind it, if it is a proxy
	LastDown      time.Time `json:",omitzero"`
	Began         time.Time `json:",omitzero"`
	InUse         time.Time `json:",omitzero"`  // when a session was last found in use and left there
	Overtaken     []uint64  `json:",omitempty"` // numbers of sessions whose copies there are stale
	TLS           bool      `json:",omitempty"`
	ServerName    string    `json:",omitempty"`
}

// Snapshot returns what Restore takes. It is the zero Snapshot before the first
// Reconfigure.
func (p *Proxy) Snapshot() Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.table.Load()
	if t == nil {
		return Snapshot{}
	}
	s := Snapshot{Routing: *t.routing, Longest: p.longest.Load(), Salt: p.salt}
	if t.next != nil {
		s.Next, s.NextAt = t.settings.routing(), t.next.at
	}
	for name := range p.down {
		s.Down = append(s.Down, name)
	}
	slices.Sort(s.Down)
	window := p.window(t.settings)
	for _, q := range t.pools {
		for _, f := range q.formers {
			w := WindowState{Pool: q.name, Ended: f.ended, Until: f.openUntil(window)}
			for i, m := range f.ring.Members() {
				w.Members = append(w.Members, WindowMember{m.Name, f.owners[i].address, m.Weight})
			}
			s.Windows = append(s.Windows, w)
		}
	}
	for _, place := range t.places() {
		s.Places = append(s.Places, place.state())
	}
	return s
}

func (p *place) state() PlaceState {
	s := PlaceState{
		Name: p.name, Address: p.address, Overtaken: p.overtaken().all(),
		LastDown: fromNano(p.lastDown()), Began: fromNano(p.began.Load()), InUse: fromNano(p.inUse.Load()),
		TLS: p.security.tls, ServerName: p.security.serverName,
	}
	if in := p.instance.Load(); in != nil && p.isProxy() {
		s.Servers = in.runs
	} else if in != nil {
		s.Instance = in.runs[0]
	}
	slices.Sort(s.Overtaken)
	return s
}

func fromNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func toNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// Restore has the proxy go on from s. It is called before the first
// Reconfigure, which then takes s's routing for the one before.
func (p *Proxy) Restore(s Snapshot) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table.Load() != nil {
		return fmt.Errorf("restore: the proxy has settings already")
	}
	if err := (&Settings{Backends: s.Routing.Backends, Pools: s.Routing.Pools}).validate(); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	t, err := p.tableOf(s, nil, time.Now())
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	for _, ps := range s.Places {
		if place := t.place(ps.Name, ps.Address); place != nil {
			place.restore(ps)
			place.down = slices.Contains(s.Down, t.targetName(place))
			place.join(t.places())
		}
	}
	p.salt = cmp.Or(s.Salt, newSalt())
	p.longest.Store(s.Longest)
	p.restored = t
	return nil
}

// tableOf returns the table that s tells of, with the places that beside has.
func (p *Proxy) tableOf(s Snapshot, beside *table, now time.Time) (*table, error) {
	settings := &Settings{}
	pl := plan{settings: settings, routing: &s.Routing, old: beside, down: map[string]bool{}, now: now}
	if s.Next != nil {
		settings.Backends, settings.Pools = s.Next.Backends, s.Next.Pools
		pl.next, pl.nextAt = s.Next, s.NextAt
	}
	settings.setDefaults()
	for _, name := range s.Down {
		pl.down[name] = true
	}
	t, err := p.build(pl)
	if err != nil {
		return nil, err
	}
	return t, p.restoreWindows(t, s, now)
}

func (p *place) restore(s PlaceState) {
	p.outages.Load().last.Store(toNano(s.LastDown))
	p.began.Store(toNano(s.Began))
	p.inUse.Store(toNano(s.InUse))
	p.security = security{tls: s.TLS, serverName: s.ServerName}
	switch {
	case len(s.Servers) > 0:
		p.instance.Store(&instance{runs: s.Servers})
		p.setPeer(&Peer{Servers: s.Servers})
	case s.Instance != "":
		p.instance.Store(&instance{runs: []string{s.Instance}})
	}
	for _, h := range s.Overtaken {
		p.overtaken().add(h, toNano(s.LastDown))
	}
}

// restoreWindows gives t's pools the former rings of s that are not over.
func (p *Proxy) restoreWindows(t *table, s Snapshot, now time.Time) error {
	made := map[WindowMember]*place{}
	for _, w := range s.Windows {
		q := t.poolNamed(w.Pool)
		if q == nil || !w.Until.After(now) {
			continue
		}
		f := former{ended: w.Ended, until: w.Until}
		members := make([]ring.Member, len(w.Members))
		addresses := map[string]string{}
		for i, m := range w.Members {
			members[i] = ring.Member{Name: m.Name, Weight: m.Weight}
			addresses[m.Name] = m.Address
		}
		var err error
		if f.ring, err = ring.New(members); err != nil {
			return err
		}
		for _, m := range f.ring.Members() {
			id := WindowMember{Name: m.Name, Address: addresses[m.Name]}
			if made[id] == nil {
				made[id] = cmp.Or(t.place(id.Name, id.Address), p.newPlace(Backend{Name: id.Name, Address: id.Address}))
			}
			f.owners = append(f.owners, made[id])
		}
		f.gone = make([]bool, len(f.owners))
		q.addFormer(f)
	}
	return nil
}
