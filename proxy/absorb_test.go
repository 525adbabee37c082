package proxy_test

import (
	"fmt"
	"testing"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// successor starts a proxy that begins by what r knows.
func (r *rig) successor(s proxy.Settings) *rig {
	r.t.Helper()
	snapshot := r.proxy.Snapshot()
	return startRig(r.t, s, func(p *proxy.Proxy) {
		if err := p.Restore(snapshot); err != nil {
			r.t.Fatal(err)
		}
	})
}

// What the former proxy stored while only it thought that a backend was down is
// found by its successor.
func TestAbsorbOtherRouting(t *testing.T) {
	servers := startServers(t, 3)
	s := proxy.Settings{Backends: backends(servers...)}
	before := newRig(t, s)
	after := before.successor(s)
	before.proxy.SetUp("s2", false)
	const n = 60
	fill(dial(t, before.addr), n)
	if servers[1].Len() != 0 {
		t.Fatal("s2 has sessions; want none while it is down")
	}
	if err := after.proxy.Absorb(before.proxy.Snapshot()); err != nil {
		t.Fatalf("Absorb() = %v", err)
	}
	expect(dial(t, after.addr), n, "successor")
	if servers[1].Len() == 0 {
		t.Error("no session was brought to s2, which is up for the successor")
	}
	windows := after.proxy.Status().Pools[0].Windows
	if err := after.proxy.Absorb(before.proxy.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if again := after.proxy.Status().Pools[0].Windows; len(windows) != 1 || len(again) != 1 {
		t.Errorf("%d windows, %d after the same again; want 1", len(windows), len(again))
	}
}

// A successor with the same view has nothing to look for.
func TestAbsorbSameRouting(t *testing.T) {
	servers := startServers(t, 3)
	s := proxy.Settings{Backends: backends(servers...)}
	before := newRig(t, s)
	after := before.successor(s)
	if err := after.proxy.Absorb(before.proxy.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if w := after.proxy.Status().Pools[0].Windows; len(w) != 0 {
		t.Errorf("%d windows; want none", len(w))
	}
}

// A copy that the former proxy knew to be overtaken is not served by its
// successor.
func TestAbsorbOvertaken(t *testing.T) {
	servers := startServers(t, 2)
	s := proxy.Settings{Backends: backends(servers...)}
	before := newRig(t, s)
	c := dial(t, before.addr)
	const n = 40
	fill(c, n)
	before.proxy.SetUp("s1", false) // cut off, with its copies
	after := before.successor(s)
	for i := range n {
		if a := c.put(fmt.Sprint("id", i), fmt.Sprint("new ", i), wire.Some(0)); a.Status != 200 {
			t.Fatalf("PUT = %d", a.Status)
		}
	}
	if err := after.proxy.Absorb(before.proxy.Snapshot()); err != nil {
		t.Fatal(err)
	}
	after.proxy.SetUp("s1", true)
	d := dial(t, after.addr)
	for i := range n {
		if a := d.get(fmt.Sprint("id", i)); a.Status != 200 || a.body != fmt.Sprint("new ", i) {
			t.Fatalf("GET %d = %d %q; want what was written last", i, a.Status, a.body)
		}
	}
}

func TestAbsorbRefuses(t *testing.T) {
	p := &proxy.Proxy{}
	if err := p.Absorb(proxy.Snapshot{}); err == nil {
		t.Error("Absorb() before there are settings = nil; want an error")
	}
}

// The sessions that the former proxy saw are emptied from a backend by its
// successor, which then knows when the backend may be shut down.
func TestRememberWhatAnotherSaw(t *testing.T) {
	servers := startServers(t, 2)
	s := proxy.Settings{Backends: backends(servers...), Remember: 1000, Budget: time.Second} // safe after two budgets
	before := newRig(t, s)
	c := dial(t, before.addr)
	fill(c, 30)
	c.put("an-id-of-another-length", "body", wire.Some(0))
	m := before.proxy.Memory()
	if len(m.Sessions) != 31 || m.Since.IsZero() || m.Sessions[0].Minutes != 20 {
		t.Fatalf("Memory() has %d sessions since %v, the first %+v; want 31, of 20 minutes", len(m.Sessions), m.Since, m.Sessions[0])
	}
	m.Since = m.Since.Add(-time.Hour)
	after := before.successor(s)
	after.proxy.Remember(m)
	after.proxy.Remember(m) // once more changes nothing
	if got := after.proxy.Status().Remembered; got != 31 {
		t.Errorf("%d sessions are remembered; want 31", got)
	}
	s.Backends[0].Drain, s.EvacuationRate = true, 10000
	after.reconfigure(s)
	runInBackground(t, after.proxy)
	after.evacuated("is empty and safe", func(e proxy.EvacuationStatus) bool { return servers[0].Len() == 0 && e.Safe })
	expect(dial(t, after.addr), 30, "after the evacuation")
}
