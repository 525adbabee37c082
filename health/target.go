package health

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Status is the state of one target at one moment: a plain value.
type Status struct {
	Name    string
	Address string

	Up       bool      // in service
	Kept     bool      // in service though it fails: too many others are out
	ByHand   bool      // out of service by Eject, until Readmit
	Unfit    bool      // out of service by an ErrUnfit, until a probe passes
	Unproven bool      // in service, and no probe has passed yet
	Since    time.Time // when Up last changed, or the target was set
	Reason   string    // of the present state, for people

	Probed    time.Time     // start of the last finished probe; zero if none
	ProbeTook time.Duration // its duration
	ProbeErr  string        // why it failed; empty if it passed or none has ended

	ProbesPassed   int       // in a row, up to now
	ProbesFailed   int       // in a row, up to now
	RequestsFailed int       // in a row, up to now; not counted while it fails
	FailingSince   time.Time // when Fall failures were reached; zero if it is well
	HoldDownUntil  time.Time // not readmitted before; zero if probes and requests did not eject it
	Falls          int       // how often it was ejected since it was set, not counting those by hand
}

// target is the state of one backend.
//
// Four facts decide whether it is in service: byHand (the operator's word), unfit
// (a probe's word that it must not be used), failing (the verdict of probes and requests), and ejected (the verdict carried
// out, which the share of Params.MaxEjected may delay). Ejected implies failing.
type target struct {
	Target
	wake chan struct{} // wakes await: next was brought forward

	// traffic counts requests failed in a row. Written under Checker.mu, read
	// without it.
	traffic atomic.Int32

	// What follows is guarded by Checker.mu.
	cancel context.CancelFunc // ends the goroutine that watches it; nil if there is none

	failing      bool
	failingSince time.Time
	verdict      string // why it is failing
	ejected      bool
	byHand       bool
	unfit        string // why it must not be used; "" if it may
	handReason   string
	note         string // why it is well
	since        time.Time

	toldUp, toldKept bool // as the last event left them

	proven         bool          // a probe has passed
	passes, fails  int           // probes in a row
	strikes, falls int           // steps of the hold-down; ejections in all
	heldFor        time.Duration // the hold-down; zero if not ejected
	heldUntil      time.Time     // its end; zero if not ejected
	probed         time.Time
	took           time.Duration
	probeErr       string
	next           time.Time // when the next probe is due
	urgent         bool      // a request failed since the last probe began
}

func newTarget(t Target, now time.Time) *target {
	return &target{
		Target: t,
		wake:   make(chan struct{}, 1),
		note:   "not probed yet",
		since:  now,
		toldUp: true,
		next:   now,
	}
}

// moved returns a fresh target for a new address under t's name. It inherits
// what was told about the name and the operator's word on it.
func (t *target) moved(to Target, now time.Time) *target {
	fresh := newTarget(to, now)
	fresh.note = "address changed, not probed yet"
	fresh.toldUp, fresh.toldKept = t.toldUp, t.toldKept
	fresh.byHand, fresh.handReason = t.byHand, t.handReason
	if t.byHand {
		fresh.since = t.since
	}
	return fresh
}

// stop ends the watching of t for good.
func (t *target) stop() {
	if t.cancel != nil {
		t.cancel()
	}
}

// hasten makes the next probe due at the given time, unless it is due before.
func (t *target) hasten(at time.Time) {
	if at.Before(t.next) {
		t.next = at
		signal(t.wake)
	}
}

// passed takes in a probe that passed.
func (t *target) passed(now time.Time, p Params) {
	if !t.proven {
		t.proven = true
		t.note = "first probe passed"
	}
	if t.unfit != "" {
		t.unfit, t.note = "", "may be used again"
	}
	t.fails = 0
	t.traffic.Store(0)
	t.passes++
	if !t.failing || t.passes < p.rise() || now.Before(t.heldUntil) {
		return
	}
	t.note = counted(t.passes, "probe") + " passed in a row"
	t.failing, t.ejected = false, false
	t.failingSince, t.heldUntil, t.heldFor = time.Time{}, time.Time{}, 0
}

// failed takes in a probe that failed with t.probeErr.
func (t *target) failed(now time.Time, p Params) {
	t.passes = 0
	t.fails++
	if !t.failing && t.fails >= p.fall() {
		t.fail(now, "probe", t.fails, t.probeErr)
	}
}

// fail records the verdict that t is failing after n failures of some kind.
func (t *target) fail(now time.Time, kind string, n int, last string) {
	t.failing, t.failingSince = true, now
	t.verdict = fmt.Sprintf("%s failed in a row, the last: %s", counted(n, kind), last)
	t.passes = 0
	t.traffic.Store(0)
}

// eject carries the verdict out and starts the hold-down.
func (t *target) eject(now time.Time, p Params) {
	t.ejected = true
	t.falls++
	t.strikes -= min(t.strikes, int(now.Sub(t.since)/p.maxHoldDown()))
	t.heldFor = p.hold(t.strikes)
	t.heldUntil = now.Add(t.heldFor)
	if 0 < t.heldFor && t.heldFor < p.maxHoldDown() {
		t.strikes++
	}
}

// keep takes an ejected target that still fails back into service.
func (t *target) keep() {
	t.ejected = false
	t.heldUntil, t.heldFor = time.Time{}, 0
}

// up reports whether t is in service.
func (t *target) up() bool { return !t.byHand && t.unfit == "" && !t.ejected }

// kept reports whether t is in service though it fails.
func (t *target) kept() bool { return t.up() && t.failing }

// reason tells people why t is in its present state.
func (t *target) reason() string {
	switch {
	case t.byHand && t.handReason == "":
		return "ejected by hand"
	case t.byHand:
		return "ejected by hand: " + t.handReason
	case t.unfit != "":
		return t.unfit
	case t.ejected:
		return t.verdict
	case t.failing:
		return t.verdict + "; kept in service, no more may be ejected"
	}
	return t.note
}

func (t *target) status() Status {
	return Status{
		Name:           t.Name,
		Address:        t.Address,
		Up:             t.up(),
		Kept:           t.kept(),
		ByHand:         t.byHand,
		Unfit:          t.unfit != "",
		Unproven:       t.up() && !t.proven,
		Since:          t.since,
		Reason:         t.reason(),
		Probed:         t.probed,
		ProbeTook:      t.took,
		ProbeErr:       t.probeErr,
		ProbesPassed:   t.passes,
		ProbesFailed:   t.fails,
		RequestsFailed: int(t.traffic.Load()),
		FailingSince:   t.failingSince,
		HoldDownUntil:  t.heldUntil,
		Falls:          t.falls,
	}
}

// counted returns n and a noun, in the plural where it should be.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
