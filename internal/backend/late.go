package backend

import (
	"io"
	"time"

	"stateproxy/wire"
)

const (
	lateWait  = 30 * time.Second // how long an answer that missed its deadline is still waited for
	lateLimit = 32               // such waits at once, for each backend, beside MaxConns
)

// awaitLate takes over the connection of an exclusive GET that missed its
// deadline. If the backend grants the lock after all, nobody is there to hold
// it, so it is released again; else the user would wait for the execution
// time-out (protocol.md section 11). It returns false if it does not take c.
func (p *Pool) awaitLate(c *conn, x *Exchange) bool {
	if x.Op != wire.OpGetExclusive {
		return false
	}
	p.mu.Lock()
	if p.aborted || p.counts.late.Load() == lateLimit {
		p.mu.Unlock()
		return false
	}
	p.counts.late.Add(1)
	late := &Exchange{Op: x.Op, Deadline: time.Now().Add(lateWait), Response: x.Response}
	late.in = x.in
	late.in.x = late
	x.in, x.Response = answer{size: x.in.size}, wire.Response{}
	request := append([]byte(nil), x.Request...)
	c.On(nil)
	p.lates.Go(func() { p.releaseLate(c, late, request) })
	p.mu.Unlock()
	p.give() // a backend that is silent for long must not use up MaxConns
	return true
}

func (p *Pool) releaseLate(c *conn, x *Exchange, request []byte) {
	defer p.counts.late.Add(-1)
	defer p.forget(c)
	defer c.Close()
	defer x.Release()
	if c.setDeadline(x.Deadline, time.Now()) != nil || c.ReadLoop(&x.in) != nil || x.in.reason != "" {
		return
	}
	cookie := x.Response.LockCookie
	if x.Response.Status != wire.StatusOK || !cookie.Set {
		return
	}
	if _, err := io.CopyN(io.Discard, c.Conn.Conn, x.Tail); err != nil {
		return
	}
	var req wire.Request
	if _, err := wire.ParseRequest(request, &req); err != nil {
		return
	}
	x.Release()
	x.Op = wire.OpRelease
	x.in.x = x
	if _, err := c.Exchange(ReleaseRequest(nil, &req, cookie), &x.in); err == nil && x.in.reason == "" {
		p.counts.lateReleased.Add(1)
	}
}

// ReleaseRequest appends the request that gives back the lock which req, an
// exclusive GET, took with cookie.
func ReleaseRequest(dst []byte, req *wire.Request, cookie wire.Int) []byte {
	return wire.AppendRequest(dst, &wire.Request{
		Verb: wire.GET, Target: req.Target, Host: req.Host, Exclusive: wire.Release, LockCookie: cookie,
	})
}
