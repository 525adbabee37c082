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

	// lastDown is when the place was last ejected, in Unix nanoseconds. Copies
	// older than that may have been overtaken elsewhere.
	lastDown atomic.Int64
	// overtaken holds the sessions that were written or removed elsewhere while
	// the place was down: what it has of them is stale.
	overtaken keySet

	// instance names the run of the server behind the address, as its sentinel
	// tells; nil while that is not known.
	instance atomic.Pointer[string]
	// began is when another instance was first seen than before, in Unix
	// nanoseconds: nothing from before is there any more.
	began atomic.Int64
	// emptied is when the last session was seen to have left a place that owns
	// none, in Unix nanoseconds.
	emptied atomic.Int64
}

// holdsFrom reports whether the place may still hold sessions that it owned
// until ended.
func (p *place) holdsFrom(ended int64) bool {
	return p.began.Load() < ended && p.emptied.Load() < ended
}

// sameServer reports whether a and b are known to be one server under two
// addresses or names.
func sameServer(a, b *place) bool {
	if a == b {
		return true
	}
	x, y := a.instance.Load(), b.instance.Load()
	return x != nil && y != nil && *x == *y
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
	for _, pattern := range p.patterns {
		if match(pattern, app) {
			return true
		}
	}
	return false
}

// owner returns the place that owns the session, nil if nobody may.
func (p *pool) owner(key []byte) *place {
	i := p.ring.Owner(key)
	if i < 0 {
		return nil
	}
	return p.owners[i]
}
