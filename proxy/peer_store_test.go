package proxy_test

import (
	"fmt"
	"testing"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// moveSteps is how many steps of moves the servers have seen: the farm of these
// tests locks and removes nothing itself.
func moveSteps(servers []*stateserver.Server) (n uint64) {
	for _, s := range servers {
		for _, op := range []wire.Op{wire.OpGetExclusive, wire.OpRemove} {
			c := s.Stats().Requests[op]
			n += c.OK + c.BadRequest + c.NotFound + c.Locked
		}
	}
	return n
}

// Central proxies before the same servers show each other's sessions, so nothing
// is moved when one of them goes or comes.
func TestProxiesBeforeTheSameServers(t *testing.T) {
	servers := startServers(t, 3)
	c1, c2 := newRig(t, proxy.Settings{Backends: backends(servers...)}), newRig(t, proxy.Settings{Backends: backends(servers...)})
	c1.look()
	c2.look()
	outer := newRig(t, proxy.Settings{Backends: fronts(c1, c2)})
	outer.look()
	c := dial(t, outer.addr)
	const n = 60
	fill(c, n)
	outer.proxy.SetUp("c1", false)
	expect(c, n, "c1 is out")
	servers[0].Reset() // restarted; c2 hears of it first
	c2.look()
	outer.look()
	outer.proxy.SetUp("c1", true)
	outer.proxy.SetUp("c2", false)
	lost := 0
	for i := range n {
		switch a := c.get(fmt.Sprint("id", i)); a.Status {
		case 200:
		case 404:
			lost++
		default:
			t.Errorf("GET = %d; want 200, or 404 for a session of the restarted server", a.Status)
		}
	}
	if kept, there := n-lost, copies(servers)-len(servers); kept != there || lost == 0 { // beside the sentinels
		t.Errorf("%d of %d sessions found, %d are there; want all that are there", kept, n, there)
	}
	if got := moveSteps(servers); got != 0 {
		t.Errorf("the servers saw %d steps of moves; want none", got)
	}
	for _, b := range outer.proxy.Status().Backends {
		if !b.Proxy {
			t.Errorf("status of %s: not a proxy; want one", b.Name)
		}
	}
}

// That a server behind a proxy was restarted does not make the proxy's sessions
// be forgotten, or those at the other servers would be lost.
func TestRestartBehindAProxy(t *testing.T) {
	mine, others := startServers(t, 2), startServers(t, 2)
	c1, c2 := newRig(t, proxy.Settings{Backends: backends(mine...)}), newRig(t, proxy.Settings{Backends: backends(others...)})
	c1.look()
	c2.look()
	outer := newRig(t, proxy.Settings{Backends: fronts(c1)})
	outer.look()
	c := dial(t, outer.addr)
	const n = 60
	fill(c, n)
	mine[0].Reset()
	left := mine[1].Len() - 1 // beside the sentinel
	outer.reconfigure(proxy.Settings{Backends: fronts(c1, c2)})
	c1.look()
	outer.look()
	found := 0
	for i := range n {
		if a := c.get(fmt.Sprint("id", i)); a.Status == 200 {
			found++
		}
	}
	if found != left {
		t.Errorf("%d sessions found; want the %d of the server that was not restarted", found, left)
	}
	if got := others[0].Len() + others[1].Len(); got == 0 {
		t.Error("nothing was moved to the other proxy, whose servers are others")
	}
}

// A server that is also behind one of the proxies is a mistake; two proxies
// before one server are not.
func TestTwinsAmongProxies(t *testing.T) {
	s := stateserver.RunT(t)
	c1, c2 := newRig(t, proxy.Settings{Backends: backends(s)}), newRig(t, proxy.Settings{Backends: backends(s)})
	all := append(fronts(c1, c2), proxy.Backend{Name: "s1", Address: s.Addr(), Weight: 1})
	r := newRig(t, proxy.Settings{Backends: all})
	servers := []string{"n1", "n2"}
	tests := []struct {
		what string
		tell func() string
		want string
	}{
		{"first proxy", func() string { _, twin, _ := r.proxy.SetPeer("c1", proxy.Peer{ID: "1", Servers: servers}); return twin }, ""},
		{"second proxy", func() string { _, twin, _ := r.proxy.SetPeer("c2", proxy.Peer{ID: "2", Servers: servers}); return twin }, ""},
		{"server behind both", func() string { _, twin := r.proxy.SetInstance("s1", "n2"); return twin }, "c2"},
		{"another server", func() string { _, twin := r.proxy.SetInstance("s1", "n3"); return twin }, ""},
		{"proxy before it, too", func() string {
			_, twin, _ := r.proxy.SetPeer("c2", proxy.Peer{ID: "2", Servers: []string{"n3"}})
			return twin
		}, "s1"},
	}
	for _, tt := range tests {
		if got := tt.tell(); got != tt.want {
			t.Errorf("%s: twin = %q; want %q", tt.what, got, tt.want)
		}
	}
}

// A server in the place of a proxy that led to it is no restarted server.
func TestProxyIsTakenOutOfARow(t *testing.T) {
	s := stateserver.RunT(t)
	r := newRig(t, proxy.Settings{Backends: backends(s)})
	tell := func(nonce string) bool {
		restarted, _ := r.proxy.SetInstance("s1", nonce)
		return restarted
	}
	r.proxy.SetPeer("s1", proxy.Peer{ID: "c", Servers: []string{"n1", "n2"}})
	if tell("n2") {
		t.Error("the server that was behind the proxy is taken for restarted")
	}
	if r.proxy.Status().Backends[0].Proxy {
		t.Error("the server is taken for a proxy")
	}
	if !tell("n3") {
		t.Error("a server with another nonce is not taken for restarted")
	}
	if tell("n3") {
		t.Error("a server with the same nonce is taken for restarted")
	}
}

// What is known of proxies outlives a restart.
func TestSnapshotOfARow(t *testing.T) {
	servers := startServers(t, 2)
	c1, c2 := newRig(t, proxy.Settings{Backends: backends(servers...)}), newRig(t, proxy.Settings{Backends: backends(servers...)})
	c1.look()
	c2.look()
	before := newRig(t, proxy.Settings{Backends: fronts(c1, c2)})
	before.look()
	c := dial(t, before.addr)
	fill(c, 20)
	snapshot := before.proxy.Snapshot()
	after := startRig(t, proxy.Settings{Backends: fronts(c1, c2)[1:]}, func(p *proxy.Proxy) {
		if err := p.Restore(snapshot); err != nil {
			t.Fatal(err)
		}
	})
	expect(dial(t, after.addr), 20, "after the restart, with c1 taken out")
	if got := moveSteps(servers); got != 0 {
		t.Errorf("the servers saw %d steps of moves; want none between proxies before the same servers", got)
	}
	for _, place := range after.proxy.Snapshot().Places {
		if len(place.Servers) != 2 || place.Instance != "" {
			t.Errorf("place after the restart = %+v; want a proxy before two servers", place)
		}
	}
}

// A lock that was taken through two proxies before the central one moved its
// sessions ends where it was taken, and another client waits meanwhile.
func TestRowDuringHandoff(t *testing.T) {
	servers := startServers(t, 2)
	outer, central := row(t, backends(servers[0]))
	c, other := dial(t, outer.addr), dial(t, outer.addr)
	const n = 20
	fill(c, n)
	locks := make([]wire.Int, n)
	for i := range n {
		a := c.acquire(fmt.Sprint("id", i))
		if a.Status != 200 {
			t.Fatalf("acquire %d = %d", i, a.Status)
		}
		locks[i] = a.LockCookie
	}
	central.reconfigure(proxy.Settings{Backends: backends(servers...)})
	for i := range n {
		id := fmt.Sprint("id", i)
		if a := other.acquire(id); a.Status != 423 || a.LockCookie != locks[i] {
			t.Errorf("acquire of a locked session = %d, cookie %v; want 423, %v", a.Status, a.LockCookie, locks[i])
		}
		if a := c.put(id, "new "+id, locks[i]); a.Status != 200 {
			t.Errorf("PUT by the lock's holder = %d; want 200", a.Status)
		}
		if a := other.get(id); a.Status != 200 || a.body != "new "+id {
			t.Errorf("GET after it = %d %q; want the new body", a.Status, a.body)
		}
	}
	if servers[1].Len() == 0 || copies(servers) != n+1 { // the first has a sentinel
		t.Errorf("%d sessions at the new server, %d items in all; want some, and %d", servers[1].Len(), copies(servers), n+1)
	}
}
