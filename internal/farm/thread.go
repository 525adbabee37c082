package farm

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"stateproxy/wire"
)

// Page is a kind of page: what it wants of its session.
type Page uint8

// The kinds of pages, each with its traffic (protocol.md section 8.3).
const (
	PageReadWrite Page = iota // GET acquire, PUT if something changed, else release
	PageReadOnly              // GET
	PageHead                  // HEAD
	PageVisitor               // PUT with cookie 0
	PageAbandon               // GET acquire, DELETE
	PageError                 // GET acquire, release

	NumPages = int(PageError) + 1
)

var pageNames = [NumPages]string{"read-write", "read-only", "head", "visitor", "abandon", "error"}

// String returns the kind's name.
func (p Page) String() string {
	if int(p) < len(pageNames) {
		return pageNames[p]
	}
	return fmt.Sprintf("Page(%d)", uint8(p))
}

// weights returns the mix's weights, indexed by Page.
func (m Mix) weights() [NumPages]int {
	return [NumPages]int{m.ReadWrite, m.ReadOnly, m.Head, m.Visitor, m.Abandon, m.Error}
}

// answerSlack is by how much an answer's body may exceed the longest save
// before it is not even read.
const answerSlack = 64 << 10

// thread serves the pages of a worker process one after the other. It is not
// safe for concurrent use.
type thread struct {
	farm      *Farm
	worker    *worker
	random    *rand.Rand
	out, in   []byte // the request under way, the body of the answer
	maxAnswer int
	page      uint64 // number of the page under way
}

// serve serves one page for the browser at slot, whose session is s.
func (t *thread) serve(ctx context.Context, kind Page, slot int, s *session) Cause {
	t.page = t.farm.pages.Add(1)
	began := time.Now()
	var cause Cause
	switch kind {
	case PageVisitor:
		cause = t.visit(ctx, slot)
	case PageReadOnly:
		_, cause = t.get(ctx, s, wire.OpGet)
	case PageHead:
		cause = t.do(ctx, s, exchange{op: wire.OpResetTimeout}).cause
	default:
		cause = t.lockingPage(ctx, kind, s, slot)
	}
	t.farm.stats.page(kind, cause, time.Since(began))
	return cause
}

// visit serves a new visitor's first page, which saves a session. The browser
// gets its cookie with the page, so not if that fails; the slot is then empty again.
func (t *thread) visit(ctx context.Context, slot int) Cause {
	s := t.farm.newVisitor(t.worker.app, slot)
	cause := t.do(ctx, s, exchange{op: wire.OpSet}).cause
	if cause == CauseNone {
		t.farm.slots[slot].Store(s)
		t.farm.stats.created.Add(1)
	} else {
		t.farm.putEmpty(t.worker.app, slot)
	}
	return cause
}

// lockingPage serves a page that wants its session for itself.
func (t *thread) lockingPage(ctx context.Context, kind Page, s *session, slot int) Cause {
	h, cause := t.acquire(ctx, s)
	if cause != CauseNone {
		return cause
	}
	mix := &t.farm.config.Mix
	if t.random.Float64() < mix.Slow {
		t.wait(ctx, time.Duration(float64(mix.SlowTime)*(0.5+t.random.Float64())))
	}
	op := wire.OpSet
	switch {
	case h == nil: // twice no session: the page made a fresh one
	case kind == PageAbandon:
		op = wire.OpRemove
	case kind == PageError || t.random.Float64() >= mix.Changed:
		op = wire.OpRelease
	}
	cause = t.do(ctx, s, exchange{op: op, hold: h}).cause
	if op == wire.OpRemove && cause == CauseNone {
		t.farm.stats.abandoned.Add(1)
		if t.random.Float64() < mix.Leave && t.farm.slots[slot].CompareAndSwap(s, nil) {
			t.farm.putEmpty(t.worker.app, slot)
		}
	}
	return cause
}

// acquire gets the session and its lock. Told that there is no such session, it
// creates one and asks again; told so twice, it goes on without: hold and cause
// are then both zero.
func (t *thread) acquire(ctx context.Context, s *session) (*hold, Cause) {
	a, cause := t.get(ctx, s, wire.OpGetExclusive)
	if cause == CauseNone && a.effect == wire.EffectNotFound {
		if cause = t.do(ctx, s, exchange{op: wire.OpSetUninitialized}).cause; cause == CauseNone {
			t.farm.stats.created.Add(1)
			a, cause = t.get(ctx, s, wire.OpGetExclusive)
		}
	}
	return a.hold, cause
}

// get asks for the session until it is not locked. A lock as old as the
// execution time-out is taken from its holder (protocol.md section 10).
func (t *thread) get(ctx context.Context, s *session, op wire.Op) (answer, Cause) {
	began := time.Now()
	limit := t.farm.config.ExecutionTimeout
	for {
		a := t.do(ctx, s, exchange{op: op})
		if a.cause != CauseNone || a.effect != wire.EffectLocked {
			return a, a.cause
		}
		t.farm.stats.polls.Add(1)
		if a.age >= limit {
			t.farm.stats.takeovers.Add(1)
			release := t.do(ctx, s, exchange{op: wire.OpRelease, takeover: true, cookie: a.cookie})
			if release.cause != CauseNone {
				return release, release.cause
			}
		}
		// LockAge is in whole seconds: give the lock a chance to get as old.
		if time.Since(began) > limit+time.Second {
			return a, CauseGaveUp
		}
		if !t.wait(ctx, t.farm.config.PollInterval) {
			return a, causeStopped
		}
	}
}

// do carries out one exchange and has it judged.
func (t *thread) do(ctx context.Context, s *session, x exchange) answer {
	s.begin(&x)
	t.compose(s, &x)
	var a answer
	t.send(ctx, x.op, &a)
	var findings []finding
	a.hold, findings = s.end(&x, &a)
	t.farm.stats.ops[x.op].add(time.Since(x.began))
	if a.err != nil {
		t.farm.stats.failure(a.cause, fmt.Errorf("%v: %w", x.op, a.err))
	}
	for _, found := range findings {
		t.farm.alarm(s, found)
	}
	if a.excess > 0 {
		t.farm.alarm(s, finding{AlarmBadAnswer, fmt.Sprintf("%d bytes behind the answer to %v", a.excess, x.op), false})
	}
	if a.damage != "" {
		a.cause = CauseUnreadable // the page fails, and a lock just taken stays behind
	}
	return a
}

// compose writes the request of x into t.out.
func (t *thread) compose(s *session, x *exchange) {
	req := wire.Request{Verb: x.op.Verb(), Target: s.target, Host: t.worker.host}
	switch {
	case x.takeover:
		req.LockCookie = wire.Some(x.cookie)
	case x.hold != nil:
		req.LockCookie = wire.Some(x.hold.cookie)
	case x.op.Verb() == wire.PUT:
		req.LockCookie = wire.Some(0)
	}
	switch x.op {
	case wire.OpGetExclusive:
		req.Exclusive = wire.Acquire
	case wire.OpRelease:
		req.Exclusive = wire.Release
	}
	if x.op.Verb() != wire.PUT {
		t.out = wire.AppendRequest(t.out[:0], &req)
		return
	}
	size := t.size()
	timeout := t.farm.config.Timeout
	req.Timeout, req.ContentLength, req.ExtraFlags = wire.Some(int64(timeout)), wire.Some(int64(size)), wire.Some(0)
	if x.op == wire.OpSetUninitialized {
		req.ExtraFlags = wire.Some(1)
	}
	t.out = wire.AppendRequest(t.out[:0], &req)
	t.out = appendBody(t.out, &stamp{
		run: t.farm.run, session: s.number, app: s.app.number, id: s.id,
		generation: x.generation, save: x.save, page: t.page,
	}, timeout, size)
}

// size draws the size of a body.
func (t *thread) size() int {
	sizes := &t.farm.config.Sizes
	if sizes.LargeShare > 0 && t.random.Float64() < sizes.LargeShare {
		return sizes.Large
	}
	ratio := float64(sizes.Max) / float64(sizes.Min)
	return min(sizes.Max, int(float64(sizes.Min)*math.Pow(ratio, t.random.Float64())))
}

// kind draws the kind of the next page.
func (t *thread) kind() Page {
	weights := t.farm.config.Mix.weights()
	sum := 0
	for _, w := range weights {
		sum += w
	}
	n := t.random.IntN(sum)
	for kind, w := range weights {
		if n -= w; n < 0 {
			return Page(kind)
		}
	}
	return PageReadWrite
}

// wait waits for d. It reports false if ctx ended before.
func (t *thread) wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
