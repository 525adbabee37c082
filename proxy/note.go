package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"stateproxy/internal/backend"
	"stateproxy/wire"
)

// A note tells other proxies what became of a session whose server p was down.
// The session goes on elsewhere then, and what p has of it becomes stale. The
// proxy that saw that remembers it (place.overtaken), but the others don't know;
// and when one of them has brought the session back to p, the first one does not
// know that. So they leave notes, small items in the state servers themselves:
//
//	stale  where the session went on: what p has is out of date
//	back   at p, and where the session was before it was brought back: what p has
//	       is the latest again
//
// To a proxy for which p is still down, back says that the session is not gone.
//
// A note is about one session and one address, under a key that no application can
// have, and expires with the handoff window. With stale it holds the time when the
// outage began, with back when it was left, and the later one counts; so the
// clocks of proxies must not differ by as much as an outage takes. Only sessions
// that were used while their server was down have notes. None are left at proxies
// that stand for a backend, nor about them: they see to their servers themselves.
type note string

// The notes.
const (
	stale note = "stale"
	back  note = "back"
)

const (
	noteTarget = "%2fstateproxy%2fcopy%2f"
	noteMax    = 40 // bytes of a body that is read
)

// noted reports whether there may be notes about copies at the place.
func (p *place) noted() bool { return p.lastDown() != 0 && !p.isProxy() }

// noteRequest returns a request for the note about the session's copy at the
// server with that address.
func noteRequest(verb wire.Verb, x *exchange, address string) wire.Request {
	about := fmt.Sprintf("%016x%%2f", xxhash.Sum64String(address))
	return wire.Request{Verb: verb, Target: append([]byte(noteTarget+about), x.req.Target...), Host: x.req.Host}
}

// keep is for how long a note is of use: no copy outlives it unused.
func (h *handoff) keep() time.Duration {
	return h.p.window(h.t.settings).Truncate(time.Minute) + 2*time.Minute
}

// leave puts a note about p's copy, with a time, at at.
func (h *handoff) leave(ctx context.Context, x *exchange, at, p *place, n note, t int64) error {
	if at.isProxy() {
		return nil
	}
	text := fmt.Sprintf("%s %d", n, t)
	minutes := int64(h.keep() / time.Minute)
	req := noteRequest(wire.PUT, x, p.address)
	req.Timeout, req.ContentLength, req.ExtraFlags = wire.Some(minutes), wire.Some(int64(len(text))), wire.Some(0)
	own := backend.Exchange{Op: wire.OpSet, Request: append(wire.AppendRequest(nil, &req), text...), Deadline: x.Deadline}
	err := at.conns.RoundTrip(ctx, &own)
	h.p.judge(x, at, err)
	if err != nil {
		return err
	}
	defer own.Release()
	if own.Response.Status != wire.StatusOK {
		return errors.New("did not take the note about a copy")
	}
	return nil
}

// says returns the latest time in such notes at at about p's copy, 0 if there are
// none. p's server may have had another address when they were left.
func (h *handoff) says(ctx context.Context, x *exchange, at, p *place, n note) (latest int64, err error) {
	if at.isProxy() {
		return 0, nil
	}
	addresses := []string{p.address}
	for _, q := range h.t.places() {
		if sameServer(q, p) && !slices.Contains(addresses, q.address) {
			addresses = append(addresses, q.address)
		}
	}
	for _, address := range addresses {
		t, err := h.read(ctx, x, at, address, n)
		if err != nil {
			return 0, err
		}
		latest = max(latest, t)
	}
	return latest, nil
}

func (h *handoff) read(ctx context.Context, x *exchange, at *place, address string, n note) (int64, error) {
	req := noteRequest(wire.GET, x, address)
	own := backend.Exchange{Op: wire.OpGet, Request: wire.AppendRequest(nil, &req), Deadline: x.Deadline}
	err := at.conns.RoundTrip(ctx, &own)
	h.p.judge(x, at, err)
	if err != nil {
		return 0, err
	}
	defer own.Release()
	switch {
	case own.Response.Status == wire.StatusNotFound:
		return 0, nil
	case own.Response.Status == wire.StatusBadRequest: // a proxy of which it is not known yet
		return 0, nil
	case own.Response.Status != wire.StatusOK || own.Tail > 0 || len(own.Body()) > noteMax:
		return 0, errors.New("unexpected answer about a copy")
	}
	text, ok := strings.CutPrefix(string(own.Body()), string(n)+" ")
	if !ok {
		return 0, nil
	}
	return strconv.ParseInt(text, 10, 64)
}

// staleSince returns the latest time in notes that p's copy of the session is out
// of date, 0 if there are none.
func (h *handoff) staleSince(ctx context.Context, x *exchange, c *candidates, p *place) (since int64, err error) {
	for _, at := range c.but(p) {
		t, err := h.says(ctx, x, at, p, stale)
		if err != nil {
			return 0, err
		}
		since = max(since, t)
	}
	return since, nil
}

// isStale reports whether p's copy of the session is out of date, by what this
// proxy knows and by the notes of others.
func (h *handoff) isStale(ctx context.Context, x *exchange, c *candidates, p *place) (bool, error) {
	since, _ := p.overtaken().time(c.id)
	if p.noted() {
		noted, err := h.staleSince(ctx, x, c, p)
		if err != nil {
			return false, err
		}
		since = max(since, noted)
	}
	// What p had has expired, or went with the run of its server that had it.
	if time.Now().After(fromNano(since).Add(h.keep())) || since <= p.began.Load() {
		p.overtaken().remove(c.id)
		return false, nil
	}
	if !p.noted() {
		return true, nil
	}
	isBack, err := h.says(ctx, x, p, p, back)
	if err != nil {
		return false, err
	}
	if isBack > since {
		p.overtaken().remove(c.id)
	}
	return isBack <= since, nil
}

// clearStale removes p's copy of the session if it is out of date.
func (h *handoff) clearStale(ctx context.Context, x *exchange, c *candidates, p *place) error {
	switch old, err := h.isStale(ctx, x, c, p); {
	case err != nil:
		return err
	case !old:
		return nil
	}
	if err := h.move(ctx, x, c, nil).clear(p); err != nil {
		return err
	}
	p.overtaken().remove(c.id)
	return h.leaveBack(ctx, x, p)
}

// leaveBack tells that what p has of the session, if anything, is the latest.
func (h *handoff) leaveBack(ctx context.Context, x *exchange, p *place) error {
	if !p.noted() {
		return nil
	}
	return h.leave(ctx, x, p, p, back, time.Now().UnixNano())
}

// away returns the place to which another proxy has brought the session from at
// back, though it is down for this proxy; nil if there is none.
func (h *handoff) away(ctx context.Context, x *exchange, c *candidates, at *place) (*place, error) {
	for _, p := range c.gone {
		if !p.noted() || sameServer(p, at) {
			continue
		}
		for _, q := range c.but(p) {
			switch t, err := h.says(ctx, x, q, p, back); {
			case err != nil:
				return nil, err
			case t > p.lastDown():
				return p, nil
			}
		}
	}
	return nil, nil
}

// markStale remembers, for this proxy and for others, that p's copy will be out
// of date: the session is written or removed at at.
func (h *handoff) markStale(ctx context.Context, x *exchange, c *candidates, at, p *place) error {
	since := p.lastDown()
	if before, ok := p.overtaken().time(c.id); ok && before >= since {
		return nil
	}
	if p.noted() {
		if err := h.leave(ctx, x, at, p, stale, since); err != nil {
			return err
		}
	}
	p.overtaken().add(c.id, since)
	return nil
}

// but returns the places that can be asked for the session, without p's server.
func (c *candidates) but(p *place) (list []*place) {
	for _, group := range [][]*place{c.early, c.late, {c.owner, c.next}} {
		for _, q := range group {
			if q != nil && !sameServer(q, p) {
				list = append(list, q)
			}
		}
	}
	return list
}
