package stateserver

import (
	"time"

	"stateproxy/wire"
)

// Rules of the Microsoft server for numbers (protocol.md section 6).
const (
	defaultTimeout = 20 // minutes, for a PUT without Timeout
	createdCookie  = 1  // lock counter of a new item: its first lock gets 2
	noCookie       = -1 // lock counter after a PUT that changed the timeout and sent no cookie
	wrappedCookie  = 2  // follows wire.MaxLockCookie: clients can't send what 32-bit overflow would give
)

// do carries out req, whose target decodes to key, and fills resp but for
// version and length. It keeps body if that is stored, and returns the body to
// answer with, which must not be written to. This is the table of protocol.md
// section 7.
func (st *store) do(now time.Duration, req *wire.Request, key, body []byte, resp *wire.Response) []byte {
	*resp = wire.Response{Status: wire.StatusBadRequest}
	if !acceptable(req, body) {
		return nil
	}
	sh := st.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	it := sh.find(now, key)
	op := req.Op()
	if it == nil && op.Verb() != wire.PUT {
		resp.Status = wire.StatusNotFound
		return nil
	}
	switch op {
	case wire.OpGet:
		return sh.get(now, it, resp)
	case wire.OpGetExclusive:
		return sh.acquire(now, it, resp)
	case wire.OpRelease:
		sh.release(now, it, req, resp)
	case wire.OpSet, wire.OpSetUninitialized:
		sh.set(now, it, req, key, body, resp)
	case wire.OpRemove:
		sh.delete(now, it, req, resp)
	case wire.OpResetTimeout:
		resp.Status = wire.StatusOK // find has renewed it
	}
	return nil
}

// acceptable makes the checks that come before the look-up. An empty body is
// refused because it would read back as "no such session" (protocol.md
// section 3).
func acceptable(req *wire.Request, body []byte) bool {
	if req.Faults.Has(wire.FaultExclusive) {
		return false
	}
	return req.Verb != wire.PUT ||
		len(body) > 0 && !req.Faults.Has(wire.FaultTimeout|wire.FaultExtraFlags)
}

func (sh *shard) get(now time.Duration, it *item, resp *wire.Response) []byte {
	it.tellUninit(resp)
	if it.locked {
		sh.refuse(now, it, resp)
		return nil
	}
	resp.Status = wire.StatusOK
	resp.Timeout = wire.Some(int64(it.timeout))
	return it.body
}

// acquire is a get that locks. Whoever holds the lock already is refused like
// anyone else.
func (sh *shard) acquire(now time.Duration, it *item, resp *wire.Response) []byte {
	body := sh.get(now, it, resp)
	if resp.Status != wire.StatusOK {
		return nil
	}
	sh.lock(now, it)
	if it.cookie == wire.MaxLockCookie {
		it.cookie = wrappedCookie
	} else {
		it.cookie++
	}
	resp.LockCookie = wire.Some(int64(it.cookie))
	return body
}

// release needs a cookie even where nothing is locked, and the right one where
// something is.
func (sh *shard) release(now time.Duration, it *item, req *wire.Request, resp *wire.Response) {
	it.tellUninit(resp)
	switch {
	case req.Faults.Has(wire.FaultNoLockCookie | wire.FaultLockCookie):
		resp.Status = wire.StatusBadRequest
	case !it.allows(req.LockCookie):
		sh.refuse(now, it, resp)
	default:
		sh.unlock(it)
		resp.Status = wire.StatusOK
	}
}

// set stores a body. it is nil if there is no item yet.
func (sh *shard) set(now time.Duration, it *item, req *wire.Request, key, body []byte, resp *wire.Response) {
	uninit := req.ExtraFlags.N&1 != 0
	timeout := int32(req.Timeout.Or(defaultTimeout))
	switch {
	case it == nil:
		if !sh.st.reserve(cost(len(key), len(body))) {
			return
		}
		it = &item{key: string(key), body: body, timeout: timeout, cookie: createdCookie, uninit: uninit}
		it.expires = it.expiry(now)
		sh.add(it)
	case uninit: // create only if absent: nothing changes, locked or not
	case req.Faults.Has(wire.FaultLockCookie):
		return
	case !it.allows(req.LockCookie):
		sh.refuse(now, it, resp)
		return
	case !sh.setBody(it, body):
		return
	default:
		sh.unlock(it)
		if timeout != it.timeout {
			sh.renew(now, it, timeout, int32(req.LockCookie.Or(noCookie)))
		}
	}
	resp.Status = wire.StatusOK
}

// renew makes it the item that takes its place when a PUT changes the timeout.
// The flag comes from that PUT, where it is not set.
func (sh *shard) renew(now time.Duration, it *item, timeout, cookie int32) {
	it.timeout, it.cookie, it.uninit = timeout, cookie, false
	sh.unlink(it)
	it.expires = it.expiry(now)
	sh.link(it)
}

func (sh *shard) delete(now time.Duration, it *item, req *wire.Request, resp *wire.Response) {
	switch {
	case req.Faults.Has(wire.FaultLockCookie):
		resp.Status = wire.StatusBadRequest
	case !it.allows(req.LockCookie):
		sh.refuse(now, it, resp)
	default:
		sh.remove(it)
		resp.Status = wire.StatusOK
	}
}

// tellUninit puts the flag into the answer, whatever that becomes, and clears it.
func (it *item) tellUninit(resp *wire.Response) {
	if it.uninit {
		it.uninit = false
		resp.ActionFlags = wire.Some(1)
	}
}

// allows reports whether a request with this cookie may change the item: any
// may, or none, while it is unlocked.
func (it *item) allows(cookie wire.Int) bool {
	return !it.locked || cookie.Set && cookie.N == int64(it.cookie)
}

// refuse answers 423 with what a waiting client needs to take a forgotten lock
// over (protocol.md section 10).
func (sh *shard) refuse(now time.Duration, it *item, resp *wire.Response) {
	resp.Status = wire.StatusLocked
	resp.LockCookie = wire.Some(int64(it.cookie))
	resp.LockAge = wire.Some(int64(max(now-it.lockedAt, 0) / time.Second)) // below 0: Age was called meanwhile
	resp.LockDate = wire.Some(ticks(sh.st.date(it.lockedAt)))
}

// ticks returns the 100 ns steps from the year 1 to t by t's local clock.
func ticks(t time.Time) int64 {
	const yearOneToUnix = 62135596800 // seconds
	_, offset := t.Zone()
	return (t.Unix()+int64(offset)+yearOneToUnix)*1e7 + int64(t.Nanosecond())/100
}
