package proxy_test

import (
	"fmt"
	"testing"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// A move stored the session at o and broke off; then f was away for a while. What
// is written and removed at o from then on must not come back from f.
func TestHalfOfABrokenMoveDoesNotComeBack(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old")
	h.change()
	c := dial(t, h.addr)
	h.breakMove()
	h.proxy.SetUp("f", false)
	h.proxy.SetUp("f", true)
	if a := c.put("a", newBody, wire.Some(0)); a.Status != 200 {
		t.Fatalf("PUT = %d; want 200", a.Status)
	}
	if a := c.get("a"); a.Status != 200 || a.body != newBody {
		t.Errorf("GET after it = %d, %q; want the body written", a.Status, a.body)
	}
	if a := c.delete("a", wire.Some(0)); a.Status != 200 {
		t.Errorf("DELETE = %d; want 200", a.Status)
	}
	if a := c.get("a"); a.Status != 404 || place(h.f) != "-" {
		t.Errorf("GET of the removed session = %d, %q, at f: %s; want 404 and no copy", a.Status, a.body, place(h.f))
	}
}

// A proxy dies in the middle of a move, and when the next one begins the session
// has yet another owner: the copy that the move was to take counts, and the one
// that it had made goes.
func TestHalfOfAMoveAndTheNextChange(t *testing.T) {
	for _, op := range []wire.Op{wire.OpSet, wire.OpRelease} { // of the client that takes the lock over
		t.Run(op.String(), func(t *testing.T) {
			h := newHandoffRig(t, nil)
			h.prepare("old")
			h.change()
			h.breakMove()
			s := h.proxy.Snapshot()
			shutdown(t, h.proxy)
			last := stateserver.RunT(t)
			next := startRig(t, proxy.Settings{Backends: []proxy.Backend{{Name: "last", Address: last.Addr(), Weight: 1}}}, func(p *proxy.Proxy) {
				if err := p.Restore(s); err != nil {
					t.Fatal(err)
				}
			})
			next.proxy.SetInstance("last", "server last")
			c := dial(t, next.addr)
			a := c.acquire("a")
			if a.Status != 423 {
				t.Fatalf("acquire = %d, %q; want f's 423", a.Status, a.body)
			}
			atF, atO := "old", "old"
			if op == wire.OpSet {
				atF, atO = "new", "-"
			}
			if a := c.operation(op, a.LockCookie.N); a.Status != 200 || place(h.f) != atF || place(h.o) != atO {
				t.Errorf("%v with the lock taken over = %d, then at f: %s, at o: %s; want %s, %s", op, a.Status, place(h.f), place(h.o), atF, atO)
			}
			if a := c.get("a"); a.Status != 200 || place(h.f) != "-" || place(h.o) != "-" || place(last) != atF {
				t.Errorf("GET after it = %d, then at f: %s, at o: %s, at last: %s; want it at last alone", a.Status, place(h.f), place(h.o), place(last))
			}
		})
	}
}

// The copies of a former owner that were overtaken stay so when its server comes
// into use under another name.
func TestOldCopyUnderAnotherName(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old fresh")
	h.proxy.SetUp("f", false)
	h.change()
	c := dial(t, h.addr)
	c.put("a", newBody, wire.Some(0))
	h.proxy.SetUp("f", true)
	h.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "x", Address: h.f.Addr(), Weight: 1}}})
	if a := c.get("a"); a.Status != 200 || a.body != newBody || a.ActionFlags.Set {
		t.Errorf("GET = %d, %q, flags %v; want the later copy, no flags", a.Status, a.body, a.ActionFlags)
	}
	if f, o := place(h.f), place(h.o); f != "new" || o != "-" {
		t.Errorf("then at f: %s, at o: %s; want new, -", f, o)
	}
}

// A proxy dies in the middle of a move, and then the change is taken back: the
// lock of the move that was cut off must not keep the session from its owner.
func TestHalfOfAMoveThatIsTakenBack(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old")
	h.change()
	h.breakMove()
	s := h.proxy.Snapshot()
	shutdown(t, h.proxy)
	next := startRig(t, proxy.Settings{Backends: []proxy.Backend{{Name: "f", Address: h.f.Addr(), Weight: 1}}}, func(p *proxy.Proxy) {
		if err := p.Restore(s); err != nil {
			t.Fatal(err)
		}
	})
	if a := dial(t, next.addr).get("a"); a.Status != 200 || a.body != oldBody || place(h.f) != "old" || place(h.o) != "-" {
		t.Errorf("GET = %d, %q, then at f: %s, at o: %s; want the session, at f again", a.Status, a.body, place(h.f), place(h.o))
	}
}

// A move broke off, and its other half is where the proxy does not know yet which
// server is behind the address, so that it can't be removed when the session is
// found: it goes when the session is next asked for, not later.
func TestHalfOfAMoveAtAnUnknownServer(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old")
	h.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "o", Address: h.o.Addr(), Weight: 1}}})
	h.trap.set("DELETE", "LockCookie", false, 2)
	c := dial(t, h.addr)
	c.get("a")
	if place(h.f) != "old locked" || place(h.o) != "old" {
		t.Fatalf("after a move that breaks at f: %s, at o: %s; want two copies", place(h.f), place(h.o))
	}
	last := stateserver.RunT(t)
	h.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "last", Address: last.Addr(), Weight: 1}}})
	h.proxy.SetInstance("f", "server f")
	h.proxy.SetInstance("last", "server last")
	if a := c.get("a"); a.Status != 200 || place(h.f) != "-" || place(last) != "old" {
		t.Errorf("GET = %d, then at f: %s, at last: %s; want it at last", a.Status, place(h.f), place(last))
	}
	if a := c.delete("a", wire.Some(0)); a.Status != 200 {
		t.Errorf("DELETE = %d; want 200", a.Status)
	}
	if a := c.get("a"); a.Status != 404 || place(h.o) != "-" {
		t.Errorf("GET of the removed session = %d, %q, at o: %s; want 404 and no copy", a.Status, a.body, place(h.o))
	}
}

// The lock that a broken move left was released, and later the session is made
// anew at f and locked there with the same cookie: that lock is a client's.
func TestLockLikeThatOfABrokenMove(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old")
	h.change()
	c, direct := dial(t, h.addr), dial(t, h.f.Addr())
	h.breakMove() // leaves the lock
	h.trap.set("PUT", "", false, 1)
	c.get("a") // releases it, and breaks off once more
	if place(h.f) != "old" {
		t.Fatalf("after two moves that break at f: %s; want it unlocked", place(h.f))
	}
	direct.delete("a", wire.Int{})
	direct.put("a", newBody, wire.Some(0))
	direct.acquire("a")
	if a := c.get("a"); a.Status != 423 || place(h.f) != "new locked" {
		t.Errorf("GET = %d, then at f: %s; want 423, locked as before", a.Status, place(h.f))
	}
}

// The locks of the session at f and of an old copy at o have the same cookie, so
// the move takes o for f's server under another address. It begins anew, with
// another cookie, and has the uninitialized mark that its first lock took.
func TestLocksThatAreAlikeByChance(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old fresh")
	direct := dial(t, h.o.Addr())
	direct.put("a", newBody, wire.Some(0))
	direct.acquire("a")
	h.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "o", Address: h.o.Addr(), Weight: 1}}})
	a := dial(t, h.addr).get("a")
	if a.Status != 200 || a.body != oldBody || a.ActionFlags != wire.Some(1) || place(h.f) != "-" {
		t.Errorf("GET = %d, %q, flags %v, then at f: %s; want the session from f, flags 1", a.Status, a.body, a.ActionFlags, place(h.f))
	}
}

// A backend gets another name before it is known which server it is.
func TestAnotherNameForAnUnknownServer(t *testing.T) {
	for state, status := range map[string]int{"old": 200, "old locked": 423, "old fresh": 200} {
		t.Run(state, func(t *testing.T) {
			h := newHandoffRig(t, nil)
			h.prepare(state)
			h.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "x", Address: h.f.Addr(), Weight: 1}}})
			before := h.f.Stats().Requests
			if a := dial(t, h.addr).get("a"); a.Status != status {
				t.Errorf("GET = %d; want %d", a.Status, status)
			}
			if h.f.Stats().Requests[wire.OpGetExclusive] != before[wire.OpGetExclusive] {
				t.Error("the server was asked for a session to be moved to itself")
			}
		})
	}
}

// A client has taken over the lock that a broken move left at f, and removes the
// session there while its other half can't be removed at o. That half is known to
// be out of date, even if it turns out then that o was restarted some time ago.
func TestHalfOfAMoveThatCannotBeRemoved(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted %t", restarted), func(t *testing.T) {
			h := newHandoffRig(t, nil)
			h.prepare("old")
			h.change()
			c, direct := dial(t, h.addr), dial(t, h.f.Addr())
			h.breakMove()
			direct.release("a", wire.Some(2))
			lock := direct.acquire("a").LockCookie
			if a := c.get("a"); a.Status != 423 || a.LockCookie != lock || place(h.f) != "old locked" {
				t.Errorf("GET = %d, cookie %v; want 423 and the client's cookie", a.Status, a.LockCookie)
			}
			h.trap.set("DELETE", "", false, 1)
			if a := c.delete("a", lock); a.Status != 200 || place(h.f) != "-" || place(h.o) != "old" {
				t.Fatalf("DELETE = %d, then at f: %s, at o: %s; want 200 and the half at o", a.Status, place(h.f), place(h.o))
			}
			if restarted { // before the move, which nobody has noticed yet
				h.proxy.SetInstance("o", "another run of o")
			}
			if a := c.get("a"); a.Status != 404 || place(h.o) != "-" {
				t.Errorf("GET of the removed session = %d, then at o: %s; want 404 and no copy", a.Status, place(h.o))
			}
		})
	}
}

// The other half of a move can't be removed at first, and later it can. From then
// on what comes to o is not taken for it.
func TestHalfOfAMoveThatIsRemovedAtLast(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old")
	h.change()
	c, direct := dial(t, h.addr), dial(t, h.f.Addr())
	h.breakMove()
	direct.release("a", wire.Some(2))
	for _, half := range []string{"old", "-"} {
		c.get("b") // o answers
		lock := direct.acquire("a").LockCookie
		h.trap.set("DELETE", "", false, map[string]int{"old": 1}[half])
		if a := c.put("a", oldBody, lock); a.Status != 200 || place(h.o) != half {
			t.Fatalf("PUT = %d, then at o: %s; want 200, %s", a.Status, place(h.o), half)
		}
	}
	direct.delete("a", wire.Int{}) // another proxy moves it
	dial(t, h.o.Addr()).put("a", newBody, wire.Some(0))
	if a := c.get("a"); a.Status != 200 || a.body != newBody {
		t.Errorf("GET = %d, %q; want the session at o", a.Status, a.body)
	}
}

// Another proxy has stored the session at o and is about to remove it at f. A
// write without the lock changes nothing there and must leave o alone.
func TestWriteInTheMiddleOfAnotherProxysMove(t *testing.T) {
	for _, op := range []wire.Op{wire.OpSet, wire.OpSetUninitialized, wire.OpRemove} {
		t.Run(op.String(), func(t *testing.T) {
			h := newHandoffRig(t, nil)
			h.prepare("old locked")
			prepare(t, h.o, "old")
			h.change()
			dial(t, h.addr).operation(op, 9)
			if f, o := place(h.f), place(h.o); f != "old locked" || o != "old" {
				t.Errorf("after %v at f: %s, at o: %s; want old locked, old", op, f, o)
			}
		})
	}
}

// A former owner may be the new one's server under another address, and nobody
// knows yet. What has been moved must not be removed there.
func TestMoveToAServerWithTwoAddresses(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old")
	h.to("x", startFront(t, h.o.Addr()))
	h.to("o", h.o.Addr())
	h.proxy.SetInstance("f", "server f")
	h.proxy.SetInstance("o", "server o")
	c := dial(t, h.addr)
	if a := c.get("a"); a.Status != 200 || place(h.f) != "-" || place(h.o) != "old" {
		t.Errorf("GET = %d, then at f: %s, at o: %s; want the session at o", a.Status, place(h.f), place(h.o))
	}
	h.proxy.SetInstance("x", "server o")
	if a := c.get("a"); a.Status != 200 || a.body != oldBody {
		t.Errorf("GET when the server is known = %d, %q; want the session", a.Status, a.body)
	}
}

// The other half of a move is uninitialized and can't be removed when the lock's
// holder saves at f. What he saved is not uninitialized when it comes to o.
func TestMarkOfAHalf(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old fresh")
	h.change()
	c, direct := dial(t, h.addr), dial(t, h.f.Addr())
	h.trap.set("DELETE", "LockCookie", false, 2)
	c.get("a")
	direct.release("a", wire.Some(2))
	lock := direct.acquire("a").LockCookie
	h.trap.set("DELETE", "", false, 1)
	c.do(wire.Request{Verb: wire.PUT, Target: target("a"), Timeout: wire.Some(25), LockCookie: lock}, newBody)
	if place(h.f) != "new" || place(h.o) != "old fresh" {
		t.Fatalf("at f: %s, at o: %s; want new, old fresh", place(h.f), place(h.o))
	}
	if a := c.get("a"); a.Status != 200 || a.body != newBody || a.ActionFlags.Set {
		t.Errorf("GET = %d, %q, flags %v; want what was saved, no flags", a.Status, a.body, a.ActionFlags)
	}
}
