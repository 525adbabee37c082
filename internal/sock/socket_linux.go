package sock

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection whose events come through a loop. It is a net.Conn,
// and as safe for concurrent use; what it adds belongs to whoever owns the Conn.
type socket struct {
	fd            int
	number        int32 // tells it from others that had the descriptor
	local, remote net.Addr
	worker        *Worker // that runs the owner; nil: a goroutine of its own
	ended         bool    // the owner has read the peer's end

	mu      sync.Mutex // held during system calls, so that none meets a closed descriptor
	l       *loop      // written by the owner only
	closed  bool
	ending  bool // the peer's end has come, or an error
	in, out side
}

// side is one of a socket's two directions.
type side struct {
	waiter Waiter    // of the next event, nil if there is none
	ready  bool      // an event came when nobody waited
	until  time.Time // deadline; zero: none
	late   bool      // until is over
	timer  *time.Timer
	park   park
}

// Waiter waits for an event, a deadline or the close of a connection, and is told
// of it once. w is the worker that it runs on; nil is a goroutine that has nothing
// else to do.
type Waiter interface{ Ready(w *Worker) }

// park is where a goroutine waits.
type park chan struct{}

// Ready implements Waiter.
func (p park) Ready(w *Worker) {
	p <- struct{}{} // has room for it
	if w != nil {
		w.woke = true
	}
}

// adopt makes a socket of c. If there is no error c is closed.
func adopt(c *net.TCPConn) (*socket, error) {
	l, err := nextLoop()
	if err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{l: l, local: c.LocalAddr(), remote: c.RemoteAddr()}
	var dupErr error
	if err := raw.Control(func(fd uintptr) { s.fd, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	if !sockets.put(s) {
		unix.Close(s.fd)
		return nil, syscall.EMFILE
	}
	if err := l.add(s); err != nil {
		s.Close()
		return nil, err
	}
	c.Close() // one of two descriptors of the connection
	return s, nil
}

// follow has the events of s come to w's loop, if they do not already.
func (s *socket) follow(w *Worker) {
	s.worker = w
	if w == nil || s.l == w.l {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.l.remove(s) != nil {
		return
	}
	if w.l.add(s) == nil { // which tells of what has come meanwhile
		s.l = w.l
	} else if s.l.add(s) != nil {
		s.fail()
	}
}

// fail ends a connection of whose events nobody would hear any more. s.mu is held.
func (s *socket) fail() {
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	s.ending, s.in.ready, s.out.ready = true, true, true
}

// happened tells whoever waits of an event.
func (s *socket) happened(events uint32, w *Worker) {
	const ending = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	var reader, writer Waiter
	s.mu.Lock()
	if events&ending != 0 {
		s.ending = true
	}
	if events&(unix.EPOLLIN|ending) != 0 {
		reader = s.in.take()
	}
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		writer = s.out.take()
	}
	s.mu.Unlock()
	if writer != nil {
		writer.Ready(nil)
	}
	if reader != nil {
		reader.Ready(w)
	}
}

// take returns the waiter, or notes that there was something to wait for.
func (d *side) take() Waiter {
	w := d.waiter
	d.waiter, d.ready = nil, w == nil
	return w
}

// await has w be told of the next event. It returns false, and w is not told, if
// there is a reason to go on at once.
func (s *socket) await(d *side, w Waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.ready || d.late || s.closed {
		d.ready = false
		return false
	}
	d.waiter = w
	return true
}

// stand has this goroutine wait for the next event.
func (s *socket) stand(d *side) {
	if d.park == nil {
		d.park = make(park, 1)
	}
	if s.await(d, d.park) {
		s.worker.Detach()
		<-d.park
	}
}

// check returns what ends an operation before it begins. s.mu is held.
func (s *socket) check(d *side) error {
	switch {
	case s.closed:
		return net.ErrClosed
	case d.late:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// recv reads what is there; n is 0 if there is nothing. more means that something
// may be left of which no event will tell: when the end has come it has been told
// of, and it is behind the last bytes.
func (s *socket) recv(p []byte) (n int, more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(&s.in); err != nil {
		return 0, false, err
	}
	n, errno := rawRead(uintptr(s.fd), p)
	switch {
	case errno == syscall.EAGAIN:
		return 0, false, nil
	case errno != 0:
		return 0, false, os.NewSyscallError("recvfrom", errno)
	case n == 0:
		return 0, false, io.EOF
	}
	return n, n == len(p) || s.ending, nil
}

// send writes what the socket takes at once.
func (s *socket) send(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(&s.out); err != nil {
		return 0, err
	}
	n, errno := rawWrite(uintptr(s.fd), p)
	if errno != 0 && errno != syscall.EAGAIN {
		return 0, os.NewSyscallError("sendto", errno)
	}
	return n, nil
}

func (s *socket) isEnding() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending
}

// peek looks at the next byte without waiting and without taking it.
func (s *socket) peek() (int, syscall.Errno) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return -1, syscall.EBADF
	}
	return rawPeek(uintptr(s.fd))
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if n, _, err := s.recv(p); n > 0 || err != nil {
			return n, err
		}
		s.stand(&s.in)
	}
}

// Write implements net.Conn.
func (s *socket) Write(p []byte) (n int, err error) {
	for {
		m, err := s.send(p[n:])
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
		s.stand(&s.out)
	}
}

// pieces are what long bodies pass through. Large ones take as few system calls
// that copying costs less than splice, whose pipes hold less.
var pieces = sync.Pool{New: func() any { return new([512 << 10]byte) }}

// ReadFrom implements io.ReaderFrom, by which io.Copy copies.
func (s *socket) ReadFrom(r io.Reader) (int64, error) {
	b := pieces.Get().(*[512 << 10]byte)
	defer pieces.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{s}, r, b[:])
}

// Close implements net.Conn.
func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	sockets.remove(s)
	err := os.NewSyscallError("close", unix.Close(s.fd))
	for _, d := range []*side{&s.in, &s.out} {
		if d.timer != nil {
			d.timer.Stop()
		}
		if w := d.take(); w != nil {
			go w.Ready(nil) // not here: the caller may hold what it needs
		}
	}
	return err
}

// CloseWrite ends the sending direction.
func (s *socket) CloseWrite() error {
	var err error
	if closed := s.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) }); closed != nil {
		return closed
	}
	return os.NewSyscallError("shutdown", err)
}

// LocalAddr implements net.Conn.
func (s *socket) LocalAddr() net.Addr { return s.local }

// RemoteAddr implements net.Conn.
func (s *socket) RemoteAddr() net.Addr { return s.remote }

// SetDeadline implements net.Conn.
func (s *socket) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (s *socket) SetReadDeadline(t time.Time) error { return s.setDeadline(&s.in, t) }

// SetWriteDeadline implements net.Conn.
func (s *socket) SetWriteDeadline(t time.Time) error { return s.setDeadline(&s.out, t) }

func (s *socket) setDeadline(d *side, t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	left := time.Until(t)
	d.until, d.late = t, !t.IsZero() && left <= 0
	switch {
	case t.IsZero() && d.timer == nil:
	case t.IsZero():
		d.timer.Stop()
	case d.timer == nil:
		d.timer = time.AfterFunc(left, func() { s.expired(d) })
	default:
		d.timer.Reset(left)
	}
	return nil
}

// expired is called by a deadline's timer. The deadline may have been moved
// meanwhile.
func (s *socket) expired(d *side) {
	s.mu.Lock()
	if s.closed || d.until.IsZero() || d.until.After(time.Now()) {
		s.mu.Unlock()
		return
	}
	w := d.waiter
	d.waiter, d.late = nil, true
	s.mu.Unlock()
	if w != nil {
		w.Ready(nil)
	}
}

// Control calls f with the descriptor, unless the connection is closed.
func (s *socket) Control(f func(fd uintptr)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	f(uintptr(s.fd))
	return nil
}
