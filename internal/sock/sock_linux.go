package sock

import (
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loopState is what the callback of a running loop works on. It lives in the
// Conn so that a loop allocates nothing.
type loopState struct {
	step    func(fd uintptr) bool // c.onReady, bound once
	fd      uintptr               // valid while a loop runs, 0 otherwise
	out     []byte                // still to be written before the first wait
	h       Handler
	written int // bytes of out
	err     error
	ended   bool // the peer's end was read

	look   func(fd uintptr) // c.onLook, bound at the first look
	seen   int              // what it found
	seenNo syscall.Errno
}

func (c *Conn) attach(raw syscall.RawConn) {
	c.raw = raw
	c.loop.step = c.onReady
}

// rawLoop runs the whole loop in one RawConn.Read. That marks the socket as not
// ready once, at its start, and then alternates between the callback and the
// wait; so readiness that arrives while the callback runs ends the next wait.
func (c *Conn) rawLoop(out []byte, h Handler) error {
	l := &c.loop
	l.out, l.h, l.written, l.err = out, h, 0, nil
	err := c.raw.Read(l.step)
	l.out, l.h, l.fd = nil, nil, 0
	if l.err != nil {
		return l.err
	}
	return err
}

// onReady is called at the start of a loop and whenever the socket may have
// become readable. It returns true to end the loop.
func (c *Conn) onReady(fd uintptr) bool {
	l := &c.loop
	l.fd = fd
	if l.out != nil {
		l.written, l.err = c.Write(l.out)
		l.out = nil
		return l.err != nil
	}
	for {
		p := l.h.Space()
		n, errno := rawRead(fd, p)
		switch {
		case errno == syscall.EAGAIN:
			return l.h.Received(0)
		case errno != 0:
			l.err = os.NewSyscallError("recvfrom", errno)
			return true
		case n == 0:
			l.err, l.ended = io.EOF, true
			return true
		}
		if l.h.Received(n) {
			return true
		}
		// Nothing is left, and what comes next makes the socket ready anew. But
		// for an end that came before this read: there is no second sign of it.
		if n < len(p) && !l.h.Partial() {
			return false
		}
	}
}

// tryWrite writes what the socket of a running loop takes at once.
func (c *Conn) tryWrite(b []byte) (int, error) {
	if c.loop.fd == 0 {
		return 0, nil
	}
	n, errno := rawWrite(c.loop.fd, b)
	if errno != 0 && errno != syscall.EAGAIN {
		return 0, os.NewSyscallError("sendto", errno)
	}
	return n, nil
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
	cork := func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1) }
	switch raw := c.socket(); {
	case raw == nil:
	case c.loop.fd != 0:
		cork(c.loop.fd)
	default:
		_ = raw.Control(cork) // closed: nothing is written any more
	}
}

// errNoSocket stands for a connection that can't be looked at.
const errNoSocket = syscall.ENOTSOCK

// peek looks at the next byte without waiting and without taking it.
func (c *Conn) peek() (n int, errno syscall.Errno) {
	raw := c.socket()
	if c.loop.look == nil {
		c.loop.look = c.onLook
	}
	switch {
	case raw == nil:
		return -1, errNoSocket
	case c.loop.fd != 0:
		return rawPeek(c.loop.fd)
	case raw.Control(c.loop.look) != nil:
		return -1, syscall.EBADF
	}
	return c.loop.seen, c.loop.seenNo
}

// socket returns the socket that the connection is, or runs over; nil if there
// is none.
func (c *Conn) socket() syscall.RawConn {
	if c.under != nil {
		return c.under.raw
	}
	return c.raw
}

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

func (c *Conn) onLook(fd uintptr) { c.loop.seen, c.loop.seenNo = rawPeek(fd) }

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
