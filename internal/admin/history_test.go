package admin

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

func TestQuantile(t *testing.T) {
	in := func(counts ...int64) (b buckets) {
		copy(b[:], counts)
		return b
	}
	beyond := buckets{len(bounds): 5}
	tests := []struct {
		name    string
		buckets buckets
		q       float64
		want    float64 // seconds
	}{
		{"none", in(), .5, 0},
		{"the middle of the first", in(100), .5, 125e-6},
		{"the end of the first", in(100), 1, 250e-6},
		{"the second of two", in(50, 50), .75, 375e-6},
		{"the edge", in(50, 50), .5, 250e-6},
		{"over an empty one", in(50, 0, 50), .75, 750e-6},
		{"99 of 100 far out", in(98, 0, 0, 0, 0, 2), .99, 7.5e-3},
		{"beyond the last bound", beyond, .5, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.buckets.quantile(tt.q); math.Abs(got-tt.want) > 1e-9 {
				t.Errorf("quantile(%v) = %v; want %v", tt.q, got, tt.want)
			}
		})
	}
}

func TestHistoryCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := showing(farm())
		a.Observe(sample(0)) // before it begins: not in it
		a.history.begin(a.snapshot())
		for range 3 {
			a.Observe(sample(0))
		}
		a.Observe(&proxy.Outcome{Op: wire.OpGetExclusive, Pool: "default", Backend: "s2", Status: 423, Duration: time.Millisecond, Wait: time.Millisecond, Moved: true})
		a.Observe(&proxy.Outcome{Op: wire.OpGet, Pool: "default", Backend: "s2", Status: 400, Reason: "timeout", Duration: 8 * time.Second, Wait: 8 * time.Second})
		a.Observe(&proxy.Outcome{Status: 400, Reason: proxy.Malformed})
		got := a.history.add(a.snapshot())
		want := sampleStatus{At: unix(time.Now()), Requests: 5, Failed: 2, FailedHere: 1, Locked: 1, Moved: 1}
		if got.Requests != want.Requests || got.Failed != want.Failed || got.FailedHere != want.FailedHere || got.Locked != want.Locked || got.Moved != want.Moved || got.At != want.At {
			t.Errorf("add() = %+v; want %+v", got, want)
		}
		if c := got.Backends["s1"]; c.Requests != 3 || c.Failed != 0 || c.P50 < 500e-6 || c.P50 > 1e-3 {
			t.Errorf("s1 = %+v; want 3 requests of 0.6 ms", c)
		}
		if c := got.Backends["s2"]; c.Requests != 2 || c.Failed != 1 || c.P99 < 5 {
			t.Errorf("s2 = %+v; want 2 requests, 1 failed, up to 8 s", c)
		}
		if again := a.history.add(a.snapshot()); again.Requests != 0 || again.Failed != 0 || again.P99 != 0 || again.Backends["s1"].Requests != 0 {
			t.Errorf("add() of a quiet second = %+v; want zeros", again)
		}
		failed, _, _ := a.history.lately()
		if failed[reasonIndex("timeout")] != 1 || failed[reasonIndex(proxy.Malformed)] != 1 {
			t.Errorf("lately() = %v; want one timeout and one malformed", failed)
		}
	})
}

func TestHistoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := farm()
		state.Backends = nil
		for i := range 300 {
			state.Backends = append(state.Backends, proxy.BackendStatus{Name: fmt.Sprintf("b%03d", i), Weight: 1, State: proxy.Up})
		}
		a := &Admin{Proxy: func() proxy.Status { return state }}
		a.history.begin(a.snapshot())
		for i := range 3700 {
			if i == 3650 { // two go, one comes
				state.Backends = append(slices.Clone(state.Backends[2:]), proxy.BackendStatus{Name: "new"})
			}
			if i%10 == 0 {
				a.Observe(sample(0))
			}
			a.history.add(a.snapshot())
		}
		st := a.history.status()
		for name, k := range map[string]struct {
			trackStatus
			points int
		}{"fine": {st.Fine, 120}, "coarse": {st.Coarse, 360}} {
			if len(k.At) != k.points || len(k.Requests) != k.points || len(k.P99) != k.points {
				t.Errorf("%s: %d points; want %d", name, len(k.At), k.points)
			}
			if n := len(k.Backends); n > maxHistoryOf {
				t.Errorf("%s: %d backends; want at most %d", name, n, maxHistoryOf)
			}
			for backend, c := range k.Backends {
				if len(c.Requests) != k.points || len(c.P50) != k.points {
					t.Errorf("%s: %d cells of %s; want %d", name, len(c.Requests), backend, k.points)
				}
			}
			if _, ok := k.Backends["b000"]; ok {
				t.Errorf("%s keeps a backend that is gone", name)
			}
		}
		if sum := total64(st.Coarse.Requests); sum != 360 {
			t.Errorf("requests in the last hour = %d; want 360", sum)
		}
	})
}

func total64(list []int64) (sum int64) {
	for _, n := range list {
		sum += n
	}
	return sum
}

// A backend whose counters begin anew counts nothing twice and nothing below 0.
func TestHistoryOfCountersThatBeginAnew(t *testing.T) {
	a := showing(farm())
	a.Observe(sample(0))
	a.history.begin(a.snapshot())
	a.counts.forget([]string{"s1"})
	if c := a.history.add(a.snapshot()).Backends["s1"]; c.Requests != 0 {
		t.Errorf("forgotten: %+v; want no requests", c)
	}
	a.Observe(sample(0))
	if c := a.history.add(a.snapshot()).Backends["s1"]; c.Requests != 1 {
		t.Errorf("begun anew: %+v; want 1 request", c)
	}
}

// BenchmarkTick is what watching costs each second.
func BenchmarkTick(b *testing.B) {
	state := farm()
	for i := range 97 {
		state.Backends = append(state.Backends, proxy.BackendStatus{Name: fmt.Sprintf("b%02d", i), Weight: 1, State: proxy.Up})
	}
	a := &Admin{Proxy: func() proxy.Status { return state }}
	for _, s := range state.Backends {
		a.Observe(&proxy.Outcome{Pool: "default", Backend: s.Name, Status: 200})
	}
	a.history.begin(a.snapshot())
	b.ReportAllocs()
	for b.Loop() {
		a.tick()
	}
}
