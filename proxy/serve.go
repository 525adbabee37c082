package proxy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"stateproxy/internal/sock"
)

// serve serves the connection: to its end, or where sockets wait without a
// goroutine to its first wait. close ends what running counts.
func (c *conn) serve() {
	if !c.arrive() || !c.ready(time.Now()) {
		c.close()
		return
	}
	if c.nc.Waits() {
		c.goOn()
		return
	}
	for c.goesOn(c.nc.ReadLoop(c)) {
	}
	c.close()
}

// Ready implements sock.Waiter: something has come from the client, or from the
// backend if an answer is pending.
func (c *conn) Ready(w *sock.Worker) {
	c.nc.On(w)
	c.x.Worker = w
	c.goOn()
}

// maxTurns is how often a worker goes on with one connection that never waits.
const maxTurns = 64

// goOn serves the connection until there is something to wait for. The connection
// is somebody else's when it returns.
func (c *conn) goOn() {
	for turns := 0; ; turns++ {
		if turns == maxTurns { // the client sends without an end: the others' turn
			c.x.Worker.Detach()
		}
		var done bool
		var err error
		if c.pending {
			done = c.resume()
		} else {
			done, err = c.nc.Step(c)
		}
		switch {
		case c.pending:
			if c.x.Await(c) {
				return
			}
			continue
		case (done || err != nil) && !c.goesOn(err):
			c.close()
			return
		}
		if c.nc.Await(c) {
			return
		}
	}
}

// goesOn is called when reading has ended, by err or because Received wanted that,
// and reports whether it goes on. If not, the connection is to be closed.
func (c *conn) goesOn(err error) bool {
	if c.n == 0 && c.isLeaving() && errors.Is(err, os.ErrDeadlineExceeded) {
		return c.ready(time.Now()) // takes a last look
	}
	if c.long > 0 && err == nil {
		c.x.Worker.Detach()
		if c.serveLong() {
			return c.ready(time.Now())
		}
	}
	if err != nil {
		c.lost(err)
	} else if c.lingering {
		c.x.Worker.Detach()
		c.nc.SetReadDeadline(time.Now().Add(lingerTime))
		io.CopyN(io.Discard, c.nc.Conn, lingerBytes)
	}
	return false
}

// close ends the connection.
func (c *conn) close() {
	sock.Recycle(c.in)
	c.undoGrant()
	c.nc.Close()
	c.p.remove(c)
	c.p.running.Done()
}

// ready makes the connection wait for its next request. It returns false if the
// connection is to be closed.
func (c *conn) ready(now time.Time) bool {
	if c.idleDeadline(now, c.settings()) != nil {
		return false
	}
	if !c.isLeaving() {
		return true
	}
	until := time.Unix(0, c.until.Load())
	if until.After(now) {
		return c.nc.SetReadDeadline(until) == nil
	}
	// What has come by now is a request, and would be lost.
	return c.nc.Pending() && c.nc.SetReadDeadline(now.Add(c.settings().ClientStall)) == nil
}

// leave makes the connection close when it has answered a request, the one under
// way if there is one, or is idle at the given time.
func (c *conn) leave(until time.Time) {
	c.goes.Lock()
	defer c.goes.Unlock()
	c.until.Store(until.UnixNano())
	if c.state.Swap(leaving) == idle {
		c.nc.SetReadDeadline(until)
	}
}

// isLeaving is asked after a deadline has been set, which may have undone the
// one that leave sets.
func (c *conn) isLeaving() bool { return c.state.Load() == leaving }

// begin marks that a request is under way. The deadlines that are set for it then
// are not undone by leave.
func (c *conn) begin() {
	if !c.state.CompareAndSwap(idle, busy) && c.isLeaving() {
		c.goes.Lock()
		defer c.goes.Unlock()
	}
}

// end marks that the request is over. It returns false if the connection is to
// be closed now. One that was told to leave when its answer was already on its way
// is not: the client may send the next request before it sees the end.
func (c *conn) end() bool {
	switch {
	case c.state.CompareAndSwap(busy, idle):
		return true
	case c.last:
		return false
	}
	return c.nc.SetReadDeadline(time.Unix(0, c.until.Load())) == nil
}

// lost accounts for the end of the connection if that cut off a request, or if
// what came is not TLS any more.
func (c *conn) lost(err error) {
	reason := ClientGone
	switch {
	case c.brokeTLS(err):
		reason, err = ClientTLS, fmt.Errorf("TLS after the handshake: %w", err)
	case c.n == 0:
		return // between two requests
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = ClientStalled
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	c.outcome = Outcome{Client: c.client, Start: time.Now(), Reason: reason, Err: err, RequestBytes: int64(c.n)}
	c.finish()
}
