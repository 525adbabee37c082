// Package sock moves bytes over TCP connections with as few system calls and
// switches as there can be. The runtime's poller reads from a socket first and waits
// only when there was nothing; in a protocol of requests and answers that first
// read is nearly always in vain. Here the wait comes first:
//
//	err := c.ReadLoop(h)         // wait, read, h.Received, wait, read, ...
//	n, err := c.Exchange(out, h) // write, wait, read, h.Received, ...
//
// On Linux the wait needs no goroutine either (Waits). Whoever owns the connection
// asks to be told, and returns:
//
//	for !c.Await(w) {            // w.Ready is called when there is something
//		done, err := c.Step(h) // read, h.Received
//	}
//
// Ready runs on a Worker, of which there are few, so before anything in it waits
// the worker must be detached; what waits for a connection does that by itself, if
// it was told which worker it runs on (On).
//
// Elsewhere, and for connections that are no TCP sockets (TLS, pipes in tests),
// there are plain Read and Write, with the same meaning. Deadlines set on the
// connection hold for all. What the socket tells (Idle, PeerClosed, Unacknowledged)
// it tells of TLS connections too, if they were made by TLSClient or TLSServer.
package sock

import (
	"net"
	"time"
)

// Handler takes what a connection receives.
type Handler interface {
	// Space returns where the next bytes go. It must not be empty.
	Space() []byte
	// Received tells that n bytes were put there; n may be 0. It returns true
	// to end the loop. It may write to the same connection, but must not read
	// from it.
	Received(n int) (done bool)
}

// Conn is a connection with the methods of this package beside its own. It belongs
// to one goroutine at a time, but deadlines may be set and Close called from any.
type Conn struct {
	net.Conn
	s      *socket // nil: only plain Read and Write can be used
	under  *under  // of a TLS connection; nil for any other
	sent   int64   // bytes written, those that Sent tells of included
	last   message // the last one that was written over TLS
	unread bool    // there may be something that no event will tell of

	// Blocked is for how long the last Exchange or Write waited until the system had
	// taken all of its bytes; 0 if it took them at once.
	Blocked time.Duration
}

// message is what one call wrote over TLS.
type message struct {
	bytes int   // of it
	at    int64 // bytes that the socket had been given before
}

// New wraps c, which is not to be used by itself any more.
func New(c net.Conn) *Conn {
	s := &Conn{Conn: c, under: underOf(c)}
	s.attach(c)
	return s
}

// ReadLoop reads until h says that it is done or an error ends it: io.EOF when
// the peer has closed its side.
func (c *Conn) ReadLoop(h Handler) error {
	if c.s == nil {
		return c.plainLoop(h)
	}
	for {
		c.stand()
		if done, err := c.Step(h); done || err != nil {
			return err
		}
	}
}

// Exchange writes out, which must not be empty, then reads like ReadLoop. If
// the error is one of writing, written is less than len(out). The connection
// should be Idle before: what came earlier may show only with what comes next.
func (c *Conn) Exchange(out []byte, h Handler) (written int, err error) {
	if written, err = c.Write(out); err != nil {
		return min(written, len(out)-1), err
	}
	return written, c.ReadLoop(h)
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	c.unread = true
	return c.Conn.Read(b)
}

// Write writes all of b, and waits only for what the socket does not take at once.
func (c *Conn) Write(b []byte) (n int, err error) {
	c.Blocked = 0
	if n, err = c.tryWrite(b); err == nil && n < len(b) {
		began := time.Now()
		var m int
		m, err = c.plainWrite(b[n:])
		c.Blocked = time.Since(began)
		n += m
	}
	c.sent += int64(n)
	return n, err
}

// Sent tells of bytes that were written to the connection past its own methods.
func (c *Conn) Sent(n int64) { c.sent += n }

func (c *Conn) plainWrite(b []byte) (int, error) {
	if c.under != nil {
		c.last = message{len(b), c.under.sent.Load()}
	}
	return c.Conn.Write(b)
}

func (c *Conn) plainLoop(h Handler) error {
	for {
		n, err := c.Conn.Read(h.Space())
		if n > 0 && h.Received(n) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
