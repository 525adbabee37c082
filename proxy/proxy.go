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
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/ring"
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
	// TargetsChanged is called when Targets has changed without a Reconfigure or
	// SetUp, because a handoff window ended. It is called without any lock. nil is
	// fine.
	TargetsChanged func()
	// Dial connects to backends; nil means a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	table  atomic.Pointer[table]
	counts counters
	moves  moves

	mu        sync.Mutex // guards what follows, and the making of tables
	down      map[string]bool
	retired   []*place // in no table any more, but perhaps with a request under way
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	perClient map[netip.Addr]int
	closed    bool        // no new connections
	forget    *time.Timer // ends the handoff window that is over next
	running   sync.WaitGroup

	stopped context.Context // ends what must not wait any longer
	stop    context.CancelFunc
}

type counters struct {
	accepted, refused, acceptErrors, requests, inFlight atomic.Int64
}

// Change is what a Reconfigure did to the routing.
type Change struct {
	Pools []PoolChange
}

// PoolChange tells of one pool.
type PoolChange struct {
	Name        string
	Fingerprint uint64
	Moved       float64 // share of the pool's sessions whose owner is another now, 0 to 1
}

// Reconfigure makes s the settings in force, wholly or, with an error, not at
// all. Requests under way end by the old ones. Connections to backends that
// keep name and address are kept, and so is their health.
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
	old := p.table.Load()
	t, err := p.build(&s, old, p.down, time.Now())
	if err != nil {
		return Change{}, err
	}
	p.publish(t, old)
	return t.changeFrom(old), nil
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
	known := false
	for _, place := range old.places() {
		if old.targetName(place) == name {
			known = true
			if !up {
				place.lastDown.Store(now.UnixNano())
			}
		}
	}
	if !known {
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
	t, err := p.build(old.settings, old, p.down, now)
	if err != nil { // the same members as before, fewer of them owners
		return Change{}, false
	}
	p.publish(t, old)
	return t.changeFrom(old), true
}

// publish makes t the table in force. p.mu is held.
func (p *Proxy) publish(t, old *table) {
	s := t.settings
	keep := map[*place]bool{}
	for _, place := range t.places() {
		keep[place] = true
		target := t.targetName(place)
		place.target.Store(&target)
		place.conns.Configure(backend.Settings{
			DialTimeout: s.DialTimeout, IdleTimeout: s.BackendIdle, Wait: s.BackendWait,
			MaxConns: s.BackendConns, MaxWaiting: s.BackendQueue, MaxWhole: s.MaxWhole, MaxBody: s.MaxBody,
		})
	}
	p.table.Store(t)
	p.forgetLater(t)
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

// forgetLater arranges for the next handoff window to be closed when its time
// is over. p.mu is held.
func (p *Proxy) forgetLater(t *table) {
	if p.forget != nil {
		p.forget.Stop()
	}
	if next := t.nextEnd(); !next.IsZero() && !p.closed {
		p.forget = time.AfterFunc(time.Until(next), p.forgetFormers)
	}
}

func (p *Proxy) forgetFormers() {
	p.mu.Lock()
	old := p.table.Load()
	t, err := p.build(old.settings, old, p.down, time.Now())
	if err == nil { // it is the same members again, so there is none
		p.publish(t, old)
	}
	p.mu.Unlock()
	if p.TargetsChanged != nil {
		p.TargetsChanged()
	}
}

func (p *Proxy) newPlace(b Backend) *place {
	return &place{name: b.Name, address: b.Address, conns: backend.Pool{Address: b.Address, Dial: p.Dial}}
}

func (t *table) changeFrom(old *table) Change {
	var c Change
	for _, q := range t.pools {
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

// Serve accepts clients from ln until the proxy is shut down or closed, then
// returns ErrClosed; any other error is the listener's. It closes ln.
func (p *Proxy) Serve(ln net.Listener) error {
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
		p.perClient = map[netip.Addr]int{}
	}
	p.listeners[ln] = struct{}{}
	p.mu.Unlock()
	for {
		nc, err := ln.Accept()
		if err == nil {
			p.accept(nc)
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

// accept starts serving nc, or closes it if a limit is reached.
func (p *Proxy) accept(nc net.Conn) {
	s := p.table.Load().settings
	client := addrPort(nc.RemoteAddr())
	c := newConn(p, nc, client)
	p.mu.Lock()
	perClient := p.perClient[client.Addr()]
	if p.closed || len(p.conns) >= s.MaxConns || s.MaxConnsPerClient > 0 && perClient >= s.MaxConnsPerClient {
		p.mu.Unlock()
		p.counts.refused.Add(1)
		nc.Close()
		return
	}
	p.conns[c] = struct{}{}
	p.perClient[client.Addr()] = perClient + 1
	p.mu.Unlock()
	p.counts.accepted.Add(1)
	p.running.Go(c.serve)
}

func (p *Proxy) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	if n := p.perClient[c.client.Addr()]; n > 1 {
		p.perClient[c.client.Addr()] = n - 1
	} else {
		delete(p.perClient, c.client.Addr())
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// Shutdown stops accepting, closes connections as soon as no request is under
// way on them, and returns when all are closed. When ctx ends before, it cuts
// off what is left and returns ctx's error.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.stopAccepting()
	p.mu.Lock()
	for c := range p.conns {
		c.leave()
	}
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
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
	p.stopAccepting()
	p.abort()
	p.running.Wait()
	return nil
}

func (p *Proxy) stopAccepting() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.forget != nil {
		p.forget.Stop()
	}
	for ln := range p.listeners {
		ln.Close()
	}
}

func (p *Proxy) abort() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		p.stop()
	}
	for c := range p.conns {
		c.nc.Close()
	}
	for _, place := range append(p.table.Load().places(), p.retired...) {
		place.conns.Abort()
	}
}
