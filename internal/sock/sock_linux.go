package sock

import (
	"io"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attach takes c into the loop if it is a socket. Where that can't be done the
// connection works all the same.
func (c *Conn) attach(nc net.Conn) {
	t, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	if s, err := adopt(t); err == nil {
		c.s, c.Conn = s, s
	}
}

// Waits reports whether Await and Step can be used.
func (c *Conn) Waits() bool { return c.s != nil }

// On tells which worker runs the owner from here on, nil if none does. Events of
// the connection come to that one then.
func (c *Conn) On(w *Worker) {
	if c.s != nil {
		c.s.follow(w)
	}
}

// Near reports whether events of the connection come to w already.
func (c *Conn) Near(w *Worker) bool { return w == nil || c.s == nil || c.s.l == w.l }

// Ending reports whether the peer's end is known to have come, without a look.
func (c *Conn) Ending() bool { return c.s != nil && c.s.isEnding() }

// Await has w be told when Step may find something; the connection belongs to w
// from then on. It returns false, and w is not told, if Step may find something now.
func (c *Conn) Await(w Waiter) bool { return !c.unread && c.s.await(&c.s.in, w) }

// stand waits until Step may find something.
func (c *Conn) stand() {
	if !c.unread {
		c.s.stand(&c.s.in)
	}
}

// Step reads once and has h see what came. done is what h says.
func (c *Conn) Step(h Handler) (done bool, err error) {
	n, more, err := c.s.recv(h.Space())
	if err != nil {
		c.s.ended = err == io.EOF
		return false, err
	}
	c.unread = more
	return h.Received(n), nil
}

// tryWrite writes what the socket takes at once.
func (c *Conn) tryWrite(b []byte) (int, error) {
	if c.s == nil {
		return 0, nil
	}
	return c.s.send(b)
}

// Idle reports whether the connection is open and holds nothing unread, as a
// pooled connection must between two requests.
func (c *Conn) Idle() bool {
	n, errno := c.peek()
	return n < 0 && (errno == syscall.EAGAIN || errno == errNoSocket) && !c.heldBack()
}

// PeerClosed reports whether the peer is known to have closed its side, or the
// connection to be broken.
func (c *Conn) PeerClosed() bool {
	if c.under != nil { // its farewell may lie unread before the end
		return c.hungUp()
	}
	n, errno := c.peek()
	return n == 0 || n < 0 && errno != syscall.EAGAIN && errno != errNoSocket
}

// Pending reports whether there is something to be read, as far as can be told.
func (c *Conn) Pending() bool {
	n, _ := c.peek()
	return n > 0
}

// Cork holds back what is written from here on until a packet is full or the
// connection is closed, so that the end goes out together with the last bytes:
// whoever has read them knows that nothing can be sent any more. Where the system
// can't do that it does nothing.
func (c *Conn) Cork() {
	if raw := c.socket(); raw != nil {
		// closed: nothing is written any more
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1) })
	}
}

// errNoSocket stands for a connection that can't be looked at.
const errNoSocket = syscall.ENOTSOCK

// peek looks at the next byte without waiting and without taking it.
func (c *Conn) peek() (int, syscall.Errno) {
	switch raw := c.socket(); {
	case c.s != nil:
		return c.s.peek()
	case raw != nil:
		return peekAt(raw)
	}
	return -1, errNoSocket
}

func peekAt(raw syscall.RawConn) (n int, errno syscall.Errno) {
	if raw.Control(func(fd uintptr) { n, errno = rawPeek(fd) }) != nil {
		return -1, syscall.EBADF
	}
	return n, errno
}

// socket returns the socket that the connection is, or runs over; nil if there
// is none.
func (c *Conn) socket() syscall.RawConn {
	switch {
	case c.under != nil && c.under.raw != nil:
		return c.under.raw
	case c.s != nil:
		return controlOnly{c.s}
	}
	return nil
}

// controlOnly makes a syscall.RawConn of a socket. This package uses its Control.
type controlOnly struct{ *socket }

func (controlOnly) Read(func(fd uintptr) bool) error  { return syscall.ENOTSUP }
func (controlOnly) Write(func(fd uintptr) bool) error { return syscall.ENOTSUP }

// hungUp asks the system whether the peer's end has come, read or not.
func (c *Conn) hungUp() bool {
	raw := c.socket()
	if raw == nil {
		return false
	}
	ended := false
	err := raw.Control(func(fd uintptr) {
		const end = unix.POLLRDHUP | unix.POLLHUP | unix.POLLERR
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0)
		ended = err == nil && n > 0 && fds[0].Revents&end != 0
	})
	return ended || err != nil
}

func rawPeek(fd uintptr) (int, syscall.Errno) {
	var b [1]byte
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), 1,
			syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return -1, errno
		}
	}
}

// The sockets are non-blocking, so a raw call, which the scheduler does not get
// to hear of, never holds a processor for longer than the kernel works. What is
// meant for sockets alone takes a shorter way through the kernel than read and
// write, which serve files as well.

func rawRead(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
			syscall.MSG_DONTWAIT, 0, 0)
		if errno != syscall.EINTR {
			return int(n), errno
		}
	}
}

func rawWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}
