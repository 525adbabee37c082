package proxy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/wire"
)

// Handoff brings a session from a former owner, f below, to its owner o when it
// is next asked for. The protocol's exclusive lock at f is the mutex of the
// move, so it holds between several proxies too:
//
//	1  GET acquire at f     404: not there, ask the next; 423: in use, see below
//	   GET at f             are there notes of others that o was down (note.go)?
//	2  PUT at o             same body, timeout and uninitialized mark, unlocked
//	3  DELETE at f          with the cookie of 1
//	4  the request at o
//
// The rule that makes it safe: while a copy is at a former owner that can be
// asked, that copy counts and the one at o does not. So what remains if a move
// breaks off is the session as it was:
//
//	after 1  at f, locked by nobody's request; the proxy releases it, with the
//	         next request if it can't at once, or else, if the proxy is gone, the
//	         next waiting client takes the lock over after its time-out
//	after 2  at f as above and, the same, at o; the next move overwrites o's
//	after 3  at o
//
// Verb by verb, where the session is at f, unlocked or locked there:
//
//	            at f, unlocked         at f, locked               not at f
//	GET         move, then GET at o    423 from f                 at o
//	acquire     move, then at o        423 from f                 at o
//	PUT         move, then PUT at o    PUT at f: 200 if the       at o
//	                                   cookie fits, else 423
//	release     move, then at o        release at f               at o
//	DELETE      move, then at o        DELETE at f                at o
//	HEAD        move, then at o        HEAD at f                  at o
//
// So a lock taken before the change lives and ends where it is, and the session
// moves when it is next free. An acquire is what asks f, for a request that went
// to f blindly might create the session there anew. HEAD moves too: a session
// that only HEADs keep alive would else be at f when the window is over.
//
// A 404 from a place that had the session a moment ago says that another proxy
// has moved it since. Nothing was done then, and it is looked for once more.
//
// Several former owners are asked in the order in which they ceased to be that,
// which is the way that sessions move: so none slips past between two questions,
// and what a move that broke off has stored further on never counts. When the
// session is found, what the places behind have of it is removed.
//
// A server that was restarted has nothing from before and is not asked for that.
// But the save of a lock's holder may reach it when it has just been restarted,
// and makes the session there anew. So it is asked all the same if sessions were
// in use there shortly before (place.inUse), and while such a save is on its way
// (moves.saves) nobody takes the session for settled.
//
// A former owner that was ejected after its ring was in force may hold old copies
// of sessions that went on elsewhere: it is asked last, after o. Which sessions
// were written elsewhere while a place was down is remembered (place.overtaken)
// and told to other proxies (note), and its copies of those are removed and never
// served.
//
// While new routing is still to come (table.next), the session may have been
// moved to its next owner by a proxy that is ahead: if o does not have it, the
// next owner is asked, and the request is served there.
type handoff struct {
	plain
	t *table
}

// moves is what a proxy knows of moves under way and broken off, whatever the
// table. The zero value is empty; it is safe for concurrent use.
type moves struct {
	moving sync.Map // key hash → chan struct{}, closed when the move is over
	stuck  sync.Map // key hash → stuckLock
	halves keySet   // sessions of which a move that broke off may have left two copies
	saves  tally    // saves on their way to a former owner
}

// stuckLock is a lock that a broken move left at f.
type stuckLock struct {
	f      *place
	cookie wire.Int
}

func (h *handoff) roundTrip(ctx context.Context, x *exchange) error {
	routing := x.key.RoutingKey()
	owner := h.q.owner(routing)
	if owner == nil {
		return errNoOwner
	}
	id := x.id
	if h.isSettled(x, id) && h.next(&x.key, owner) == nil {
		early := h.early()
		if early {
			x.block()
		}
		err := h.send(ctx, owner, x)
		if err != nil || x.Response.Status != wire.StatusNotFound || !early {
			return err
		}
		h.q.settled.early.remove(id) // it may have been removed, and made anew by a proxy that is behind
		x.Release()
	}
	if h.stays(x, id, owner) {
		return h.send(ctx, owner, x)
	}
	c := h.candidates(x, id, owner)
	if c.none() {
		return h.send(ctx, owner, x)
	}
	x.block()
	for tries := 1; ; tries++ {
		at, err := h.look(ctx, x, c)
		if err != nil {
			return err
		}
		err = h.send(ctx, at, x)
		if c.saves {
			h.p.moves.saves.add(id, -1)
		}
		if err != nil || x.Response.Status != wire.StatusNotFound {
			return err
		}
		if p, err := h.away(ctx, x, c, at); p != nil || err != nil {
			x.Release()
			x.place = cmp.Or(p, at)
			return &blockedError{cmp.Or(err, errAway)}
		}
		if at == owner && c.next == nil || tries == maxLooks {
			return nil
		}
		x.Release()
	}
}

// block has the request be waited for until its answer is there.
func (x *exchange) block() {
	x.Async = false
	x.Worker.Detach()
}

// stays reports whether owner has owned the session all the time, so that there is
// no candidate beside it. Most sessions of a pool that changes are such.
func (h *handoff) stays(x *exchange, id uint64, owner *place) bool {
	key := x.key.RoutingKey()
	for i := range h.q.formers {
		f := &h.q.formers[i]
		if j := f.ring.Owner(key); j >= 0 && f.owners[j] != owner {
			return false
		}
	}
	return h.next(&x.key, owner) == nil && !owner.overtaken().has(id)
}

// isSettled reports whether the session need not be looked for. While a proxy may
// still go by the ring before, a save is no such request: the session may have
// been removed since, and that proxy would make it anew at the former owner.
func (h *handoff) isSettled(x *exchange, id uint64) bool {
	early := h.early()
	return h.q.settled.in(early).has(id) && !(early && creates(x.Op))
}

// creates reports whether the request makes a session where there is none.
func creates(op wire.Op) bool { return op == wire.OpSet || op == wire.OpSetUninitialized }

// settle notes that the session need not be looked for any more. While a save is
// on its way to a former owner that can't be said: if the server there is
// restarted at that moment, the save makes the session there anew.
func (h *handoff) settle(c *candidates) {
	if !c.awaited {
		h.q.settled.in(c.before).add(c.id)
	}
}

// errAway is the error of a request for a session that another proxy has brought
// back to a backend that is still down for this one.
var errAway = errors.New("another proxy has brought the session to a backend that is down here")

// maxLooks bounds how often a session is looked for that moves at the same time.
const maxLooks = 3

// early reports whether the ring before may still be in use.
func (h *handoff) early() bool { return time.Since(h.q.since) <= h.t.settings.aftermath() }

// aftermath is for how long after its end a ring is still in use: by requests
// that are under way, and by proxies that change a little later.
func (s *Settings) aftermath() time.Duration { return 2*s.Budget + max(s.HandoffDelay, 0) }

// look returns the place that the request is for.
func (h *handoff) look(ctx context.Context, x *exchange, c *candidates) (*place, error) {
	began := time.Now()
	defer func() { x.handoff += time.Since(began) }()
	unlock, err := h.lock(ctx, c.id, x.Deadline)
	if err != nil {
		return nil, err
	}
	defer unlock()
	at, err := h.find(ctx, x, c)
	if err == nil && (creates(x.Op) || x.Op == wire.OpRemove) {
		err = h.overtake(ctx, x, c, at) // before the request, so that none is missed
	}
	if c.saves = err == nil && at != c.owner && creates(x.Op); c.saves {
		h.p.moves.saves.add(c.id, 1)
	}
	return at, err
}

// overtake deals with the copies that are out of date once the session is written
// or removed at at. Those at places that can't be asked are remembered. One that
// was passed over for being late is removed, and so is what a move that broke
// off has left, if the request is the lock holder's, whom no move can disturb.
func (h *handoff) overtake(ctx context.Context, x *exchange, c *candidates, at *place) error {
	for _, p := range c.gone {
		if err := h.markStale(ctx, x, c, at, p); err != nil {
			return err
		}
	}
	if at == c.owner {
		h.dispose(ctx, x, c, at, c.late)
	} else if c.cookie.Set && c.cookie == x.req.LockCookie {
		h.dispose(ctx, x, c, at, slices.Concat([]*place{c.owner}, c.early, c.late))
	}
	if len(c.gone) > 0 { // there may be a note against at, which can't be read now
		return h.leaveBack(ctx, x, at)
	}
	return nil
}

// dispose removes what places have of the session now that it is at at. Where
// that fails, it is remembered if a move of ours has left something there, and
// only then: a session that another proxy moves there later must not be taken
// for that. It returns false if one of the places may still pass for the latest:
// it may be at's server, under another address too, or the session may be there
// next.
func (h *handoff) dispose(ctx context.Context, x *exchange, c *candidates, at *place, places []*place) (all bool) {
	all = true
	for _, p := range places {
		switch {
		case mayBeOneServer(p, at) || c.next != nil && mayBeOneServer(p, c.next):
			all = false
		case p.failing.Load() == 0 && h.move(ctx, x, c, nil).clear(p) == nil:
			p.overtaken().remove(c.id)
		case h.p.moves.halves.has(c.id):
			p.overtaken().add(c.id, time.Now().UnixNano())
		}
	}
	return all
}

// candidates are the places that may hold a session.
type candidates struct {
	id     uint64
	early  []*place // former owners to ask before owner
	owner  *place
	late   []*place // former owners to ask if owner has nothing
	next   *place   // owner to be, nil if it is owner or there is none
	gone   []*place // former owners that can't be asked
	cookie wire.Int // of the lock that was met at a former owner

	before  bool // the ring before may still have been in use when the session was looked for
	saves   bool // the request is a save at a former owner, under way
	awaited bool // other such saves were under way when the session was looked for
}

// none reports whether the session can be nowhere but at its owner, and nothing
// need be remembered.
func (c *candidates) none() bool {
	return len(c.early)+len(c.late)+len(c.gone) == 0 && c.next == nil && !c.ownerStale()
}

// ownerStale reports whether the session went on elsewhere since owner got what
// it has.
func (c *candidates) ownerStale() bool {
	return c.owner.overtaken().has(c.id)
}

func (h *handoff) candidates(x *exchange, id uint64, owner *place) *candidates {
	c := &candidates{id: id, owner: owner, before: h.early()}
	key := x.key.RoutingKey()
	seen := make([]*place, 0, 8)
	for i := range h.q.formers {
		f := &h.q.formers[i]
		j := f.ring.Owner(key)
		if j < 0 {
			continue
		}
		p, ended := f.owners[j], f.ended.UnixNano()
		if slices.Contains(seen, p) || sameServer(p, owner) {
			continue
		}
		seen = append(seen, p)
		switch {
		case f.gone[j]:
			c.gone = append(c.gone, p)
		case !p.holdsFrom(ended, h.t.settings.aftermath()):
		case p.lastDown() >= ended:
			c.late = append(c.late, p)
		default:
			c.early = append(c.early, p)
		}
	}
	slices.Reverse(c.early)
	c.next = h.next(&x.key, owner)
	return c
}

// next returns the owner that the session is to have, nil if it is owner or
// there is none.
func (h *handoff) next(key *wire.Key, owner *place) *place {
	if n := h.t.nextOwner(key.App, key.RoutingKey()); n != nil && !sameServer(n, owner) {
		return n
	}
	return nil
}

// lock lets one request at a time move the session, so that those beside it
// need not wait half a second for a 423 of the proxy's own making.
func (h *handoff) lock(ctx context.Context, id uint64, deadline time.Time) (unlock func(), err error) {
	done := make(chan struct{})
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for {
		other, taken := h.p.moves.moving.LoadOrStore(id, done)
		if !taken {
			return func() {
				h.p.moves.moving.Delete(id)
				close(done)
			}, nil
		}
		select {
		case <-other.(chan struct{}):
		case <-timer.C:
			return nil, &blockedError{context.DeadlineExceeded}
		case <-ctx.Done():
			return nil, &blockedError{ctx.Err()}
		}
	}
}

// find returns the place that the request is for, after having brought the
// session to its owner if it can be brought.
func (h *handoff) find(ctx context.Context, x *exchange, c *candidates) (*place, error) {
	c.cookie, c.awaited = wire.Int{}, h.p.moves.saves.has(c.id)
	if c.next == nil && h.isSettled(x, c.id) { // by the request that lock waited for
		return c.owner, nil
	}
	if at, err := h.bringFirst(ctx, x, c, c.early, c.late); at != nil || err != nil {
		return at, err
	}
	if err := h.clearStale(ctx, x, c, c.owner); err != nil {
		return nil, &blockedError{err}
	}
	if len(c.late) > 0 || c.next != nil {
		if has, err := h.has(ctx, x, c.owner); has || err != nil {
			return c.owner, err
		}
	}
	if at, err := h.bringFirst(ctx, x, c, c.late, nil); at != nil || err != nil {
		return at, err
	}
	if c.next != nil {
		has, err := h.has(ctx, x, c.next)
		if err != nil {
			return nil, &blockedError{err}
		}
		if has {
			return c.next, nil
		}
	}
	if len(c.gone) == 0 {
		h.settle(c)
	}
	return c.owner, nil
}

// bringFirst brings the session over from the first of the places that has it,
// and removes what the others and rest have of it. It returns where the session
// is then, nil if none of the places has it.
func (h *handoff) bringFirst(ctx context.Context, x *exchange, c *candidates, from, rest []*place) (*place, error) {
	for i, f := range from {
		at, err := h.bring(ctx, x, c, f)
		if at == c.owner {
			if h.dispose(ctx, x, c, at, slices.Concat(from[i+1:], rest)) && len(c.gone) == 0 {
				h.settle(c)
			}
			h.p.moves.halves.remove(c.id)
		}
		if at != nil || err != nil {
			return at, err
		}
	}
	return nil, nil
}

func (h *handoff) move(ctx context.Context, x *exchange, c *candidates, f *place) *move {
	return &move{
		handoff: h, ctx: ctx, x: x, c: c, f: f, owner: c.owner,
		deadline: x.Deadline.Add(-h.t.settings.Budget / 8),
	}
}

// bring moves the session from f to its owner. It returns the owner after a
// move, f if the session is in use there, and nil if f does not have it.
func (h *handoff) bring(ctx context.Context, x *exchange, c *candidates, f *place) (*place, error) {
	err := h.clearStale(ctx, x, c, f)
	var found *place
	if err == nil {
		found, err = h.move(ctx, x, c, f).run()
	}
	if err != nil {
		x.place = f
		return nil, &blockedError{err}
	}
	if found == f {
		f.inUse.Store(time.Now().UnixNano())
	}
	if found == c.owner {
		x.moved = true
		h.p.movedFrom(f)
	}
	return found, nil
}

// errUnsure is the error of a place that does not say whether it has a session:
// of a proxy that can't ask its own backends, above all.
var errUnsure = errors.New("can't tell whether the session is there")

// has reports whether the session is at the place.
func (h *handoff) has(ctx context.Context, x *exchange, at *place) (bool, error) {
	status, err := h.ask(ctx, x, at, wire.Request{Verb: wire.HEAD})
	if err == nil && status != wire.StatusOK && status != wire.StatusNotFound {
		x.place, err = at, errUnsure
	}
	return err == nil && status == wire.StatusOK, err
}

// ask sends a request of the proxy's own for the session and returns the
// answer's status.
func (h *handoff) ask(ctx context.Context, x *exchange, at *place, req wire.Request) (int, error) {
	req.Target, req.Host = x.req.Target, x.req.Host
	own := backend.Exchange{Op: req.Op(), Request: wire.AppendRequest(nil, &req), Deadline: x.Deadline}
	err := at.conns.RoundTrip(ctx, &own)
	h.p.judge(x, at, err)
	if err != nil {
		return 0, err
	}
	defer own.Release()
	if own.Tail > 0 {
		return 0, errors.New("unexpected long answer")
	}
	return own.Response.Status, nil
}
