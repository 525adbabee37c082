// Package health turns probes and evidence from real traffic into up and down
// transitions of named backends.
//
//	c := &health.Checker{Probe: dialOnce, OnEvent: func(e health.Event) { table.SetUp(e.Name, e.Up) }}
//	c.SetParams(health.Params{Interval: 2 * time.Second})
//	c.SetTargets([]health.Target{{Name: "s1", Address: "10.0.0.11:42424"}})
//	err := c.Run(ctx)        // returns when ctx ends
//	c.Report("s1", reqErr)   // from any goroutine, after each request
//
// A backend falls after Fall failures in a row and rises after Rise probes
// passed in a row, not before its hold-down is over; the hold-down grows with
// each fall. Never more than a set share of the backends is ejected: when all
// of them look down, the network near the proxy is the likelier fault. One that
// fails beyond that share is kept in service, and Status says so.
//
// What a probe does, what a failure is, and what an ejected backend means for
// routing are left to the caller.
package health

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of Eject and Readmit, wrapped with the name they were given, and of a
// Probe.
var (
	// ErrUnknown means that no target has that name.
	ErrUnknown = errors.New("no such backend")
	// ErrLast means that no other target is in service.
	ErrLast = errors.New("no other backend is in service")
	// ErrUnfit is wrapped by the error of a probe that found out that a target must
	// not be used at all, however many others are out: it is out of service at once,
	// until a probe passes.
	ErrUnfit = errors.New("must not be used")
	// ErrNotEjected means that the target was not ejected by hand.
	ErrNotEjected = errors.New("not ejected by hand")
)

// Target is one backend to watch. Its name is its identity.
type Target struct {
	Name    string
	Address string
}

// Probe checks one target once; nil means healthy. It must return soon after
// ctx ends. The text of its error is shown to people.
type Probe func(ctx context.Context, t Target) error

// Event tells that a target went in or out of service or, when Up is as it was
// in the event before, that Kept changed.
type Event struct {
	Name    string
	Address string

	// Up says whether the target is in service.
	Up bool
	// Kept says that it is in service though it fails, because as many targets
	// as may be ejected are out already. Only with Up.
	Kept bool
	// Unfit says that it must not be used, by an ErrUnfit. Only without Up.
	Unfit bool
	// Reason is a short text for people.
	Reason string
	// Time is when it happened, which may be before OnEvent is called.
	Time time.Time
	// HoldDown is how long an ejected target stays out at least; zero if it is
	// up or was ejected by hand.
	HoldDown time.Duration
}

// Checker watches a set of targets. Each starts in service, unproven, and its
// first probe runs at once. The zero value with Probe set is ready for use,
// with no targets and default Params. All methods may be called at any time,
// from any goroutine, OnEvent included. A Checker must not be copied.
type Checker struct {
	// Probe checks one target; required. It is called for several targets at
	// once, but for one name and address only after the last call returned,
	// unless SetTargets took that target away and brought it back between.
	Probe Probe
	// OnEvent hears of each transition, in the order in which they happened,
	// never concurrently, and only while Run runs; no lock is held. Nil drops
	// the events.
	OnEvent func(Event)

	index atomic.Pointer[map[string]*target] // by name, never changed once stored

	mu      sync.Mutex
	params  Params // guarded by mu, as all below
	order   []*target
	events  []Event // not yet delivered
	running bool

	changed chan struct{} // wakes Run: order changed
	queued  chan struct{} // wakes deliver: events grew
}

// Run probes the targets and delivers events until ctx ends, then waits for all
// it has started and returns nil. It returns an error at once if Probe is nil
// or Run is running already. It may run again after it has returned: states and
// events not yet delivered are kept.
func (c *Checker) Run(ctx context.Context) error {
	if err := c.begin(); err != nil {
		return fmt.Errorf("run health checks: %w", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.deliver(ctx) })
	for ctx.Err() == nil {
		c.launch(ctx, &wg)
		select {
		case <-c.changed:
		case <-ctx.Done():
		}
	}
	wg.Wait()
	c.end()
	return nil
}

// SetTargets replaces the set of targets. One with the same name and address as
// before keeps its state. A new name, or a name with a new address, starts in
// service and unproven; an ejection by hand outlasts a new address. Of targets
// with the same name the first counts.
//
// The probe of a target that is gone is cancelled. No event of it is delivered
// any more, except one that OnEvent is being called with at that moment.
func (c *Checker) SetTargets(targets []Target) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()

	var old map[string]*target
	if p := c.index.Load(); p != nil {
		old = *p
	}
	index := make(map[string]*target, len(targets))
	order := make([]*target, 0, len(targets))
	for _, want := range targets {
		if index[want.Name] != nil {
			continue
		}
		t := old[want.Name]
		if t == nil {
			t = newTarget(want, now)
		} else if t.Address != want.Address {
			t = t.moved(want, now)
		}
		index[t.Name] = t
		order = append(order, t)
	}
	for name, t := range old {
		if index[name] != t {
			t.stop()
		}
		if index[name] == nil {
			c.forget(name)
		}
	}
	c.order = order
	c.index.Store(&index)
	c.settle(now)
	signal(c.changed)
}

// SetParams replaces the settings; states and counts are kept. A new share and a
// shorter interval apply at once, the rest from the next probe on.
func (c *Checker) SetParams(p Params) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.params = p
	for _, t := range c.order {
		t.hasten(now.Add(c.params.delay()))
	}
	c.settle(now)
}

// Report takes the outcome of a real request to the named backend: nil for a
// success, else an error that speaks against the backend (refused, reset, timed
// out; the caller decides), whose text must hold no session ID. An unknown name
// is ignored.
//
// A failure brings the next probe forward. Fall failures in a row, with no
// success of a request or probe between, eject without waiting for it. A
// success never readmits. While the backend is well a success costs two atomic
// loads and a map lookup; otherwise a mutex is taken that is never held during
// a probe or a callback.
func (c *Checker) Report(name string, err error) {
	index := c.index.Load()
	if index == nil {
		return
	}
	t := (*index)[name]
	if t == nil || err == nil && t.traffic.Load() == 0 {
		return
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		t.traffic.Store(0)
		return
	}
	if t.failing {
		return
	}
	if n := int(t.traffic.Add(1)); n >= c.params.fall() {
		t.fail(now, "request", n, err.Error())
		c.settle(now)
		return
	}
	t.urgent = true
	t.hasten(t.probed.Add(t.took + c.params.spacing()))
}

// Eject takes a target out of service until Readmit, whatever its probes say.
// The share of Params.MaxEjected does not bind it, but the last target in
// service is refused with ErrLast, an unknown name with ErrUnknown. To eject
// once more changes the reason, a short text for people.
func (c *Checker) Eject(name, reason string) error {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.find(name)
	if t == nil {
		return fmt.Errorf("eject %q: %w", name, ErrUnknown)
	}
	if !t.byHand && !c.anotherUp(t) {
		return fmt.Errorf("eject %q: %w", name, ErrLast)
	}
	t.byHand, t.handReason = true, reason
	c.settle(now)
	return nil
}

// Readmit ends an ejection by hand. The target is in service again at once
// unless its probes failed meanwhile. The errors are ErrUnknown and
// ErrNotEjected.
func (c *Checker) Readmit(name string) error {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.find(name)
	if t == nil {
		return fmt.Errorf("readmit %q: %w", name, ErrUnknown)
	}
	if !t.byHand {
		return fmt.Errorf("readmit %q: %w", name, ErrNotEjected)
	}
	t.byHand, t.handReason = false, ""
	t.note = "readmitted by hand"
	c.settle(now)
	return nil
}

// Status returns the state of each target, in the order of SetTargets.
func (c *Checker) Status() []Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]Status, len(c.order))
	for i, t := range c.order {
		list[i] = t.status()
	}
	return list
}

// begin readies the checker for one Run.
func (c *Checker) begin() error {
	if c.Probe == nil {
		return errors.New("no Probe set")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		return errors.New("already running")
	}
	c.running = true
	c.changed = make(chan struct{}, 1)
	c.queued = make(chan struct{}, 1)
	return nil
}

// end lets the next Run start every target's goroutine anew.
func (c *Checker) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = false
	for _, t := range c.order {
		t.cancel = nil
	}
}

// launch starts a goroutine for each target that has none yet.
func (c *Checker) launch(ctx context.Context, wg *sync.WaitGroup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.order {
		if t.cancel != nil {
			continue
		}
		var watched context.Context
		watched, t.cancel = context.WithCancel(ctx)
		wg.Go(func() { c.watch(watched, t) })
	}
}

// watch probes t, each time it is due, until ctx ends.
func (c *Checker) watch(ctx context.Context, t *target) {
	for c.await(ctx, t) {
		c.probe(ctx, t)
	}
}

// await returns true when t is due for a probe, false when ctx has ended.
func (c *Checker) await(ctx context.Context, t *target) bool {
	for {
		c.mu.Lock()
		wait := time.Until(t.next)
		c.mu.Unlock()
		if wait <= 0 {
			return ctx.Err() == nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-t.wake:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// probe runs one probe of t and takes in its outcome.
func (c *Checker) probe(ctx context.Context, t *target) {
	c.mu.Lock()
	timeout := c.params.timeout()
	t.urgent = false
	c.mu.Unlock()

	start := time.Now()
	limited, cancel := context.WithTimeout(ctx, timeout)
	err := c.Probe(limited, t.Target)
	cancel()
	end := time.Now()
	why := ""
	if err != nil {
		why = err.Error()
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil { // removed, or Run ends: the outcome says nothing
		return
	}
	t.probed, t.took, t.probeErr = start, end.Sub(start), why
	t.next = start.Add(c.params.delay())
	if t.urgent { // a request failed meanwhile
		t.hasten(end.Add(c.params.spacing()))
	}
	switch {
	case err == nil:
		t.passed(end, c.params)
	case errors.Is(err, ErrUnfit):
		t.passes, t.unfit = 0, why
	default:
		t.failed(end, c.params)
	}
	c.settle(end)
}

// deliver calls OnEvent for one event after the other until ctx ends.
func (c *Checker) deliver(ctx context.Context) {
	for ctx.Err() == nil {
		if e, ok := c.nextEvent(); ok {
			c.OnEvent(e)
			continue
		}
		select {
		case <-c.queued:
		case <-ctx.Done():
		}
	}
}

// nextEvent takes the oldest event off the queue.
func (c *Checker) nextEvent() (Event, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.events) == 0 {
		return Event{}, false
	}
	e := c.events[0]
	c.events = c.events[1:]
	return e, true
}

// signal wakes the reader of ch, if there is one, without blocking.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
