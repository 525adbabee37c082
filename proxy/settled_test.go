package proxy_test

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// These tests are about when a session need not be looked for any more, and about
// what a proxy that thinks so may meet.

// oneAhead has two proxies, of which the first goes by a new ring already and the
// second will in three seconds, and sessions that have moved to another owner.
func oneAhead(t *testing.T, do func(ask func(op wire.Op, front, status int, body string), w *world)) {
	synctest.Test(t, func(t *testing.T) {
		for key := range sessionKeys {
			w := newWorld(&history{proxies: 2, backends: 1, delay: 5 * time.Second, lag: 4 * time.Second})
			w.happen(event{kind: change, change: rehome, b: 1})
			w.pause(6 * time.Second)
			do(func(op wire.Op, front, status int, body string) {
				t.Helper()
				d := &deed{wish: wish{op: op, front: front, key: key}, minutes: usualTimeout}
				if op == wire.OpSet {
					d.body = body
				}
				if w.do(d); d.answer.Status != status || op == wire.OpGet && d.answer.body != body {
					t.Errorf("%v; want %d %q", d, status, body)
				}
			}, w)
			w.stop()
		}
	})
}

const ahead, behind = 0, 1

// reads reports whether the message is a GET of a session that does not ask for
// its lock.
func reads(message []byte) bool {
	return bytes.HasPrefix(message, []byte("GET %2fLM%2f")) && !bytes.Contains(message, []byte("acquire"))
}

func TestSessionThatIsMadeBehindWhenItWasLookedFor(t *testing.T) {
	oneAhead(t, func(ask func(op wire.Op, front, status int, body string), w *world) {
		ask(wire.OpGet, ahead, 404, "")
		ask(wire.OpSet, behind, 200, "new")
		w.pause(time.Minute) // nobody goes by the old ring any more
		ask(wire.OpGet, ahead, 200, "new")
	})
}

func TestSessionThatIsMadeBehindAgain(t *testing.T) {
	oneAhead(t, func(ask func(op wire.Op, front, status int, body string), w *world) {
		ask(wire.OpSet, behind, 200, "one")
		ask(wire.OpGet, ahead, 200, "one") // moved
		ask(wire.OpRemove, ahead, 200, "")
		ask(wire.OpSet, behind, 200, "two")
		ask(wire.OpGet, ahead, 200, "two")
	})
}

func TestSessionThatIsSavedAheadWhenItWasMadeBehindAgain(t *testing.T) {
	oneAhead(t, func(ask func(op wire.Op, front, status int, body string), w *world) {
		ask(wire.OpSet, behind, 200, "one")
		ask(wire.OpGet, ahead, 200, "one") // moved
		ask(wire.OpRemove, ahead, 200, "")
		ask(wire.OpSet, behind, 200, "two")
		ask(wire.OpSet, ahead, 200, "three")
		ask(wire.OpGet, behind, 200, "three")
		ask(wire.OpGet, ahead, 200, "three")
	})
}

// What the proxy ahead knows of the session from before it was removed and made
// anew, of which it did not hear.
func TestSessionThatIsMadeBehindAgainUnheard(t *testing.T) {
	for _, remover := range []int{ahead, behind} {
		oneAhead(t, func(ask func(op wire.Op, front, status int, body string), w *world) {
			ask(wire.OpSet, behind, 200, "one")
			ask(wire.OpGet, ahead, 200, "one") // moved
			ask(wire.OpRemove, remover, 200, "")
			ask(wire.OpSet, behind, 200, "two")
			w.pause(time.Minute)
			ask(wire.OpSet, ahead, 200, "three")
			ask(wire.OpGet, behind, 200, "three")
			ask(wire.OpGet, ahead, 200, "three")
		})
	}
}

// The proxy behind has long known where the session is when the next change moves
// it on.
func TestSettledSessionAndTheNextChange(t *testing.T) {
	oneAhead(t, func(ask func(op wire.Op, front, status int, body string), w *world) {
		ask(wire.OpSet, behind, 200, "one")
		w.pause(time.Minute)
		ask(wire.OpGet, behind, 200, "one") // moved and settled
		w.happen(event{kind: change, change: rehome, b: 2})
		w.pause(6 * time.Second)
		ask(wire.OpGet, ahead, 200, "one") // moved again
		ask(wire.OpGet, behind, 200, "one")
	})
}

// While the proxy behind looks, the session is at its owner, and when the request
// comes there it has moved.
func TestSessionThatIsMovedAheadMeanwhile(t *testing.T) {
	oneAhead(t, func(ask func(op wire.Op, front, status int, body string), w *world) {
		ask(wire.OpSet, behind, 200, "one")
		var once sync.Once
		w.machines[0].alert = func(b []byte) {
			if reads(b) {
				once.Do(func() { ask(wire.OpGet, ahead, 200, "one") })
			}
		}
		ask(wire.OpGet, behind, 200, "one")
	})
}

// A former owner that could not be asked may still have the session.
func TestSessionOfAFormerOwnerThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(&history{proxies: 1, backends: 2, delay: -1})
		defer w.stop()
		ask := func(op wire.Op, status int, body string) {
			t.Helper()
			d := &deed{wish: wish{op: op}, minutes: usualTimeout}
			if op == wire.OpSet {
				d.body = body
			}
			if w.do(d); d.answer.Status != status || op == wire.OpGet && d.answer.body != body {
				t.Errorf("%v; want %d %q", d, status, body)
			}
		}
		ask(wire.OpSet, 200, "one")
		m := w.holder()
		w.happen(event{kind: change, change: drop, a: m.number})
		w.pause(time.Minute)
		w.happen(event{kind: eject, a: m.number})
		ask(wire.OpGet, 404, "")
		w.happen(event{kind: heal, a: m.number})
		ask(wire.OpGet, 200, "one")
	})
}

// What the proxy could not ask stays suspect, even when the session was found
// elsewhere.
func TestSessionThatMovedWhileAFormerOwnerWasDown(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old")
	h.change()
	h.breakMove()
	c := dial(t, h.addr)
	h.proxy.SetUp("f", false)
	h.reconfigure(proxy.Settings{Backends: backends(stateserver.RunT(t))})
	if a := c.get("a"); a.Status != 200 || place(h.o) != "-" {
		t.Fatalf("GET = %d, then at o: %s; want 200, moved", a.Status, place(h.o))
	}
	if a := c.delete("a", wire.Some(0)); a.Status != 200 {
		t.Fatalf("DELETE = %d; want 200", a.Status)
	}
	h.proxy.SetUp("f", true)
	h.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "o", Address: h.o.Addr(), Weight: 1}}})
	if a := c.get("a"); a.Status != 404 {
		t.Errorf("GET of the removed session = %d, %q; want 404", a.Status, a.body)
	}
}

// The session is in use at f when the proxy looks for it, and at o when the
// request comes to f: it is looked for once more.
func TestSessionThatMovesBehindTheProxysBack(t *testing.T) {
	servers := startServers(t, 2)
	list := backends(servers...)
	atF, atO := dial(t, servers[0].Addr()), dial(t, servers[1].Addr())
	var once sync.Once
	alert := func(b []byte) {
		if reads(b) {
			once.Do(func() { // the lock is released, and another proxy moves the session
				atF.delete("a", wire.Some(2))
				atO.put("a", oldBody, wire.Some(0))
			})
		}
	}
	r := startRig(t, proxy.Settings{Backends: list[:1]}, func(p *proxy.Proxy) {
		p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, network, address)
			return &alertConn{Conn: nc, alert: alert}, err
		}
	})
	atF.put("a", oldBody, wire.Some(0))
	atF.acquire("a")
	r.reconfigure(proxy.Settings{Backends: list[1:]})
	if a := dial(t, r.addr).get("a"); a.Status != 200 || a.body != oldBody {
		t.Errorf("GET = %d, %q; want the session from o", a.Status, a.body)
	}
}

// A move has taken so long that a client takes its lock over, before the session
// is removed at f: the client goes on there, and so does the request.
func TestLockThatIsTakenOverDuringTheMove(t *testing.T) {
	servers := startServers(t, 2)
	list := backends(servers...)
	atF := dial(t, servers[0].Addr())
	var once sync.Once
	alert := func(b []byte) {
		if bytes.HasPrefix(b, []byte("DELETE")) && bytes.Contains(b, []byte("LockCookie")) {
			once.Do(func() {
				atF.release("a", wire.Some(2))
				atF.acquire("a")
			})
		}
	}
	r := startRig(t, proxy.Settings{Backends: list[:1]}, func(p *proxy.Proxy) {
		p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, network, address)
			return &alertConn{Conn: nc, alert: alert}, err
		}
	})
	atF.put("a", oldBody, wire.Some(0))
	r.reconfigure(proxy.Settings{Backends: list[1:]})
	c := dial(t, r.addr)
	if a := c.get("a"); a.Status != 423 || a.LockCookie != wire.Some(3) {
		t.Errorf("GET = %d, cookie %v; want 423, the client's cookie", a.Status, a.LockCookie)
	}
	if a := c.put("a", newBody, wire.Some(3)); a.Status != 200 {
		t.Errorf("PUT of the lock's holder = %d; want 200", a.Status)
	}
	if a := c.get("a"); a.Status != 200 || a.body != newBody {
		t.Errorf("GET = %d, %q; want the body written", a.Status, a.body)
	}
}

// alertConn tells of what is written to it, before it is.
type alertConn struct {
	net.Conn
	alert func([]byte)
}

// Write implements net.Conn.
func (c *alertConn) Write(b []byte) (int, error) {
	c.alert(b)
	return c.Conn.Write(b)
}

// A move of the proxy ahead broke off before it removed the session at its owner:
// what that has counts, and not what is at the owner to come.
func TestHalfOfAMoveByTheProxyAhead(t *testing.T) {
	oneAhead(t, func(ask func(op wire.Op, front, status int, body string), w *world) {
		ask(wire.OpSet, behind, 200, "one")
		for i := range sessionKeys {
			plant(t, w.machines[1], i, "half")
		}
		ask(wire.OpGet, behind, 200, "one")
		ask(wire.OpGet, ahead, 200, "one")
		ask(wire.OpGet, behind, 200, "one")
	})
}

// plant stores a session at the machine past all proxies.
func plant(t *testing.T, m *machine, key int, body string) {
	t.Helper()
	nc, err := m.ln.dial(context.Background(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	s := &stream{Conn: nc, r: wire.NewReader(nc, 4<<10, 8<<10)}
	d := &deed{wish: wish{op: wire.OpSet, key: key}, body: body, minutes: usualTimeout}
	if a, err := s.exchange(d.wire(), body); err != nil || a.Status != wire.StatusOK {
		t.Fatalf("%v = %d, %v", d, a.Status, err)
	}
}

// A session is in use where it was before the last change, which is taken back:
// the place is a former owner, and the one to come. What the lock's holder saves
// there by way of the proxy behind is what the one ahead finds, and not what a
// broken move has left at the owner in between.
func TestSaveAtTheOwnerToCome(t *testing.T) {
	movedTwice(t, func(w *world, ask func(d *deed, status int, body string)) {
		ask(&deed{wish: wish{op: wire.OpSet}, body: "one"}, 200, "")
		lock := &deed{wish: wish{op: wire.OpGetExclusive}}
		ask(lock, 200, "one")
		w.happen(event{kind: change, change: rehome, b: 1})
		w.pause(time.Minute)
		plant(t, w.machines[1], 0, "one")
		w.happen(event{kind: change, change: rehome, b: 0})
		w.pause(6 * time.Second)
		ask(&deed{wish: wish{op: wire.OpSet, front: behind}, body: "two", cookie: lock.answer.LockCookie}, 200, "")
		ask(&deed{wish: wish{op: wire.OpGet, front: ahead}}, 200, "two")
		ask(&deed{wish: wish{op: wire.OpGet, front: behind}}, 200, "two")
	})
}

// The proxy ahead moves the session on at the moment when the one behind has
// brought it to its owner, to a place that the latter was to clear of old copies.
func TestSessionThatIsMovedOnAheadAtOnce(t *testing.T) {
	movedTwice(t, func(w *world, ask func(d *deed, status int, body string)) {
		ask(&deed{wish: wish{op: wire.OpSet}, body: "one"}, 200, "")
		for _, b := range []int{1, 2} {
			w.happen(event{kind: change, change: rehome, b: b})
			w.pause(time.Minute)
		}
		w.happen(event{kind: change, change: rehome, b: 1})
		w.pause(6 * time.Second)
		var once sync.Once
		w.machines[1].alert = func(b []byte) {
			if bytes.HasPrefix(b, []byte("DELETE")) {
				once.Do(func() { ask(&deed{wish: wish{op: wire.OpGet, front: ahead, client: 1}}, 200, "one") })
			}
		}
		ask(&deed{wish: wish{op: wire.OpGet, front: behind}}, 200, "one")
		ask(&deed{wish: wish{op: wire.OpGet, front: ahead}}, 200, "one")
	})
}

// movedTwice has two proxies before one server, which another is to take the place
// of, and another of that.
func movedTwice(t *testing.T, do func(w *world, ask func(d *deed, status int, body string))) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(&history{proxies: 2, backends: 1, delay: 5 * time.Second, lag: 4 * time.Second})
		defer w.stop()
		do(w, askedAt(t, w))
	})
}

// The delay is much longer than a request may take, and so is the time in which the
// proxy behind may make sessions where the one ahead has looked for them.
func TestSessionThatIsMadeFarBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(&history{proxies: 2, backends: 1, delay: time.Minute, lag: 50 * time.Second})
		defer w.stop()
		ask := askedAt(t, w)
		w.happen(event{kind: change, change: rehome, b: 1})
		w.pause(100 * time.Second)
		ask(&deed{wish: wish{op: wire.OpGet, front: ahead}}, 404, "")
		ask(&deed{wish: wish{op: wire.OpSet, front: behind}, body: "new"}, 200, "")
		w.pause(2 * time.Minute)
		ask(&deed{wish: wish{op: wire.OpGet, front: ahead}}, 200, "new")
	})
}

// The change that the proxy ahead goes by is taken back before the one behind goes
// by it. What was settled is not any more.
func TestSettledSessionAndAChangeThatNeverCame(t *testing.T) {
	movedTwice(t, func(w *world, ask func(d *deed, status int, body string)) {
		ask(&deed{wish: wish{op: wire.OpSet}, body: "one"}, 200, "")
		w.happen(event{kind: change, change: rehome, b: 1})
		w.pause(time.Minute)
		ask(&deed{wish: wish{op: wire.OpGet, front: behind}}, 200, "one") // settled
		before := w.config
		w.happen(event{kind: change, change: rehome, b: 2})
		w.pause(6 * time.Second)
		ask(&deed{wish: wish{op: wire.OpGet, front: ahead}}, 200, "one") // moved on
		w.fronts[behind].take(before)
		ask(&deed{wish: wish{op: wire.OpGet, front: behind}}, 200, "one")
	})
}
