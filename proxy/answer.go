package proxy

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/internal/sock"
	"stateproxy/wire"
)

var (
	errNoPool  = errors.New("no pool takes this application")
	errNoOwner = errors.New("no backend of the pool may own sessions")
	errNoTime  = errors.New("the proxy before this one leaves no time for an answer")
)

// blockedError says that the session may be at a former owner that can't be
// asked.
type blockedError struct{ err error }

func (e *blockedError) Error() string { return "former owner of the session: " + e.err.Error() }
func (e *blockedError) Unwrap() error { return e.err }

// patience is how long a client is taken to be still there. After a longer wait
// for a lock the proxy looks before it sends the answer, which costs a system
// call: one that gave up meanwhile would leave the lock behind. That a client
// left earlier is seen by undoGrant.
const patience = 250 * time.Millisecond

// relay passes the answer in c.x on to the client.
func (c *conn) relay(s *Settings) (keep bool) {
	x, o := &c.x, &c.outcome
	o.Status = x.Response.Status
	if (o.Wait > patience || !sock.TellsDelivery) && c.lock().Set && c.nc.PeerClosed() {
		return c.undelivered(io.ErrUnexpectedEOF)
	}
	n, err := c.write(s, x.Answer, x.Ended)
	o.ResponseBytes = int64(n)
	if err != nil {
		return c.undelivered(err)
	}
	if x.Tail == 0 {
		c.granted = grant{c.lock(), x.place, n}
		return true
	}
	tail := x.Tail
	err = x.CopyTail(c.nc.Conn)
	o.Duration = time.Since(o.Start)
	c.nc.Sent(tail - x.Tail)
	o.ResponseBytes += tail - x.Tail
	if err != nil {
		o.Reason, o.Err = CutTail, err
		c.giveBack(c.lock())
		return false
	}
	return true
}

// undelivered accounts for an answer that the client did not take. A lock that
// came with it is given back.
func (c *conn) undelivered(err error) (keep bool) {
	o := &c.outcome
	o.Status, o.Reason, o.Err = 0, ClientGone, err
	if errors.Is(err, os.ErrDeadlineExceeded) {
		o.Reason = ClientStalled
	}
	c.giveBack(c.lock())
	return false
}

// lock returns the cookie of the lock that came with the answer in c.x, if one
// did.
func (c *conn) lock() wire.Int {
	if c.x.Op != wire.OpGetExclusive || c.x.Response.Status != wire.StatusOK {
		return wire.Int{}
	}
	return c.x.Response.LockCookie
}

// giveBack releases a lock that the client does not know it has; nobody else
// would (protocol.md section 11).
func (c *conn) giveBack(cookie wire.Int) {
	if !cookie.Set {
		return
	}
	c.outcome.LockReleased = c.release(c.x.place, c.x.req, cookie)
}

func (c *conn) release(at *place, req *wire.Request, cookie wire.Int) (done bool) {
	x := backend.Exchange{
		Op:       wire.OpRelease,
		Request:  backend.ReleaseRequest(nil, req, cookie),
		Deadline: time.Now().Add(c.settings().Budget),
	}
	c.x.Worker.Detach()
	if at.conns.RoundTrip(c.p.stopped, &x) != nil {
		return false
	}
	done = x.Response.Status == wire.StatusOK
	x.Release()
	return done
}

// grant is a lock that an answer told the client of.
type grant struct {
	cookie wire.Int
	place  *place
	bytes  int // of the answer
}

// undoGrant is called at the end of the connection. If the last thing sent was
// the grant of a lock, and the client's system never took it, the client was
// gone before: the lock is released.
func (c *conn) undoGrant() {
	g := c.granted
	if !g.cookie.Set || !c.nc.Unacknowledged(g.bytes) {
		return
	}
	// The request's bytes are gone, but nothing was parsed after it.
	req := &wire.Request{Target: wire.AppendEncoded(nil, c.x.key.Full)}
	c.outcome = Outcome{
		Client: c.client, Session: c.x.id, Backend: g.place.name, Start: time.Now(), Reason: ClientGone,
		Err: io.ErrUnexpectedEOF, LockReleased: c.release(g.place, req, g.cookie),
	}
	c.finish()
}

// write sends b to the client within the stall limit from now on. The request
// ends with it; where the system takes all at once that is now, without another
// look at the clock.
func (c *conn) write(s *Settings, b []byte, now time.Time) (int, error) {
	if c.isLeaving() {
		c.nc.Cork() // so that the client knows with the answer that it is the last one
		c.last = true
	}
	if d := c.writeUntil.Sub(now); d < s.ClientStall || d > 2*s.ClientStall {
		c.writeUntil = now.Add(s.ClientStall + s.ClientStall/4)
		if err := c.nc.SetWriteDeadline(c.writeUntil); err != nil {
			return 0, err
		}
	}
	n, err := c.nc.Write(b)
	c.outcome.Duration = now.Add(c.nc.Blocked).Sub(c.outcome.Start)
	return n, err
}

// fail answers a request that got no answer from a backend.
func (c *conn) fail(s *Settings, err error) (keep bool) {
	x, o := &c.x, &c.outcome
	o.Err = err
	var be *backend.Error
	var blocked *blockedError
	switch {
	case errors.As(err, &blocked):
		o.Reason = HandoffBlocked
	case errors.As(err, &be):
		o.Reason = Reason(be.Reason)
	case err == errNoTime:
		o.Reason = NoTime
	case err == errAccess:
		o.Reason = AppNotAllowed
	case err == errRate:
		o.Reason = ClientRequestRate
	default:
		o.Reason = NoBackend
	}
	if be != nil {
		defer c.giveBack(be.Lock)
	}
	usable := x.Rest == nil // else part of the body is still on its way
	switch {
	case s.OnUnavailable == CloseConn && err != errAccess: // which no server could help
		return false
	case s.OnUnavailable == Wait && (x.Op == wire.OpGet || x.Op == wire.OpGetExclusive) && c.mayWait(s, be):
		o.Status = wire.StatusLocked
	default:
		o.Status = wire.StatusBadRequest
	}
	if !c.own(s, o.Status) {
		return false
	}
	if !usable {
		c.linger()
	}
	return usable
}

// mayWait reports whether the trouble is an outage that has not lasted too
// long to be bridged.
func (c *conn) mayWait(s *Settings, be *backend.Error) bool {
	if c.x.place == nil || be != nil && (!be.BackendFault() || c.x.hurried && be.TimedOut()) {
		return false
	}
	now := time.Now()
	return now.Sub(c.x.place.failed(now)) < s.WaitLimit
}

// own sends an answer of the proxy's own. It reports whether that worked.
func (c *conn) own(s *Settings, status int) bool {
	resp := wire.Response{Status: status, AspNetVersion: []byte(s.AspNetVersion)}
	if status == wire.StatusLocked {
		resp.LockAge, resp.LockCookie = wire.Some(0), wire.Some(0)
	}
	c.scratch = wire.AppendResponse(c.scratch[:0], &resp)
	n, err := c.write(s, c.scratch, time.Now())
	c.outcome.ResponseBytes = int64(n)
	if err != nil {
		c.outcome.Status = 0
	}
	return err == nil
}

// refuse answers a request that is not routed at all. The connection can't be
// used any further, for nobody knows where the next request begins.
func (c *conn) refuse(reason Reason, err error) {
	c.outcome = Outcome{Client: c.client, Op: c.req.Op(), Start: time.Now(), Reason: reason, Err: err,
		RequestBytes: int64(c.n), Status: wire.StatusBadRequest}
	if c.own(c.settings(), wire.StatusBadRequest) {
		c.linger()
	}
	c.finish()
}

// Bounds of a linger.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// linger ends the sending side and has serve read a little of what still comes,
// for a socket that is closed with bytes unread makes the peer lose the answer.
func (c *conn) linger() {
	half, ok := c.nc.Conn.(interface{ CloseWrite() error })
	c.lingering = ok && half.CloseWrite() == nil
}

// plain sends a request to the owner of its session.
type plain struct {
	p *Proxy
	q *pool
}

func (r plain) roundTrip(ctx context.Context, x *exchange) error {
	owner := r.q.owner(x.key.RoutingKey())
	if owner == nil {
		return errNoOwner
	}
	return r.send(ctx, owner, x)
}

// send does the exchange with one place and tells of its health.
func (r plain) send(ctx context.Context, to *place, x *exchange) error {
	x.place = to
	err := to.conns.RoundTrip(ctx, &x.Exchange)
	if err != backend.ErrPending {
		r.p.judge(x, to, err)
	}
	return err
}

// judge tells of the health of a place what an exchange with it for x says.
func (p *Proxy) judge(x *exchange, to *place, err error) {
	if err == nil {
		to.answered()
	} else if be, ok := err.(*backend.Error); ok {
		if !be.BackendFault() || x.hurried && be.TimedOut() {
			return
		}
		to.failed(time.Now())
	}
	if p.Evidence != nil {
		p.Evidence(*to.target.Load(), err)
	}
}
