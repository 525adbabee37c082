package proxy

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/internal/access"
	"stateproxy/internal/backend"
	"stateproxy/internal/sock"
	"stateproxy/wire"
)

// conn is a client's connection. It belongs to one goroutine at a time: where sockets
// wait by themselves (sock.Conn.Await) to whichever is told of an event, else to its
// own from its first byte to its end. Only state is touched by others.
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

	table   *table // that the request under way goes by; nil between two requests
	whole   int    // bytes of that request in in
	pending bool   // its answer is still to come

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

func (c *conn) settings() *Settings { return c.p.table.Load().settings }

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
	return c.serveAll()
}

// serveAll serves the requests that are whole in c.in. It returns true to end
// reading, for now if an answer is pending.
func (c *conn) serveAll() (done bool) {
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
		c.whole = whole
		if !c.serveOne(s) || c.pending {
			return true
		}
		c.shift()
	}
	sock.Recycle(c.in)
	c.in = nil
	return false
}

// shift takes the request that was served out of the buffer.
func (c *conn) shift() {
	if c.in != nil { // else it was given back already
		c.n = copy(c.in, c.in[c.whole:c.n])
	}
}

// resume goes on with the request whose answer was pending. It returns what
// serveAll does.
func (c *conn) resume() (done bool) {
	err := c.x.Resume(c.p.stopped)
	if err != backend.ErrPending {
		c.p.judge(&c.x, c.x.place, err)
		if c.outdated(err) {
			err = c.ask()
		}
	}
	if c.pending = err == backend.ErrPending; c.pending {
		return true
	}
	if !c.served(c.answered(err)) {
		return true
	}
	c.shift()
	return c.serveAll()
}

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

// serveOne serves the request that is whole in c.in, to its end if the answer is
// not pending then. It returns false if the connection is to be closed.
func (c *conn) serveOne(s *Settings) (keep bool) {
	now := time.Now()
	if c.begin(); c.idleDeadline(now, s) != nil {
		return false
	}
	c.x.Request = c.takeBudget(c.in[:c.whole])
	if c.req.CloseAfter() {
		// The length that has no body must not reach the backend, which might
		// wait for one.
		head := c.req
		head.ContentLength = wire.Int{}
		c.scratch = wire.AppendRequest(c.scratch[:0], &head)
		c.x.Request = c.scratch
	}
	if c.req.BodyLen() > maxKept && c.n == c.whole {
		c.sendOnce()
	}
	c.x.Async = c.nc.Waits()
	keep = c.route(now)
	return c.pending || c.served(keep)
}

// served ends what serveOne began.
func (c *conn) served(keep bool) bool {
	c.forgetSent()
	if keep && c.req.CloseAfter() {
		c.linger()
		keep = false
	}
	return c.end() && keep
}

// maxKept is the longest body that is kept after it was sent, for another try on
// another connection and for Done. What is longer is not worth its memory.
const maxKept = 32 << 10

// sendOnce has the request given up once it was sent: it is too long to be held
// until its answer is there.
func (c *conn) sendOnce() {
	if c.shed == nil {
		c.shed = c.shedBody
	}
	c.x.Sent = c.shed
}

// forgetSent ends what sendOnce began.
func (c *conn) forgetSent() {
	c.x.Sent = nil
	sock.Recycle(c.head)
	c.head = nil
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
	c.x.Rest = c.nc
	c.sendOnce()
	c.x.Async = false
	keep = c.route(now)
	c.forgetSent()
	c.x.Rest, c.x.RestLen, c.long, c.n = nil, 0, 0, 0
	sock.Recycle(c.in)
	c.in = nil
	return c.end() && keep
}

// route sends the request where its session is and the answer back, if that is
// not pending then.
func (c *conn) route(now time.Time) (keep bool) {
	t := c.p.table.Load()
	x, o := &c.x, &c.outcome
	x.Op, x.req, x.place, x.moved = c.req.Op(), &c.req, nil, false
	x.Spent, x.handoff = backend.Spent{}, 0
	c.granted = grant{}
	x.key = c.targets.Parse(c.req.Target)
	if len(t.settings.renames) > 0 {
		c.rename(t.settings.renames)
	}
	x.id = keyHash(c.p.salt, x.key.Full)
	x.Started, x.Deadline = now, now.Add(c.budget(t.settings))
	*o = Outcome{}
	o.Client, o.Op, o.App, o.Session, o.Start = c.client, x.Op, x.key.App, x.id, now
	o.RequestBytes, o.Timeout = int64(len(x.Request))+x.RestLen, x.req.Timeout.N
	if isReserved(x.key.Full) {
		c.forgetRename()
		return c.answerReserved(t.settings)
	}
	c.table = t
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
			o.Delay = asked.Sub(now)
			if err = c.ask(); err == backend.ErrPending {
				c.pending = true
				return true
			}
		}
	}
	return c.answered(err)
}

// answered passes the answer on, or what stands for it if there was an error.
func (c *conn) answered(err error) (keep bool) {
	x, o, s := &c.x, &c.outcome, c.table.settings
	if err != nil {
		x.Ended = time.Now()
	}
	o.Wait = x.Ended.Sub(o.Start.Add(o.Delay))
	o.Moved = x.moved
	o.Phases = Phases{x.handoff, x.Spent.Queue, x.Spent.Connect, x.Spent.Send, x.Spent.Body}
	if x.place != nil {
		o.Backend = x.place.name
	}
	if err != nil {
		keep = c.fail(s, err)
	} else {
		if c.p.census.wants(x) {
			c.p.census.note(x.id, x, o.Start)
		}
		c.describe()
		keep = c.relay(s)
	}
	c.p.counts.inFlight.Add(-1)
	c.finish()
	x.Release()
	c.forgetRename()
	c.table = nil
	return keep
}

// ask has the request done where the session is.
func (c *conn) ask() error {
	for {
		q := c.table.pool(c.x.key.App)
		err := q.via.roundTrip(c.p.stopped, &c.x)
		if !c.outdated(err) {
			return err
		}
	}
}

// outdated reports whether the routing has changed while the request was on its
// way: the session may have been moved before it came there. That it is not there
// says nothing then, and the new routing is to be asked.
func (c *conn) outdated(err error) bool {
	if err != nil || c.x.Response.Status != wire.StatusNotFound {
		return false
	}
	now := c.p.table.Load()
	if now == c.table || now.pool(c.x.key.App) == nil {
		return false
	}
	c.table = now
	c.x.Release()
	return true
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
