package farm

import (
	"context"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/wire"
)

// Farm is a simulated IIS farm. Fill, Run and Verify run one at a time; Excuse,
// Report may be called at any time and from any goroutine.
type Farm struct {
	config  Config
	run     uint64 // marks the bodies of this farm
	hashKey [16]byte
	workers []*worker
	threads []*thread
	slots   []atomic.Pointer[session] // a browser's session, nil without. Slot n belongs to app n mod Apps
	latest  []atomic.Int64            // by app: the slot last picked
	pages   atomic.Uint64
	numbers atomic.Uint32 // sessions so far
	busy    atomic.Bool
	excuse  atomic.Pointer[func(sessionID string) bool]
	stats   stats

	mu     sync.Mutex
	empty  [][]int  // by app: slots without a session that nobody is filling
	visits []uint32 // by slot: visitors so far
}

// New returns a farm, which does nothing until it is told to. The error names
// every value of c that is out of bounds.
func New(c Config) (*Farm, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("farm config: %w", err)
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	f := &Farm{
		config: c, run: rand.Uint64(),
		slots:  make([]atomic.Pointer[session], c.Sessions),
		visits: make([]uint32, c.Sessions),
		empty:  make([][]int, c.Apps),
		latest: make([]atomic.Int64, c.Apps),
	}
	crand.Read(f.hashKey[:]) // never fails
	for i := c.Sessions - 1; i >= 0; i-- {
		f.empty[i%c.Apps] = append(f.empty[i%c.Apps], i)
	}
	apps := make([]*app, c.Apps)
	for i := range apps {
		apps[i] = &app{
			number: uint16(i), run: f.run, prefix: appPrefix(i),
			timeout: time.Duration(c.Timeout) * time.Minute, expired: &f.stats.expired,
		}
		f.latest[i].Store(int64(i))
	}
	for i := range c.Workers {
		f.addWorker(apps[i%c.Apps], c.Targets[i%len(c.Targets)])
	}
	return f, nil
}

func (f *Farm) addWorker(a *app, target string) {
	w := &worker{app: a, host: hostOf(target), pool: pool{target: target}}
	f.workers = append(f.workers, w)
	for range f.config.Pages {
		f.threads = append(f.threads, &thread{
			farm: f, worker: w, maxAnswer: f.config.Sizes.largest() + answerSlack,
			random: rand.New(rand.NewPCG(f.config.Seed, uint64(len(f.threads)))),
		})
	}
}

// Excuse sets a func that is asked whether a server that died explains what was
// found: a session lost, a lock given twice or away, a new session announced
// twice. Such findings are counted apart and do no harm to Report.OK. It is
// asked once for each finding, concurrently. No func excuses old, foreign or
// damaged bodies. nil, as at the beginning, excuses nothing.
func (f *Farm) Excuse(excuse func(sessionID string) bool) { f.excuse.Store(&excuse) }

// errBusy is returned by Fill, Run and Verify while one of them runs.
var errBusy = errors.New("farm is running already")

// Fill gives every browser a session. Its error says which could not be
// created, or is that of ctx.
func (f *Farm) Fill(ctx context.Context) error {
	var failure atomic.Pointer[Cause]
	err := f.drive(ctx, func(ctx context.Context, t *thread) {
		for failures := 0; failures < fillTries && ctx.Err() == nil; {
			slot := f.takeEmpty(t.worker.app)
			if slot < 0 {
				return
			}
			if cause := t.serve(ctx, PageVisitor, slot, nil); cause != CauseNone {
				failures++
				failure.Store(&cause)
				continue
			}
			failures = 0
		}
	})
	if err == nil {
		err = ctx.Err()
	}
	left := 0
	for i := range f.slots {
		if f.slots[i].Load() == nil {
			left++
		}
	}
	if cause := failure.Load(); err == nil && left > 0 && cause != nil {
		err = fmt.Errorf("%d sessions are missing: %v", left, *cause)
	}
	if err != nil {
		return fmt.Errorf("create %d sessions: %w", f.config.Sessions, err)
	}
	return nil
}

// fillTries is how many creations in a row may fail a thread before it leaves
// off: the version check fails one in each worker process, then never again.
const fillTries = 3

// Run serves pages until ctx ends or Config.Duration is over, then lets those
// in flight finish, which takes some NetworkTimeouts at most: nobody waits for
// a lock any more. Neither end is an error. Locks that pages could not give
// back stay taken, as they do in real life.
func (f *Farm) Run(ctx context.Context) error {
	if f.config.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.config.Duration)
		defer cancel()
	}
	pace := pacer{rate: f.config.PagesPerSecond}
	return f.drive(ctx, func(ctx context.Context, t *thread) {
		for ctx.Err() == nil && t.wait(ctx, pace.next(time.Now())) {
			kind, slot, s := t.pick()
			if slot < 0 { // all browsers are just getting their session
				t.wait(ctx, f.config.PollInterval)
				continue
			}
			t.serve(ctx, kind, slot, s)
		}
	})
}

// Verify reads every session once and has it judged; what is wrong goes into
// the report. A session that is locked is there, which is enough. The error
// says how many could not be read at all, or is that of ctx.
func (f *Farm) Verify(ctx context.Context) error {
	next := make([]atomic.Int64, f.config.Apps)
	var unread atomic.Int64
	var failure atomic.Pointer[Cause]
	err := f.drive(ctx, func(ctx context.Context, t *thread) {
		n := int64(t.worker.app.number)
		for ctx.Err() == nil {
			slot := int(n + (next[n].Add(1)-1)*int64(f.config.Apps))
			if slot >= len(f.slots) {
				return
			}
			s := f.slots[slot].Load()
			if s == nil {
				continue
			}
			switch a := t.do(ctx, s, exchange{op: wire.OpGet, final: true}); {
			case a.cause == CauseUnreadable: // reported as damaged
			case a.cause != CauseNone:
				unread.Add(1)
				failure.Store(&a.cause)
			case a.effect == wire.EffectLocked:
				f.stats.verifiedLocked.Add(1)
			default:
				f.stats.verified.Add(1)
			}
		}
	})
	if err == nil {
		err = ctx.Err()
	}
	if n := unread.Load(); err == nil && n > 0 {
		err = fmt.Errorf("%d could not be read: %v", n, *failure.Load())
	}
	if err != nil {
		return fmt.Errorf("verify sessions: %w", err)
	}
	return nil
}

// drive runs work in every thread, with the pools swept meanwhile, and returns
// when all have ended.
func (f *Farm) drive(ctx context.Context, work func(context.Context, *thread)) error {
	if !f.busy.CompareAndSwap(false, true) {
		return errBusy
	}
	defer f.busy.Store(false)
	f.stats.start()
	defer f.stats.stop()
	var threads, sweeper sync.WaitGroup
	for _, t := range f.threads {
		threads.Go(func() { work(ctx, t) })
	}
	done := make(chan struct{})
	sweeper.Go(func() { f.sweep(done) })
	threads.Wait()
	close(done)
	sweeper.Wait()
	for _, w := range f.workers {
		w.pool.close()
	}
	return nil
}

// sweep sweeps all socket pools now and then until done is closed.
func (f *Farm) sweep(done <-chan struct{}) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, w := range f.workers {
				w.pool.sweep()
			}
		case <-done:
			return
		}
	}
}

// pick draws the next page and the slot of the browser that asks for it, with
// its session. The browser of an empty slot is a new visitor. The slot is -1 if
// there is no browser to be had.
func (t *thread) pick() (Page, int, *session) {
	f, a := t.farm, t.worker.app
	kind := t.kind()
	if kind == PageVisitor {
		if slot := f.takeEmpty(a); slot >= 0 {
			return PageVisitor, slot, nil
		}
		kind = PageReadWrite
	}
	n, apps := int(a.number), f.config.Apps
	slot := n + apps*t.random.IntN((f.config.Sessions-n+apps-1)/apps)
	if t.random.Float64() < f.config.Mix.Parallel {
		slot = int(f.latest[n].Load())
	}
	s := f.slots[slot].Load()
	if s == nil {
		return PageVisitor, f.takeEmpty(a), nil
	}
	f.latest[n].Store(int64(slot))
	return kind, slot, s
}

// takeEmpty takes a slot of a that has no session, for the caller to fill or to
// put back. It is -1 if there is none.
func (f *Farm) takeEmpty(a *app) (slot int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.empty[a.number]
	if len(list) == 0 {
		return -1
	}
	f.empty[a.number] = list[:len(list)-1]
	return list[len(list)-1]
}

func (f *Farm) putEmpty(a *app, slot int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.empty[a.number] = append(f.empty[a.number], slot)
}

// newVisitor returns the session of the next visitor at slot. The browsers at
// neighbouring slots of the different apps have the same session IDs.
func (f *Farm) newVisitor(a *app, slot int) *session {
	f.mu.Lock()
	f.visits[slot]++
	visit := f.visits[slot]
	f.mu.Unlock()
	return newSession(f.numbers.Add(1), a, sessionID(f.config.Seed, slot/f.config.Apps, visit))
}

// sessionID returns an ID as ASP.NET's own manager makes them: 24 characters
// of 5 bits.
func sessionID(seed uint64, browser int, visit uint32) (id [idLen]byte) {
	const alphabet = "abcdefghijklmnopqrstuvwxyz012345"
	b := binary.LittleEndian.AppendUint64(nil, seed)
	b = binary.LittleEndian.AppendUint64(b, uint64(browser))
	b = binary.LittleEndian.AppendUint32(b, visit)
	sum := sha256.Sum256(b)
	for i := range id {
		id[i] = alphabet[sum[i]&31]
	}
	return id
}

// hash returns what stands for the session in reports: eight hexadecimal
// digits, keyed, so that nobody can tell the session ID from it.
func (f *Farm) hash(s *session) string {
	sum := sha256.Sum256(append(f.hashKey[:], s.id[:]...))
	return hex.EncodeToString(sum[:4])
}

// pacer spreads pages over time. It is safe for concurrent use.
type pacer struct {
	rate float64 // per second; 0 is no bound

	mu   sync.Mutex
	slot time.Time // of the next page
}

// backlog is how far pages may be behind and still be made up for.
const backlog = time.Second

// next returns how long the caller waits before its next page.
func (p *pacer) next(now time.Time) time.Duration {
	if p.rate == 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.slot.IsZero() {
		p.slot = now
	}
	if earliest := now.Add(-backlog); p.slot.Before(earliest) {
		p.slot = earliest
	}
	wait := p.slot.Sub(now)
	p.slot = p.slot.Add(time.Duration(float64(time.Second) / p.rate))
	return wait
}
