package health_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/health"
)

func TestRiseAndFall(t *testing.T) {
	eager := steady
	eager.Rise, eager.Fall = 1, 1
	held := eager
	held.HoldDown = 5 * time.Second
	tests := []struct {
		name   string
		params health.Params
		script string
		want   []string
	}{
		{"healthy", steady, "P", []string{}},
		{"falls at the third failure", steady, "PF", []string{"6s s1 down"}},
		{"dead from the start", steady, "F", []string{"4s s1 down"}},
		{"a pass between counts anew", steady, "FFPFFP", []string{}},
		{"rises at the second pass in a row", steady, "FFFFPFP", []string{"4s s1 down", "14s s1 up"}},
		{"one failure, one pass", eager, "FP", []string{"0s s1 down", "2s s1 up"}},
		{"not before the hold-down is over", held, "FP", []string{"0s s1 down", "6s s1 up"}},
		{"flaps", eager, "FPFP", []string{"0s s1 down", "2s s1 up", "4s s1 down", "6s s1 up"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(tt.params, "s1", "s2")
				f.script["s1"] = tt.script
				f.run(t)
				pass(30 * time.Second)
				f.wantLog(t, tt.want...)
			})
		})
	}
}

func TestDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(health.Params{Jitter: -1}, "s1", "s2")
		f.hang("s1", true)
		f.run(t)
		pass(6 * time.Second)
		// Interval and timeout 2 s, fall 3: time-outs at 2, 4 and 6 s.
		f.wantLog(t, "6s s1 down")
		f.hang("s1", false)
		pass(8 * time.Second)
		// The probe begun at 6 s hangs till 8 s; rise 2 and hold-down 5 s: 12 s.
		f.wantLog(t, "6s s1 down", "12s s1 up")
	})
}

func TestProbeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1")
		f.hang("s1", true)
		f.run(t)
		pass(steady.Timeout)
		s := f.status(t, "s1")
		if s.ProbeTook != steady.Timeout || s.ProbeErr != "context deadline exceeded" || s.ProbesFailed != 1 {
			t.Errorf("Status() = %+v; want one probe failed by its deadline after %v", s, steady.Timeout)
		}
	})
}

func TestJitter(t *testing.T) {
	tests := []struct {
		name     string
		jitter   float64
		min, max time.Duration
	}{
		{"a quarter", 0.25, 750 * time.Millisecond, 1250 * time.Millisecond},
		{"default", 0, 800 * time.Millisecond, 1200 * time.Millisecond},
		{"none", -1, time.Second, time.Second},
		{"more than all", 7, 0, 2 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(health.Params{Interval: time.Second, Jitter: tt.jitter}, "s1")
				f.run(t)
				pass(500 * time.Second)
				starts := f.probed("s1")
				var gaps []time.Duration
				for i := range starts[1:] {
					gaps = append(gaps, starts[i+1]-starts[i])
				}
				low, high := slices.Min(gaps), slices.Max(gaps)
				if low < tt.min || high > tt.max {
					t.Errorf("waits are %v to %v; want within %v to %v", low, high, tt.min, tt.max)
				}
				// With some 500 waits, none in the outer tenths has a chance of
				// less than 1 in 10^20.
				if tenth := (tt.max - tt.min) / 10; low > tt.min+tenth || high < tt.max-tenth {
					t.Errorf("waits are %v to %v; want them spread over %v to %v", low, high, tt.min, tt.max)
				}
			})
		})
	}
}

// TestHoldDown lets a target fall again and again, and looks at how long it
// must stay out each time.
func TestHoldDown(t *testing.T) {
	p := health.Params{Interval: time.Second, Jitter: -1, Rise: 1, Fall: 1, HoldDown: 4 * time.Second, MaxHoldDown: 16 * time.Second}
	tests := []struct {
		name string
		edit func(*health.Params)
		up   []time.Duration // how long it is up before each fall
		want []time.Duration // the hold-downs
	}{
		{"doubles to the maximum", nil, seconds(1, 1, 1, 1, 1), seconds(4, 8, 16, 16, 16)},
		{"one step back", nil, seconds(1, 1, 1, 16), seconds(4, 8, 16, 8)},
		{"two steps back", nil, seconds(1, 1, 1, 32), seconds(4, 8, 16, 4)},
		{"never below the first", nil, seconds(1, 1, 500, 1), seconds(4, 8, 4, 8)},
		{"not for less than the maximum", nil, seconds(1, 1, 15, 15), seconds(4, 8, 16, 16)},
		{"maximum no multiple", func(p *health.Params) { p.MaxHoldDown = 10 * time.Second }, seconds(1, 1, 1, 1), seconds(4, 8, 10, 10)},
		{"maximum below the first", func(p *health.Params) { p.MaxHoldDown = time.Second }, seconds(1, 1), seconds(4, 4)},
		{"none", func(p *health.Params) { p.HoldDown = -1 }, seconds(1, 1, 1), seconds(0, 0, 0)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				params := p
				if tt.edit != nil {
					tt.edit(&params)
				}
				f := newFarm(params, "s1", "s2")
				f.run(t)
				pass(time.Second / 2) // between the probes, which come each full second
				for i, up := range tt.up {
					pass(up - time.Second)
					f.set(errRefused, "s1")
					pass(time.Second)
					down := f.last(t)
					if down.Up || down.HoldDown != tt.want[i] {
						t.Fatalf("fall %d: event %+v; want down with hold-down %v", i+1, down, tt.want[i])
					}
					if s := f.status(t, "s1"); s.HoldDownUntil.Sub(s.Since) != tt.want[i] || s.Falls != i+1 {
						t.Errorf("fall %d: Status() = %+v; want fall %d held for %v", i+1, s, i+1, tt.want[i])
					}
					f.set(nil, "s1")
					pass(max(tt.want[i], time.Second))
					rise := f.last(t)
					if out := rise.Time.Sub(down.Time); !rise.Up || out < tt.want[i] || out > tt.want[i]+time.Second {
						t.Fatalf("fall %d: event %+v after %v; want up after %v", i+1, rise, out, tt.want[i])
					}
					// The rise was half a second ago.
				}
			})
		})
	}
}

// TestHoldDownSwitchedOn holds that falls without a hold-down do not count
// towards its growth.
func TestHoldDownSwitchedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := steady
		p.Rise, p.Fall = 1, 1
		f := newFarm(p, "s1", "s2")
		f.script["s1"] = "FPFPFPPF"
		f.run(t)
		pass(11 * time.Second)
		p.HoldDown = 4 * time.Second
		f.SetParams(p)
		pass(4 * time.Second)
		if e := f.last(t); e.Up || e.HoldDown != p.HoldDown {
			t.Errorf("event = %+v; want down with hold-down %v", e, p.HoldDown)
		}
	})
}

func seconds(list ...int) []time.Duration {
	var out []time.Duration
	for _, s := range list {
		out = append(out, time.Duration(s)*time.Second)
	}
	return out
}

func TestReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2")
		f.run(t)
		want := func(name, reason string) {
			t.Helper()
			if got := f.status(t, name).Reason; got != reason {
				t.Errorf("reason of %s = %q; want %q", name, got, reason)
			}
		}
		want("s1", "first probe passed")
		f.set(errRefused, "s1")
		pass(6 * time.Second)
		want("s1", "3 probes failed in a row, the last: connection refused")
		if got := f.last(t).Reason; got != f.status(t, "s1").Reason {
			t.Errorf("reason of the event = %q; want the one of Status", got)
		}
		f.set(errReset, "s2")
		pass(6 * time.Second)
		want("s2", "3 probes failed in a row, the last: connection reset; kept in service, no more may be ejected")
		f.set(nil, "s1")
		pass(4 * time.Second)
		want("s1", "2 probes passed in a row")
		want("s2", "3 probes failed in a row, the last: connection reset")
		if err := f.Eject("s2", "new memory"); err != nil {
			t.Fatalf("Eject(s2) = %v; want nil", err)
		}
		want("s2", "ejected by hand: new memory")
		if err := f.Eject("s2", ""); err != nil {
			t.Fatalf("Eject(s2) once more = %v; want nil", err)
		}
		want("s2", "ejected by hand")
	})
}

func TestUnproven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2")
		f.hang("s1", true)
		if s := f.status(t, "s1"); !s.Up || !s.Unproven || s.Reason != "not probed yet" || !s.Probed.IsZero() {
			t.Errorf("Status() before Run = %+v; want up, unproven, not probed", s)
		}
		f.run(t)
		if s := f.status(t, "s2"); !s.Up || s.Unproven || s.ProbesPassed != 1 || !s.Probed.Equal(f.began) {
			t.Errorf("Status() after a probe = %+v; want up and proven by a probe at once", s)
		}
		pass(steady.Timeout)
		if s := f.status(t, "s1"); !s.Up || !s.Unproven || !strings.Contains(s.ProbeErr, "deadline") {
			t.Errorf("Status() after a failed probe = %+v; want up and unproven", s)
		}
	})
}
