package proxy

import (
	"context"
	"errors"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/internal/sock"
	"stateproxy/wire"
)

// move is one session on its way from f to owner.
type move struct {
	*handoff
	ctx      context.Context
	x        *exchange
	c        *candidates
	f, owner *place
	deadline time.Time // of the move; a little is left of the request's to let go of a lock
	lock     wire.Int  // cookie of the move's lock at f
	fresh    bool      // the uninitialized mark was at f; the lock took it
	retried  bool
}

// errOneServer is the error of a move whose own lock seems to be at owner.
var errOneServer = errors.New("may be the new owner's server under another address")

func (m *move) run() (*place, error) {
	got := backend.Exchange{Op: wire.OpGetExclusive, Deadline: m.deadline}
	got.Request = wire.AppendRequest(nil, &wire.Request{
		Verb: wire.GET, Target: m.x.req.Target, Host: m.x.req.Host, Exclusive: wire.Acquire,
	})
	err := m.f.conns.RoundTrip(m.ctx, &got)
	m.p.judge(m.x, m.f, err)
	if err != nil {
		return nil, err
	}
	defer got.Release()
	switch got.Response.Status {
	case wire.StatusNotFound:
		m.p.moves.stuck.Delete(m.c.id)
		return nil, nil
	case wire.StatusLocked:
		return m.locked(got.Response.LockCookie)
	case wire.StatusOK:
	default:
		return nil, errors.New("refused to lend the session for its move")
	}
	m.p.moves.stuck.Delete(m.c.id) // it is not any more
	m.lock = got.Response.LockCookie
	m.fresh = m.fresh || got.Response.ActionFlags.Or(0)&1 != 0
	wasOut, err := m.ownerWasOut()
	if err == nil {
		err = m.store(&got, wasOut)
	}
	if err == nil && wasOut {
		err = m.broughtBack()
	}
	if err == nil {
		return m.remove(m.lock)
	}
	_ = m.letGo(m.lock) // the error of the move is what the caller hears of
	if err != errOneServer || m.retried {
		return nil, err
	}
	m.retried = true // by chance two locks may have the same cookie, but not twice
	return m.run()
}

// ownerWasOut reports whether other proxies may take what owner has of the session
// for out of date. One that has missed the outage has only their notes to go by.
func (m *move) ownerWasOut() (bool, error) {
	if m.owner.noted() {
		return true, nil
	}
	since, err := m.staleSince(m.ctx, m.x, m.c, m.owner)
	return since != 0, err
}

// broughtBack tells other proxies that the session is at owner again, which was
// down.
func (m *move) broughtBack() error {
	now := time.Now().UnixNano()
	if err := m.leave(m.ctx, m.x, m.owner, m.owner, back, now); err != nil {
		return err
	}
	return m.leave(m.ctx, m.x, m.f, m.owner, back, now)
}

// locked deals with a session that is in use at f: by a client, whose requests
// then go to f, or by a move of ours that broke off. That one begins anew, for
// what it stored may be gone, or at a place that is not the owner any more.
func (m *move) locked(cookie wire.Int) (*place, error) {
	if left, ok := m.p.moves.stuck.Load(m.c.id); !ok || left != (stuckLock{m.f, cookie}) {
		m.c.cookie = cookie
		return m.f, nil
	}
	if err := m.letGo(cookie); err != nil {
		return nil, err
	}
	return m.run()
}

// store puts what was got from f at owner, unlocked. There may be an old copy there
// if owner was out.
func (m *move) store(got *backend.Exchange, wasOut bool) error {
	if m.fresh || wasOut || m.owner.mayHoldOld() || m.c.ownerStale() {
		if err := m.clear(m.owner); err != nil {
			return err
		}
	}
	streams := got.Tail > 0
	status, err := m.put(got)
	if err == nil && status == wire.StatusLocked { // an old copy that nobody thought of
		err = m.clear(m.owner)
		if err == nil && !streams { // else the body is gone, and the next request's move will do
			status, err = m.put(got)
		}
	}
	if err != nil {
		return err
	}
	if status != wire.StatusOK {
		return errors.New("the new owner did not take the session")
	}
	m.owner.overtaken().remove(m.c.id) // what it has is the latest, should f be lost now
	return nil
}

func (m *move) put(got *backend.Exchange) (status int, err error) {
	req := wire.Request{
		Verb: wire.PUT, Target: m.x.req.Target, Host: m.x.req.Host,
		Timeout: got.Response.Timeout, ContentLength: got.Response.ContentLength, ExtraFlags: wire.Some(0),
	}
	if m.fresh { // the mark was taken by our acquire and must be there for the client
		req.ExtraFlags = wire.Some(1)
	}
	m.p.moves.halves.add(m.c.id, time.Now().UnixNano())
	buf := sock.Buffer(512 + len(req.Target) + len(req.Host) + len(got.Body()))
	defer sock.Recycle(buf)
	put := backend.Exchange{
		Op: req.Op(), Request: append(wire.AppendRequest(buf[:0], &req), got.Body()...), Deadline: m.deadline,
	}
	if got.Tail > 0 {
		put.Rest, put.RestLen = got.TailReader(), got.Tail
	}
	err = m.owner.conns.RoundTrip(m.ctx, &put)
	m.p.judge(m.x, m.owner, err)
	if err != nil {
		return 0, err
	}
	defer put.Release()
	return put.Response.Status, nil
}

// mayHoldOld reports whether the place was ejected once, so that it may have a
// copy from then, uninitialized perhaps, and that mark would stay. So may a server
// that is not known yet, which may have been in use at another address. A former
// owner that has become the owner again may not: its sessions went by moves, and
// where one broke off, its lock has taken the mark.
func (p *place) mayHoldOld() bool {
	return p.lastDown() != 0 || p.instance.Load() == nil
}

// clear removes what a place has of the session, which is out of date.
func (m *move) clear(at *place) error {
	req := wire.Request{Verb: wire.DELETE}
	for range 3 {
		status, cookie, err := m.delete(at, req)
		switch {
		case err != nil:
			return err
		case status == wire.StatusOK || status == wire.StatusNotFound:
			return nil
		case status != wire.StatusLocked:
			return errors.New("refused to give up an old copy")
		case cookie == m.lock && mayBeOneServer(m.f, at):
			return errOneServer
		}
		req.LockCookie = cookie
	}
	return errors.New("an old copy is in use")
}

// mayBeOneServer reports whether it is not known that a and b are two servers.
func mayBeOneServer(a, b *place) bool {
	return a.instance.Load() == nil || b.instance.Load() == nil || sameServer(a, b)
}

func (m *move) delete(at *place, req wire.Request) (status int, cookie wire.Int, err error) {
	req.Target, req.Host = m.x.req.Target, m.x.req.Host
	own := backend.Exchange{Op: wire.OpRemove, Request: wire.AppendRequest(nil, &req), Deadline: m.deadline}
	err = at.conns.RoundTrip(m.ctx, &own)
	m.p.judge(m.x, at, err)
	if err != nil {
		return 0, wire.Int{}, err
	}
	defer own.Release()
	return own.Response.Status, own.Response.LockCookie, nil
}

// remove deletes f's copy, which the move has locked with cookie. Until that is
// sure, the copy counts.
func (m *move) remove(cookie wire.Int) (*place, error) {
	var err error
	for range 2 { // repeating is harmless: nobody else can have made this lock
		var status int
		status, _, err = m.delete(m.f, wire.Request{Verb: wire.DELETE, LockCookie: cookie})
		switch {
		case err != nil:
			continue
		case status == wire.StatusOK || status == wire.StatusNotFound:
			m.p.moves.stuck.Delete(m.c.id)
			return m.owner, nil
		case status == wire.StatusLocked: // taken over meanwhile: the client there goes on there
			m.p.moves.stuck.Delete(m.c.id)
			return m.f, nil
		}
		err = errors.New("refused to remove the moved session")
		break
	}
	m.p.moves.stuck.Store(m.c.id, stuckLock{m.f, cookie})
	return nil, err
}

// letGo releases the move's lock at f. If that fails, the lock stays until the next
// request for the session, or until a client takes it over.
func (m *move) letGo(cookie wire.Int) error {
	_, err := m.ask(m.ctx, m.x, m.f, wire.Request{Verb: wire.GET, Exclusive: wire.Release, LockCookie: cookie})
	if err != nil {
		m.p.moves.stuck.Store(m.c.id, stuckLock{m.f, cookie})
	}
	return err
}
