package proxy

import (
	"time"

	"stateproxy/ring"
)

// State is what a backend may do.
type State string

// The states.
const (
	Up       State = "up"       // owns sessions
	Down     State = "down"     // ejected: owns none and is not asked
	Draining State = "draining" // owns none any more; those it still holds are brought over when they are asked for
	Coming   State = "coming"   // owns sessions as soon as the next routing is in force
	Former   State = "former"   // not in the settings any more, but may still hold sessions
)

// Status is a snapshot of the proxy.
type Status struct {
	Conns, InFlight                           int            // now
	MaxConns                                  int            // that the settings allow
	Accepted, Refused, AcceptErrors, Requests int64          // since the start
	Refusals                                  []RefusalCount // of Refused, every reason
	Delayed                                   int64          // requests that waited because of RequestRatePerClient
	Pools                                     []PoolStatus
	Backends                                  []BackendStatus
	Evacuations                               []EvacuationStatus
	Remembered                                int64 // sessions that passed by within their time-out, as far as they are remembered
}

// PoolStatus tells of one pool.
type PoolStatus struct {
	Name         string
	Applications []string // patterns; none: all that no other pool takes
	Fingerprint  uint64   // of the ring: proxies that show the same route alike
	Since        time.Time
	Owners       []OwnerStatus
	Windows      []WindowStatus // handoffs under way, the latest first
	Next         *NextStatus    // what comes next, nil if nothing does
}

// NextStatus is routing that the settings want and that is not in force yet.
type NextStatus struct {
	At          time.Time
	Fingerprint uint64 // 0 if the pool will be gone
	Moved       float64
	Owners      []OwnerStatus
}

// OwnerStatus is a backend's part in a pool.
type OwnerStatus struct {
	Name   string
	Weight int
	Share  float64 // of the pool's sessions, 0 to 1
}

// WindowStatus is a former ring whose owners are still asked.
type WindowStatus struct {
	Ended time.Time
	Until time.Time
	Moved float64 // share of the pool's sessions that had another owner in it
}

// BackendStatus tells of one backend.
type BackendStatus struct {
	Name         string // what its health goes by
	Address      string
	Weight       int // 0 for a former one
	State        State
	Proxy        bool      // it is a proxy itself, with state servers behind it
	FailingSince time.Time // zero while it answers
	Conns        ConnStats
}

// ConnStats tells of the connections to one backend. Counters only grow.
type ConnStats struct {
	Open, Idle, Busy, Waiting int   // now
	Dials, DialErrors         int64 // connections made and not made
	Reused                    int64 // requests that found an idle connection
	Repeated                  int64 // requests sent again on another connection
	Dropped                   int64 // idle connections found dead or closed as idle
	Waits, Refused            int64 // requests that had to wait; that found the queue full or waited in vain
	LateReleased              int64 // locks granted after their request had failed, and released
}

// Target is a place whose health is to be watched.
type Target struct{ Name, Address string }

// Targets returns all places that sessions may be at: the backends of the
// settings and those of earlier ones that still have a handoff window. It
// changes with Reconfigure and SetUp.
func (p *Proxy) Targets() []Target {
	var list []Target
	if t := p.table.Load(); t != nil {
		for _, place := range t.places() {
			list = append(list, Target{t.targetName(place), place.address})
		}
	}
	return list
}

// Status returns the present state.
func (p *Proxy) Status() Status {
	c := &p.counts
	s := Status{
		InFlight: int(c.inFlight.Load()), Accepted: c.accepted.Load(),
		AcceptErrors: c.acceptErrors.Load(), Requests: c.requests.Load(), Delayed: c.delayed.Load(),
	}
	s.Refusals, s.Refused = c.refusalCounts()
	p.mu.Lock()
	s.Conns = len(p.conns)
	down := make(map[string]bool, len(p.down))
	for name := range p.down {
		down[name] = true
	}
	t := p.table.Load()
	p.mu.Unlock()
	if t == nil {
		return s
	}
	s.MaxConns = t.settings.MaxConns
	now := time.Now()
	s.Evacuations = p.evacuationStatus(now)
	s.Remembered = p.census.size.Load()
	for _, q := range t.pools {
		ps := q.status(now)
		ps.Next = t.nextStatus(q)
		s.Pools = append(s.Pools, ps)
	}
	for _, place := range t.places() {
		s.Backends = append(s.Backends, t.backendStatus(place, down))
	}
	return s
}

func (t *table) backendStatus(place *place, down map[string]bool) BackendStatus {
	b := BackendStatus{Name: t.targetName(place), Address: place.address, State: Former, Proxy: place.isProxy(), Conns: ConnStats(place.conns.Stats())}
	if m := memberAt(t.members, place); m != nil {
		b.Weight, b.State = m.Weight, Up
		if m.Drain {
			b.State = Draining
		}
	} else if t.next != nil {
		if m := memberAt(t.next.members, place); m != nil {
			b.Weight, b.State = m.Weight, Coming
		}
	}
	if down[b.Name] {
		b.State = Down
	}
	if since := place.failing.Load(); since != 0 {
		b.FailingSince = time.Unix(0, since)
	}
	return b
}

func (q *pool) status(now time.Time) PoolStatus {
	s := PoolStatus{Name: q.name, Applications: q.patterns, Fingerprint: q.ring.Fingerprint(), Since: q.since}
	s.Owners = ownersOf(q.ring)
	for _, f := range q.formers {
		if f.until.After(now) {
			s.Windows = append(s.Windows, WindowStatus{f.ended, f.until, ring.Moved(f.ring, q.ring)})
		}
	}
	return s
}

func ownersOf(r *ring.Ring) (list []OwnerStatus) {
	for i, m := range r.Members() {
		list = append(list, OwnerStatus{m.Name, m.Weight, r.Share(i)})
	}
	return list
}

func (t *table) nextStatus(q *pool) *NextStatus {
	if t.next == nil {
		return nil
	}
	s := &NextStatus{At: t.next.at}
	for _, n := range t.next.pools {
		if n.name == q.name {
			s.Fingerprint, s.Moved, s.Owners = n.ring.Fingerprint(), ring.Moved(q.ring, n.ring), ownersOf(n.ring)
		}
	}
	return s
}

// memberAt returns the member whose place it is, nil if it is nobody's.
func memberAt(list []*member, p *place) *member {
	if m := memberNamed(list, p.name); m != nil && m.place == p {
		return m
	}
	return nil
}
