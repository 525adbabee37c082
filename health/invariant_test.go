package health_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"stateproxy/health"
)

// step is one thing that happens to a farm.
type step struct {
	verb string
	name string
	n    int
}

var stepGenerator = rapid.Custom(func(t *rapid.T) step {
	return step{
		verb: rapid.SampledFrom([]string{"break", "loop", "mend", "fail", "succeed", "eject", "readmit", "share", "size", "wait"}).Draw(t, "verb"),
		name: rapid.SampledFrom([]string{"s0", "s1", "s2", "s3", "s4"}).Draw(t, "name"),
		n:    rapid.IntRange(1, 10).Draw(t, "n"),
	}
})

// TestInvariants plays random histories and holds, after each step: no more
// than the share is ejected by failures; a target is down only if it fails, is
// out by hand or unfit; none that fails is kept while the share has room; and the
// events, put together, say what Status says.
func TestInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(stepGenerator, 1, 60).Draw(rt, "steps")
		var problem error
		synctest.Test(t, func(t *testing.T) { problem = play(t, steps) })
		if problem != nil {
			rt.Fatal(problem)
		}
	})
}

func play(t *testing.T, steps []step) error {
	names := []string{"s0", "s1", "s2", "s3", "s4"}
	p := steady
	p.HoldDown, p.MaxEjected = 3*time.Second, 0.5
	f := newFarm(p, names...)
	f.run(t)
	for i, s := range steps {
		switch s.verb {
		case "break":
			f.set(errRefused, s.name)
		case "loop":
			f.set(errLoop, s.name)
		case "mend":
			f.set(nil, s.name)
		case "fail":
			for range s.n {
				f.Report(s.name, errReset)
			}
		case "succeed":
			f.Report(s.name, nil)
		case "eject":
			_ = f.Eject(s.name, "test") // refused for the last one
		case "readmit":
			_ = f.Readmit(s.name) // refused unless out by hand
		case "share":
			p.MaxEjected = float64(s.n) / 10
			f.SetParams(p)
		case "size":
			left := names[:1+s.n%5]
			f.SetTargets(targets(left...))
			f.forgetAllBut(left)
		case "wait":
			pass(time.Duration(s.n) * time.Second)
		}
		synctest.Wait()
		if err := f.check(p.MaxEjected); err != nil {
			return fmt.Errorf("after step %d, %+v: %w", i, s, err)
		}
	}
	return nil
}

// forgetAllBut drops what was heard of targets that are gone.
func (f *farm) forgetAllBut(names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = slices.DeleteFunc(f.events, func(e health.Event) bool {
		return !slices.Contains(names, e.Name)
	})
}

// check returns the first invariant that does not hold.
func (f *farm) check(share float64) error {
	list := f.Status()
	limit := int(math.Floor(share*float64(len(list)) + 1e-9))
	if len(list) == 1 {
		limit = 0
	}
	told := map[string]bool{}
	f.mu.Lock()
	for _, e := range f.events {
		told[e.Name] = e.Up
	}
	f.mu.Unlock()
	ejected, out, kept := 0, 0, 0
	for _, s := range list {
		failing := !s.FailingSince.IsZero()
		if !s.Up && !s.ByHand && !s.Unfit {
			ejected++
			if !failing {
				return fmt.Errorf("%s is down, but neither failing, nor out by hand, nor unfit", s.Name)
			}
		}
		if !s.Up {
			out++
		}
		if s.Kept {
			kept++
		}
		if s.Kept != (s.Up && failing) {
			return fmt.Errorf("%+v: kept must mean up and failing", s)
		}
		if up, ok := told[s.Name]; ok && up != s.Up {
			return fmt.Errorf("%s: last event says up = %v, status %v", s.Name, up, s.Up)
		}
	}
	switch {
	case ejected > limit:
		return fmt.Errorf("%d ejected, limit %d", ejected, limit)
	case kept > 0 && out < limit:
		return fmt.Errorf("%d kept while %d of %d are out", kept, out, limit)
	}
	return nil
}
