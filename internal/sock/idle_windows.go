package sock

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

var wsaPoll = windows.NewLazySystemDLL("ws2_32.dll").NewProc("WSAPoll")

// pollFD is WSAPOLLFD.
type pollFD struct {
	fd      uintptr
	events  int16
	revents int16
}

const (
	pollRead   = 0x0100 | 0x0200          // POLLRDNORM | POLLRDBAND
	pollBroken = 0x0001 | 0x0002 | 0x0004 // POLLERR | POLLHUP | POLLNVAL
)

// Idle reports whether the connection is open and holds nothing unread, as a
// pooled connection must between two requests.
func (c *Conn) Idle() bool { return c.poll() == 0 && !c.heldBack() }

// Pending reports whether there is something to be read, as far as can be told.
func (c *Conn) Pending() bool { return c.poll()&pollRead != 0 }

// PeerClosed reports whether the peer is known to have closed its side, or the
// connection to be broken.
func (c *Conn) PeerClosed() bool { return c.poll()&pollBroken != 0 }

// poll returns what WSAPoll tells of the socket at once, 0 if there is none.
func (c *Conn) poll() (events int16) {
	under := c.Conn
	if c.under != nil {
		under = c.under.Conn
	}
	t, ok := under.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return pollBroken
	}
	err = raw.Control(func(fd uintptr) {
		p := pollFD{fd: fd, events: pollRead}
		wsaPoll.Call(uintptr(unsafe.Pointer(&p)), 1, 0)
		events = p.revents
	})
	if err != nil {
		return pollBroken
	}
	return events
}
