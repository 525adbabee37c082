package proxy_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// fill stores n sessions whose bodies name them.
func fill(c *client, n int) {
	c.t.Helper()
	for i := range n {
		if a := c.put(fmt.Sprint("id", i), fmt.Sprint("body ", i), wire.Some(0)); a.Status != 200 {
			c.t.Fatalf("PUT %d = %d", i, a.Status)
		}
	}
}

// expect reads n sessions and wants the bodies of fill.
func expect(c *client, n int, who string) {
	c.t.Helper()
	for i := range n {
		if a := c.get(fmt.Sprint("id", i)); a.Status != 200 || a.body != fmt.Sprint("body ", i) {
			c.t.Fatalf("%s: GET %d = %d %q; want its body", who, i, a.Status, a.body)
		}
	}
}

func copies(servers []*stateserver.Server) (n int) {
	for _, s := range servers {
		n += s.Len()
	}
	return n
}

func TestProxiesThatChangeOneAfterTheOther(t *testing.T) {
	servers := startServers(t, 4)
	all := backends(servers...)
	ahead, behind := newRig(t, proxy.Settings{Backends: all[:3]}), newRig(t, proxy.Settings{Backends: all[:3]})
	a, b := dial(t, ahead.addr), dial(t, behind.addr)
	const n = 100
	fill(a, n)
	ahead.reconfigure(proxy.Settings{Backends: all}) // acts at once
	c := behind.reconfigure(proxy.Settings{Backends: all, HandoffDelay: time.Hour})
	if until := time.Until(c.At); until < 59*time.Minute || c.Pools[0].Moved != 0.25 {
		t.Errorf("change in %v, moves %v; want in an hour, 0.25", until, c.Pools[0].Moved)
	}
	expect(b, n, "behind, before anything moved")
	expect(a, n, "ahead")
	if servers[3].Len() == 0 {
		t.Fatal("nothing has moved to the new server")
	}
	expect(b, n, "behind, after the move")
	for i := range n { // written behind, read ahead, and the other way round
		id := fmt.Sprint("id", i)
		got := b.acquire(id)
		if got.Status != 200 {
			t.Fatalf("acquire behind = %d", got.Status)
		}
		if locked := a.acquire(id); locked.Status != 423 {
			t.Fatalf("acquire ahead of a session that is locked behind = %d; want 423", locked.Status)
		}
		b.put(id, "written behind", got.LockCookie)
		if got := a.get(id); got.body != "written behind" {
			t.Fatalf("ahead reads %q; want what was written behind", got.body)
		}
		b.delete(id, wire.Int{})
		if got := a.get(id); got.Status != 404 {
			t.Fatalf("ahead reads a session that was removed behind: %d", got.Status)
		}
	}
	if n := copies(servers); n != 0 {
		t.Errorf("%d sessions are left; want none", n)
	}
	for i := range n {
		b.put(fmt.Sprint("new", i), "x", wire.Some(0))
		if got := a.get(fmt.Sprint("new", i)); got.Status != 200 {
			t.Fatalf("ahead does not find a session that was made behind: %d", got.Status)
		}
	}
}

func TestTheSameChangeAgainDoesNotBeginAnew(t *testing.T) {
	servers := startServers(t, 2)
	all := backends(servers...)
	r := newRig(t, proxy.Settings{Backends: all[:1]})
	first := r.reconfigure(proxy.Settings{Backends: all, HandoffDelay: time.Hour})
	again := r.reconfigure(proxy.Settings{Backends: []proxy.Backend{all[1], all[0]}, HandoffDelay: time.Hour, MaxHead: 4 << 10})
	if !again.At.Equal(first.At) {
		t.Errorf("change at %v, then at %v; want the first to stand", first.At, again.At)
	}
	undone := r.reconfigure(proxy.Settings{Backends: all[:1], HandoffDelay: time.Hour})
	if !undone.At.IsZero() || r.proxy.Status().Pools[0].Next != nil {
		t.Errorf("change at %v after it was undone; want none", undone.At)
	}
}

func TestWindowsOutliveARestart(t *testing.T) {
	servers := startServers(t, 4)
	all := backends(servers...)
	old := newRig(t, proxy.Settings{Backends: all[:3]})
	const n = 100
	c := dial(t, old.addr)
	fill(c, n)
	old.reconfigure(proxy.Settings{Backends: all})
	for i := range n / 2 {
		c.get(fmt.Sprint("id", i)) // half of them are moved
	}
	b, err := json.Marshal(old.proxy.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	shutdown(t, old.proxy)
	var s proxy.Snapshot
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	next := startRig(t, proxy.Settings{Backends: all}, func(p *proxy.Proxy) {
		if err := p.Restore(s); err != nil {
			t.Fatal(err)
		}
	})
	expect(dial(t, next.addr), n, "after the restart")
	if got := next.proxy.Status().Pools[0].Windows; len(got) != 1 {
		t.Errorf("%d windows after the restart; want 1", len(got))
	}
}

func TestARestartWithANewFileIsAChange(t *testing.T) {
	servers := startServers(t, 4)
	all := backends(servers...)
	old := newRig(t, proxy.Settings{Backends: all[:3]})
	const n = 60
	fill(dial(t, old.addr), n)
	s := old.proxy.Snapshot()
	shutdown(t, old.proxy)
	next := startRig(t, proxy.Settings{Backends: all, HandoffDelay: time.Hour}, func(p *proxy.Proxy) {
		if err := p.Restore(s); err != nil {
			t.Fatal(err)
		}
	})
	if next.proxy.Status().Pools[0].Next == nil {
		t.Error("the new routing is in force at once; want it to come")
	}
	expect(dial(t, next.addr), n, "after the restart")
}

func TestOldCopiesOfAServerThatWasCutOff(t *testing.T) {
	servers := startServers(t, 3)
	r := newRig(t, proxy.Settings{Backends: backends(servers...)})
	c := dial(t, r.addr)
	const n = 90
	fill(c, n)
	r.proxy.SetUp("s2", false) // it keeps what it has
	for i := range n {
		id := fmt.Sprint("id", i)
		switch {
		case i%3 == 0:
			c.put(id, "new", wire.Some(0))
		case i%3 == 1:
			c.put(id, "new", wire.Some(0))
			c.delete(id, wire.Int{})
		}
	}
	r.proxy.SetUp("s2", true)
	for i := range n {
		id, want, status := fmt.Sprint("id", i), "new", 200
		switch i % 3 {
		case 1:
			want, status = "", 404
		case 2:
			want = fmt.Sprint("body ", i) // not touched meanwhile: still the latest
		}
		for range 2 {
			if a := c.get(id); a.Status != status || a.body != want {
				t.Fatalf("GET %d = %d %q; want %d %q", i, a.Status, a.body, status, want)
			}
		}
	}
}

func TestARestartedServerIsNotAskedForOldSessions(t *testing.T) {
	servers := startServers(t, 2)
	all := backends(servers...)
	const budget = 100 * time.Millisecond
	r := newRig(t, proxy.Settings{Backends: all[:1], Budget: budget})
	c := dial(t, r.addr)
	r.proxy.SetInstance("s1", "one")
	fill(c, 20)
	r.reconfigure(proxy.Settings{Backends: all, Budget: budget})
	<-time.After(3 * budget) // requests by the ring before are over now
	r.proxy.SetInstance("s1", "one")
	servers[0].Reset()
	if restarted, _ := r.proxy.SetInstance("s1", "two"); !restarted {
		t.Error("a new nonce is no restart; want one")
	}
	before := servers[0].Stats().Requests
	moved := 0
	for i := range 20 {
		if a := c.get(fmt.Sprint("id", i)); a.Status != 404 {
			t.Errorf("GET = %d; want 404", a.Status)
		}
		if r.lastOutcome(21+i).Backend == "s2" {
			moved++
		}
	}
	if moved == 0 {
		t.Fatal("no session belongs to s2")
	}
	if got := servers[0].Stats().Requests[wire.OpGetExclusive]; got != before[wire.OpGetExclusive] {
		t.Error("the restarted server was asked for sessions that it can't have")
	}
}

func TestOneServerAtANewAddress(t *testing.T) {
	s := stateserver.RunT(t)
	other := startFront(t, s.Addr()) // leads to the same server
	b := []proxy.Backend{{Name: "s1", Address: s.Addr(), Weight: 1}}
	r := newRig(t, proxy.Settings{Backends: b})
	c := dial(t, r.addr)
	r.proxy.SetInstance("s1", "same")
	fill(c, 20)
	r.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "s1", Address: other, Weight: 1}}})
	if _, twin := r.proxy.SetInstance("s1", "same"); twin == "" {
		t.Error("the new address is not seen to lead to the same server")
	}
	expect(c, 20, "at the new address")
	if s.Len() != 20 {
		t.Errorf("the server holds %d sessions; want 20", s.Len())
	}
}
