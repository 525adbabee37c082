// Package stateserver is an in-memory ASP.NET state server that answers as
// Microsoft's aspnet_state.exe does, quirks included (protocol.md sections 4
// to 7 and 10). It serves for real and, started by RunT, in the tests of
// whatever speaks to state servers:
//
//	s := stateserver.RunT(t)                   // on a free loopback port, ends with the test
//	conn, err := net.Dial("tcp", s.Addr())     // PUT, GET, ... in the protocol's words
//	item, ok := s.Peek("/LM/W3SVC/1/ROOT(...)/" + id)
//	s.Age(time.Minute)                         // locks and unused sessions are older now
//	s.Reset()                                  // lose all sessions, as a restart does
//
// Sessions live in memory only and end with the process. To whoever reaches its
// port the server shows every session: authentication, encryption and who may
// connect are left to the caller, as is all logging; Stats tells what happened.
package stateserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/wire"
)

// Values that stand in for the zero ones of Server's fields.
const (
	DefaultMaxBody      = 128 << 20 // bytes
	DefaultMaxConns     = 10_000
	DefaultIdleTimeout  = 2 * time.Minute
	DefaultStallTimeout = 30 * time.Second
)

// Waits between tries to accept while the system is out of, say, descriptors.
const (
	minAcceptDelay = 5 * time.Millisecond
	maxAcceptDelay = time.Second
)

// ErrClosed is what Serve returns once Shutdown or Close has been called.
var ErrClosed = errors.New("state server is closed")

// Server is a state server. The zero value is ready for use; fields are set
// before first use and not changed after. All methods are safe for concurrent
// use. A server that was shut down or closed keeps its sessions readable by
// Peek and can't serve again.
type Server struct {
	// MaxMemory bounds the memory for sessions, in bytes by the estimate of
	// Stats.Memory; 0 is no bound. A PUT that would grow beyond it changes
	// nothing and is answered 400, so that the client sees an exception: no
	// live session is ever dropped to make room. Bodies still arriving are
	// not in the estimate; MaxConns and MaxBody bound them.
	MaxMemory int64

	MaxBody  int // bytes of a body; a longer one is refused with 400. 0 is DefaultMaxBody.
	MaxHead  int // bytes of a request's head; a longer one is refused with 400. 0 is wire.DefaultMaxHead.
	MaxConns int // connections at once; a further one is closed unanswered. 0 is DefaultMaxConns.

	IdleTimeout  time.Duration // a connection without requests is closed after it. 0 is DefaultIdleTimeout.
	StallTimeout time.Duration // bounds a request's head, and each 64 KiB of a body, either way. 0 is DefaultStallTimeout.

	// AspNetVersion is the X-AspNet-Version of all answers. Clients want a
	// major number of 2 or more (protocol.md section 8.2).
	// "" is wire.DefaultAspNetVersion.
	AspNetVersion string

	once     sync.Once // runs init
	store    store
	counters counters
	version  []byte        // AspNetVersion or its default
	closing  atomic.Bool   // set before conns are told to end
	stop     chan struct{} // closed when closing is set
	drained  chan struct{} // closed when closing is set and live is 0

	mu        sync.Mutex // guards the fields below
	addr      string     // of the first listener
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	live      int  // goroutines that drained waits for: conns and the sweeper
	sweeping  bool // the sweeper has been started
}

func (s *Server) init() {
	s.store.init(s.MaxMemory)
	s.version = []byte(s.AspNetVersion)
	if len(s.version) == 0 {
		s.version = []byte(wire.DefaultAspNetVersion)
	}
	s.stop = make(chan struct{})
	s.drained = make(chan struct{})
	s.listeners = make(map[net.Listener]struct{})
	s.conns = make(map[*conn]struct{})
}

// Serve answers connections that ln accepts until Shutdown, Close or an error
// of ln, and closes ln. It returns ErrClosed after Shutdown or Close, else what
// ln's Accept returned, wrapped. One server may serve several listeners.
func (s *Server) Serve(ln net.Listener) error {
	if !s.open(ln) {
		ln.Close()
		return ErrClosed
	}
	return s.accept(ln)
}

// Addr returns the address of the first listener served, "" before there is one.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Shutdown stops gracefully: listeners and idle connections are closed at once,
// requests that have begun are read, carried out and answered. It returns when
// all goroutines of the server but Serve's callers have ended, or with ctx's
// error, wrapped; then the rest goes on until it is done or Close is called.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.beginClosing()
	select {
	case <-s.drained:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for requests in flight: %w", ctx.Err())
	}
}

// Close stops at once: listeners and all connections are closed. It returns when
// all goroutines of the server but Serve's callers have ended. The error is that
// of closing a listener.
func (s *Server) Close() error {
	err := s.beginClosing()
	for _, c := range s.openConns() {
		c.nc.Close()
	}
	<-s.drained
	return err
}

// open notes ln and starts the sweeper with the first one. It reports false if
// the server is closing.
func (s *Server) open(ln net.Listener) bool {
	s.once.Do(s.init)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.listeners[ln] = struct{}{}
	if s.addr == "" {
		s.addr = ln.Addr().String()
	}
	if !s.sweeping {
		s.sweeping = true
		s.live++
		go s.sweep()
	}
	return true
}

func (s *Server) accept(ln net.Listener) error {
	defer s.drop(ln)
	delay := time.Duration(0)
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			delay = 0
			s.begin(nc)
		case s.closing.Load():
			return ErrClosed
		case !temporary(err):
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		default:
			s.counters.acceptErrors.Add(1)
			delay = min(max(2*delay, minAcceptDelay), maxAcceptDelay)
			s.pause(delay)
		}
	}
}

// temporary reports whether Accept may succeed later, as when descriptors run
// out: such a moment must not end a server that holds sessions.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// pause waits for d or until the server closes.
func (s *Server) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.stop:
	}
}

// drop closes and forgets ln. Closing it twice does no harm.
func (s *Server) drop(ln net.Listener) {
	ln.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

// begin serves nc on a goroutine of its own, or closes it if there are too many.
func (s *Server) begin(nc net.Conn) {
	c := newConn(s, nc)
	if !s.admit(c) {
		s.counters.connsRefused.Add(1)
		nc.Close()
		return
	}
	s.counters.conns.Add(1)
	go c.serve()
}

func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() || len(s.conns) >= orDefault(s.MaxConns, DefaultMaxConns) {
		return false
	}
	s.conns[c] = struct{}{}
	s.live++
	return true
}

// end is called once by each goroutine counted in live, as its last act; c is
// nil for the sweeper.
func (s *Server) end(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.live--
	if s.live == 0 && s.closing.Load() {
		close(s.drained)
	}
}

// beginClosing closes listeners and idle connections and has everything else
// end when it can. Further calls close what was not idle the first time.
func (s *Server) beginClosing() error {
	s.once.Do(s.init)
	var errs []error
	for _, ln := range s.setClosing() {
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close listener on %s: %w", ln.Addr(), err))
		}
	}
	for _, c := range s.openConns() {
		c.closeIfIdle()
	}
	return errors.Join(errs...)
}

// setClosing returns the listeners to close; none if the server was closing.
func (s *Server) setClosing() []net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Swap(true) {
		return nil
	}
	close(s.stop)
	if s.live == 0 {
		close(s.drained)
	}
	var lns []net.Listener
	for ln := range s.listeners {
		lns = append(lns, ln)
	}
	return lns
}

func (s *Server) openConns() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	cs := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		cs = append(cs, c)
	}
	return cs
}

// sweep frees the sessions that have expired and that nobody asks for.
func (s *Server) sweep() {
	defer s.end(nil)
	ticker := time.NewTicker(wheelTick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.store.sweep(s.store.now())
		case <-s.stop:
			return
		}
	}
}

// orDefault returns v, or def if v is 0.
func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}
