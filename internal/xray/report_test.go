package xray_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/xray"
	"stateproxy/proxy"
	"stateproxy/wire"
)

var shop = server{addr: "10.0.0.1", app: "/LM/W3SVC/1/ROOT/shop"}

func TestOps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 120 {
			id := uint64(i % 3)
			r.do(shop, id, wire.OpGet)
			r.page(shop, id)
			r.do(shop, id, wire.OpGetExclusive, locked(0))
			r.do(shop, id, wire.OpRelease, status(wire.StatusLocked)) // nobody polls for this
			r.do(shop, id, wire.OpGet, func(o *proxy.Outcome) { o.Status, o.Reason = wire.StatusLocked, "dial_refused" })
			r.do(shop, id, wire.OpNone, func(o *proxy.Outcome) { o.Pool, o.Reason = "", proxy.Malformed })
			r.Findings()
			time.Sleep(time.Second)
		}
		a := r.app(shop.app)
		for i := range a.Ops {
			a.Ops[i].Rate = math.Round(10*a.Ops[i].Rate) / 10
		}
		want := []xray.Op{{"get", 240, 2}, {"get_exclusive", 240, 2}, {"release", 120, 1}, {"set", 120, 1}}
		if !reflect.DeepEqual(a.Ops, want) {
			t.Errorf("Ops = %v; want %v", a.Ops, want)
		}
		if a.Polls != 120 || math.Abs(a.PollRate-1) > 0.05 {
			t.Errorf("Polls, PollRate = %v, %v; want 120, about 1", a.Polls, a.PollRate)
		}
	})
}

func TestRateWithoutMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for range 100 {
			r.do(shop, 1, wire.OpGet)
		}
		time.Sleep(20 * time.Second)
		if op := r.app(shop.app).Ops[0]; math.Abs(op.Rate-5) > 0.01 {
			t.Errorf("first Report(): Rate = %v; want 5", op.Rate)
		}
	})
}

func TestSizes(t *testing.T) {
	r := newRig(t)
	for i, size := range []int{0, 7, 256, 257, 1024, 1025, 64 << 20, 64<<20 + 1} {
		r.do(shop, uint64(i), wire.OpSet, body(size))
	}
	r.do(shop, 8, wire.OpSet, func(o *proxy.Outcome) { o.Body, o.RequestBytes = nil, 1<<30 })
	r.do(shop, 9, wire.OpSet, body(5), status(wire.StatusLocked)) // not taken
	r.do(shop, 9, wire.OpSetUninitialized)
	h := r.app(shop.app).Sizes
	if want := []int64{3, 2, 1, 0, 0, 0, 0, 0, 0, 1, 2}; !reflect.DeepEqual(h.Counts, want) {
		t.Errorf("Counts = %v; want %v", h.Counts, want)
	}
	if len(h.AtMost) != len(h.Counts)-1 || h.AtMost[0] != 256 || h.AtMost[9] != 64<<20 {
		t.Errorf("AtMost = %v; want 256 to 64 Mi", h.AtMost)
	}
	if want := float64(7 + 256 + 257 + 1024 + 1025 + 64<<20 + 64<<20 + 1 + 1<<30); h.Sum != want || h.Count() != 9 {
		t.Errorf("Sum, Count() = %v, %v; want %v, 9", h.Sum, h.Count(), want)
	}
}

func TestLargest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for id := range uint64(1000) {
			r.do(shop, id, wire.OpSet, body(100+int(id)))
		}
		r.do(shop, 5, wire.OpGet, body(9000))
		r.do(shop, 999, wire.OpSet, body(5000))
		got := sizes(r.app(shop.app).Largest)
		if want := []int64{9000, 5000, 1098, 1097, 1096, 1095, 1094, 1093, 1092, 1091}; !reflect.DeepEqual(got, want) {
			t.Errorf("Largest = %v; want %v", got, want)
		}
		time.Sleep(9 * time.Minute)
		r.do(shop, 999, wire.OpSet, body(5000))
		time.Sleep(2 * time.Minute)
		if got := sizes(r.app(shop.app).Largest); !reflect.DeepEqual(got, []int64{5000}) {
			t.Errorf("eleven minutes on: Largest = %v; want what was seen since", got)
		}
		r.do(shop, 1, wire.OpSet, body(10))
		if got := sizes(r.app(shop.app).Largest); !reflect.DeepEqual(got, []int64{5000, 10}) {
			t.Errorf("then: Largest = %v; want a small one, too", got)
		}
	})
}

func sizes(list []xray.Session) (all []int64) {
	for _, s := range list {
		all = append(all, s.Bytes)
	}
	return all
}

func TestBusiest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		second := func(i int) {
			r.do(shop, 1, wire.OpGet)
			r.do(shop, 1, wire.OpGet)
			r.do(shop, 2, wire.OpGet)
			r.do(shop, uint64(100+i), wire.OpGet)
			time.Sleep(time.Second)
		}
		for i := range 90 {
			second(i)
		}
		list := r.app(shop.app).Busiest
		about := func(i int, want int64) bool { return list[i].PerMinute <= want && list[i].PerMinute >= want-3 }
		if len(list) != 10 || !about(0, 120) || !about(1, 60) || !about(2, 1) {
			t.Errorf("Busiest = %v; want ten, with about 120, 60 and 1 requests a minute", list)
		}
		if list[0].Session == list[1].Session || len(list[0].Session) != 16 {
			t.Errorf("Busiest = %v; want different sessions as 16 digits", list)
		}
		time.Sleep(2 * time.Minute)
		if list := r.app(shop.app).Busiest; len(list) != 0 {
			t.Errorf("two minutes on: Busiest = %v; want none", list)
		}
	})
}

// The busiest sessions are found among many others at a rate where most
// requests are not looked at.
func TestBusiestAmongMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		at := time.Now()
		observe := func(session uint64) {
			r.do(shop, session, wire.OpGet, func(o *proxy.Outcome) { o.Start = at })
		}
		const perSecond = 20_000
		n := uint64(0)
		for second := range 30 {
			for i := range perSecond {
				at = time.Now().Add(time.Duration(i) * time.Second / perSecond)
				n++
				observe(1000 + mix(n)%1_000_000)
				if i%100 == 0 {
					observe(1)
				}
			}
			if second < 29 {
				time.Sleep(time.Second)
			}
		}
		list := r.app(shop.app).Busiest
		if len(list) == 0 || list[0].PerMinute < 3000 || list[0].PerMinute > 9000 {
			t.Fatalf("Busiest = %v; want one with some 6000 requests first", list)
		}
		if len(list) > 1 && list[1].PerMinute > list[0].PerMinute/4 {
			t.Errorf("Busiest = %v; want the others far behind", list)
		}
	})
}

func TestIdenticalSaves(t *testing.T) {
	r := newRig(t)
	save := func(id uint64, text string) {
		r.do(shop, id, wire.OpSet, func(o *proxy.Outcome) { o.Body = []byte(text) })
	}
	for _, text := range []string{"a", "a", "b", "b", "b", "a"} {
		save(1, text)
		save(2, "x"+text)
	}
	streamed := func(o *proxy.Outcome) { o.Body = nil }
	r.do(shop, 1, wire.OpSet, streamed)
	save(1, "a") // what was before is not known
	r.do(shop, 2, wire.OpRemove)
	save(2, "xa") // another session by now
	a := r.app(shop.app)
	if a.Compared != 10 || a.Identical != 6 {
		t.Errorf("Compared, Identical = %d, %d; want 10, 6", a.Compared, a.Identical)
	}
}

func TestLockTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		poll := func(id uint64) {
			r.do(shop, id, wire.OpGetExclusive, locked(0))
			time.Sleep(500 * time.Millisecond)
		}
		r.do(shop, 1, wire.OpGetExclusive)
		for range 4 {
			poll(1)
		}
		r.do(shop, 1, wire.OpSet) // after 2 s
		r.do(shop, 1, wire.OpGetExclusive)
		time.Sleep(20 * time.Second)
		r.do(shop, 1, wire.OpRelease)

		poll(2) // and gives up
		time.Sleep(10 * time.Second)
		poll(2)
		r.do(shop, 2, wire.OpGet) // after 0.5 s
		r.do(shop, 2, wire.OpRelease)

		r.do(shop, 3, wire.OpGetExclusive, func(o *proxy.Outcome) { o.LockReleased = true })
		time.Sleep(time.Minute)
		r.do(shop, 3, wire.OpSet)

		a := r.app(shop.app)
		check := func(name string, h xray.Histogram, want map[float64]int64) {
			t.Helper()
			got := map[float64]int64{}
			for i, n := range h.Counts {
				if n > 0 {
					got[h.AtMost[i]] = n
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s = %v; want %v", name, got, want)
			}
		}
		check("Waits", a.Waits, map[float64]int64{2.5: 1, 1: 1})
		check("Holds", a.Holds, map[float64]int64{2.5: 1, 30: 1})
		if math.Abs(a.Holds.Sum-22) > 0.01 || math.Abs(a.Waits.Sum-2.5) > 0.01 {
			t.Errorf("Sums = %v, %v; want 22, 2.5", a.Holds.Sum, a.Waits.Sum)
		}
	})
}

func TestTimeouts(t *testing.T) {
	r := newRig(t)
	for i := range 100 {
		minutes := int64(20)
		if i%4 == 0 {
			minutes = 60
		}
		r.do(shop, uint64(i), wire.OpSet, func(o *proxy.Outcome) { o.Timeout = minutes })
		r.do(shop, uint64(i), wire.OpGet, func(o *proxy.Outcome) { o.Timeout = 5 })
	}
	if got, want := r.app(shop.app).Timeouts, []xray.Timeout{{20, 0.75}, {60, 0.25}}; !reflect.DeepEqual(got, want) {
		t.Errorf("Timeouts = %v; want %v", got, want)
	}
	many := server{addr: "10.0.0.1", app: "/many"}
	for i := range 100 {
		r.do(many, uint64(i), wire.OpSet, func(o *proxy.Outcome) { o.Timeout = int64(i + 1) })
	}
	if got := r.app(many.app).Timeouts; len(got) != 9 || got[0] != (xray.Timeout{Minutes: 0, Share: 0.92}) {
		t.Errorf("of 100 different ones: Timeouts = %v; want 92 %% of them together", got)
	}
}

func TestLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.do(shop, 1, wire.OpGetExclusive)
		time.Sleep(2 * time.Second)
		r.do(shop, 2, wire.OpGetExclusive, locked(40*time.Second)) // taken elsewhere
		r.do(shop, 3, wire.OpGetExclusive)
		r.do(shop, 3, wire.OpGetExclusive, locked(0))
		want := []string{"40s told", "2s", "0s told"}
		if got := locks(r.Report()); !reflect.DeepEqual(got, want) {
			t.Errorf("Locks = %q; want %q", got, want)
		}
		list := r.only(xray.LockHeld)
		if len(list) != 1 || !strings.Contains(list[0].Text, "locked for 40 s") || list[0].Apps[0] != shop.app {
			t.Errorf("Findings() = %+v; want the lock of 40 s", list)
		}
		r.do(shop, 1, wire.OpSet)
		r.do(shop, 2, wire.OpRelease)
		r.do(shop, 3, wire.OpRemove)
		if got := locks(r.Report()); len(got) > 0 {
			t.Errorf("after their ends: Locks = %q; want none", got)
		}
		if list := r.only(xray.LockHeld); len(list) > 0 {
			t.Errorf("after their ends: Findings() = %+v; want none", list)
		}
	})
}

func locks(r xray.Report) (list []string) {
	for _, l := range r.Locks {
		text := r.At.Sub(l.Since).Round(time.Second).String()
		if l.Waited {
			text += " told"
		}
		list = append(list, text)
	}
	return list
}

// Of many locks the oldest are shown; nobody polls for the others any more.
func TestManyLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for id := range uint64(500) {
			r.do(shop, id, wire.OpGetExclusive, locked(time.Duration(id+1)*time.Second))
		}
		got := r.Report().Locks
		if len(got) != 10 || r.Report().At.Sub(got[0].Since).Round(time.Second) != 500*time.Second {
			t.Errorf("Locks = %v; want ten, the oldest 500 s old", got)
		}
		if list := r.only(xray.LockHeld); len(list) != 1 || !strings.Contains(list[0].Text, "31 more") {
			t.Errorf("Findings() = %v; want one of 32 locks", list)
		}
		time.Sleep(11 * time.Second)
		if got := r.Report().Locks; len(got) > 0 {
			t.Errorf("eleven seconds on: Locks = %v; want none", got)
		}
		r.do(shop, 1, wire.OpGetExclusive, locked(time.Second))
		if got := r.Report().Locks; len(got) != 1 {
			t.Errorf("then: Locks = %v; want the new one", got)
		}
	})
}

func TestLargeSessionFinding(t *testing.T) {
	r := newRig(t)
	r.LargeSession = 10_000
	r.do(shop, 1, wire.OpSet, body(9_999))
	if list := r.only(xray.LargeSession); len(list) > 0 {
		t.Errorf("Findings() = %v; want none", list)
	}
	r.do(shop, 2, wire.OpSet, body(3<<20))
	r.do(server{addr: "10.0.0.1", app: "/b"}, 2, wire.OpSet, body(10_000))
	list := r.only(xray.LargeSession)
	if len(list) != 1 || !strings.Contains(list[0].Text, shop.app+" has 3.0 MiB; at least 1 other") || len(list[0].Apps) != 2 {
		t.Errorf("Findings() = %+v; want one of 3 MiB", list)
	}
}

func TestNearTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Budget = 5 * time.Second
		take := func(d time.Duration) {
			r.do(shop, 1, wire.OpGet, func(o *proxy.Outcome) { o.Duration = d })
		}
		step := func() {
			r.Findings()
			time.Sleep(10 * time.Second)
		}
		step()
		for range 5 {
			take(3999 * time.Millisecond)
		}
		take(4 * time.Second)
		take(4 * time.Second)
		step()
		if list := r.only(xray.NearTimeout); len(list) > 0 {
			t.Errorf("after two slow requests: Findings() = %v; want none", list)
		}
		take(6 * time.Second)
		begun := time.Now()
		if list := r.only(xray.NearTimeout); len(list) != 1 || !list[0].Since.Equal(begun) {
			t.Errorf("after three: Findings() = %v; want one since now", list)
		}
		for range 4 {
			step()
		}
		if list := r.only(xray.NearTimeout); len(list) != 1 || !list[0].Since.Equal(begun) {
			t.Errorf("forty seconds on: Findings() = %v; want one since %v", list, begun)
		}
		for range 5 {
			step()
		}
		if list := r.only(xray.NearTimeout); len(list) > 0 {
			t.Errorf("ninety seconds on: Findings() = %v; want none", list)
		}
		r.SetBudget(10 * time.Second)
		for range 3 {
			take(7999 * time.Millisecond)
		}
		if list := r.only(xray.NearTimeout); len(list) > 0 {
			t.Errorf("with another budget: Findings() = %v; want none", list)
		}
		for range 3 {
			take(8 * time.Second)
		}
		if list := r.only(xray.NearTimeout); len(list) != 1 || !strings.Contains(list[0].Text, "at 10s they fail") {
			t.Errorf("with another budget, near it: Findings() = %v; want one that names it", list)
		}
	})
}

func TestReportIsJSON(t *testing.T) {
	var x xray.XRay
	b, err := json.Marshal(x.Report())
	if err != nil || !strings.Contains(string(b), `"apps":[],"all":{"name":"","ops":[],`) || !strings.Contains(string(b), `"locks":[],"waiting":0,"slow":0`) {
		t.Errorf("Marshal(Report()) = %s, %v; want empty lists", b, err)
	}
	r := newRig(t)
	r.page(shop, 1)
	if b, err = json.Marshal(r.Report()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"name":"/LM/W3SVC/1/ROOT/shop"`, `"sample":1`, `"at_most":[256,`, `"minutes":20,"share":1`,
		fmt.Sprintf(`"session":"%016x"`, sessionOf(shop, 1))} {
		if !strings.Contains(string(b), want) {
			t.Errorf("Marshal(Report()) = %s; want %s in it", b, want)
		}
	}
}

func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		if all := r.Report().All; all.Sizes.Count() != 0 || len(all.Sizes.Counts) == 0 || all.Ops == nil {
			t.Errorf("All of nothing = %+v; want empty histograms", all)
		}
		forum := server{addr: "10.0.0.2", app: "/LM/W3SVC/1/ROOT/forum"}
		for _, s := range []server{shop, forum} {
			for id := range uint64(4) {
				r.page(s, id)
				r.do(s, id, wire.OpSet)
			}
		}
		r.do(forum, 9, wire.OpGetExclusive)
		r.do(forum, 9, wire.OpGet, locked(3*time.Second))
		r.do(forum, 8, wire.OpGet, locked(0))
		report := r.Report()
		all := report.All
		want := []xray.Op{{"get", 2, 2}, {"get_exclusive", 9, 9}, {"set", 16, 16}}
		slices.SortFunc(all.Ops, func(a, b xray.Op) int { return strings.Compare(a.Op, b.Op) })
		if !reflect.DeepEqual(all.Ops, want) || all.Polls != 2 || all.Sizes.Count() != 16 || all.Sizes.Sum != 16*12 || all.Holds.Count() != 8 || all.Compared != 8 || all.Identical != 8 {
			t.Errorf("All = %+v; want the sums of both applications, operations %v", all, want)
		}
		if !all.Since.Equal(r.app(shop.app).Since) || report.Waiting != 2 {
			t.Errorf("All.Since = %v, Waiting = %d; want the first one's, 2", all.Since, report.Waiting)
		}
		time.Sleep(2 * time.Second)
		if n := r.Report().Waiting; n != 1 { // of whom it is known since when it is locked
			t.Errorf("Waiting = %d two seconds later; want 1", n)
		}
		time.Sleep(10 * time.Second)
		if n := r.Report().Waiting; n != 0 {
			t.Errorf("Waiting = %d twelve seconds later; want 0", n)
		}
	})
}
