package xray_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/xray"
	"stateproxy/proxy"
	"stateproxy/wire"
)

// by makes it an answer of a backend.
func by(backend string) func(*proxy.Outcome) {
	return func(o *proxy.Outcome) { o.Backend = backend }
}

// lockedAt is a refusal by a server whose clock is ahead, in a time zone, of a
// lock of that age.
func lockedAt(age, ahead, zone time.Duration) func(*proxy.Outcome) {
	return func(o *proxy.Outcome) {
		o.Status, o.LockAge = wire.StatusLocked, age.Truncate(time.Second)
		o.LockDate = ticks(o.Start.Add(o.Wait - age + ahead + zone))
	}
}

// ticks counts 100 ns steps from the year 1 to t in UTC.
func ticks(t time.Time) int64 { return (t.Unix()+62135596800)*1e7 + int64(t.Nanosecond())/100 }

func TestClockOff(t *testing.T) {
	const hour, half = time.Hour, time.Second / 2
	tests := []struct {
		name        string
		age         time.Duration
		ahead, zone time.Duration
		want        string // "": no finding
	}{
		{"right", 7 * time.Second, 0, 0, ""},
		{"right, age just below a second", 999 * time.Millisecond, 0, 0, ""},
		{"right, in the west", 0, 0, -8 * hour, ""},
		{"right, in the east with a quarter", 40 * time.Second, 0, 12*hour + 45*time.Minute, ""},
		{"a little off", 0, 4 * time.Second, hour, ""},
		{"ahead", 3500 * time.Millisecond, 42 * time.Second, 0, "42s ahead"},
		{"ahead, in the east", 3500 * time.Millisecond, 42 * time.Second, 5*hour + 30*time.Minute, "42s ahead"},
		{"behind, in the west", 100500 * time.Millisecond, -2 * time.Minute, -8 * hour, "2m0s behind"},
		{"farther than any zone", half, 15 * hour, 0, "15h0m0s ahead"},
		{"years behind", half, -9 * 365 * 24 * hour, 0, "78840h0m0s behind"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				look := func() { r.do(shop, 1, wire.OpGetExclusive, by("s2"), lockedAt(tt.age, tt.ahead, tt.zone)) }
				look()
				if list := r.only(xray.ClockOff); len(list) != 0 {
					t.Errorf("after one look Findings() = %+v; want none yet", list)
				}
				begun := time.Now()
				time.Sleep(time.Second)
				look()
				list := r.only(xray.ClockOff)
				if tt.want == "" {
					if len(list) != 0 {
						t.Errorf("Findings() = %+v; want none", list)
					}
					return
				}
				if len(list) != 1 || list[0].Backend != "s2" || list[0].Advice == "" {
					t.Fatalf("Findings() = %+v; want one of s2", list)
				}
				if !strings.Contains(list[0].Text, " "+tt.want) {
					t.Errorf("Text = %q; want %q in it", list[0].Text, tt.want)
				}
				if d := begun.Sub(list[0].Since); d < 0 || d > time.Second {
					t.Errorf("Since = %v; want about %v", list[0].Since, begun)
				}
			})
		})
	}
}

func TestClockOffEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		look := func(ahead time.Duration) {
			r.do(shop, 1, wire.OpGet, by("s1"), lockedAt(3*time.Second, ahead, 0))
			time.Sleep(time.Second)
		}
		found := func(when string, want int) {
			t.Helper()
			if list := r.only(xray.ClockOff); len(list) != want {
				t.Errorf("%s: Findings() = %+v; want %d", when, list, want)
			}
		}
		look(time.Minute)
		look(-time.Minute)
		found("after looks that disagree", 0)
		look(-time.Minute)
		found("after two that agree", 1)
		r.do(shop, 1, wire.OpGet, by("s1"), lockedAt(0, 0, 0), func(o *proxy.Outcome) { o.LockDate = 0 })
		found("after an answer without a date", 1)
		look(0)
		found("after a right one", 0)
		look(time.Minute)
		look(time.Minute)
		found("once more", 1)
		time.Sleep(10 * time.Minute)
		found("ten minutes later", 0)
	})
}

func TestBadVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		bad := func(o *proxy.Outcome) { o.BadVersion = true }
		r.do(shop, 1, wire.OpGet, by("s1"))
		if list := r.only(xray.BadVersion); len(list) != 0 {
			t.Errorf("Findings() = %+v; want none", list)
		}
		begun := time.Now().Add(-time.Millisecond)
		r.do(shop, 1, wire.OpGet, by("s2"), bad)
		time.Sleep(40 * time.Second)
		r.do(shop, 1, wire.OpGet, by("s2"), bad)
		r.do(shop, 1, wire.OpGet, by("s3"), bad, status(wire.StatusNotFound))
		time.Sleep(59 * time.Second)
		list := r.only(xray.BadVersion)
		if len(list) != 2 || list[0].Backend != "s2" || !list[0].Since.Equal(begun) || list[1].Backend != "s3" {
			t.Errorf("Findings() = %+v; want s2 since %v, then s3", list, begun)
		}
		time.Sleep(time.Second)
		if list := r.only(xray.BadVersion); len(list) != 0 {
			t.Errorf("a minute later Findings() = %+v; want none", list)
		}
	})
}

func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Memory = 3 * time.Second
		one, two := server{addr: "10.0.0.1", app: "/LM/W3SVC/1/ROOT"}, server{addr: "10.0.0.2", app: "/LM/W3SVC/7/ROOT"}
		for id := range uint64(12) {
			r.page(one, id)
			r.page(two, id)
		}
		if list := r.only(xray.AppMismatch); len(list) != 1 || list[0].App != one.app {
			t.Errorf("Findings() = %+v; want a mismatch of %s", list, one.app)
		}
		time.Sleep(3 * time.Second)
		if list := r.only(xray.AppMismatch); len(list) != 0 {
			t.Errorf("later than Memory Findings() = %+v; want none", list)
		}
	})
}
