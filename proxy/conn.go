package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/internal/access"
	"stateproxy/internal/backend"
	"stateproxy/internal/sock"
	"stateproxy/wire"
)

// conn is a client's connection. One goroutine serves it, from its first byte
// to its end; only state is touched by others.
type conn struct {
	p      *Proxy
	nc     *sock.Conn
	client netip.AddrPort
	state  atomic.Int32
	until  atomic.Int64 // Unix nanoseconds; when an idle connection closes that is leaving
	goes   sync.Mutex   // held while leave sets state and deadline

	listener string         // that it came in by
	proxied  bool           // it begins with a header that names the client
	counted  *access.Client // what the client has used; nil before it is let in

	in   []byte // buffer of what was received; nil while there is nothing
	n    int    // bytes in it
	size int    // to expect of the next request
	long int    // length of the head of a request that streams, 0 otherwise

	readUntil  time.Time // read deadline in force
	writeUntil time.Time // write deadline in force
	partial    bool      // the read deadline is the short one, for a request that has begun
	last       bool      // the answer was sent as the last one
	lingering  bool      // read on for a moment before closing

	targets wire.TargetParser
	renamed renamed
	granted grant // lock that the last answer told the client of
	req     wire.Request
	told    wire.Int // milliseconds that a proxy before this one leaves for req
	x       exchange
	outcome Outcome
	scratch []byte // own answers and rewritten heads
	shed    func() // c.shedBody, bound at first use
	head    []byte // of a request whose body is not held any more
}

// exchange is a request on its way through the proxy.
type exchange struct {
	backend.Exchange
	req   *wire.Request
	key   wire.Key
	id    uint64 // keyHash of the key
	place *place // that the answer came from, or that failed
	moved bool

	handoff time.Duration // spent on finding the session and bringing it over
	// hurried is that a proxy before this one leaves much less time than this one
	// would take: that there was no answer says nothing of the backend then.
	hurried bool
}

// States of a connection.
const (
	idle    = iota // between two requests
	busy           // a request is being served
	leaving        // to be closed after the request under way, or the next
)

func newConn(p *Proxy, nc net.Conn, client netip.AddrPort) *conn {
	return &conn{p: p, nc: sock.New(nc), client: client}
}

// serve reads requests and answers them until either side has enough.
func (c *conn) serve() {
	defer c.p.remove(c)
	defer c.nc.Close()
	defer func() { sock.Recycle(c.in) }()
	if !c.arrive() {
		return
	}
	defer c.undoGrant()
	for c.ready(time.Now()) {
		err := c.nc.ReadLoop(c)
		if c.n == 0 && c.isLeaving() && errors.Is(err, os.ErrDeadlineExceeded) {
			continue // ready takes a last look
		}
		if c.long > 0 && err == nil && c.serveLong() {
			continue
		}
		if err != nil {
			c.lost(err)
		} else if c.lingering {
			c.nc.SetReadDeadline(time.Now().Add(lingerTime))
			io.CopyN(io.Discard, c.nc.Conn, lingerBytes)
		}
		return
	}
}

func (c *conn) settings() *Settings { return c.p.table.Load().settings }

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

// Space implements sock.Handler.
func (c *conn) Space() []byte {
	if c.in == nil {
		c.in = sock.BufferFor(c.size)
	}
	if c.n == len(c.in) {
		c.in = sock.Grow(c.in, c.n, 2*c.n)
	}
	return c.in[c.n:]
}

// Received implements sock.Handler: it serves every request that is complete.
func (c *conn) Received(n int) (done bool) {
	c.n += n
	c.in = sock.Fit(c.in, c.n)
	for c.n > 0 {
		size, err := wire.ParseRequest(c.in[:c.n], &c.req)
		s := c.settings()
		switch {
		case err == wire.ErrIncomplete && c.n < s.MaxHead:
			return c.await(s)
		case err == wire.ErrIncomplete || size > s.MaxHead:
			err = &wire.SyntaxError{Reason: wire.HeadTooLong, Offset: s.MaxHead}
			fallthrough
		case err != nil:
			if c.in[0] == helloByte {
				c.refuse(ClientTLS, errTLS)
			} else {
				c.refuse(Malformed, err)
			}
			return true
		case c.req.BodyLen() > s.MaxBody:
			c.refuse(TooLarge, nil)
			return true
		}
		whole := size + c.req.BodyLen()
		if c.n < whole {
			c.size = sock.Expect(c.size, min(whole, s.MaxWhole+s.MaxHead))
			if whole-size > s.MaxWhole {
				c.long = size
				return true
			}
			c.in = sock.Grow(c.in, c.n, whole)
			return c.await(s)
		}
		c.size = sock.Expect(c.size, whole)
		if !c.serveOne(s, whole) {
			return true
		}
		if c.in != nil { // else serveOne has given it back
			c.n = copy(c.in, c.in[whole:c.n])
		}
	}
	sock.Recycle(c.in)
	c.in = nil
	return false
}

// Partial implements sock.Handler.
func (c *conn) Partial() bool { return c.n > 0 }

// await arms the deadline of a request that has begun, once.
func (c *conn) await(s *Settings) (done bool) {
	if c.partial {
		return false
	}
	c.begin()
	c.partial = true
	c.readUntil = time.Now().Add(s.ClientStall)
	return c.nc.SetReadDeadline(c.readUntil) != nil
}

// idleDeadline sets the read deadline for the time between requests. A deadline
// that is a little further off than it need be is left alone, so that a busy
// connection sets few.
func (c *conn) idleDeadline(now time.Time, s *Settings) error {
	if d := c.readUntil.Sub(now); !c.partial && d >= s.ClientIdle && d <= 2*s.ClientIdle {
		return nil
	}
	c.partial = false
	c.readUntil = now.Add(s.ClientIdle + s.ClientIdle/4)
	return c.nc.SetReadDeadline(c.readUntil)
}

// serveOne serves the request that is whole in c.in[:whole]. It returns false
// if the connection is to be closed.
func (c *conn) serveOne(s *Settings, whole int) (keep bool) {
	now := time.Now()
	if c.begin(); c.idleDeadline(now, s) != nil {
		return false
	}
	c.x.Request = c.takeBudget(c.in[:whole])
	if c.req.CloseAfter() {
		// The length that has no body must not reach the backend, which might
		// wait for one.
		head := c.req
		head.ContentLength = wire.Int{}
		c.scratch = wire.AppendRequest(c.scratch[:0], &head)
		c.x.Request = c.scratch
	}
	if c.req.BodyLen() > maxKept && c.n == whole {
		keep = c.routeOnce(now)
	} else {
		keep = c.route(now)
	}
	if keep && c.req.CloseAfter() {
		c.linger()
		keep = false
	}
	return c.end() && keep
}

// maxKept is the longest body that is kept after it was sent, for another try on
// another connection and for Done. What is longer is not worth its memory.
const maxKept = 32 << 10

// routeOnce is route for a request that is too long to be held until its answer
// is there.
func (c *conn) routeOnce(now time.Time) (keep bool) {
	if c.shed == nil {
		c.shed = c.shedBody
	}
	c.x.Sent = c.shed
	keep = c.route(now)
	c.x.Sent = nil
	sock.Recycle(c.head)
	c.head = nil
	return keep
}

// shedBody gives the buffer of the request in c.x back and keeps its head.
func (c *conn) shedBody() {
	if c.renamed.request != nil {
		return // it is of two parts
	}
	head := append(sock.Buffer(len(c.req.Head))[:0], c.req.Head...)
	_, _ = wire.ParseRequest(head, &c.req)
	c.x.Request = head
	sock.Recycle(c.in)
	c.in, c.n, c.head = nil, 0, head
}

// serveLong serves a request whose body streams from the client to the backend.
func (c *conn) serveLong() (keep bool) {
	c.begin()
	s := c.settings()
	now := time.Now()
	c.partial = true
	c.readUntil = now.Add(s.Budget)
	if c.nc.SetReadDeadline(c.readUntil) != nil {
		return false
	}
	c.x.Request = c.takeBudget(c.in[:c.n])
	c.x.RestLen = int64(c.long + c.req.BodyLen() - c.n)
	c.x.Rest = c.nc.Conn
	keep = c.routeOnce(now)
	c.x.Rest, c.x.RestLen, c.long, c.n = nil, 0, 0, 0
	sock.Recycle(c.in)
	c.in = nil
	return c.end() && keep
}

// route sends the request where its session is and the answer back.
func (c *conn) route(now time.Time) (keep bool) {
	t := c.p.table.Load()
	x, o := &c.x, &c.outcome
	x.Op, x.req, x.place, x.moved = c.req.Op(), &c.req, nil, false
	x.Spent, x.handoff = backend.Spent{}, 0
	c.granted = grant{}
	x.key = c.targets.Parse(c.req.Target)
	if len(t.settings.renames) > 0 {
		c.rename(t.settings.renames)
		defer c.forgetRename()
	}
	x.id = keyHash(c.p.salt, x.key.Full)
	x.Started, x.Deadline = now, now.Add(c.budget(t.settings))
	*o = Outcome{
		Client: c.client, Op: x.Op, App: x.key.App, Session: x.id, Start: now,
		RequestBytes: int64(len(x.Request)) + x.RestLen, Timeout: x.req.Timeout.N,
	}
	if isReserved(x.key.Full) {
		return c.answerReserved(t.settings)
	}
	if x.key.Digest != nil {
		o.ID = keyHash(c.p.salt, x.key.SessionID)
	}
	c.p.sawTimeout(x.req.Timeout)
	c.p.counts.inFlight.Add(1)
	asked, err := now, errNoPool
	if x.hurried && x.Deadline.Sub(now) < leastBudget {
		err = errNoTime
	} else if q := t.pool(x.key.App); q != nil {
		o.Pool = q.name
		if asked, err = c.permit(t.settings, now); err == nil {
			err = c.ask(t, q)
		}
	}
	if err != nil {
		x.Ended = time.Now()
	}
	o.Delay, o.Wait = asked.Sub(now), x.Ended.Sub(asked)
	o.Moved = x.moved
	o.Phases = Phases{x.handoff, x.Spent.Queue, x.Spent.Connect, x.Spent.Send, x.Spent.Body}
	if x.place != nil {
		o.Backend = x.place.name
	}
	if err != nil {
		keep = c.fail(t.settings, err)
	} else {
		if c.p.census.wants(x) {
			c.p.census.note(x.id, x, now)
		}
		c.describe()
		keep = c.relay(t.settings)
	}
	c.p.counts.inFlight.Add(-1)
	c.finish()
	x.Release()
	return keep
}

// ask has the request done where the session is. If the routing has changed
// meanwhile, the session may have been moved before the request came there: that
// it is not there says nothing then, and the new routing is asked.
func (c *conn) ask(t *table, q *pool) error {
	for {
		err := q.via.roundTrip(c.p.stopped, &c.x)
		if err != nil || c.x.Response.Status != wire.StatusNotFound {
			return err
		}
		now := c.p.table.Load()
		if now == t {
			return nil
		}
		if t, q = now, now.pool(c.x.key.App); q == nil {
			return nil
		}
		c.x.Release()
	}
}

// describe notes in the outcome what the answer in c.x says.
func (c *conn) describe() {
	x, o := &c.x, &c.outcome
	if x.Response.Timeout.Set {
		o.Timeout = x.Response.Timeout.N
		c.p.sawTimeout(x.Response.Timeout)
	}
	o.BadVersion = !x.Response.PassesVersionCheck()
	if x.Response.Status == wire.StatusLocked {
		if age := x.Response.LockAge.N; age < 1<<31 { // clients take more for 0, too
			o.LockAge = time.Duration(age) * time.Second
		}
		o.LockDate = x.Response.LockDate.N
	}
	switch {
	case x.Op == wire.OpSet:
		if x.Rest == nil && x.Sent == nil {
			o.Body = x.Request[len(x.Request)-x.req.BodyLen():]
		}
	case x.Tail == 0:
		o.Body = x.Body()
	}
}

func (c *conn) finish() {
	c.p.counts.requests.Add(1)
	if c.p.Done != nil {
		if c.outcome.Duration == 0 { // no answer was sent
			c.outcome.Duration = time.Since(c.outcome.Start)
		}
		c.p.Done(&c.outcome)
	}
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
