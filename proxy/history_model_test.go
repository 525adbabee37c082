package proxy_test

import (
	"slices"
	"time"

	"stateproxy/wire"
)

// session is what a session may be, by all that clients were told.
type session struct {
	body    string // "" if there is none
	minutes int64
	fresh   bool // the uninitialized mark
	locked  bool
	cookie  int64 // of the lock; unknown if nobody was told
	orphan  bool  // the lock is nobody's and may go at any time
	touched time.Duration
}

// unknown is the cookie of a lock that nobody was told of.
const unknown = -1

// expired reports whether the session may have ended by its time-out.
func (s session) expired(now time.Duration) bool {
	const slack = 2 * time.Second // servers may save a renewal that gains little
	return s.body != "" && now-s.touched > time.Duration(s.minutes)*time.Minute-slack
}

// deed is a request and what came of it.
type deed struct {
	wish
	body       string   // sent with a PUT
	minutes    int64    // sent with a PUT
	cookie     wire.Int // sent
	begun, end time.Duration
	answer     answer
	failed     bool // no answer, or F
	overdue    bool // no answer in time
}

// belief is what a session can be, and what may happen beside its clients'
// requests.
type belief struct {
	can []session // never empty
	// circumstances of the deeds to be judged
	lost    func(body string) bool // no machine that is asked has this body
	trouble bool                   // a request may fail
	crowd   bool                   // a proxy's move may lock the session for a moment
}

func (b *belief) mayBeAbsent() bool {
	return slices.ContainsFunc(b.can, func(s session) bool { return s.body == "" })
}

// lockedWith reports whether the session is sure to be locked with the cookie.
func (b *belief) lockedWith(cookie wire.Int) bool {
	return !slices.ContainsFunc(b.can, func(s session) bool { return !s.locked || wire.Some(s.cookie) != cookie })
}

// judge takes the deeds, which may have overlapped, and reports whether there
// is an order in which a true server could have done them.
func (b *belief) judge(deeds []*deed) bool {
	can := b.inSomeOrder(b.can, deeds)
	if len(can) == 0 {
		return false
	}
	b.can = can
	return true
}

// inSomeOrder returns all that can be after the deeds, nothing if the answers
// contradict whatever order.
func (b *belief) inSomeOrder(can []session, deeds []*deed) (all []session) {
	if len(deeds) == 0 {
		return can
	}
	if b.trouble && slices.ContainsFunc(deeds, func(d *deed) bool { return d.op == wire.OpGet }) {
		can = union(slices.Clone(can), unmarked(can))
	}
	for i, d := range deeds {
		if slices.ContainsFunc(deeds, func(o *deed) bool { return o.end < d.begun }) {
			continue // another one came before
		}
		var next []session
		for _, s := range can {
			next = union(next, b.after(s, d))
		}
		if len(next) > 0 {
			all = union(all, b.inSomeOrder(next, slices.Delete(slices.Clone(deeds), i, i+1)))
		}
	}
	return all
}

// unmarked returns the sessions without the uninitialized mark. A GET may have been
// repeated (protocol.md section 11), and the answer that was lost took it.
func unmarked(can []session) (list []session) {
	for _, s := range can {
		s.fresh = false
		list = append(list, s)
	}
	return list
}

func union(a, b []session) []session {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

// after returns what the session can be after d if it was s before; nothing if
// d's answer contradicts s.
func (b *belief) after(s session, d *deed) (can []session) {
	if d.failed {
		if !b.trouble {
			return nil
		}
		return b.afterFailure(s, d)
	}
	reads := d.op == wire.OpGet || d.op == wire.OpGetExclusive
	if b.crowd && reads && d.answer.Status == wire.StatusLocked && s.body != "" && !s.locked {
		can = append(can, s)
	}
	if s.orphan {
		free := s
		free.locked, free.orphan = false, false
		can = union(can, serve(free, d))
		if s.fresh && reads && d.answer.Status == wire.StatusLocked { // the move's copy has the mark, not the one that it locked
			unmarked := s
			unmarked.fresh = false
			for _, n := range serve(unmarked, d) {
				n.fresh = true
				can = union(can, []session{n})
			}
		}
	}
	can = union(can, serve(s, d))
	if s.body == "" {
		return can
	}
	expired := s.expired(d.begun)
	if !expired && !b.lost(s.body) {
		return can
	}
	for _, n := range serve(session{}, d) {
		if !expired && n.body == "" && d.op != wire.OpRemove {
			n = s // out of reach, and not gone for good
		}
		can = union(can, []session{n})
	}
	if expired && d.answer.Status == wire.StatusNotFound && b.lost(s.body) {
		can = union(can, []session{s})
	}
	return can
}

// afterFailure returns what the session can be after d had no answer: d was done
// or not, and a move that it began has come to any of its steps.
func (b *belief) afterFailure(s session, d *deed) []session {
	can := []session{s}
	done := *d
	for _, status := range []int{wire.StatusOK, wire.StatusLocked, wire.StatusNotFound} {
		done.answer = answer{body: s.body}
		done.answer.Status, done.answer.Timeout = status, wire.Some(s.minutes)
		done.answer.LockCookie = wire.Some(s.cookie)
		if s.fresh {
			done.answer.ActionFlags = wire.Some(1)
		}
		for _, n := range serve(s, &done) {
			n.touched = s.touched
			if d.op == wire.OpGetExclusive && status == wire.StatusOK {
				n.cookie, n.orphan = unknown, true
			}
			if d.op == wire.OpSet || d.op == wire.OpSetUninitialized {
				n.touched = d.begun
			}
			can = union(can, []session{n})
		}
	}
	if s.body != "" && b.lost(s.body) && (d.op == wire.OpSet || d.op == wire.OpSetUninitialized || d.op == wire.OpRemove) {
		done.answer = answer{}
		done.answer.Status = wire.StatusOK
		if d.op == wire.OpRemove {
			done.answer.Status = wire.StatusNotFound
		}
		can = union(can, serve(session{}, &done))
	}
	for _, n := range slices.Clone(can) {
		if n.body == "" || n.locked {
			continue
		}
		for _, fresh := range []bool{n.fresh, false} {
			n.fresh = fresh
			left := n
			left.locked, left.cookie, left.orphan = true, unknown, true
			can = union(can, []session{n, left})
		}
	}
	return can
}

// serve does d on s as protocol.md section 7 has it, and returns what s is then,
// nothing if d's answer is not the one that s would give.
func serve(s session, d *deed) []session {
	a := &d.answer
	if s.body == "" {
		switch {
		case d.op == wire.OpSet || d.op == wire.OpSetUninitialized:
			return when(a.Status == wire.StatusOK, d.stored(d.op == wire.OpSetUninitialized))
		default:
			return when(a.Status == wire.StatusNotFound, s)
		}
	}
	s.touched = d.begun
	flagged := a.ActionFlags.Or(0)&1 != 0
	fits := !s.locked || s.cookie == unknown && d.cookie.Set || d.cookie == wire.Some(s.cookie)
	refused := s.locked && (s.cookie == unknown || d.cookie != wire.Some(s.cookie))
	switch d.op {
	case wire.OpResetTimeout:
		return when(a.Status == wire.StatusOK, s)
	case wire.OpSetUninitialized:
		return when(a.Status == wire.StatusOK, s)
	case wire.OpGet, wire.OpGetExclusive:
		fresh := s.fresh
		s.fresh = false
		if s.locked {
			return when(a.Status == wire.StatusLocked && flagged == fresh, s.told(a.LockCookie)...)
		}
		ok := a.Status == wire.StatusOK && flagged == fresh && a.body == s.body && a.Timeout == wire.Some(s.minutes)
		if d.op == wire.OpGetExclusive {
			s.locked, s.cookie = true, a.LockCookie.N
		}
		return when(ok, s)
	case wire.OpRelease:
		if flagged != s.fresh {
			return nil
		}
		s.fresh = false
	case wire.OpSet:
		if fits && a.Status == wire.StatusOK {
			return []session{d.stored(s.fresh && d.minutes == s.minutes)}
		}
	case wire.OpRemove:
		if fits && a.Status == wire.StatusOK {
			return []session{{}}
		}
	}
	if refused && a.Status == wire.StatusLocked {
		return s.told(a.LockCookie)
	}
	s.locked, s.orphan = false, false
	return when(fits && a.Status == wire.StatusOK && d.op == wire.OpRelease, s)
}

// stored is the session that d's PUT makes.
func (d *deed) stored(fresh bool) session {
	return session{body: d.body, minutes: d.minutes, fresh: fresh, touched: d.begun}
}

// told is the locked session after a 423 has named its cookie; nothing if it
// has another one.
func (s session) told(cookie wire.Int) []session {
	if s.cookie == unknown && cookie.Set {
		s.cookie = cookie.N
	}
	return when(cookie == wire.Some(s.cookie), s)
}

func when(ok bool, s ...session) []session {
	if !ok {
		return nil
	}
	return s
}
