package farm

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"stateproxy/wire"
)

// sweepInterval is the time between two sweeps of a socket pool.
const sweepInterval = 5 * time.Second

// pool is the socket pool of one application domain for one target: last in,
// first out, no upper limit. A sweep disposes of sockets that lay unused since
// the sweep before (protocol.md section 2). It is safe for concurrent use.
type pool struct {
	target string

	mu     sync.Mutex
	idle   []*socket
	sweeps uint64
}

// get takes the latest socket, nil if there is none.
func (p *pool) get() *socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return c
}

func (p *pool) put(c *socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.put, c.sweeps = time.Now(), p.sweeps
	p.idle = append(p.idle, c)
}

// sweep closes the sockets that were put before the sweep before. They lie at
// the bottom of the stack.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.idle) && p.idle[n].sweeps < p.sweeps {
		p.idle[n].Close()
		n++
	}
	kept := copy(p.idle, p.idle[n:])
	clear(p.idle[kept:])
	p.idle = p.idle[:kept]
	p.sweeps++
}

// close closes all idle sockets.
func (p *pool) close() {
	for c := p.get(); c != nil; c = p.get() {
		c.Close()
	}
}

// socket is one connection to the target. One exchange at a time uses it.
type socket struct {
	net.Conn
	reader *wire.Reader
	put    time.Time // when it last went into the pool
	sweeps uint64    // the pool's sweeps by then

	raw  syscall.RawConn // nil if the system has no quick look at a socket
	look func(fd uintptr) bool
	seen lookResult
}

func newSocket(c net.Conn) *socket {
	s := &socket{Conn: c, reader: wire.NewReader(c, 4<<10, wire.DefaultMaxHead)}
	if sys, ok := c.(syscall.Conn); ok && lookFD != nil {
		if raw, err := sys.SyscallConn(); err == nil {
			s.raw = raw
			s.look = func(fd uintptr) bool {
				s.seen = lookFD(fd)
				return true
			}
		}
	}
	return s
}

// lookResult is what a look at an idle socket showed.
type lookResult uint8

const (
	lookQuiet  lookResult = iota // open, nothing to read
	lookClosed                   // end of file or broken
	lookBytes                    // bytes that nobody asked for
)

// idle reports whether the socket can carry another request, and if not whether
// the reason is bytes that nobody asked for. It sets the socket's deadline.
func (s *socket) idle(deadline time.Time) (good, unread bool) {
	if err := s.SetDeadline(deadline); err != nil {
		return false, false
	}
	switch {
	case s.raw != nil:
		s.seen = lookClosed // unless it can be looked at
		if err := s.raw.Read(s.look); err != nil {
			return false, false
		}
	case time.Since(s.put) < time.Second:
		return true, false // a look costs a millisecond here
	default:
		s.seen = lookByReading(s.Conn, deadline)
	}
	return s.seen == lookQuiet, s.seen == lookBytes
}

// lookByReading looks at a connection by a read that ends at once, and sets the
// deadline for reads that follow.
func lookByReading(c net.Conn, deadline time.Time) lookResult {
	if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return lookClosed
	}
	var b [1]byte
	n, err := c.Read(b[:])
	switch {
	case n > 0:
		return lookBytes
	case !errors.Is(err, os.ErrDeadlineExceeded) || c.SetReadDeadline(deadline) != nil:
		return lookClosed
	}
	return lookQuiet
}
