package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"stateproxy/wire"
)

// ownTarget returns the target of a random session. Its digest is random too,
// where an application's is a hash of its path (protocol.md section 4), so no
// application can have it.
func (r *run) ownTarget() []byte {
	const alphabet = "abcdefghijklmnopqrstuvwxyz012345"
	var random [32 + 24]byte
	rand.Read(random[:]) // never fails
	id := random[32:]
	for i, b := range id {
		id[i] = alphabet[b%32]
	}
	key := fmt.Appendf(nil, "%s(%s)/%s", cmp.Or(r.App, DefaultApp), base64.StdEncoding.EncodeToString(random[:32]), id)
	return wire.AppendEncoded(nil, key)
}

// timeoutMinutes is the life of the own session, should removing it fail.
const timeoutMinutes = 1

// ownBody returns a body that a careless server would damage: every byte value,
// in the frame that System.Web uses.
func ownBody() []byte {
	b := binary.LittleEndian.AppendUint32(nil, timeoutMinutes)
	b = append(b, 0, 0)
	for i := range 1024 {
		b = append(b, byte(i))
	}
	return append(b, 0xff)
}

// session is the own session.
type session struct {
	*run
	target []byte
	body   []byte
	lock   wire.Int // its cookie, while it is locked
	stored bool
}

// round does with an own session what pages do. It reports whether the
// connection is still good.
func (r *run) round() bool {
	s := &session{run: r, target: r.ownTarget(), body: ownBody()}
	defer s.cleanUp()
	for _, step := range []func() bool{s.store, s.read, s.acquire, s.second, s.release, s.readAgain, s.remove, s.gone} {
		if !step() {
			return false
		}
	}
	return true
}

// try asks and judges what every answer must be like. If ok is false the step
// is noted as failed.
func (s *session) try(step string, req *wire.Request, body []byte) (a *answer, took time.Duration, ok bool) {
	req.Target = s.target
	a, took, err := s.ask(req, body)
	switch {
	case err == nil && a.Status == wire.StatusBadRequest:
		s.bad(step, took, Failed, NotTaken, "refused with status 400")
	case err == nil && a.Status != wire.StatusOK && a.Status != wire.StatusNotFound && a.Status != wire.StatusLocked:
		s.bad(step, took, Failed, OddStatus, fmt.Sprintf("status %d", a.Status))
	case err == nil:
		return a, took, true
	case s.ctx.Err() != nil:
		s.bad(step, took, Failed, Cancelled, "broken off")
	case errors.Is(err, errTooMuch):
		s.bad(step, took, Failed, TooMuch, err.Error())
	case isTimeout(err):
		s.bad(step, took, Failed, Silent, fmt.Sprintf("no answer within %v", s.timeout()))
	default:
		s.bad(step, took, Failed, Broken, err.Error())
	}
	return nil, took, false
}

// wrong notes a step whose answer has another status than it must have.
func (s *session) wrong(step string, took time.Duration, kind Kind, a *answer, want int) bool {
	s.bad(step, took, Failed, kind, fmt.Sprintf("status %d, want %d", a.Status, want))
	return false
}

func (s *session) store() bool {
	s.stored = true // perhaps, even if no answer comes
	a, took, ok := s.try(StepStore, &wire.Request{
		Verb: wire.PUT, Timeout: wire.Some(timeoutMinutes), ExtraFlags: wire.Some(0),
	}, s.body)
	switch {
	case !ok:
		return false
	case a.Status != wire.StatusOK:
		return s.wrong(StepStore, took, NotTaken, a, wire.StatusOK)
	}
	s.good(StepStore, took, fmt.Sprintf("%d bytes", len(s.body)))
	return true
}

func (s *session) read() bool {
	a, took, ok := s.try(StepRead, &wire.Request{Verb: wire.GET}, nil)
	return ok && s.same(StepRead, took, a)
}

// same judges an answer that must hold the session.
func (s *session) same(step string, took time.Duration, a *answer) bool {
	switch {
	case a.Status == wire.StatusNotFound:
		s.bad(step, took, Failed, Lost, "what was just stored is not there")
	case a.Status != wire.StatusOK:
		return s.wrong(step, took, Locks, a, wire.StatusOK)
	case !bytes.Equal(a.body, s.body):
		s.bad(step, took, Failed, Changed, fmt.Sprintf("%d bytes were stored, %d other ones came back", len(s.body), len(a.body)))
	default:
		s.good(step, took, "as stored")
		return true
	}
	return false
}

func (s *session) acquire() bool {
	a, took, ok := s.try(StepLock, &wire.Request{Verb: wire.GET, Exclusive: wire.Acquire}, nil)
	switch {
	case !ok:
		return false
	case a.Status == wire.StatusOK && !a.LockCookie.Set:
		s.bad(StepLock, took, Failed, Locks, "no lock was taken: the answer has no LockCookie")
		return false
	}
	s.lock = a.LockCookie
	return s.same(StepLock, took, a)
}

// second tries to lock what is locked.
func (s *session) second() bool {
	a, took, ok := s.try(StepSecondLock, &wire.Request{Verb: wire.GET, Exclusive: wire.Acquire}, nil)
	switch {
	case !ok:
		return false
	case a.Status == wire.StatusNotFound:
		s.bad(StepSecondLock, took, Failed, Lost, "what was just locked is not there")
		return false
	case a.Status != wire.StatusLocked:
		s.lock = a.LockCookie
		s.bad(StepSecondLock, took, Failed, Locks, "a second lock was granted while the first one held")
		return false
	case a.LockCookie != s.lock || !a.LockAge.Set:
		s.bad(StepSecondLock, took, Failed, Locks, "423, but without the LockCookie and LockAge that clients need")
		return false
	}
	s.good(StepSecondLock, took, "423 while the first one holds, as it should be")
	return true
}

func (s *session) release() bool {
	a, took, ok := s.try(StepRelease, &wire.Request{Verb: wire.GET, Exclusive: wire.Release, LockCookie: s.lock}, nil)
	switch {
	case !ok:
		return false
	case a.Status != wire.StatusOK:
		return s.wrong(StepRelease, took, Locks, a, wire.StatusOK)
	}
	s.lock = wire.Int{}
	s.good(StepRelease, took, "the lock is given back")
	return true
}

func (s *session) readAgain() bool {
	a, took, ok := s.try(StepReadAgain, &wire.Request{Verb: wire.GET}, nil)
	return ok && s.same(StepReadAgain, took, a)
}

func (s *session) remove() bool {
	a, took, ok := s.try(StepRemove, &wire.Request{Verb: wire.DELETE}, nil)
	switch {
	case !ok:
		return false
	case a.Status != wire.StatusOK:
		return s.wrong(StepRemove, took, NotTaken, a, wire.StatusOK)
	}
	s.good(StepRemove, took, "the session is removed")
	return true
}

func (s *session) gone() bool {
	a, took, ok := s.try(StepGone, &wire.Request{Verb: wire.GET}, nil)
	switch {
	case !ok:
		return false
	case a.Status != wire.StatusNotFound:
		return s.wrong(StepGone, took, NotTaken, a, wire.StatusNotFound)
	}
	s.stored = false
	s.good(StepGone, took, "404, as it should be")
	return true
}

// cleanUp removes the session after a step that went wrong. It may be too late
// for that; then the session expires by itself.
func (s *session) cleanUp() {
	if !s.stored {
		return
	}
	const enough = 2 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), enough)
	defer cancel()
	last := &run{Probe: s.Probe, ctx: ctx}
	a := last.dial(s.address)
	if a.err != nil {
		return
	}
	l := newLink(a.conn)
	if s.TLS != nil {
		l = newLink(tls.Client(a.conn, s.tlsConfig()))
	}
	defer l.Close()
	_, _ = l.exchange(ctx, time.Now().Add(enough), &wire.Request{Verb: wire.DELETE, Target: s.target, LockCookie: s.lock}, nil)
}

// idle leaves the connection unused and asks again on it.
func (r *run) idle() {
	began := time.Now()
	err := r.conn.watch(r.ctx, began.Add(r.Idle))
	if err != nil {
		took := time.Since(began)
		switch {
		case r.ctx.Err() != nil:
			r.bad(StepIdle, took, Failed, Cancelled, "broken off")
		case errors.Is(err, errTooMuch):
			r.bad(StepIdle, took, Failed, TooMuch, "bytes came that nobody asked for")
		default:
			r.bad(StepIdle, took, Warning, ClosedIdle, fmt.Sprintf("the unused connection was closed after %v", took.Round(100*time.Millisecond)))
		}
		return
	}
	a, took, err := r.ask(&wire.Request{Verb: wire.HEAD, Target: r.ownTarget()}, nil)
	if err != nil || a.Status != wire.StatusNotFound {
		r.bad(StepIdle, took, Warning, ClosedIdle, fmt.Sprintf("no proper answer on a connection that was unused for %v", r.Idle))
		return
	}
	r.good(StepIdle, took, fmt.Sprintf("the connection is still good after %v", r.Idle))
}
