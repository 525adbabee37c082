package proxy

import (
	"context"
	"sync/atomic"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/ring"
)

// place is where sessions can be: one backend at one address. It lives as long
// as a table names it and is shared by tables.
type place struct {
	name    string
	address string
	conns   backend.Pool
	target  atomic.Pointer[string] // name that its health goes by
	failing atomic.Int64           // Unix nanoseconds of the first failure since the last answer; 0 when all is well

	// outages is what is known of the time when the server was down. Places that
	// are known to lead to one server have it in common.
	outages atomic.Pointer[outages]

	// instance names the run of the server behind the address, as its sentinel
	// tells, or those of all servers behind a proxy; nil while that is not known.
	instance atomic.Pointer[instance]
	// peer is how the proxy at the address describes itself; nil for a server.
	peer atomic.Pointer[Peer]
	// loops is whether requests sent there would come back to this proxy.
	loops atomic.Bool
	// began is when the instance before was last seen, in Unix nanoseconds:
	// nothing from before is there any more.
	began atomic.Int64
	seen  int64 // when instance was last seen; guarded by the proxy's mu
	down  bool  // ejected and not readmitted since, by whatever name; guarded by the proxy's mu

	security security // guarded by the proxy's mu
	// inUse is when a session was last found in use at the place and left there,
	// in Unix nanoseconds.
	inUse atomic.Int64
	// emptied is when a place that owns no session was last seen to have none, in
	// Unix nanoseconds.
	emptied atomic.Int64
}

// outages is what is known of a server that was down.
type outages struct {
	// last is when the last one began, in Unix nanoseconds. Copies older than
	// that may have been overtaken elsewhere.
	last atomic.Int64
	// overtaken holds the sessions that were written or removed elsewhere while
	// the server was down, with the begin of that outage: what it has of them is
	// stale.
	overtaken keySet
}

// add takes over what o has.
func (x *outages) add(o *outages) {
	x.last.Store(max(x.last.Load(), o.last.Load()))
	x.overtaken.addAll(&o.overtaken)
}

func (p *place) lastDown() int64    { return p.outages.Load().last.Load() }
func (p *place) overtaken() *keySet { return &p.outages.Load().overtaken }

// join has p share what is known of outages with the places that lead to the
// same server, and with no others. The proxy's mu is held.
func (p *place) join(places []*place) {
	own := &outages{}
	own.add(p.outages.Load())
	for _, other := range places {
		if other != p && sameServer(other, p) {
			own.add(other.outages.Load())
			other.outages.Store(own)
			p.beganWith(other)
		}
	}
	p.outages.Store(own)
}

// inherit has a new place share what is known of outages with those that lead to
// the same server.
func (p *place) inherit(places []*place) {
	for _, other := range places {
		if sameServer(other, p) {
			p.outages.Store(other.outages.Load())
			p.beganWith(other)
		}
	}
}

// beganWith has places that lead to one server agree on since when its run may have
// lasted. A proxy stands for several runs. The proxy's mu is held.
func (p *place) beganWith(other *place) {
	if p.isProxy() || other.isProxy() {
		return
	}
	began := max(p.began.Load(), other.began.Load())
	p.began.Store(began)
	other.began.Store(began)
}

// holdsFrom reports whether the place may still hold sessions that it owned until
// ended or that were in use there later. Until grace has passed, requests are
// still on their way there, and may have come to a server that was restarted.
func (p *place) holdsFrom(ended int64, grace time.Duration) bool {
	last := max(ended, p.inUse.Load())
	return p.began.Load() < last+int64(grace) && p.emptied.Load() < ended+int64(grace)
}

// sameServer reports whether a and b are known to be one server under two
// addresses or names, or two proxies before the same servers.
func sameServer(a, b *place) bool {
	if a == b || a.address == b.address {
		return true
	}
	x, y := a.instance.Load(), b.instance.Load()
	return x != nil && y != nil && x.meets(y)
}

// setDown notes that the place is ejected or readmitted. Its health may go by
// another name when the settings change, but that begins no other outage. The
// proxy's mu is held.
func (p *place) setDown(down bool, now time.Time) {
	if down && !p.down {
		p.outages.Load().last.Store(now.UnixNano())
	}
	p.down = down
}

// failed notes that the backend did not answer and returns since when.
func (p *place) failed(now time.Time) time.Time {
	p.failing.CompareAndSwap(0, now.UnixNano())
	if since := p.failing.Load(); since != 0 {
		return time.Unix(0, since)
	}
	return now
}

func (p *place) answered() {
	if p.failing.Load() != 0 {
		p.failing.Store(0)
	}
}

// member is a backend as one table sees it.
type member struct {
	Backend
	place *place
	up    bool
}

func (m *member) owns() bool { return m.up && !m.Drain }

// table is the snapshot that a request is routed by. Nothing in it changes once
// it is published.
type table struct {
	settings *Settings
	routing  *Routing  // in force; that of the settings, unless next is set
	members  []*member // of routing, by name
	pools    []*pool   // of routing, in order; the last one takes all applications
	next     *next     // what takes its place, nil if nothing does
}

// next is routing that the settings want and that is not in force yet.
type next struct {
	members []*member
	pools   []*pool
	at      time.Time // when it comes into force
}

// pool is a group of backends with the ring over those that may own sessions,
// and the rings it had before.
type pool struct {
	name     string
	patterns []string // none: takes every application
	ring     *ring.Ring
	owners   []*place // by index of the ring's members
	since    time.Time
	formers  []former // the latest first
	settled  *settled // sessions known to be nowhere but at their owner; set if there are formers
	via      roundTripper
}

// former is a ring that the pool had until ended, and whose owners may still
// hold sessions until it is forgotten.
type former struct {
	ring   *ring.Ring
	owners []*place
	gone   []bool // owners that can't be asked: ejected
	ended  time.Time
	until  time.Time
}

// openUntil returns when the window is over: a session that was found in use
// may live there for another one.
func (f *former) openUntil(window time.Duration) time.Time {
	until := f.until
	for _, p := range f.owners {
		if t := fromNano(p.inUse.Load()).Add(window); t.After(until) {
			until = t
		}
	}
	return until
}

// roundTripper brings a request to where its session is and an answer back.
type roundTripper interface {
	roundTrip(ctx context.Context, x *exchange) error
}

// pool returns the pool that serves the application, nil if there is none.
func (t *table) pool(app []byte) *pool { return poolFor(t.pools, app) }

func poolFor(pools []*pool, app []byte) *pool {
	for _, p := range pools {
		if p.takes(app) {
			return p
		}
	}
	return nil
}

// nextOwner returns the place that owns the session when the next routing is in
// force, nil if none is known to be coming.
func (t *table) nextOwner(app, key []byte) *place {
	if t.next == nil {
		return nil
	}
	q := poolFor(t.next.pools, app)
	if q == nil {
		return nil
	}
	return q.owner(key)
}

func (p *pool) takes(app []byte) bool {
	if p.patterns == nil {
		return true
	}
	return matchAny(p.patterns, app)
}

// owner returns the place that owns the session, nil if nobody may.
func (p *pool) owner(key []byte) *place {
	i := p.ring.Owner(key)
	if i < 0 {
		return nil
	}
	return p.owners[i]
}
