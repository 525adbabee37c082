package proxy_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// TestTwoProxiesAndAServerThatWasAway: what one proxy did to sessions while their
// server was down must not be undone by the other, and what the other then does
// must not be undone by the first.
func TestTwoProxiesAndAServerThatWasAway(t *testing.T) {
	const n = 40
	id := func(i int) string { return fmt.Sprint("id", i) }
	tests := []struct {
		name      string
		restarted bool               // the server, while it is down
		during    func(a, b *client) // while it is down
		status    func(i int) int    // that is wanted afterwards
		body      func(i int) string // the same
	}{
		{"saved by one", false, func(a, b *client) {
			for i := range n {
				a.put(id(i), "new", wire.Some(0))
			}
		}, func(int) int { return 200 }, func(int) string { return "new" }},
		{"saved by both in turn", false, func(a, b *client) {
			for i := range n {
				a.put(id(i), "newer", wire.Some(0))
				b.put(id(i), "newest", wire.Some(0))
			}
		}, func(int) int { return 200 }, func(int) string { return "newest" }},
		{"saved by one, and the server is restarted", true, func(a, b *client) {
			for i := range n {
				a.put(id(i), "new", wire.Some(0))
			}
		}, func(int) int { return 200 }, func(int) string { return "new" }},
		{"removed by one", false, func(a, b *client) {
			for i := range n {
				a.put(id(i), "new", wire.Some(0))
				a.delete(id(i), wire.Some(0))
			}
		}, func(int) int { return 404 }, func(int) string { return "" }},
		{"saved by one, removed by the other", false, func(a, b *client) {
			for i := range n {
				a.put(id(i), "new", wire.Some(0))
				b.delete(id(i), wire.Some(0))
			}
		}, func(int) int { return 404 }, func(int) string { return "" }},
		{"not used", false, func(a, b *client) {}, func(int) int { return 200 }, func(i int) string { return fmt.Sprint("body ", i) }},
	}
	for _, tt := range tests {
		for _, first := range []string{"the one", "the other"} {
			t.Run(tt.name+", read by "+first+" first", func(t *testing.T) {
				servers := startServers(t, 2)
				s := proxy.Settings{Backends: backends(servers...)}
				rigs := []*rig{newRig(t, s), newRig(t, s)}
				each := func(do func(p *proxy.Proxy)) {
					for _, r := range rigs {
						do(r.proxy)
					}
				}
				instance := func(name, nonce string) { each(func(p *proxy.Proxy) { p.SetInstance(name, nonce) }) }
				instance("s1", "run 1 of s1")
				instance("s2", "run 1 of s2")
				a, b := dial(t, rigs[0].addr), dial(t, rigs[1].addr)
				fill(a, n)
				if servers[1].Len() == 0 {
					t.Fatal("no session is at s2")
				}
				each(func(p *proxy.Proxy) { p.SetUp("s2", false) })
				tt.during(a, b)
				if tt.restarted {
					servers[1].Reset()
					instance("s2", "run 2 of s2")
				}
				each(func(p *proxy.Proxy) { p.SetUp("s2", true) })
				if first == "the other" {
					a, b = b, a
				}
				for i := range n {
					for _, c := range []*client{a, b, a} {
						if got := c.get(id(i)); got.Status != tt.status(i) || got.body != tt.body(i) {
							t.Fatalf("GET %d = %d %q; want %d %q", i, got.Status, got.body, tt.status(i), tt.body(i))
						}
					}
					a.put(id(i), "last", wire.Some(0))
					if got := b.get(id(i)); got.body != "last" {
						t.Fatalf("GET %d after a save through the other proxy = %d %q", i, got.Status, got.body)
					}
				}
			})
		}
	}
}

// TestServerThatIsBackForTheOtherProxyOnly: a session that the other proxy has
// brought back is not gone.
func TestServerThatIsBackForTheOtherProxyOnly(t *testing.T) {
	servers := startServers(t, 2)
	s := proxy.Settings{Backends: backends(servers...)}
	ahead, behind := newRig(t, s), newRig(t, s)
	a, b := dial(t, ahead.addr), dial(t, behind.addr)
	for _, r := range []*rig{ahead, behind} {
		r.proxy.SetInstance("s1", "run of s1")
		r.proxy.SetInstance("s2", "run of s2")
		r.proxy.SetUp("s2", false)
	}
	const n = 40
	fill(a, n)
	ahead.proxy.SetUp("s2", true)
	moved := 0
	for i := range n {
		id := fmt.Sprint("id", i)
		a.get(id)
		want := 200
		if has(servers[1], id) {
			moved, want = moved+1, 400
		}
		if got := b.get(id); got.Status != want {
			t.Fatalf("GET behind = %d; want %d", got.Status, want)
		}
	}
	if moved == 0 {
		t.Fatal("no session went back to s2")
	}
	if got := b.get("never made"); got.Status != 404 {
		t.Errorf("GET behind of a session that never was = %d; want 404", got.Status)
	}
	behind.proxy.SetUp("s2", true)
	expect(b, n, "both see s2")
	expect(a, n, "both see s2")
}

// TestOutageBetweenTwoChanges: a backend falls out after one proxy goes by the new
// ring and before the other does. Each must look where the other puts sessions
// meanwhile, by a ring that it never had itself.
func TestOutageBetweenTwoChanges(t *testing.T) {
	const ahead, behind = 0, 1
	tests := []struct {
		name     string
		set, get int  // the proxy
		back     bool // the backend is back when the session is read
		backends int  // before the change
	}{
		{"set behind", behind, ahead, false, 2},
		{"set ahead", ahead, behind, false, 2},
		{"set behind, read after the outage", behind, ahead, true, 2},
		{"set ahead, read after the outage", ahead, behind, true, 2},
		{"set ahead, read after the outage of the only one", ahead, behind, true, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for i := range tt.backends + 1 {
					w := newWorld(&history{proxies: 2, backends: tt.backends, delay: 5 * time.Second, lag: 4 * time.Second})
					w.happen(event{kind: change, change: add, b: tt.backends})
					w.pause(6 * time.Second)
					w.happen(event{kind: eject, a: i})
					for key := range sessionKeys {
						w.do(&deed{wish: wish{op: wire.OpSet, front: tt.set, key: key}, body: "new", minutes: usualTimeout})
					}
					if tt.back {
						w.happen(event{kind: heal, a: i})
					}
					for key := range sessionKeys {
						get := &deed{wish: wish{op: wire.OpGet, front: tt.get, key: key}}
						if w.do(get); get.answer.Status != 200 || get.answer.body != "new" {
							t.Errorf("backend %d was out: %v; want the body", i, get)
						}
					}
					w.stop()
				}
			})
		})
	}
}

// noteWorld is two proxies before two servers.
type noteWorld struct {
	*world
	t *testing.T
}

// withTwoProxies has the first proxy save the first session, and then do whatever it is.
func withTwoProxies(t *testing.T, do func(w *noteWorld, owner, other int)) {
	synctest.Test(t, func(t *testing.T) {
		w := &noteWorld{newWorld(&history{proxies: 2, backends: 2, delay: -1}), t}
		defer w.stop()
		w.ask(wire.OpSet, 0, 200, "one")
		owner := w.holder().number
		do(w, owner, 1-owner)
	})
}

// ask sends a request by way of a proxy. The body is what is sent or wanted.
func (w *noteWorld) ask(op wire.Op, front, status int, body string) {
	w.t.Helper()
	w.pause(time.Millisecond)
	d := &deed{wish: wish{op: op, front: front}, minutes: usualTimeout}
	if op == wire.OpSet {
		d.body = body
	}
	if w.do(d); d.answer.Status != status || op == wire.OpGet && d.answer.body != body {
		w.t.Errorf("%v; want %d %q", d, status, body)
	}
}

func (w *noteWorld) out(machine int) {
	w.pause(time.Millisecond)
	w.machines[machine].set(refusing)
	w.machines[machine].setEjected(true)
	w.observe(false)
}

func (w *noteWorld) back(machine int) {
	w.pause(time.Millisecond)
	w.machines[machine].set(reachable)
	w.machines[machine].setEjected(false)
	w.observe(true)
}

// TestTwoOutagesAndTwoProxies: what is known from the first one must not count
// after the second, when the session was brought back in between.
func TestTwoOutagesAndTwoProxies(t *testing.T) {
	withTwoProxies(t, func(w *noteWorld, owner, _ int) {
		w.out(owner)
		w.ask(wire.OpSet, 1, 200, "two")
		w.back(owner)
		w.ask(wire.OpGet, 0, 200, "two")
		w.out(owner)
		w.back(owner)
		w.ask(wire.OpGet, 1, 200, "two")
	})
}

// TestRemovedInTheSecondOutage: that the session was brought back after the first
// outage does not make what is there the latest after the second.
func TestRemovedInTheSecondOutage(t *testing.T) {
	for reader := range 2 {
		withTwoProxies(t, func(w *noteWorld, owner, _ int) {
			w.out(owner)
			w.ask(wire.OpSet, 1, 200, "two")
			w.back(owner)
			w.ask(wire.OpGet, 0, 200, "two")
			w.out(owner)
			w.ask(wire.OpSet, 1, 200, "three")
			w.ask(wire.OpRemove, 1, 200, "")
			w.back(owner)
			w.ask(wire.OpGet, reader, 404, "")
			w.ask(wire.OpGet, 1-reader, 404, "")
		})
	}
}

// TestOutageOfTheServerBefore: what notes say of a server does not count for the
// one that takes its place under the same name.
func TestOutageOfTheServerBefore(t *testing.T) {
	withTwoProxies(t, func(w *noteWorld, owner, _ int) {
		w.out(owner)
		w.ask(wire.OpSet, 1, 200, "two")
		w.happen(event{kind: change, change: rehome, a: owner, b: 2})
		w.observe(true)
		w.ask(wire.OpGet, 0, 200, "two") // moved to it
		w.out(2)
		w.back(2)
		w.happen(event{kind: change, change: drain, a: owner})
		w.ask(wire.OpGet, 0, 200, "two")
	})
}

// TestOutageThatOutlastsTheWindow: by then the old copies have expired, and so have
// the notes.
func TestOutageThatOutlastsTheWindow(t *testing.T) {
	withTwoProxies(t, func(w *noteWorld, owner, _ int) {
		w.out(owner)
		w.ask(wire.OpSet, 1, 200, "two")
		w.pause(35 * time.Minute)
		w.back(owner)
		w.ask(wire.OpSet, 0, 200, "three")
		w.ask(wire.OpGet, 1, 200, "three")
		w.pause(35 * time.Minute)
		w.ask(wire.OpSet, 1, 200, "four")
		for i, f := range w.fronts {
			for _, p := range f.current().Snapshot().Places {
				if len(p.Overtaken) > 0 || !p.LastDown.IsZero() {
					t.Errorf("proxy %d remembers the outage of %s at %v; want it forgotten", i, p.Name, p.LastDown)
				}
			}
		}
		w.happen(event{kind: change, change: rehome, a: owner, b: 2})
		w.ask(wire.OpGet, 1, 200, "four")
	})
}

// TestOneServerOutAfterTheOther: a session that went on at the other server goes
// on at the first one again when the other falls out. Its note is gone with it.
func TestOneServerOutAfterTheOther(t *testing.T) {
	withTwoProxies(t, func(w *noteWorld, owner, other int) {
		w.out(owner)
		w.ask(wire.OpSet, 0, 200, "two")
		w.back(owner)
		w.out(other)
		w.ask(wire.OpSet, 1, 200, "three")
		w.ask(wire.OpGet, 0, 200, "three")
		w.back(other)
		w.ask(wire.OpGet, 0, 200, "three")
		w.ask(wire.OpGet, 1, 200, "three")
	})
}

// TestOutageGoesOnUnderAnotherName: a server that is out is given another address.
// That it is out there too is the same outage, of which notes tell.
func TestOutageGoesOnUnderAnotherName(t *testing.T) {
	withTwoProxies(t, func(w *noteWorld, owner, _ int) {
		w.out(owner)
		w.ask(wire.OpRemove, 1, 404, "")
		w.pause(time.Millisecond)
		w.happen(event{kind: change, change: readdress, a: owner})
		w.back(owner)
		w.ask(wire.OpGet, 0, 404, "")
		w.ask(wire.OpGet, 1, 404, "")
	})
}

// TestTheOneToComeIsNotDown: a backend gets another address because its server has
// failed. That the old one is down says nothing of the new one.
func TestTheOneToComeIsNotDown(t *testing.T) {
	p := &proxy.Proxy{}
	defer p.Close()
	take := func(address string) {
		_, err := p.Reconfigure(proxy.Settings{Backends: []proxy.Backend{
			{Name: "s1", Address: "192.0.2.1:42424", Weight: 1}, {Name: "s2", Address: address, Weight: 1},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	take("192.0.2.2:42424")
	p.SetUp("s2", false)
	take("192.0.2.22:42424")
	if next := p.Status().Pools[0].Next; next == nil || len(next.Owners) != 2 {
		t.Errorf("to come: %+v; want both backends", next)
	}
}

// TestOutageGoesOnWhenAnotherServerTakesTheName: the health of a server that is out
// goes by another name when its name is another's. What the other proxy has brought
// back there since the outage began is not gone.
func TestOutageGoesOnWhenAnotherServerTakesTheName(t *testing.T) {
	withTwoProxies(t, func(w *noteWorld, owner, _ int) {
		w.out(owner)
		w.ask(wire.OpSet, 0, 200, "two")
		w.machines[owner].set(reachable) // for the first proxy only
		w.fronts[0].current().SetUp(w.config.entries[owner].name, true)
		w.ask(wire.OpGet, 0, 200, "two")
		w.happen(event{kind: change, change: rehome, a: owner, b: 2})
		w.ask(wire.OpGet, 1, 400, "")
	})
}

// TestOneServerOutAfterTheOtherWasBack: the note about the first one is at the other,
// which was out itself since, so that it is asked last.
func TestOneServerOutAfterTheOtherWasBack(t *testing.T) {
	withTwoProxies(t, func(w *noteWorld, owner, other int) {
		w.out(owner)
		w.ask(wire.OpSet, 1, 200, "two")
		w.back(owner)
		w.out(other)
		w.back(other)
		w.ask(wire.OpGet, 0, 200, "two")
	})
}

// TestNoteAtTheOwnerToCome: the session went on there, by way of the proxy that goes
// by the new ring already, while its owner by the old one was out.
func TestNoteAtTheOwnerToCome(t *testing.T) {
	movedTwice(t, func(w *world, ask func(d *deed, status int, body string)) {
		ask(&deed{wish: wish{op: wire.OpSet}, body: "one"}, 200, "")
		w.happen(event{kind: change, change: rehome, b: 1})
		w.pause(6 * time.Second)
		w.happen(event{kind: eject, a: 0})
		ask(&deed{wish: wish{op: wire.OpSet, front: ahead}, body: "two"}, 200, "")
		w.happen(event{kind: heal, a: 0})
		ask(&deed{wish: wish{op: wire.OpGet, front: behind}}, 200, "two")
	})
}

// TestServerThatIsRestartedAfterItsOutage: what it had when it was out is gone, so
// what it has now is not that. The proxy that was told of the one hears nothing of
// the other's note any more, which is gone, too.
func TestServerThatIsRestartedAfterItsOutage(t *testing.T) {
	withTwoProxies(t, func(w *noteWorld, owner, _ int) {
		w.out(owner)
		w.ask(wire.OpSet, 1, 200, "two")
		w.back(owner)
		w.ask(wire.OpGet, 0, 200, "two")
		w.happen(event{kind: crash, a: owner})
		w.ask(wire.OpSet, 0, 200, "three")
		w.ask(wire.OpGet, 1, 200, "three")
	})
}

// TestRestartedServerGetsAnotherAddress: that the server was restarted since its
// outage is known of its new address, too.
func TestRestartedServerGetsAnotherAddress(t *testing.T) {
	withTwoProxies(t, func(w *noteWorld, owner, _ int) {
		w.out(owner)
		w.ask(wire.OpRemove, 0, 404, "")
		w.back(owner)
		w.happen(event{kind: crash, a: owner})
		w.ask(wire.OpSet, 0, 200, "two")
		w.happen(event{kind: change, change: readdress, a: owner})
		w.ask(wire.OpGet, 0, 200, "two")
		w.ask(wire.OpGet, 1, 200, "two")
	})
}

// TestOutageThatTheOtherProxyMissed: a backend to come is out before the other
// proxy has heard of it. What that one brings there is not what was there before.
func TestOutageThatTheOtherProxyMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &noteWorld{newWorld(&history{proxies: 2, backends: 1, delay: 30 * time.Second, lag: 3 * time.Second}), t}
		defer w.stop()
		w.happen(event{kind: change, change: rehome, b: 1})
		w.out(1)
		w.ask(wire.OpSet, 0, 200, "one")
		w.back(1)
		w.pause(40 * time.Second)
		w.ask(wire.OpGet, 1, 200, "one")
		w.ask(wire.OpGet, 0, 200, "one")
	})
}

// TestMarksAreForgotten: what was brought back is not remembered as out of date, by
// neither proxy.
func TestMarksAreForgotten(t *testing.T) {
	withTwoProxies(t, func(w *noteWorld, owner, _ int) {
		w.out(owner)
		w.ask(wire.OpSet, 0, 200, "two")
		w.back(owner)
		w.ask(wire.OpGet, 1, 200, "two")
		w.ask(wire.OpGet, 0, 200, "two")
		for i, f := range w.fronts {
			for _, p := range f.current().Snapshot().Places {
				if len(p.Overtaken) > 0 {
					t.Errorf("proxy %d remembers %d copies at %s as out of date; want none", i, len(p.Overtaken), p.Name)
				}
			}
		}
	})
}
