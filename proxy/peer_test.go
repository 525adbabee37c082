package proxy_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// look asks the backends of r who they are, as a running proxy does for each
// probe. It returns those that lead back to r.
func (r *rig) look() (loops []string) {
	r.t.Helper()
	for _, target := range r.proxy.Targets() {
		ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
		defer cancel()
		d, err := backend.Look(ctx, nil, target.Address)
		switch {
		case d != nil:
			if loop, _, _ := r.proxy.SetPeer(target.Name, proxy.Peer{ID: d.ID, Servers: d.Servers, Behind: d.Behind}); loop {
				loops = append(loops, target.Name)
			}
		case err == nil:
			nonce, err := backend.Instance(ctx, nil, target.Address)
			if err != nil {
				r.t.Errorf("sentinel of %s: %v", target.Name, err)
			}
			r.proxy.SetInstance(target.Name, nonce)
		}
	}
	return loops
}

// fronts names proxies c1, c2, ... of weight 1, as backends.
func fronts(rigs ...*rig) (list []proxy.Backend) {
	for i, r := range rigs {
		list = append(list, proxy.Backend{Name: fmt.Sprintf("c%d", i+1), Address: r.addr, Weight: 1})
	}
	return list
}

// row starts a proxy before a central one before the backends. Both know who
// stands behind them.
func row(t *testing.T, servers []proxy.Backend) (outer, central *rig) {
	t.Helper()
	central = newRig(t, proxy.Settings{Backends: servers})
	central.look()
	outer = newRig(t, proxy.Settings{Backends: fronts(central)})
	outer.look()
	return outer, central
}

// A state server gets from two proxies in a row what the client has sent, to the
// byte, and the client what the server has answered.
func TestRowIsTransparent(t *testing.T) {
	f := startFake(t, goodUntilClosed)
	central := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
	outer := newRig(t, proxy.Settings{Backends: fronts(central)})
	for _, known := range []bool{false, true} {
		if known {
			central.proxy.SetInstance("s1", "nonce")
			outer.look()
		}
		c := dial(t, outer.addr)
		for _, op := range verbs {
			id := fmt.Sprint(op, known)
			c.wantGood(op, id)
			if got := f.await(id, 1); got[0].raw != string(request(op, id)) {
				t.Errorf("known %v: the server got %q; want %q", known, got[0].raw, request(op, id))
			}
		}
	}
}

// Long bodies stream through both proxies.
func TestRowStreams(t *testing.T) {
	outer, _ := row(t, backends(startServers(t, 2)...))
	c := dial(t, outer.addr)
	body := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	for _, id := range []string{"a", "b"} {
		if a := c.put(id, body+id, wire.Some(0)); a.Status != 200 {
			t.Fatalf("PUT of %d bytes = %d; want 200", len(body), a.Status)
		}
		if a := c.get(id); a.Status != 200 || a.body != body+id {
			t.Fatalf("GET = %d with %d bytes; want the %d stored", a.Status, len(a.body), len(body)+1)
		}
	}
}

// The failure answer of a central proxy is an answer: it reaches the client, and
// says nothing against that proxy.
func TestRowPassesFailuresOn(t *testing.T) {
	s := stateserver.RunT(t)
	central := newRig(t, proxy.Settings{Backends: backends(s)})
	central.look()
	var faults atomic.Int32
	outer := startRig(t, proxy.Settings{Backends: fronts(central)}, func(p *proxy.Proxy) {
		p.Evidence = func(_ string, err error) {
			if err != nil {
				faults.Add(1)
			}
		}
	})
	outer.look()
	c := dial(t, outer.addr)
	c.put("a", "body", wire.Some(0))
	s.Close()
	for i, op := range verbs {
		got, err := c.exchange(op, "a")
		if got != failure || err != nil {
			t.Errorf("%v while the server is down = %q, %v; want the failure answer", op, got, err)
		}
		if o := outer.lastOutcome(2 + i); o.Reason != "" || o.Status != 400 || o.Backend != "c1" {
			t.Errorf("outcome of %v = %+v; want 400 as an answer of c1", op, o)
		}
	}
	if n := faults.Load(); n != 0 {
		t.Errorf("%d pieces of evidence against the central proxy; want none", n)
	}
	if since := outer.proxy.Status().Backends[0].FailingSince; !since.IsZero() {
		t.Errorf("the central proxy is failing since %v; want it to be well", since)
	}
}

// The proxy behind gives up before the one in front, whose budget is the same,
// so that the client gets an answer and the connection stays good.
func TestRowBudgetsShrink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		servers, centrals := newMemory(), newMemory()
		f := &fake{t: t}
		defer f.serve(servers, func(c *fakeConn) { // never answers
			for {
				if _, err := c.next(); err != nil {
					return
				}
			}
		})()
		start := func(dial func(context.Context, string, string) (net.Conn, error), b proxy.Backend, outcomes *[]proxy.Outcome) *proxy.Proxy {
			p := &proxy.Proxy{Dial: dial, Done: func(o *proxy.Outcome) { *outcomes = append(*outcomes, *o) }}
			if _, err := p.Reconfigure(proxy.Settings{Backends: []proxy.Backend{b}, HandoffDelay: -1}); err != nil {
				t.Fatal(err)
			}
			return p
		}
		var outer, central []proxy.Outcome
		p2 := start(servers.dial, proxy.Backend{Name: "s1", Address: "s1:42424", Weight: 1}, &central)
		p1 := start(centrals.dial, proxy.Backend{Name: "c1", Address: "c1:42424", Weight: 1}, &outer)
		p1.SetPeer("c1", proxy.Peer{ID: "c"})
		clients := newMemory()
		ended := make(chan error, 2)
		go func() { ended <- p2.Serve(centrals) }()
		go func() { ended <- p1.Serve(clients) }()
		nc, err := clients.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		c := &client{t: t, c: nc, r: wire.NewReader(nc, 4<<10, 8<<10)}
		began := time.Now()
		got, err := c.exchange(wire.OpGet, "a")
		if took := time.Since(began); got != failure || err != nil || took != 7750*time.Millisecond {
			t.Errorf("answer = %q, %v after %v; want the failure answer after 7.75s", got, err, took)
		}
		p1.Close()
		p2.Close()
		<-ended
		<-ended
		if len(outer) != 1 || outer[0].Reason != "" || len(central) != 1 || central[0].Reason != "timeout" {
			t.Errorf("outcomes: outer %+v, central %+v; want an answer passed on, and a timeout", outer, central)
		}
	})
}

// A client that leaves little time can't make a backend look ill.
func TestShortBudgetIsNoEvidence(t *testing.T) {
	hung := startFake(t, func(c *fakeConn) {
		for {
			if _, err := c.next(); err != nil {
				return
			}
		}
	})
	tests := []struct {
		name   string
		budget int64
		reason proxy.Reason
		asked  int
	}{
		{"less than anything takes", 4, proxy.NoTime, 0},
		{"little", 50, "timeout", 1},
		{"nearly all", 1500, "timeout", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var faults atomic.Int32
			r := startRig(t, proxy.Settings{Backends: []proxy.Backend{hung.backend("s1")}, Budget: 2 * time.Second, OnUnavailable: proxy.Wait},
				func(p *proxy.Proxy) { p.Evidence = func(string, error) { faults.Add(1) } })
			c := dial(t, r.addr)
			c.send(wire.AppendWithBudget(nil, request(wire.OpGet, tt.name), tt.budget))
			got, err := c.answer(wire.OpGet)
			want, evidence := failure, int32(0)
			if tt.budget > 1000 {
				want, evidence = hold, 1
			}
			if got != want || err != nil {
				t.Errorf("answer with a budget of %d ms = %q, %v; want %q", tt.budget, got, err, want)
			}
			if o := r.lastOutcome(1); o.Reason != tt.reason {
				t.Errorf("reason = %q; want %q", o.Reason, tt.reason)
			}
			if got := len(hung.requests(tt.name)); got != tt.asked {
				t.Errorf("the backend got %d requests; want %d", got, tt.asked)
			}
			if faults.Load() != evidence {
				t.Errorf("%d pieces of evidence; want %d", faults.Load(), evidence)
			}
		})
	}
}

func TestLoopsAreFound(t *testing.T) {
	s := stateserver.RunT(t)
	a, b, c := newRig(t, proxy.Settings{Backends: backends(s)}), newRig(t, proxy.Settings{Backends: backends(s)}), newRig(t, proxy.Settings{Backends: backends(s)})
	lead := func(from *rig, to ...*rig) {
		from.reconfigure(proxy.Settings{Backends: append(backends(s), fronts(to...)...)})
	}
	want := func(what string, r *rig, want ...string) {
		t.Helper()
		if got := r.look(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: backends that lead back = %v; want %v", what, got, want)
		}
	}
	lead(a, a)
	want("itself", a, "c1")
	lead(a, b)
	want("a to b", a)
	lead(b, a)
	want("a to b to a, seen by b", b, "c1")
	want("a to b to a, seen by a", a, "c1")
	lead(b, c)
	want("b has let go of a", b)
	want("a to b to c", a)
	lead(c, a)
	want("c, for which it is new", c, "c1")
	want("b", b, "c1")
	want("a", a, "c1")
	lead(c)
	want("c has let go of a", c)
	want("b is well again", b)
	want("a is well again", a)
	lead(a, b, c) // two ways to c are no loop
	want("two ways", a)
}

// A backend that led back to the proxy itself never had any sessions, and nobody
// asks it for some when it is gone.
func TestLoopIsNoFormerOwner(t *testing.T) {
	s := stateserver.RunT(t)
	a := newRig(t, proxy.Settings{Backends: backends(s)})
	a.reconfigure(proxy.Settings{Backends: append(backends(s), fronts(a)...)})
	a.look()
	a.proxy.SetUp("c1", false)
	for range 2 { // the second table knows no more that it was down
		a.reconfigure(proxy.Settings{Backends: backends(s)})
	}
	c := dial(t, a.addr)
	for i := range 40 {
		if got := c.get(fmt.Sprint("id", i)); got.Status != wire.StatusNotFound {
			t.Fatalf("GET of no session = %d; want 404", got.Status)
		}
	}
}

// News of a proxy that is gone does not go round for ever in a loop.
func TestNewsOfProxiesEnds(t *testing.T) {
	s, gone := stateserver.RunT(t), newRig(t, proxy.Settings{Backends: backends(stateserver.RunT(t))})
	a, b := newRig(t, proxy.Settings{Backends: backends(s)}), newRig(t, proxy.Settings{Backends: backends(s)})
	a.reconfigure(proxy.Settings{Backends: fronts(b, gone)})
	b.reconfigure(proxy.Settings{Backends: fronts(a)})
	for range 2 {
		a.look()
		b.look()
	}
	a.reconfigure(proxy.Settings{Backends: fronts(b)})
	a.proxy.CloseWindows("default") // else it is asked as a former owner
	known := func() int {
		d, err := backend.Look(t.Context(), nil, b.addr)
		if err != nil {
			t.Fatal(err)
		}
		return len(d.Behind)
	}
	if n := known(); n != 3 {
		t.Fatalf("%d proxies behind b; want itself, a and the one that goes", n)
	}
	for range 5 {
		a.look()
		b.look()
	}
	if n := known(); n != 2 {
		t.Errorf("%d proxies behind b when one is gone; want 2", n)
	}
}

// A request in a loop that nobody has found yet ends soon: each proxy leaves the
// next one less time.
func TestLoopIsBounded(t *testing.T) {
	s := stateserver.RunT(t)
	a, b := newRig(t, proxy.Settings{Backends: backends(s)}), newRig(t, proxy.Settings{Backends: backends(s)})
	a.reconfigure(proxy.Settings{Backends: fronts(b)})
	b.reconfigure(proxy.Settings{Backends: fronts(a)})
	a.look() // and b has not looked yet
	c := dial(t, a.addr)
	for _, op := range verbs {
		if got, err := c.exchange(op, "a"); got != failure || err != nil {
			t.Errorf("%v in a loop = %q, %v; want the failure answer", op, got, err)
		}
	}
	if n := a.proxy.Status().Requests + b.proxy.Status().Requests; n > 100*int64(len(verbs)) {
		t.Errorf("%d requests made of %d; want at most 100 of each", n, len(verbs))
	}
	if o := a.lastOutcome(1); o.Reason != proxy.NoTime && o.Status != 400 {
		t.Errorf("first outcome of a = %+v; want a failure", o)
	}
}

// Keys that are no session's are not sent on: each proxy keeps its own item there
// on each server.
func TestReservedKeys(t *testing.T) {
	s := stateserver.RunT(t)
	r := newRig(t, proxy.Settings{Backends: backends(s), Remember: 10})
	body := strings.Repeat("x", 100<<10)
	do := func(verb wire.Verb, key, body string) answer {
		req := wire.Request{Verb: verb, Target: wire.AppendEncoded(nil, []byte(key))}
		return dial(t, r.addr).do(req, body)
	}
	tests := []struct {
		name   string
		verb   wire.Verb
		key    string
		body   string
		status int
	}{
		{"description", wire.GET, backend.DescriptionKey, "", 200},
		{"is it a proxy", wire.HEAD, backend.DescriptionKey, "", 200},
		{"save", wire.PUT, backend.DescriptionKey, "x", 400},
		{"long save", wire.PUT, backend.DescriptionKey, body, 400},
		{"remove", wire.DELETE, backend.DescriptionKey, "", 400},
		{"sentinel", wire.GET, "/stateproxy/sentinel", "", 400},
		{"sentinel stored", wire.PUT, "/stateproxy/sentinel", "x", 400},
		{"another", wire.HEAD, "/stateproxy/", "", 400},
		{"a note", wire.PUT, "/stateproxy/copy/0123456789abcdef" + app + "id", "stale 9000000000000000000", 400},
		{"a note, encoded twice", wire.PUT, "%2fstateproxy%2fcopy%2f0123456789abcdef" + app + "id", "stale 9", 400},
		{"with one part encoded twice", wire.PUT, "/stat%u0065proxy/copy/0123456789abcdef" + app + "id", "stale 9", 400},
		{"with two slashes", wire.PUT, "//stateproxy/sentinel", "x", 400},
		{"a session", wire.HEAD, "/stateproxy", "", 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if a := do(tt.verb, tt.key, tt.body); a.Status != tt.status {
				t.Errorf("%s %s = %d; want %d", tt.verb, tt.key, a.Status, tt.status)
			}
		})
	}
	if n := s.Len(); n != 0 {
		t.Errorf("the server holds %d items; want none", n)
	}
	if n := r.proxy.Status().Remembered; n != 0 {
		t.Errorf("%d sessions are remembered; want none", n)
	}
}

// A central proxy that does not answer for its servers leaves it open whether it
// has the session: nothing older is served then.
func TestUnsureOwnerIsNotPassedOver(t *testing.T) {
	unsure := startFake(t, func(c *fakeConn) {
		for {
			if _, err := c.next(); err != nil {
				return
			}
			c.say(failure)
		}
	})
	old := stateserver.RunT(t)
	b := []proxy.Backend{{Name: "s1", Address: old.Addr(), Weight: 1}, {Name: "s2", Address: unsure.addr, Weight: 1}}
	r := newRig(t, proxy.Settings{Backends: b[:1]})
	c := dial(t, r.addr)
	c.put("a", "old", wire.Some(0))
	r.reconfigure(proxy.Settings{Backends: b})
	r.proxy.SetUp("s1", false)
	r.proxy.SetUp("s1", true) // it may have missed something, so the owner is asked first
	r.reconfigure(proxy.Settings{Backends: b[1:]})
	if a := c.get("a"); a.Status != 400 {
		t.Errorf("GET = %d %q; want the failure answer, for the owner can't tell", a.Status, a.body)
	}
}
