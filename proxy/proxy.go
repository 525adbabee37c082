// Package proxy routes session traffic over a pool of state servers: it accepts
// clients, finds the owner of each request's session, and brings the answer
// back, or the one failure that a client can understand (protocol.md section 9).
//
//	p := &proxy.Proxy{}
//	_, err := p.Reconfigure(proxy.Settings{Backends: []proxy.Backend{
//		{Name: "s1", Address: "10.0.0.11:42424", Weight: 1},
//	}})
//	go p.Serve(ln)
//	...
//	err = p.Shutdown(ctx)
//
// Which backends are healthy it is told through SetUp; what it observes it
// tells through Done and Evidence. Reading a configuration, logging and metrics
// are left to the caller.
package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/internal/access"
	"stateproxy/internal/backend"
)

// ErrClosed is returned by Serve after Shutdown or Close, and by Serve and
// Reconfigure on a proxy that is closed.
var ErrClosed = errors.New("proxy is closed")

// Proxy is the front-end. Its fields are set before first use; the zero value
// needs a successful Reconfigure before Serve. All methods are safe for
// concurrent use.
type Proxy struct {
	// Done is told of every finished request; nil is fine. It is called by the
	// goroutine that serves the client, so it must be quick, and must not keep
	// the Outcome.
	Done func(*Outcome)
	// Evidence is told what real traffic says of a backend's health: err is nil
	// after a good answer. It is called for every request and must be quick. nil
	// is fine.
	Evidence func(name string, err error)
	// Serves reports whether a backend can be reached, as far as is known; nil
	// means that one always can. Proxies before this one ask.
	Serves func() bool
	// Refused is told of each client connection that is closed before its first
	// request. It must be quick. nil is fine.
	Refused func(Refusal)
	// Changed is called after the table has changed by the clock: a handoff window
	// ended, or routing that was to come is in force. It is called without any
	// lock. nil is fine.
	Changed func(Change)
	// Dial connects to backends; nil means a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	table  atomic.Pointer[table]
	counts counters
	moves  moves
	census census
	salt   uint64 // of key hashes; set before the first table
	id     string // of this run; set before the first table
	// longest is the longest session time-out seen, in minutes.
	longest atomic.Int64

	mu          sync.Mutex // guards what follows, and the making of tables
	down        map[string]bool
	evacuations []*evacuation
	restored    *table   // what Restore made, until the first Reconfigure
	retired     []*place // in no table any more, but perhaps with a request under way
	listeners   map[net.Listener]struct{}
	conns       map[*conn]struct{}
	clients     access.Clients // those that are connected or were lately
	closed      bool           // no new connections
	aborted     bool           // nor those that the system had accepted before
	leaveBy     time.Time      // when idle connections are closed; set with closed
	clock       *time.Timer    // makes the next table that only time asks for
	accepting   sync.WaitGroup // calls of Serve; to be waited for before running
	running     sync.WaitGroup

	stopped context.Context // ends what must not wait any longer
	stop    context.CancelFunc
}

type counters struct {
	accepted, acceptErrors, requests, inFlight, delayed atomic.Int64

	refused [len(refusals)]atomic.Int64
}

// Change is what is different in the routing of a new table.
type Change struct {
	At    time.Time // when it comes into force; zero if it is
	Pools []PoolChange
	Kept  []KeptBackend // left out of the settings, but kept as former owners
}

// PoolChange tells of one pool.
type PoolChange struct {
	Name        string
	Fingerprint uint64
	Moved       float64 // share of the pool's sessions whose owner is another, 0 to 1
}

// Reconfigure makes s the settings in force, wholly or, with an error, not at
// all. Requests under way end by the old ones. Connections to backends that
// keep name and address are kept, and so is their health. If s routes sessions
// elsewhere, that comes into force after HandoffDelay: Change.At.
func (p *Proxy) Reconfigure(s Settings) (Change, error) {
	if err := s.validate(); err != nil {
		return Change{}, err
	}
	s.setDefaults()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped == nil {
		p.stopped, p.stop = context.WithCancel(context.Background())
	}
	if p.salt == 0 {
		p.salt = newSalt()
	}
	if p.id == "" {
		p.id = rand.Text()
	}
	if t := p.table.Load(); t != nil {
		s.keepDoors(t.settings)
	}
	old := p.before()
	pl := plan{settings: &s, routing: s.routing(), old: old, down: p.down, now: time.Now()}
	t, err := p.build(pl)
	if err != nil {
		return Change{}, err
	}
	if old != nil && s.HandoffDelay > 0 && !s.routing().equal(old.routing) {
		pl.routing, pl.next, pl.nextAt = old.routing, pl.routing, pl.now.Add(s.HandoffDelay)
		if old.next != nil && s.routing().equal(old.settings.routing()) {
			pl.nextAt = old.next.at // the same change again does not begin anew
		}
		if t, err = p.build(pl); err != nil {
			return Change{}, err
		}
	}
	p.publish(t, old)
	p.dismiss(&s)
	p.restored = nil
	c := t.changeFrom(old)
	c.Kept = old.kept(&s, p.window(&s), c.when(pl.now), pl.now)
	return c, nil
}

// before returns the table that the next one follows: the one in force, or what
// is remembered of a former process. p.mu is held.
func (p *Proxy) before() *table {
	if t := p.table.Load(); t != nil {
		return t
	}
	return p.restored
}

// SetUp tells whether a backend is up. One that is not owns no sessions. It
// returns the change in routing, and false if the name is not known or nothing
// changed.
func (p *Proxy) SetUp(name string, up bool) (Change, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.table.Load()
	if old == nil || p.down[name] == !up {
		return Change{}, false
	}
	now := time.Now()
	place := old.target(name)
	if place == nil {
		return Change{}, false
	}
	if p.down == nil {
		p.down = map[string]bool{}
	}
	if up {
		delete(p.down, name)
	} else {
		p.down[name] = true
	}
	place.setDown(!up, now)
	t, err := p.build(old.again(p.down, now))
	if err != nil { // the same members as before, fewer of them owners
		return Change{}, false
	}
	p.publish(t, old)
	return t.changeFrom(old), true
}

// CloseWindows forgets the former owners of a pool's sessions: those that were not
// brought over yet are lost. It returns false if there is no pool of that name.
func (p *Proxy) CloseWindows(pool string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.table.Load()
	if old.poolNamed(pool) == nil {
		return false
	}
	pl := old.again(p.down, time.Now())
	pl.close = pool
	t, err := p.build(pl)
	if err != nil { // the settings have made a table before, so there is none
		return false
	}
	p.publish(t, old)
	return true
}

// target returns the place whose health goes by name, nil if there is none.
func (t *table) target(name string) *place {
	for _, place := range t.places() {
		if t.targetName(place) == name {
			return place
		}
	}
	return nil
}

// again returns the plan for t as it would be built now.
func (t *table) again(down map[string]bool, now time.Time) plan {
	pl := plan{settings: t.settings, routing: t.routing, old: t, down: down, now: now}
	if t.next != nil {
		pl.next, pl.nextAt = t.settings.routing(), t.next.at
		if !now.Before(t.next.at) {
			pl.routing, pl.next = pl.next, nil
		}
	}
	return pl
}

// publish makes t the table in force. p.mu is held.
func (p *Proxy) publish(t, old *table) {
	s := t.settings
	keep := map[*place]bool{}
	named := map[string]Backend{}
	for _, b := range s.Backends {
		named[b.Name] = b
	}
	for _, place := range t.places() {
		keep[place] = true
		place.secure(s, named)
		target := t.targetName(place)
		place.target.Store(&target)
		place.conns.Configure(backend.Settings{
			DialTimeout: s.DialTimeout, IdleTimeout: s.BackendIdle, Wait: s.BackendWait,
			MaxConns: s.BackendConns, MaxWaiting: s.BackendQueue, MaxWhole: s.MaxWhole, MaxBody: s.MaxBody,
			TLS: place.security.config,
		})
	}
	p.table.Store(t)
	p.census.setLimit(s.Remember)
	p.changeLater(t)
	if old == nil {
		return
	}
	names := map[string]bool{}
	for place := range keep {
		names[t.targetName(place)] = true
	}
	for name := range p.down {
		if !names[name] {
			delete(p.down, name)
		}
	}
	p.retired = slices.DeleteFunc(p.retired, func(place *place) bool { return place.conns.Stats().Open == 0 })
	for _, place := range old.places() {
		if !keep[place] {
			place.conns.Close()
			p.retired = append(p.retired, place)
		}
	}
}

// changeLater arranges for the next table that only time asks for. p.mu is
// held.
func (p *Proxy) changeLater(t *table) {
	if p.clock != nil {
		p.clock.Stop()
	}
	if at := t.nextEvent(); !at.IsZero() && !p.closed {
		p.clock = time.AfterFunc(time.Until(at), p.changeByClock)
	}
}

func (p *Proxy) changeByClock() {
	p.mu.Lock()
	old := p.table.Load()
	t, err := p.build(old.again(p.down, time.Now()))
	if err != nil { // the settings have made a table before, so there is none
		p.mu.Unlock()
		return
	}
	p.publish(t, old)
	p.mu.Unlock()
	if p.Changed != nil {
		p.Changed(t.changeFrom(old))
	}
}

func (p *Proxy) newPlace(b Backend) *place {
	made := &place{name: b.Name, address: b.Address, conns: backend.Pool{Address: b.Address, Dial: p.Dial}}
	made.outages.Store(new(outages))
	return made
}

// Serve is ServeAs for the listener whose name is "".
func (p *Proxy) Serve(ln net.Listener) error { return p.ServeAs("", ln) }

// ServeAs accepts clients from ln, on the terms that Settings.Listeners has for
// name, until the proxy is shut down or closed, then returns ErrClosed; any other
// error is the listener's. It closes ln.
func (p *Proxy) ServeAs(name string, ln net.Listener) error {
	defer ln.Close()
	if p.table.Load() == nil {
		return errors.New("serve: the proxy has no settings yet")
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrClosed
	}
	if p.listeners == nil {
		p.listeners = map[net.Listener]struct{}{}
		p.conns = map[*conn]struct{}{}
	}
	p.listeners[ln] = struct{}{}
	p.accepting.Add(1)
	p.mu.Unlock()
	defer p.accepting.Done()
	for {
		nc, err := ln.Accept()
		if err == nil {
			p.accept(name, nc)
			continue
		}
		if p.isClosed() {
			return ErrClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		p.counts.acceptErrors.Add(1)
		select { // out of descriptors, say: requests under way will free some
		case <-time.After(50 * time.Millisecond):
		case <-p.stopped.Done():
		}
	}
}

func (p *Proxy) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// Shutdown stops accepting, closes connections as soon as no request is under
// way on them, and returns when all are closed. A request that has come already
// is under way. When ctx ends before, it cuts off what is left and returns ctx's
// error.
func (p *Proxy) Shutdown(ctx context.Context) error { return p.drain(ctx, time.Unix(1, 0)) }

// HandOver is Shutdown for a proxy whose listeners another process serves, so
// that nobody loses by waiting: a connection stays open until it has carried one
// more request, and is closed with that answer, or has been idle for so long. A
// client that uses none that were idle for longer never meets one that is being
// closed.
func (p *Proxy) HandOver(ctx context.Context, idle time.Duration) error {
	return p.drain(ctx, time.Now().Add(idle))
}

func (p *Proxy) drain(ctx context.Context, leaveBy time.Time) error {
	p.stopAccepting(leaveBy)
	done := make(chan struct{})
	go func() {
		p.accepting.Wait()
		p.running.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.abort()
	<-done
	return err
}

// Close cuts off everything at once.
func (p *Proxy) Close() error {
	p.stopAccepting(time.Unix(1, 0))
	p.abort()
	p.accepting.Wait()
	p.running.Wait()
	return nil
}

// stopAccepting also has the connections that there are leave.
func (p *Proxy) stopAccepting(leaveBy time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed, p.leaveBy = true, leaveBy
	if p.clock != nil {
		p.clock.Stop()
	}
	for ln := range p.listeners {
		ln.Close()
	}
	for c := range p.conns {
		c.leave(leaveBy)
	}
}

func (p *Proxy) abort() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		p.stop()
	}
	p.aborted = true
	for c := range p.conns {
		c.nc.Cut()
	}
	for _, place := range append(p.table.Load().places(), p.retired...) {
		place.conns.Abort()
	}
}
