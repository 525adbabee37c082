package health_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/health"
)

func TestReportEjects(t *testing.T) {
	tests := []struct {
		name    string
		reports string // F and P at once, one after the other
		want    string
	}{
		{"two failures", "FF", "s1 up, s2 up"},
		{"three failures", "FFF", "s1 down, s2 up"},
		{"a success between", "FFPFF", "s1 up, s2 up"},
		{"three after a success", "FFPFFF", "s1 down, s2 up"},
		{"successes never readmit", "FFFPPPP", "s1 down, s2 up"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarm(steady, "s1", "s2")
				f.run(t)
				f.hang("s1", true) // the probe brought forward must not pass between
				pass(time.Second)
				for _, r := range tt.reports {
					f.Report("s1", map[rune]error{'F': errReset}[r])
				}
				f.Report("s9", errReset) // unknown: ignored
				f.wantStates(t, tt.want)
			})
		})
	}
}

// TestRiseAfterRequestsFailed holds that the probes that passed before a fall do
// not count for the rise.
func TestRiseAfterRequestsFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2")
		f.run(t)
		pass(10100 * time.Millisecond)
		for range 3 {
			f.Report("s1", errReset)
		}
		if s := f.status(t, "s1"); s.RequestsFailed != 0 || s.ProbesPassed != 0 {
			t.Errorf("Status() = %+v; want counts to begin anew", s)
		}
		// The first failure brought a probe forward, to 200 ms after the last.
		pass(10 * time.Second)
		f.wantLog(t, "10.1s s1 down", "12.2s s1 up")
	})
}

func TestReportBringsProbeForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2")
		f.run(t)
		pass(time.Second)
		f.Report("s1", errReset)
		f.Report("s1", errReset)
		synctest.Wait()
		if got, want := f.probed("s1"), seconds(0, 1); !slices.Equal(got, want) {
			t.Errorf("probes at %v; want %v", got, want)
		}
		if got, want := f.probed("s2"), seconds(0); !slices.Equal(got, want) {
			t.Errorf("probes of the other at %v; want %v", got, want)
		}
		// That probe passed, which is a success between.
		f.Report("s1", errReset)
		f.Report("s1", errReset)
		f.wantStates(t, "s1 up, s2 up")
		if n := f.status(t, "s1").RequestsFailed; n != 2 {
			t.Errorf("RequestsFailed = %d; want 2", n)
		}
		f.Report("s1", errReset)
		f.wantStates(t, "s1 down, s2 up")
	})
}

// TestReportsSpaceProbes holds that a flood of failures is no flood of probes.
func TestReportsSpaceProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2")
		f.run(t)
		for range 10_000 {
			pass(time.Millisecond)
			f.Report("s1", errReset)
			f.Report("s1", nil)
		}
		starts := f.probed("s1")
		for i := range starts[1:] {
			if gap := starts[i+1] - starts[i]; gap < steady.Interval/10 {
				t.Fatalf("probes %v apart; want at least %v", gap, steady.Interval/10)
			}
		}
		if n := len(starts); n < 40 || n > 51 {
			t.Errorf("%d probes in 10 s of failures; want one each 200 ms", n)
		}
	})
}

func TestReportDuringProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2")
		f.hang("s1", true)
		f.run(t)
		pass(time.Second / 2)
		f.Report("s1", errReset)
		pass(time.Second)
		// The first probe ended after 1 s; the next follows soon.
		if got, want := f.probed("s1"), []time.Duration{0, 1200 * time.Millisecond}; !slices.Equal(got, want) {
			t.Errorf("probes at %v; want %v", got, want)
		}
		// Requests eject it though a probe is under way.
		for range 3 {
			f.Report("s1", errReset)
		}
		synctest.Wait()
		f.wantLog(t, "1.5s s1 down")
		if got, want := f.last(t).Reason, "3 requests failed in a row, the last: connection reset"; got != want {
			t.Errorf("reason = %q; want %q", got, want)
		}
	})
}

// TestReportWhileOut holds that requests sent before a fall, or to an ejected
// target, do not hinder its rise.
func TestReportWhileOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2")
		f.script["s1"] = "FFFP"
		f.run(t)
		pass(4 * time.Second)
		for range 40 {
			pass(time.Second / 10)
			f.Report("s1", errReset)
		}
		f.wantLog(t, "4s s1 down", "8s s1 up")
	})
}

func TestReportDoesNotAllocate(t *testing.T) {
	c := &health.Checker{}
	c.SetTargets(targets("s1", "s2"))
	if n := testing.AllocsPerRun(1000, func() { c.Report("s2", nil) }); n != 0 {
		t.Errorf("Report allocates %v times; want 0", n)
	}
}

// TestConcurrentUse does everything at once, for the race detector, and holds
// that the events add up to Status.
func TestConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := steady
		p.Interval, p.Jitter = 10*time.Millisecond, 0.5
		f := newFarm(p, "s1", "s2", "s3", "s4")
		f.script["s1"] = "PFFFPPPFFFFPPFFFFP"
		f.run(t)
		var wg sync.WaitGroup
		for _, name := range []string{"s1", "s2", "s3", "s4"} {
			wg.Go(func() {
				for i := range 3000 {
					f.Report(name, []error{nil, nil, errReset, errReset, errRefused, nil}[i%6])
				}
			})
			wg.Go(func() {
				for range 300 {
					if f.Eject(name, "test") == nil {
						_ = f.Readmit(name)
					}
					f.SetParams(p)
					f.Status()
				}
			})
		}
		wg.Go(func() {
			for range 300 {
				f.SetTargets(targets("s1", "s2", "s3"))
				f.SetTargets(targets("s4", "s3", "s2", "s1"))
			}
		})
		pass(time.Second)
		wg.Wait()
		pass(time.Second)
		seen := map[string]bool{}
		f.mu.Lock()
		for _, e := range f.events {
			seen[e.Name] = e.Up
		}
		f.mu.Unlock()
		delete(seen, "s4") // it was taken away and brought back, silently
		for _, s := range f.Status() {
			if up, told := seen[s.Name]; told && up != s.Up {
				t.Errorf("last event of %s says up = %v; want %v", s.Name, up, s.Up)
			}
			if !s.Up {
				t.Errorf("%s is down a second after all passes; want up", s.Name)
			}
		}
	})
}

func BenchmarkReport(b *testing.B) {
	c := &health.Checker{}
	c.SetTargets(targets("s1", "s2", "s3", "s4", "s5"))
	b.Run("success", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.Report("s3", nil)
		}
	})
	b.Run("success-parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				c.Report("s3", nil)
			}
		})
	})
	b.Run("failure-then-success", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.Report("s3", errReset)
			c.Report("s3", nil)
		}
	})
}
