package stateserver

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"stateproxy/wire"
)

const (
	readBuffer  = 4 << 10         // bytes; grows to MaxHead if a head needs it
	smallBody   = 4 << 10         // bytes; up to here head and body leave as one buffer
	bodyStep    = 64 << 10        // bytes that one StallTimeout is given for
	lingerLimit = 1 * time.Second // for a client to take the last answer
)

// States of a connection. Shutdown may close an idle one only.
const (
	connIdle   int32 = iota // between two requests
	connBusy                // a request has begun
	connClosed              // was idle when the server closed
)

// conn is a client's connection and what serving it needs again and again. All
// but state belongs to the goroutine that runs serve.
type conn struct {
	s     *Server
	nc    net.Conn
	state atomic.Int32

	r    *wire.Reader
	req  wire.Request
	resp wire.Response
	key  []byte // decoded target of req
	out  []byte // head of the answer, with the body if that is small

	vec  [2][]byte // what bufs points to
	bufs net.Buffers
}

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{s: s, nc: nc, r: wire.NewReader(nc, readBuffer, orDefault(s.MaxHead, wire.DefaultMaxHead))}
}

// serve answers requests one by one in the order they come. Bytes of the next
// one may be there before the answer has left: they wait in the buffer.
func (c *conn) serve() {
	defer c.s.end(c)
	defer c.nc.Close()
	for c.await() && c.exchange() {
		c.state.Store(connIdle)
		if c.s.closing.Load() { // after the Store: closeIfIdle or this line sees the other
			return
		}
	}
}

// closeIfIdle closes the connection unless a request has begun.
func (c *conn) closeIfIdle() {
	if c.state.CompareAndSwap(connIdle, connClosed) {
		c.nc.Close()
	}
}

// await waits for the first bytes of a request.
func (c *conn) await() bool {
	if len(c.r.Buffered()) == 0 {
		c.nc.SetReadDeadline(time.Now().Add(orDefault(c.s.IdleTimeout, DefaultIdleTimeout)))
		if c.r.Fill() != nil {
			return false
		}
	}
	return c.state.CompareAndSwap(connIdle, connBusy)
}

// exchange reads one request and answers it. It reports whether another one may
// follow.
func (c *conn) exchange() bool {
	c.nc.SetReadDeadline(c.stallDeadline())
	if err := c.r.ReadRequest(&c.req); err != nil {
		var syntax *wire.SyntaxError
		if errors.As(err, &syntax) {
			c.s.counters.malformed.Add(1)
			c.refuse()
		} else {
			c.broken(err)
		}
		return false
	}
	c.key = wire.AppendDecoded(c.key[:0], c.req.Target)
	n := c.req.BodyLen()
	if n > orDefault(c.s.MaxBody, DefaultMaxBody) {
		c.s.counters.oversized.Add(1)
		c.s.counters.answered(c.req.Op(), wire.StatusBadRequest)
		c.refuse()
		return false
	}
	var body []byte
	if n > 0 {
		var err error
		if body, err = c.readBody(n); err != nil {
			c.broken(err)
			return false
		}
	}
	st := &c.s.store
	body = st.do(st.now(), &c.req, c.key, body, &c.resp)
	c.s.counters.answered(c.req.Op(), c.resp.Status)
	if err := c.answer(body); err != nil {
		c.broken(err)
		return false
	}
	if c.req.CloseAfter() {
		c.linger()
		return false
	}
	return true
}

// readBody reads a body into memory of its own, which the store keeps. The
// memory grows with what arrives: a length alone costs bodyStep at most.
func (c *conn) readBody(n int) ([]byte, error) {
	body := make([]byte, 0, min(n, bodyStep))
	for {
		if len(c.r.Buffered()) < n-len(body) {
			c.nc.SetReadDeadline(c.stallDeadline())
		}
		var err error
		if body, err = c.r.ReadBody(body, min(cap(body)-len(body), bodyStep)); err != nil {
			return nil, err
		}
		if len(body) == n {
			return body, nil
		}
		if len(body) == cap(body) {
			grown := make([]byte, len(body), min(2*len(body), n))
			copy(grown, body)
			body = grown
		}
	}
}

// answer sends c.resp with body.
func (c *conn) answer(body []byte) error {
	c.resp.AspNetVersion = c.s.version
	c.resp.ContentLength = wire.Some(int64(len(body)))
	c.out = wire.AppendResponse(c.out[:0], &c.resp)
	c.nc.SetWriteDeadline(c.stallDeadline())
	if len(body) <= smallBody {
		c.out = append(c.out, body...)
		_, err := c.nc.Write(c.out)
		return err
	}
	n := min(len(body), bodyStep)
	c.vec = [2][]byte{c.out, body[:n]}
	c.bufs = c.vec[:]
	if _, err := c.bufs.WriteTo(c.nc); err != nil {
		return err
	}
	for body = body[n:]; len(body) > 0; body = body[n:] {
		n = min(len(body), bodyStep)
		c.nc.SetWriteDeadline(c.stallDeadline())
		if _, err := c.nc.Write(body[:n]); err != nil {
			return err
		}
	}
	return nil
}

// refuse answers 400 to a request whose bytes the server does not want to read
// on. The connection is of no use after it.
func (c *conn) refuse() {
	c.resp = wire.Response{Status: wire.StatusBadRequest}
	if err := c.answer(nil); err != nil {
		c.broken(err)
		return
	}
	c.linger()
}

// linger lets the client take the last answer: closing a TCP connection with
// unread bytes resets it, and a reset can overtake the answer.
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(lingerLimit))
	io.Copy(io.Discard, c.nc) // ends by the deadline at the latest; how, does not matter
}

// broken counts why a connection ended in the middle of a request or answer.
func (c *conn) broken(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.s.counters.stalled.Add(1)
		return
	}
	c.s.counters.broken.Add(1)
}

func (c *conn) stallDeadline() time.Time {
	return time.Now().Add(orDefault(c.s.StallTimeout, DefaultStallTimeout))
}
