// Package backend talks to one state server through pooled connections, each
// with one request in flight.
//
//	p := &backend.Pool{Address: "10.0.0.11:42424"}
//	x := backend.Exchange{Op: wire.OpGet, Request: head, Deadline: time.Now().Add(8 * time.Second)}
//	err := p.RoundTrip(ctx, &x)
//	... x.Response, x.Body(), x.CopyTail(client)
//	x.Release()
//
// A connection on which anything unexpected was seen is closed, never pooled. A
// request is repeated only where protocol.md section 11 says it is harmless.
// Which session goes to which backend is left to the caller.
package backend

import (
	"context"
	"crypto/tls"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/wire"
)

// Defaults of the fields of Pool.
const (
	DefaultDialTimeout = 2 * time.Second
	DefaultIdleTimeout = 8 * time.Second // the real client's is 5 to 10 s (protocol.md section 2)
	DefaultWait        = time.Second
	DefaultMaxConns    = 1000
	DefaultMaxWaiting  = 1000
	DefaultMaxWhole    = 64 << 10
	DefaultMaxBody     = 128 << 20
)

// Settings of a pool. In each field zero means the default.
type Settings struct {
	DialTimeout time.Duration
	IdleTimeout time.Duration // unused connections are closed after it
	Wait        time.Duration // longest wait for a connection when MaxConns are busy
	MaxConns    int
	MaxWaiting  int // requests that may wait for a connection
	MaxWhole    int // bytes; bodies up to it are read before RoundTrip returns
	MaxBody     int // bytes; a larger answer is a fault
	// TLS is how to shake hands; nil means plain connections. With another value,
	// even an equal one, connections that were made by the one before are not used
	// again.
	TLS *tls.Config
}

func (s *Settings) setDefaults() {
	def(&s.DialTimeout, DefaultDialTimeout)
	def(&s.IdleTimeout, DefaultIdleTimeout)
	def(&s.Wait, DefaultWait)
	def(&s.MaxConns, DefaultMaxConns)
	def(&s.MaxWaiting, DefaultMaxWaiting)
	def(&s.MaxWhole, DefaultMaxWhole)
	def(&s.MaxBody, DefaultMaxBody)
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Pool is the connections to one backend. Address and Dial are set before first
// use. It is safe for concurrent use and must not be copied.
type Pool struct {
	Address string
	// Dial connects to the backend; nil means a net.Dialer.
	Dial DialFunc

	settings atomic.Pointer[Settings]
	kind     atomic.Int32
	counts   counters

	mu      sync.Mutex // guards all below
	idle    []*conn    // the last one was used last
	all     map[*conn]struct{}
	open    int          // connections that exist or are being made
	waiting []chan *conn // first come first served; nil received: dial
	sweeper *time.Timer  // runs while there are idle connections
	closed  bool         // keep nothing any more
	aborted bool         // open nothing any more

	lates sync.WaitGroup // waits for late answers
}

type counters struct {
	dials, dialErrors, reused, repeated, dropped, waits, refused, late, lateReleased atomic.Int64
}

// Stats is a snapshot of a pool. Counters only grow.
type Stats struct {
	Open, Idle, Busy, Waiting int   // now
	Dials, DialErrors         int64 // connections made and not made
	Reused                    int64 // requests that found an idle connection
	Repeated                  int64 // requests sent again on another connection
	Dropped                   int64 // idle connections found dead or closed as idle
	Waits, Refused            int64 // requests that had to wait; that found the queue full or waited in vain
	LateReleased              int64 // locks granted after their request had failed, and released
}

// Stats returns the present figures.
func (p *Pool) Stats() Stats {
	c := &p.counts
	s := Stats{
		Dials: c.dials.Load(), DialErrors: c.dialErrors.Load(), Reused: c.reused.Load(),
		Repeated: c.repeated.Load(), Dropped: c.dropped.Load(), Waits: c.waits.Load(), Refused: c.refused.Load(),
		LateReleased: c.lateReleased.Load(),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Open, s.Idle, s.Busy, s.Waiting = p.open, len(p.idle), p.open-len(p.idle), len(p.waiting)
	return s
}

// Configure changes the settings, also while requests are under way; those keep
// what they began with.
func (p *Pool) Configure(s Settings) {
	s.setDefaults()
	if old := p.settings.Swap(&s); old != nil && old.TLS != s.TLS {
		p.dropIdle()
	}
}

var defaultSettings = func() *Settings {
	s := &Settings{}
	s.setDefaults()
	return s
}()

func (p *Pool) config() *Settings {
	if s := p.settings.Load(); s != nil {
		return s
	}
	return defaultSettings
}

// RoundTrip sends x's request and reads the answer. The error is an *Error; the
// exchange then holds nothing and needs no Release. Or it is ErrPending, if x.Async
// allows that. ctx ends the wait for a connection and the dialing; all is over at
// x.Deadline.
func (p *Pool) RoundTrip(ctx context.Context, x *Exchange) error {
	s := p.config()
	now := x.Started
	x.Started = time.Time{} // a later exchange must not take it for the present
	if now.IsZero() {
		now = time.Now()
	}
	return p.roundTrip(ctx, s, x, now, false)
}

// roundTrip is RoundTrip from now on. With fresh it takes no idle connection.
func (p *Pool) roundTrip(ctx context.Context, s *Settings, x *Exchange, now time.Time, fresh bool) error {
	queued := x.Spent.Queue
	c, reused, err := p.take(ctx, s, x, now, fresh)
	if err != nil {
		return err
	}
	if x.Spent.Queue != queued {
		now = time.Now()
	}
	x.try.reused = reused
	if !c.Waits() {
		x.Worker.Detach() // it waits in each of its calls
	}
	e := p.begin(s, c, x, now)
	if e == nil && x.Async && c.Waits() {
		x.conn, x.pool = c, p
		return ErrPending
	}
	if e == nil {
		e = p.finish(c, x, c.ReadLoop(&x.in))
	}
	if e != nil {
		return p.again(ctx, x, e)
	}
	return nil
}

// again sends x's request once more if it failed by e on a connection that had
// been idle, and may be sent again; else it returns e.
func (p *Pool) again(ctx context.Context, x *Exchange, e *Error) error {
	if !x.try.reused || !repeatable(x, e) {
		return e
	}
	// One dead pooled connection tells of others: the backend was restarted.
	p.dropIdle()
	p.counts.repeated.Add(1)
	return p.roundTrip(ctx, p.config(), x, time.Now(), true)
}

// repeatable reports whether a request that failed on a pooled connection may
// be sent again on a new one (protocol.md section 11).
func repeatable(x *Exchange, e *Error) bool {
	if x.once() {
		return false
	}
	switch e.Reason {
	case SendError, Closed:
		if !e.Sent {
			return true
		}
	default:
		return false
	}
	switch x.Op {
	case wire.OpResetTimeout, wire.OpGet, wire.OpSetUninitialized:
		return true
	}
	return false
}

// try is what is known of an exchange on one connection.
type try struct {
	reused  bool // the connection had been idle
	size    int  // of what was to be sent
	written int
}

// begin sends the request on c, and returns the error after closing c. now is the
// present, or a moment ago.
func (p *Pool) begin(s *Settings, c *conn, x *Exchange, now time.Time) *Error {
	c.On(x.Worker)
	x.in.x, x.in.maxBody, x.in.whole = x, s.MaxBody, s.MaxWhole
	if err := c.setDeadline(x.Deadline, now); err != nil {
		return p.fail(c, x, &Error{Reason: SendError, Err: err})
	}
	out := x.Request
	if p.tells(x) {
		out = x.withBudget()
	}
	x.try.size, x.try.written = len(out), len(out)
	if x.Rest != nil {
		if err := sendLong(c, x, out); err != nil {
			return p.fail(c, x, &Error{Reason: RelayError, Sent: true, Err: err})
		}
	} else {
		n, err := c.Write(out)
		x.Spent.Send += c.Blocked
		if err != nil {
			x.try.written = min(n, len(out)-1)
			return p.finish(c, x, err)
		}
		if x.Sent != nil {
			x.forgetTold()
		}
	}
	if x.Sent != nil {
		x.Sent()
	}
	return nil
}

// finish judges an exchange on c that has ended by err, and returns nil, or the
// error after closing c.
func (p *Pool) finish(c *conn, x *Exchange, err error) *Error {
	switch t := &x.try; {
	case x.in.reason != "":
		return p.fail(c, x, &Error{Reason: x.in.reason, Sent: true, Status: x.Response.Status, Err: x.in.err})
	case err != nil:
		e := &Error{Address: p.Address, Sent: t.written > 0, Err: err}
		e.Reason = failure(err, t.written < t.size, x.in.n > 0)
		if (e.Reason == SendError || e.Reason == Closed) && x.Rest == nil && c.Unacknowledged(t.written) {
			e.Sent = false // the backend had closed before the request came
		}
		if e.Reason == Timeout && t.written == t.size && p.awaitLate(c, x) {
			return e
		}
		return p.fail(c, x, e)
	}
	x.Ended = time.Now()
	x.Spent.Body += x.in.took(x.Ended)
	if x.Tail > 0 {
		x.conn, x.pool = c, p
	} else { // bytes behind the answer would show, unless the buffer has no room for them
		whole := x.in.n < len(x.in.buf) && !c.HoldsBack()
		p.done(c, whole || c.Idle(), x.Ended)
	}
	return nil
}

// failure classifies an error of an exchange.
func failure(err error, writing, answering bool) Reason {
	switch {
	case isTimeout(err):
		return Timeout
	case isAlert(err):
		return TLSRefused
	case writing:
		return SendError
	case answering:
		return CutAnswer
	}
	return Closed
}

// sendLong sends a request whose body is not all in out.
func sendLong(c *conn, x *Exchange, out []byte) error {
	began := time.Now()
	defer func() { x.Spent.Send += time.Since(began) }()
	if _, err := c.Write(out); err != nil {
		return err
	}
	src := &io.LimitedReader{R: x.Rest, N: x.RestLen}
	n, err := io.Copy(c.Conn.Conn, src)
	c.Sent(n)
	if err == nil && src.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (p *Pool) fail(c *conn, x *Exchange, e *Error) *Error {
	e.Address = p.Address
	if x.Op == wire.OpGetExclusive && x.Response.Status == wire.StatusOK {
		e.Lock = x.Response.LockCookie
	}
	now := time.Now()
	x.Spent.Body += x.in.took(now)
	p.done(c, false, now)
	x.Release()
	return e
}
