package health

import (
	"cmp"
	"math"
	"math/rand/v2"
	"time"
)

// Params are the settings of a Checker. The zero value of each field means its
// default.
type Params struct {
	// Interval is the time from the start of one probe to the start of the
	// next; default, also for a negative value, 2 s. A failed request brings
	// the next probe forward, down to a tenth of it after the end of the last.
	Interval time.Duration
	// Timeout ends a probe's context; default, also for a negative value, 2 s.
	Timeout time.Duration
	// Jitter is the share of the interval, up to 1, by which each wait is
	// shortened or lengthened at random; default 0.2, negative means none.
	Jitter float64

	// Rise is how many probes in a row must pass to readmit a target; default,
	// also for a negative value, 2.
	Rise int
	// Fall is how many probes in a row, or requests in a row, must fail to
	// eject a target; default, also for a negative value, 3.
	Fall int

	// HoldDown is how long an ejected target stays out at least; default 5 s,
	// negative means no hold-down. It doubles with each fall, up to
	// MaxHoldDown, and goes back one step for each time as long as MaxHoldDown
	// that the target was up before it fell again.
	HoldDown time.Duration
	// MaxHoldDown is the longest hold-down; default, also for a negative value,
	// 5 min. Below HoldDown it means HoldDown.
	MaxHoldDown time.Duration

	// MaxEjected is the share of the targets, up to 1, that may be out of
	// service before the checker stops ejecting; their number is rounded down.
	// Default 0.5; negative means never to eject. A single target is never
	// ejected.
	MaxEjected float64
}

func (p Params) interval() time.Duration { return cmp.Or(max(p.Interval, 0), 2*time.Second) }
func (p Params) timeout() time.Duration  { return cmp.Or(max(p.Timeout, 0), 2*time.Second) }
func (p Params) jitter() float64         { return share(p.Jitter, 0.2) }
func (p Params) rise() int               { return cmp.Or(max(p.Rise, 0), 2) }
func (p Params) fall() int               { return cmp.Or(max(p.Fall, 0), 3) }
func (p Params) holdDown() time.Duration { return max(0, cmp.Or(p.HoldDown, 5*time.Second)) }
func (p Params) maxHoldDown() time.Duration {
	return max(cmp.Or(max(p.MaxHoldDown, 0), 5*time.Minute), p.holdDown())
}

// delay returns a random wait from one probe's start to the next one's.
func (p Params) delay() time.Duration {
	factor := 1 + p.jitter()*(2*rand.Float64()-1)
	return time.Duration(float64(p.interval()) * factor)
}

// spacing returns the least wait between two probes that failed requests ask for.
func (p Params) spacing() time.Duration { return p.interval() / 10 }

// hold returns the hold-down of a target that has fallen strikes times before.
func (p Params) hold(strikes int) time.Duration {
	d, most := p.holdDown(), p.maxHoldDown()
	for range strikes {
		if d > most/2 {
			return most
		}
		d *= 2
	}
	return d
}

// limit returns how many of n targets may be ejected at once.
func (p Params) limit(n int) int {
	if n <= 1 {
		return 0
	}
	// The small addend undoes binary rounding: 0.29 of 100 is 29.
	return int(math.Floor(share(p.MaxEjected, 0.5)*float64(n) + 1e-9))
}

// share returns v, or def if v is zero or no number, brought into 0..1.
func share(v, def float64) float64 {
	if math.IsNaN(v) {
		v = def
	}
	return min(max(cmp.Or(v, def), 0), 1)
}
