package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stateproxy/wire"
)

// Errors of Lock and Unlock that a caller may want to tell apart.
var (
	ErrUnknownSession = errors.New("no such session")
	ErrNotLocked      = errors.New("the session is not locked")
	ErrLockChanged    = errors.New("the session is locked by another request than before")
)

// Lock is what a backend tells of a session's lock.
type Lock struct {
	App     string        // application part of the session; a client has chosen it
	Backend string        // that has the session
	Held    bool          // it is locked; what follows is zero if it is not
	Cookie  int64         // tells the locks of one session apart
	Age     time.Duration // in whole seconds
}

// Lock asks whether a session is locked. The session goes by the hash that an
// Outcome has, and must be one of those that the proxy remembers
// (Settings.Remember); the error is ErrUnknownSession if it is not, or is gone.
//
// It asks as a client does that reads the session, so a session that is not
// locked lives on from there, is brought to its owner, and loses the mark of one
// that is not initialized (protocol.md section 6).
func (p *Proxy) Lock(ctx context.Context, session uint64) (Lock, error) {
	key, ok := p.census.find(session)
	if !ok {
		return Lock{}, fmt.Errorf("%w: none with this hash has passed by since the proxy started, or there was no room to remember it", ErrUnknownSession)
	}
	l, _, err := p.askLock(ctx, key, wire.Request{Verb: wire.GET})
	return l, err
}

// Unlock releases the lock of a session that has the cookie; see Lock for how
// the session is named. The lock's holder is not told. A page that saves later is
// refused while another has the session, and else overwrites what others have
// saved meanwhile (protocol.md section 10).
//
// A lock younger than Settings.Budget is not released: it may be that of a
// proxy which is moving the session.
func (p *Proxy) Unlock(ctx context.Context, session uint64, cookie int64) (Lock, error) {
	l, err := p.Lock(ctx, session)
	if err != nil {
		return l, err
	}
	youngest := p.table.Load().settings.Budget
	switch {
	case !l.Held:
		return l, ErrNotLocked
	case l.Cookie != cookie:
		return l, ErrLockChanged
	case l.Age <= youngest:
		return l, fmt.Errorf("the lock is %v old: want one older than timeouts.budget, %v, for it may be that of a handoff", l.Age, youngest)
	}
	key, _ := p.census.find(session)
	after, status, err := p.askLock(ctx, key, wire.Request{Verb: wire.GET, Exclusive: wire.Release, LockCookie: wire.Some(cookie)})
	switch {
	case err != nil:
		return l, err
	case after.Held:
		return after, ErrLockChanged
	case status != wire.StatusOK:
		return l, fmt.Errorf("backend %s refused the release with %d", after.Backend, status)
	}
	return l, nil
}

// askLock sends a request of the proxy's own for the session with the key where
// a client's would go, and returns what the answer tells of its lock.
func (p *Proxy) askLock(ctx context.Context, key string, req wire.Request) (l Lock, status int, err error) {
	t := p.table.Load()
	x := ownExchange(key)
	q := t.pool(x.key.App)
	if q == nil {
		return l, 0, errNoPool
	}
	req.Target = x.req.Target
	x.req, x.Op, x.id = &req, req.Op(), keyHash(p.salt, x.key.Full)
	x.Request = wire.AppendRequest(nil, &req)
	x.Deadline = time.Now().Add(t.settings.Budget)
	if err := q.via.roundTrip(ctx, x); err != nil {
		return l, 0, err
	}
	defer x.Release()
	r := &x.Response
	l.App, l.Backend = string(x.key.App), x.place.name
	switch r.Status {
	case wire.StatusNotFound:
		return l, r.Status, fmt.Errorf("%w any more: it has expired or was removed", ErrUnknownSession)
	case wire.StatusLocked:
		l.Held, l.Cookie = true, r.LockCookie.N
		if age := r.LockAge.N; age < 1<<31 { // clients take more for 0, too
			l.Age = time.Duration(age) * time.Second
		}
	case wire.StatusOK:
	default:
		return l, r.Status, fmt.Errorf("backend %s answered %d", l.Backend, r.Status)
	}
	return l, r.Status, nil
}
