package health_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/health"
)

func TestMaxEjected(t *testing.T) {
	tests := []struct {
		share float64
		n     int
		want  int // how many of n are down when all fail
	}{
		{0, 1, 0}, {0, 2, 1}, {0, 3, 1}, {0, 4, 2}, {0, 9, 4},
		{1, 1, 0}, {1, 2, 2}, {1, 5, 5}, {7, 3, 3},
		{-1, 2, 0}, {-1, 10, 0},
		{0.29, 100, 29}, {0.33, 3, 0}, {0.34, 3, 1}, {0.1, 9, 0}, {0.1, 10, 1},
		{math.NaN(), 4, 2},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%v of %d", tt.share, tt.n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := steady
				p.MaxEjected = tt.share
				var names []string
				for i := range tt.n {
					names = append(names, fmt.Sprintf("s%d", i))
				}
				f := newFarm(p, names...)
				f.set(errRefused, names...)
				f.run(t)
				pass(time.Minute)
				down, kept := 0, 0
				for _, s := range f.Status() {
					if !s.Up {
						down++
					}
					if s.Kept {
						kept++
					}
				}
				if down != tt.want || kept != tt.n-tt.want {
					t.Errorf("%d down, %d kept; want %d and %d", down, kept, tt.want, tt.n-tt.want)
				}
			})
		})
	}
}

// TestKeptIsEjectedLater frees the share: the one kept longest takes it.
func TestKeptIsEjectedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2", "s3")
		f.run(t)
		f.set(errRefused, "s2")
		pass(6 * time.Second)
		f.set(errRefused, "s3")
		pass(6 * time.Second)
		f.set(errRefused, "s1")
		pass(6 * time.Second)
		f.wantStates(t, "s1 kept, s2 down, s3 kept")
		f.set(nil, "s2")
		pass(4 * time.Second)
		f.wantStates(t, "s1 kept, s2 up, s3 down")
		f.set(nil, "s1")
		pass(4 * time.Second)
		f.wantLog(t, "6s s2 down", "12s s3 kept", "18s s1 kept", "22s s2 up", "22s s3 down", "26s s1 up")
	})
}

func TestSmallerShareReadmitsTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2", "s3", "s4")
		f.run(t)
		f.set(errRefused, "s3")
		pass(6 * time.Second)
		f.set(errRefused, "s1")
		pass(6 * time.Second)
		f.wantStates(t, "s1 down, s2 up, s3 down, s4 up")

		p := steady
		p.MaxEjected = 0.25
		f.SetParams(p)
		f.wantStates(t, "s1 kept, s2 up, s3 down, s4 up")
		if s := f.status(t, "s1"); !s.HoldDownUntil.IsZero() {
			t.Errorf("Status() = %+v; want no hold-down once kept", s)
		}
		f.SetTargets(targets("s3", "s1", "s2"))
		f.wantStates(t, "s3 kept, s1 kept, s2 up")
		f.SetParams(steady)
		f.wantStates(t, "s3 down, s1 kept, s2 up")
		synctest.Wait()
		f.wantLog(t, "6s s3 down", "12s s1 down", "12s s1 kept", "12s s3 kept", "12s s3 down")
	})
}

func TestSetParamsWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := steady
		slow.Interval = time.Hour
		f := newFarm(slow, "s1", "s2")
		f.set(errRefused, "s1")
		f.run(t)
		pass(10 * time.Second)
		f.SetParams(steady)
		pass(4 * time.Second)
		if got, want := f.probed("s1"), seconds(0, 12, 14); !slices.Equal(got, want) {
			t.Errorf("probes at %v; want %v", got, want)
		}
		// The failure under the old settings still counts.
		f.wantLog(t, "14s s1 down")
		f.SetParams(slow)
		pass(time.Minute)
		if got, want := f.probed("s1"), seconds(0, 12, 14, 16); !slices.Equal(got, want) {
			t.Errorf("probes at %v; want %v", got, want)
		}
		f.wantStates(t, "s1 down, s2 up")
	})
}

func TestEjectByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := steady
		p.MaxEjected = -1
		f := newFarm(p, "s1", "s2", "s3")
		f.run(t)
		check := func(what string, got, want error) {
			t.Helper()
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s = %v; want %v", what, got, want)
			}
		}
		check("Eject(s9)", f.Eject("s9", ""), fmt.Errorf("eject %q: %w", "s9", health.ErrUnknown))
		check("Readmit(s9)", f.Readmit("s9"), fmt.Errorf("readmit %q: %w", "s9", health.ErrUnknown))
		check("Readmit(s1)", f.Readmit("s1"), fmt.Errorf("readmit %q: %w", "s1", health.ErrNotEjected))
		check("Eject(s1)", f.Eject("s1", "disk"), nil)
		check("Eject(s1) again", f.Eject("s1", "disk"), nil)
		check("Eject(s3)", f.Eject("s3", "disk"), nil)
		check("Eject(s2)", f.Eject("s2", "disk"), fmt.Errorf("eject %q: %w", "s2", health.ErrLast))
		pass(time.Hour)
		f.wantStates(t, "s1 down, s2 up, s3 down")
		check("Readmit(s1)", f.Readmit("s1"), nil)
		synctest.Wait()
		f.wantLog(t, "0s s1 down", "0s s3 down", "1h0m0s s1 up")
		if e := f.last(t); e.Reason != "readmitted by hand" || e.HoldDown != 0 {
			t.Errorf("event = %+v; want readmitted by hand, no hold-down", e)
		}
	})
}

// TestEjectByHandBesideFailures mixes the operator's word with the verdict.
func TestEjectByHandBesideFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2", "s3", "s4")
		f.run(t)
		if err := f.Eject("s1", "work"); err != nil {
			t.Fatal(err)
		}
		f.set(errRefused, "s1", "s2")
		pass(2 * time.Second)
		f.set(errRefused, "s3")
		pass(6 * time.Second)
		// The one out by hand takes half of the share of two.
		f.wantStates(t, "s1 down, s2 down, s3 kept, s4 up")
		// One out by hand as well as by its failures readmits nobody.
		if err := f.Eject("s4", "work"); err != nil {
			t.Fatal(err)
		}
		f.wantStates(t, "s1 down, s2 down, s3 kept, s4 down")
		f.set(nil, "s2")
		pass(4 * time.Second)
		f.wantStates(t, "s1 down, s2 up, s3 kept, s4 down")
		if err := f.Readmit("s4"); err != nil {
			t.Fatal(err)
		}
		f.wantStates(t, "s1 down, s2 up, s3 down, s4 up")
		// Readmitted while it fails, and the share is free for it: it stays out.
		if err := f.Readmit("s1"); err != nil {
			t.Fatal(err)
		}
		if s := f.status(t, "s1"); s.Up || s.ByHand || s.Falls != 1 {
			t.Errorf("Status() = %+v; want down by its failures", s)
		}
		f.set(nil, "s1", "s3")
		pass(4 * time.Second)
		f.wantStates(t, "s1 up, s2 up, s3 up, s4 up")
	})
}

// TestSmallerShareLeavesThoseOutByHand counts a target that fails as well as
// being out by hand as the operator's.
func TestSmallerShareLeavesThoseOutByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2", "s3", "s4")
		f.set(errRefused, "s1", "s2")
		f.run(t)
		pass(4 * time.Second)
		if err := f.Eject("s1", "work"); err != nil {
			t.Fatal(err)
		}
		p := steady
		p.MaxEjected = 0.25
		f.SetParams(p)
		f.wantStates(t, "s1 down, s2 down, s3 up, s4 up")
	})
}

func TestPassingWhileOutByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2")
		f.set(errRefused, "s1")
		f.run(t)
		pass(4 * time.Second)
		if err := f.Eject("s1", "work"); err != nil {
			t.Fatal(err)
		}
		f.set(nil, "s1")
		pass(10 * time.Second)
		f.wantStates(t, "s1 down, s2 up")
		if err := f.Readmit("s1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		f.wantLog(t, "4s s1 down", "14s s1 up")
	})
}
