package health_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/health"
)

func TestSetTargetsKeepsState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2")
		f.set(errRefused, "s1")
		f.run(t)
		pass(5 * time.Second)
		before := f.status(t, "s1")
		f.SetTargets(targets("s3", "s2", "s1"))
		synctest.Wait()
		if got := f.status(t, "s1"); got != before {
			t.Errorf("Status() = %+v; want %+v", got, before)
		}
		f.wantStates(t, "s3 up, s2 up, s1 down")
		// The new one is probed at once, the others go on as before.
		pass(time.Second)
		for name, want := range map[string][]time.Duration{"s1": seconds(0, 2, 4, 6), "s3": seconds(5)} {
			if got := f.probed(name); !slices.Equal(got, want) {
				t.Errorf("probes of %s at %v; want %v", name, got, want)
			}
		}
	})
}

func TestSetTargetsNewAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2", "s3")
		f.set(errRefused, "s1")
		f.run(t)
		pass(5 * time.Second)
		if err := f.Eject("s2", "work"); err != nil {
			t.Fatal(err)
		}
		pass(time.Second / 2)
		f.hang("s1", true)
		moved := targets("s1", "s2", "s3")
		moved[0].Address, moved[1].Address = "new1.test:1", "new2.test:1"
		f.SetTargets(moved)
		f.wantStates(t, "s1 up, s2 down, s3 up")
		if s := f.status(t, "s1"); !s.Unproven || s.Falls != 0 || !s.Probed.IsZero() || s.Address != "new1.test:1" {
			t.Errorf("Status() = %+v; want a fresh one", s)
		}
		synctest.Wait()
		f.wantLog(t, "4s s1 down", "5s s2 down", "5.5s s1 up")
		if e := f.last(t); e.Address != "new1.test:1" || e.Reason != "address changed, not probed yet" {
			t.Errorf("event = %+v; want the new address and why", e)
		}
		if got := f.probed("s1"); got[len(got)-1] != 5500*time.Millisecond {
			t.Errorf("probes at %v; want one at once, at 5.5s", got)
		}
		if s := f.status(t, "s2"); !s.ByHand || s.ProbesPassed != 1 || s.Since.Sub(f.began) != 5*time.Second || s.Reason != "ejected by hand: work" {
			t.Errorf("Status() = %+v; want still out by hand since 5s, and probed", s)
		}
	})
}

func TestRemovedTargetGivesNoEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := steady
		p.Fall = 1
		f := newFarm(p, "s1", "s2")
		f.hang("s1", true)
		f.run(t)
		pass(time.Second / 2)
		f.SetTargets(targets("s2"))
		synctest.Wait()
		if err := f.ended["s1"]; !errors.Is(err, context.Canceled) {
			t.Errorf("probe of the removed target ended by %v; want context.Canceled", err)
		}
		f.Report("s1", errReset)
		pass(time.Minute)
		f.wantLog(t)
		if got, want := f.probed("s1"), seconds(0); !slices.Equal(got, want) {
			t.Errorf("probes of the removed target at %v; want %v", got, want)
		}
		f.wantStates(t, "s2 up")
	})
}

// TestRemovedTargetsEventsAreDropped queues events before Run delivers them.
func TestRemovedTargetsEventsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2", "s3", "s4")
		for _, name := range []string{"s1", "s2"} {
			if err := f.Eject(name, "work"); err != nil {
				t.Fatal(err)
			}
		}
		f.SetTargets(targets("s2", "s3"))
		f.SetTargets(targets("s1", "s2", "s3"))
		f.wantStates(t, "s1 up, s2 down, s3 up")
		f.run(t)
		f.wantLog(t, "0s s2 down")
	})
}

func TestSetTargetsTwiceTheSameName(t *testing.T) {
	c := &health.Checker{}
	c.SetTargets([]health.Target{{Name: "s1", Address: "a"}, {Name: "s1", Address: "b"}})
	if got := c.Status(); len(got) != 1 || got[0].Address != "a" {
		t.Errorf("Status() = %+v; want s1 at a alone", got)
	}
}

func TestZeroChecker(t *testing.T) {
	var c health.Checker
	c.Report("s1", errReset)
	if got := c.Status(); len(got) != 0 {
		t.Errorf("Status() = %v; want none", got)
	}
	if err := c.Eject("s1", ""); !errors.Is(err, health.ErrUnknown) {
		t.Errorf("Eject() = %v; want ErrUnknown", err)
	}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no Probe set") {
		t.Errorf("Run() without Probe = %v; want an error that says so", err)
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(steady, "s1", "s2")
		f.set(errRefused, "s1")
		f.hang("s2", true)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		pass(4 * time.Second)
		if err := f.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "already running") {
			t.Errorf("second Run() = %v; want an error that says so", err)
		}
		pass(time.Second / 2)
		before := f.status(t, "s2")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v; want nil", err)
		}
		if err := f.ended["s2"]; !errors.Is(err, context.Canceled) {
			t.Errorf("probe under way ended by %v; want context.Canceled", err)
		}
		if got := f.status(t, "s2"); got != before {
			t.Errorf("Status() = %+v; want the cancelled probe not to count: %+v", got, before)
		}

		// Stopped: nothing is probed or delivered, states are kept.
		n := len(f.probed("s1"))
		if err := f.Eject("s1", "work"); err != nil {
			t.Fatal(err)
		}
		if err := f.Readmit("s1"); err != nil {
			t.Fatal(err)
		}
		f.set(nil, "s1")
		pass(time.Hour)
		if got := len(f.probed("s1")); got != n {
			t.Errorf("%d probes after Run returned; want %d", got, n)
		}
		f.hang("s2", false)
		f.run(t)
		pass(2 * time.Second)
		f.wantLog(t, "4s s1 down", "1h0m6.5s s1 up")
	})
}

// TestOnEvent holds that events come one at a time and in order, and that the
// callback may use the checker.
func TestOnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busy atomic.Int32
		var names []string
		f := newFarm(steady, "s1", "s2", "s3", "s4", "s5", "s6")
		f.OnEvent = func(e health.Event) {
			if busy.Add(1) > 1 {
				t.Error("OnEvent called concurrently")
			}
			f.SetTargets(targets("s1", "s2", "s3", "s4", "s5", "s6"))
			f.Report("s6", errReset)
			f.Report("s6", nil)
			f.Status()
			<-time.After(time.Second)
			names = append(names, fmt.Sprint(e.Name, " ", e.Up))
			busy.Add(-1)
		}
		f.run(t)
		for _, name := range []string{"s3", "s1", "s2"} {
			if err := f.Eject(name, ""); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Readmit("s1"); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		want := []string{"s3 false", "s1 false", "s2 false", "s1 true"}
		if !slices.Equal(names, want) {
			t.Errorf("events = %q; want %q", names, want)
		}
	})
}
