package xray_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"stateproxy/internal/xray"
	"stateproxy/proxy"
	"stateproxy/wire"
)

// heap returns the bytes in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestMillionSessions(t *testing.T) {
	before := heap()
	x, tr := &xray.XRay{}, newTraffic(1_000_000, 0)
	for range 2_000_000 { // at 100,000 a second
		x.Observe(tr.next())
	}
	if grown := int64(heap()) - int64(before); grown > 8<<20 {
		t.Errorf("memory has grown by %d bytes; want 8 Mi or less", grown)
	}
	r := x.Report()
	if r.Sample < 16 {
		t.Errorf("Sample = %d; want 16 or more", r.Sample)
	}
	a := r.Apps[0]
	if n := a.Sizes.Count(); n != 1_000_000 {
		t.Errorf("Sizes.Count() = %d; want 1000000", n)
	}
	if n := a.Holds.Count(); n < 1000 {
		t.Errorf("Holds.Count() = %d; want some of a sample", n)
	}
	runtime.KeepAlive(x)
}

// When the crowd has gone all sessions are followed again.
func TestSampleRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for id := range uint64(200_000) {
			r.do(shop, id, wire.OpGet)
		}
		crowded := r.Report().Sample
		if crowded < 8 {
			t.Errorf("with 200000 sessions: Sample = %d; want 8 or more", crowded)
		}
		for range 30 {
			time.Sleep(time.Minute)
			r.do(shop, 1, wire.OpGet)
			r.Findings()
		}
		if n := r.Report().Sample; n != 1 {
			t.Errorf("with one: Sample = %d; want 1", n)
		}
	})
}

// Few sessions that are asked for very often are sampled, too, as long as that
// lasts.
func TestSampleFollowsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		minute := func(perSecond uint64) int {
			for range 60 {
				for n := range perSecond {
					r.do(shop, n%100, wire.OpGet)
				}
				time.Sleep(time.Second)
				r.Findings()
			}
			return r.Report().Sample
		}
		for range 2 {
			if n := minute(10_000); n < 2 || n > 16 {
				t.Errorf("at 10000 requests a second: Sample = %d; want 2 to 16", n)
			}
		}
		for range 6 {
			minute(10)
		}
		if n := r.Report().Sample; n != 1 {
			t.Errorf("at 10 requests a second: Sample = %d; want 1", n)
		}
	})
}

func TestManyApps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		name := func(i int) string { return fmt.Sprintf("/LM/W3SVC/%d/ROOT", i) }
		for i := range 10_000 {
			r.page(server{addr: "10.0.0.1", app: name(i)}, uint64(i))
		}
		r.page(server{addr: "10.0.0.1", app: "/" + strings.Repeat("x", 5000)}, 1)
		r.page(server{addr: "10.0.0.1", app: "other"}, 1)
		report := r.Report()
		if n := len(report.Apps); n != 100 {
			t.Fatalf("len(Apps) = %d; want 100", n)
		}
		rest := report.Apps[99]
		if rest.Name != xray.Other || rest.Sizes.Count() != 10_000-99+2 {
			t.Errorf("last of Apps = %q with %d saves; want other with the rest", rest.Name, rest.Sizes.Count())
		}
		for range 3 { // name(0) stays in use
			time.Sleep(31 * time.Minute)
			r.page(server{addr: "10.0.0.1", app: name(0)}, 1)
			r.Findings()
		}
		fresh := server{addr: "10.0.0.1", app: "/fresh"}
		r.page(fresh, 1)
		if n := r.app(fresh.app).Sizes.Count(); n != 1 {
			t.Errorf("an hour and a half later, a new application: %d saves; want 1", n)
		}
		if n := r.app(name(0)).Sizes.Count(); n != 4 {
			t.Errorf("the one in use: %d saves; want 4", n)
		}
		if n := len(r.Report().Apps); n > 4 {
			t.Errorf("len(Apps) = %d; want those in use and other", n)
		}
	})
}

// A farm that is not crowded keeps what it knows of quiet applications.
func TestFewAppsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.page(shop, 1)
		for range 6 {
			time.Sleep(time.Hour)
			r.Findings()
		}
		if n := r.app(shop.app).Sizes.Count(); n != 1 {
			t.Errorf("six hours later: %d saves; want 1", n)
		}
	})
}

// Clients beyond what can be told apart raise no alarm, and make room again.
func TestManyClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 5000 {
			r.do(server{addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String(), app: shop.app}, uint64(i), wire.OpGet)
		}
		mismatch := func() []xray.Finding {
			for id := range uint64(20) {
				r.page(server{addr: "10.0.0.1", app: "/LM/W3SVC/1/ROOT"}, id)
				r.page(server{addr: "10.0.0.2", app: "/LM/W3SVC/2/ROOT"}, id)
			}
			return r.only(xray.AppMismatch)
		}
		if list := mismatch(); len(list) > 0 {
			t.Errorf("with 5000 clients: Findings() = %v; want none", list)
		}
		for range 3 {
			time.Sleep(31 * time.Minute)
			r.Findings()
		}
		if list := mismatch(); len(list) != 1 {
			t.Errorf("an hour and a half later: Findings() = %v; want a mismatch", list)
		}
	})
}

func TestHostileNames(t *testing.T) {
	r := newRig(t)
	long := strings.Repeat("ä", 200)
	names := []string{
		"<script>alert(1)</script>", "/a\nb\r\x00\x1b[31m", "/\u202egpj", "/\xff\xfe", "/\xed\xa0\x80", "/\xed\xa0\x81", "/\\xff\\xfe", `/"quoted"`,
		"", " ", long + "1", long + "2", "/größe",
	}
	for i, name := range names {
		r.page(server{addr: "10.0.0.1", app: name}, uint64(i))
	}
	seen := map[string]bool{}
	for _, a := range r.Report().Apps {
		if seen[a.Name] {
			t.Errorf("Apps has %q twice", a.Name)
		}
		seen[a.Name] = true
		if len(a.Name) > 120 || !utf8.ValidString(a.Name) || strings.ContainsAny(a.Name, "\n\r\x00\x1b\u202e") {
			t.Errorf("name %q is not fit to be shown", a.Name)
		}
	}
	if len(seen) != len(names) {
		t.Errorf("Apps has %d names; want %d", len(seen), len(names))
	}
	for _, plain := range []string{"", "/größe", "<script>alert(1)</script>"} {
		if !seen[plain] {
			t.Errorf("Apps has no %q; want plain text as it is", plain)
		}
	}
}

// Names that make trouble by what they have in common with others.
func TestHostilePairs(t *testing.T) {
	names := []string{"", "/", "//", "/LM/W3SVC/", "/LM/W3SVC//ROOT", "/LM/W3SVC/x/ROOT", "/LM/W3SVC/1", "/LM/W3SVC/1/", "/LM/W3SVC/99999999999999999999999/ROOT", "ROOT", "(", strings.Repeat("/", 512)}
	r := newRig(t)
	for id := range uint64(10) {
		for i, name := range names {
			r.page(server{addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}).String(), app: name}, id)
		}
	}
	for id := range uint64(10) {
		for i := range 60 {
			r.page(server{addr: netip.AddrFrom4([4]byte{10, 1, byte(id), byte(i + 1)}).String(), app: fmt.Sprintf("/LM/W3SVC/%d/ROOT/%s", i, strings.Repeat("x", 400))}, 100+id)
		}
	}
	list := r.only(identity...)
	if !slices.ContainsFunc(list, func(f xray.Finding) bool { return strings.Contains(f.Text, "\nand 50 more\n") }) {
		t.Errorf("Findings() = %v; want one of 60 parts that names ten", list)
	}
	for _, f := range list {
		if len(f.Text) > 4096 || len(f.Apps) > 100 {
			t.Errorf("finding of %d bytes about %d applications", len(f.Text), len(f.Apps))
		}
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	for _, sessions := range []uint64{10, 1000, 1_000_000} {
		x, tr := &xray.XRay{}, newTraffic(sessions, 0)
		for range 10_000 {
			x.Observe(tr.next())
		}
		poll := *tr.next()
		poll.Op, poll.Status, poll.LockAge = wire.OpGetExclusive, wire.StatusLocked, time.Minute
		miss := poll
		miss.Status, miss.Session, miss.LockAge = wire.StatusNotFound, 7, 0
		if n := testing.AllocsPerRun(10_000, func() {
			x.Observe(tr.next())
			x.Observe(&poll)
			x.Observe(&miss)
		}); n != 0 {
			t.Errorf("with %d sessions: Observe allocates %v times; want 0", sessions, n)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	r := newRig(t)
	apps := []string{"/LM/W3SVC/1/ROOT", "/LM/W3SVC/2/ROOT", "/LM/W3SVC/1/ROOT/shop"}
	var observers sync.WaitGroup
	for n := range uint64(4) {
		observers.Go(func() {
			for i := range uint64(5000) {
				id := mix(n<<32|i) % 500
				s := server{addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(id%3 + 1)}).String(), app: apps[id%3]}
				r.do(s, id/3, wire.OpGetExclusive)
				r.do(s, id/3, wire.OpGet, locked(time.Duration(id)*time.Second))
				r.do(s, id/3, []wire.Op{wire.OpSet, wire.OpRelease, wire.OpRemove, wire.OpGet}[i%4], func(o *proxy.Outcome) {
					if i%7 == 0 {
						o.Status = wire.StatusNotFound
					}
				})
			}
		})
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				r.Report()
				r.Findings()
			}
		}
	})
	observers.Wait()
	close(done)
	readers.Wait()
	sum := int64(0)
	for _, a := range r.Report().Apps {
		for _, op := range a.Ops {
			sum += op.Count
		}
	}
	if sum != 4*5000*3 {
		t.Errorf("Report() counts %d requests; want %d", sum, 4*5000*3)
	}
}

func TestKindsAreUnique(t *testing.T) {
	kinds := slices.Clone(xray.Kinds[:])
	slices.Sort(kinds)
	if n := len(slices.Compact(kinds)); n != len(xray.Kinds) {
		t.Errorf("Kinds has %d different ones; want %d", n, len(xray.Kinds))
	}
}
