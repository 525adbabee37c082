package sock

import (
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
)

// TLSClient returns the client's end of a TLS connection over c. Unlike one of
// tls.Client, New can look through it at the socket.
func TLSClient(c net.Conn, config *tls.Config) *tls.Conn { return tls.Client(newUnder(c), config) }

// TLSServer is the same for the server's end.
func TLSServer(c net.Conn, config *tls.Config) *tls.Conn { return tls.Server(newUnder(c), config) }

// under is the connection that a TLS connection runs over.
type under struct {
	net.Conn
	raw      syscall.RawConn // nil: it is no socket
	sent     atomic.Int64    // bytes written, also by a Close from elsewhere
	torn     atomic.Bool     // a write failed: what TLS says from there on can't be understood
	received bool            // a byte came
	dry      bool            // Read finds nothing; only whoever may read sets it
}

func newUnder(c net.Conn) *under {
	u := &under{Conn: c}
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			u.raw = raw
		}
	}
	return u
}

func (u *under) Read(b []byte) (int, error) {
	if u.dry {
		return 0, errDry
	}
	n, err := u.Conn.Read(b)
	u.received = u.received || n > 0
	return n, err
}

// Write sends nothing behind a write that failed. TLS counts its records, so that a
// farewell behind one that is missing would look to the peer like an attack.
func (u *under) Write(b []byte) (int, error) {
	if u.torn.Load() {
		return 0, errTorn
	}
	n, err := u.Conn.Write(b)
	if err != nil {
		u.torn.Store(true)
	}
	u.sent.Add(int64(n))
	return n, err
}

var errTorn = errors.New("an earlier write has failed")

// dryError is a net.Error that passes: a TLS connection whose Read met one can
// be read again.
type dryError struct{}

var errDry net.Error = dryError{}

func (dryError) Error() string   { return "nothing is read now" }
func (dryError) Timeout() bool   { return true }
func (dryError) Temporary() bool { return true }

// underOf returns what a TLS connection of this package runs over, nil for any
// other connection.
func underOf(c net.Conn) *under {
	if t, ok := c.(*tls.Conn); ok {
		u, _ := t.NetConn().(*under)
		return u
	}
	return nil
}

// HoldsBack reports whether the connection may keep bytes that have left the
// socket, as TLS does. A read that did not fill its buffer then does not tell
// that there was nothing more.
func (c *Conn) HoldsBack() bool { _, ok := c.Conn.(*tls.Conn); return ok }

// Silent reports whether the peer has not sent a byte yet, handshakes included.
// Where that can't be told it is false.
func (c *Conn) Silent() bool { return c.under != nil && !c.under.received }

// Beneath returns the connection that TLS runs over, for what comes before the
// handshake; what is read from it is not the peer's for Silent. Without TLS it is
// the connection itself.
func (c *Conn) Beneath() net.Conn {
	t, ok := c.Conn.(*tls.Conn)
	switch {
	case !ok:
		return c.Conn
	case c.under != nil:
		return c.under.Conn
	}
	return t.NetConn()
}

// heldBack reports whether the TLS connection holds bytes that were not read, or
// has read the peer's farewell.
func (c *Conn) heldBack() bool {
	if c.under == nil {
		return false
	}
	var b [1]byte
	c.under.dry = true
	n, err := c.Conn.Read(b[:])
	c.under.dry = false
	return n > 0 || err != errDry
}

// Cut closes the connection without a farewell to the peer. A TLS connection's
// Close sends one, and may wait seconds for a peer that takes nothing.
func (c *Conn) Cut() error {
	if c.under != nil {
		return c.under.Conn.Close()
	}
	return c.Conn.Close()
}
