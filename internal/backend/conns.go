package backend

import (
	"context"
	"errors"
	"time"

	"stateproxy/internal/sock"
)

// checkAfter is for how long an idle connection is trusted without a look
// whether the backend has closed it. A busy one is used again before, and the
// look costs a system call. A request that meets a dead one is sent again where
// that can be told to be harmless, and the first closes all idle connections.
// Where it can't be told, the look comes sooner.
var checkAfter = func() time.Duration {
	if sock.TellsDelivery {
		return 50 * time.Millisecond
	}
	return 5 * time.Millisecond
}()

var errQueueFull = errors.New("too many requests wait for a connection")

// take returns a connection: an idle one, or a new one, or after a wait one
// that another request gave back.
func (p *Pool) take(ctx context.Context, s *Settings, x *Exchange, now time.Time, fresh bool) (c *conn, reused bool, err error) {
	if !fresh {
		if c := p.takeIdle(s, now, x); c != nil {
			return c, true, nil
		}
	}
	p.mu.Lock()
	if p.open < s.MaxConns {
		p.open++
		p.mu.Unlock()
		c, err := p.dial(ctx, s, x)
		return c, false, err
	}
	if len(p.waiting) >= s.MaxWaiting {
		p.mu.Unlock()
		p.counts.refused.Add(1)
		return nil, false, &Error{Address: p.Address, Reason: QueueFull, Err: errQueueFull}
	}
	x.Worker.Detach()
	turn := make(chan *conn, 1)
	p.waiting = append(p.waiting, turn)
	p.mu.Unlock()
	p.counts.waits.Add(1)
	return p.wait(ctx, s, x, turn, fresh)
}

// wait waits until turn brings a connection, or nil, which is the leave to dial
// one.
func (p *Pool) wait(ctx context.Context, s *Settings, x *Exchange, turn chan *conn, fresh bool) (*conn, bool, error) {
	began := time.Now()
	timer := time.NewTimer(min(s.Wait, x.Deadline.Sub(began)))
	defer timer.Stop()
	var cause error
	select {
	case c := <-turn:
		x.Spent.Queue += time.Since(began)
		if c != nil && !fresh {
			return c, true, nil
		}
		if c != nil {
			c.Close()
			p.forget(c)
		}
		c, err := p.dial(ctx, s, x)
		return c, false, err
	case <-timer.C:
		cause = context.DeadlineExceeded
	case <-ctx.Done():
		cause = ctx.Err()
	}
	x.Spent.Queue += time.Since(began)
	if !p.leave(turn) { // a connection came at the last moment: pass it on
		if c := <-turn; c != nil {
			p.done(c, true, time.Now())
		} else {
			p.give()
		}
	}
	p.counts.refused.Add(1)
	return nil, false, &Error{Address: p.Address, Reason: WaitTimeout, Err: cause}
}

// leave takes turn out of the queue. It returns false if it is not there any
// more, because something was sent to it.
func (p *Pool) leave(turn chan *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, t := range p.waiting {
		if t == turn {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// takeIdle returns the connection that was used last, if the backend has not
// closed it. For a request that can be sent once only none is taken on trust.
func (p *Pool) takeIdle(s *Settings, now time.Time, x *Exchange) *conn {
	for {
		p.mu.Lock()
		c := p.popIdle(x.Worker)
		p.mu.Unlock()
		if c == nil {
			return nil
		}
		age := now.Sub(c.used) // below 0 if c was used after the request came
		young := age >= 0 && age < checkAfter && !x.once() && !c.Ending()
		if c.tls == s.TLS && (young || age < s.IdleTimeout && c.Idle()) {
			p.counts.reused.Add(1)
			return c
		}
		p.counts.dropped.Add(1)
		p.discard(c)
	}
}

// popIdle takes an idle connection out, nil if there is none: of the few that were
// used last the first whose answer comes to w, so that connections seldom go from
// one processor to another. p.mu is held.
func (p *Pool) popIdle(w *sock.Worker) *conn {
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	at := last
	for at > max(0, last-15) && !p.idle[at].Near(w) {
		at--
	}
	if !p.idle[at].Near(w) {
		at = last
	}
	c := p.idle[at]
	p.idle = append(p.idle[:at], p.idle[at+1:]...)
	return c
}

// dial makes the connection that p.open counts already.
func (p *Pool) dial(ctx context.Context, s *Settings, x *Exchange) (*conn, error) {
	began, deadline := time.Now(), x.Deadline
	if limit := began.Add(s.DialTimeout); limit.Before(deadline) {
		deadline = limit
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	p.counts.dials.Add(1)
	x.Worker.Detach()
	nc, err := TLSDialer(p.Dial, s.TLS)(ctx, "tcp", p.Address)
	x.Spent.Connect += time.Since(began)
	if err != nil {
		p.counts.dialErrors.Add(1)
		p.give()
		return nil, &Error{Address: p.Address, Reason: dialReason(err), Err: err}
	}
	c := &conn{Conn: sock.New(nc), tls: s.TLS}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = map[*conn]struct{}{}
	}
	p.all[c] = struct{}{}
	if p.aborted {
		c.Close() // the exchange will find out
	}
	return c, nil
}

// done takes c back after an exchange: into the pool, or to whoever waits
// longest, if it is fit for another request.
func (p *Pool) done(c *conn, fit bool, now time.Time) {
	if !fit {
		c.Cut() // a farewell could take longer than the request may
		p.discard(c)
		return
	}
	if c.tls != p.config().TLS {
		p.discard(c)
		return
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.discard(c)
		return
	}
	if len(p.waiting) > 0 {
		turn := p.next()
		p.mu.Unlock()
		turn <- c
		return
	}
	c.used = now
	p.idle = append(p.idle, c)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(p.config().IdleTimeout/2, p.sweep)
	}
	p.mu.Unlock()
}

// discard closes c and lets somebody else open one in its place.
func (p *Pool) discard(c *conn) {
	c.Close()
	p.forget(c)
	p.give()
}

func (p *Pool) forget(c *conn) {
	p.mu.Lock()
	delete(p.all, c)
	p.mu.Unlock()
}

// give passes the right to open a connection on: to whoever waits longest, else
// back to the pool.
func (p *Pool) give() {
	p.mu.Lock()
	if len(p.waiting) == 0 {
		p.open--
		p.mu.Unlock()
		return
	}
	turn := p.next()
	p.mu.Unlock()
	turn <- nil // has room for it
}

// next takes the first of the queue. p.mu is held.
func (p *Pool) next() chan *conn {
	turn := p.waiting[0]
	p.waiting = append(p.waiting[:0], p.waiting[1:]...)
	return turn
}

// sweep closes what lay idle for too long. Connections are used last in, first
// out, so those are at the front.
func (p *Pool) sweep() {
	limit := time.Now().Add(-p.config().IdleTimeout)
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && p.idle[n].used.Before(limit) {
		n++
	}
	old := append([]*conn(nil), p.idle[:n]...)
	p.idle = append(p.idle[:0], p.idle[n:]...)
	if len(p.idle) > 0 && !p.closed {
		p.sweeper.Reset(p.config().IdleTimeout / 2)
	} else {
		p.sweeper = nil
	}
	p.mu.Unlock()
	p.drop(old)
}

// dropIdle closes all idle connections.
func (p *Pool) dropIdle() {
	p.mu.Lock()
	old := p.idle
	p.idle = nil
	p.mu.Unlock()
	p.drop(old)
}

func (p *Pool) drop(old []*conn) {
	p.counts.dropped.Add(int64(len(old)))
	for _, c := range old {
		p.discard(c)
	}
}

// Close closes the idle connections and lets none be pooled any more. Exchanges
// under way end in peace, and new ones may still be made, each on a connection
// of its own: a request that began before a reload must not fail by it.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	if p.sweeper != nil {
		p.sweeper.Stop()
		p.sweeper = nil
	}
	p.mu.Unlock()
	p.dropIdle()
}

// Abort closes all connections at once, busy ones too, and those still being
// made as soon as they are. It returns when nobody waits for late answers any
// more.
func (p *Pool) Abort() {
	p.Close()
	p.mu.Lock()
	p.aborted = true
	for c := range p.all {
		c.Cut()
	}
	p.mu.Unlock()
	p.lates.Wait()
}
