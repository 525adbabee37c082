package proxy_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// Two former owners were cut off, and somebody who leaves no note has saved at
// the later one what the earlier one has, too: the later copy counts.
func TestTwoFormerOwnersThatWereCutOff(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old")
	h.change()
	last := stateserver.RunT(t)
	h.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "last", Address: last.Addr(), Weight: 1}}})
	h.proxy.SetInstance("last", "server last")
	for _, name := range []string{"f", "o"} {
		h.proxy.SetUp(name, false)
		h.proxy.SetUp(name, true)
	}
	dial(t, h.o.Addr()).put("a", newBody, wire.Some(0))
	if a := dial(t, h.addr).get("a"); a.Status != 200 || a.body != newBody {
		t.Errorf("GET = %d, %q; want the later copy", a.Status, a.body)
	}
	if f, o := place(h.f), place(h.o); f != "-" || o != "-" {
		t.Errorf("then at f: %s, at o: %s; want neither", f, o)
	}
}

// An old copy at the owner that nobody knows of gives way, and its uninitialized
// mark does not pass to what takes its place, though both have one time-out.
func TestOldCopyThatNobodyKnowsOf(t *testing.T) {
	tests := []struct {
		atF, atO string
		fresh    bool // what is served is uninitialized
	}{
		{"old", "new", false},
		{"old", "new locked", false},
		{"old fresh", "new", true},
		{"old fresh", "new locked", true},
		{"old fresh", "new fresh", true},
	}
	for _, tt := range tests {
		t.Run(tt.atF+"/"+tt.atO, func(t *testing.T) {
			h := newHandoffRig(t, nil)
			h.prepare(tt.atF)
			prepare(t, h.o, tt.atO)
			h.change()
			a := dial(t, h.addr).get("a")
			if a.Status != 200 || a.body != oldBody || a.ActionFlags.Set != tt.fresh {
				t.Errorf("GET = %d, %q, flags %v; want the session from f, uninitialized %t", a.Status, a.body, a.ActionFlags, tt.fresh)
			}
		})
	}
}

// An owner that was down, or that is not known yet, may have an old copy that is
// uninitialized. The session that is brought there is not.
func TestMarkOfAnOldCopy(t *testing.T) {
	tests := []struct {
		name   string
		happen func(h *handoffRig)
	}{
		{"ejected", func(h *handoffRig) { h.proxy.SetUp("o", false); h.proxy.SetUp("o", true); h.to("o", h.o.Addr()) }},
		{"not known yet", func(h *handoffRig) { h.to("new", h.o.Addr()) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHandoffRig(t, nil)
			h.reconfigure(proxy.Settings{Backends: []proxy.Backend{
				{Name: "f", Address: h.f.Addr(), Weight: 1}, {Name: "o", Address: h.o.Addr(), Weight: 1, Drain: true},
			}})
			h.proxy.SetInstance("f", "server f")
			h.proxy.SetInstance("o", "server o")
			tt.happen(h)
			h.prepare("old")
			prepare(t, h.o, "new fresh")
			if a := dial(t, h.addr).get("a"); a.Status != 200 || a.body != oldBody || a.ActionFlags.Set {
				t.Errorf("GET = %d, %q, flags %v; want the session from f without flags", a.Status, a.body, a.ActionFlags)
			}
		})
	}
}

// to makes the server at the address the only owner, by that name.
func (h *handoffRig) to(name, address string) {
	h.t.Helper()
	h.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: name, Address: address, Weight: 1}}})
}

// A session was removed while its server was down, and then the backend gets
// another name, at the same address: what is there of the session stays out of date.
func TestRemovedSessionUnderAnotherName(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old")
	h.proxy.SetUp("f", false)
	h.change()
	c := dial(t, h.addr)
	c.put("a", newBody, wire.Some(0))
	c.delete("a", wire.Some(0))
	h.proxy.SetUp("f", true)
	h.to("x", h.f.Addr())
	if a := c.get("a"); a.Status != 404 || place(h.f) != "-" {
		t.Errorf("GET = %d, %q, then at f: %s; want 404 and no copy", a.Status, a.body, place(h.f))
	}
}

// One server has two names, of which one is down when sessions are removed, and is
// then taken away. What the server has of them is out of date under the other, too.
func TestRemovedSessionsOfAServerWithTwoNames(t *testing.T) {
	servers := startServers(t, 2)
	s := proxy.Settings{Backends: append(backends(servers...), proxy.Backend{Name: "x", Address: startFront(t, servers[0].Addr()), Weight: 1})}
	r := newRig(t, s)
	r.proxy.SetInstance("s1", "one")
	r.proxy.SetInstance("s2", "two")
	r.proxy.SetInstance("x", "one")
	const n = 60
	c := dial(t, r.addr)
	fill(c, n)
	r.proxy.SetUp("x", false)
	for i := range n {
		c.delete(fmt.Sprint("id", i), wire.Some(0))
	}
	if servers[0].Len() == 0 {
		t.Fatal("no session is left at the server that was down")
	}
	s.Backends = s.Backends[:1]
	r.reconfigure(s)
	for i := range n {
		if a := c.get(fmt.Sprint("id", i)); a.Status != 404 {
			t.Fatalf("GET %d = %d, %q; want 404", i, a.Status, a.body)
		}
	}
}

// The copy of a former owner can't be removed when the session is saved at its
// owner. Only if a move has left it there is it taken for out of date later: what
// another proxy moves there must not be.
func TestOldCopyThatCannotBeRemoved(t *testing.T) {
	for _, moved := range []bool{false, true} { // by this proxy, to o, before
		t.Run(fmt.Sprintf("moved %t", moved), func(t *testing.T) {
			h := newHandoffRig(t, nil)
			h.change()
			c, direct := dial(t, h.addr), dial(t, h.f.Addr())
			prepare(t, h.o, "old")
			if moved {
				h.to("f", h.f.Addr())
				c.get("a")
				h.change()
				c.get("a")
			}
			if place(h.f) != "-" || place(h.o) != "old" {
				t.Fatalf("at f: %s, at o: %s; want it at o", place(h.f), place(h.o))
			}
			h.proxy.SetUp("f", false)
			h.proxy.SetUp("f", true)
			h.trap.set("DELETE", "", false, 1)
			if a := c.put("a", oldBody, wire.Some(0)); a.Status != 200 {
				t.Fatalf("PUT = %d; want 200", a.Status)
			}
			dial(t, h.o.Addr()).delete("a", wire.Int{})
			direct.put("a", newBody, wire.Some(0)) // moved
			h.to("f", h.f.Addr())
			if a := c.get("a"); a.Status != 200 || a.body != newBody {
				t.Errorf("GET = %d, %q; want the session at f", a.Status, a.body)
			}
		})
	}
}

// A move removes what places have of the session that would have been asked later,
// one that was cut off once included.
func TestMoveRemovesLateCopies(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.change()
	last := stateserver.RunT(t)
	h.to("last", last.Addr())
	h.proxy.SetInstance("last", "server last")
	h.proxy.SetUp("o", false)
	h.proxy.SetUp("o", true)
	h.prepare("old")
	prepare(t, h.o, "new")
	if a := dial(t, h.addr).get("a"); a.Status != 200 || a.body != oldBody {
		t.Errorf("GET = %d, %q; want the copy at f", a.Status, a.body)
	}
	if f, o := place(h.f), place(h.o); f != "-" || o != "-" {
		t.Errorf("then at f: %s, at o: %s; want neither", f, o)
	}
}

// An owner that does not say whether it has the session may have a later copy than
// the former owner that was cut off.
func TestOldCopyAndAnOwnerThatIsUnsure(t *testing.T) {
	o := startFake(t, func(c *fakeConn) {
		for {
			q, err := c.next()
			switch {
			case err != nil:
				return
			case q.Verb == wire.HEAD:
				c.say(failure)
			default:
				c.say(good(q.op, q.id))
			}
		}
	})
	h := newHandoffRig(t, nil)
	h.prepare("old")
	h.to("o", o.addr)
	h.proxy.SetUp("f", false)
	h.proxy.SetUp("f", true)
	if a := dial(t, h.addr).get("a"); a.Status != 400 || place(h.f) != "old" {
		t.Errorf("GET = %d, then at f: %s; want 400, and no move", a.Status, place(h.f))
	}
}

// A former owner that does not answer is waited for once, and not at each save, only
// to be cleared of old copies.
func TestSavesDoNotWaitForAnOldCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ask := rehomed(t)
		defer w.stop()
		w.happen(event{kind: eject, a: 0, b: 1})
		w.happen(event{kind: heal, a: 0})
		plant(t, w.machines[1], 0, "two")
		w.happen(event{kind: cut, a: 0, b: 1})
		ask(&deed{wish: wish{op: wire.OpSet}, body: "three"}, 200, "")
		again := &deed{wish: wish{op: wire.OpSet}, body: "four"}
		if ask(again, 200, ""); again.end-again.begun > time.Second {
			t.Errorf("the second save took %v; want it not to wait", again.end-again.begun)
		}
	})
}

// The new owner leads to the former one's server, and nobody knows yet: nothing is
// moved, and nothing is lost.
func TestMoveToTheServerItself(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old")
	h.to("x", startFront(t, h.f.Addr()))
	c := dial(t, h.addr)
	if a := c.get("a"); a.Status != 400 || place(h.f) != "old" {
		t.Errorf("GET = %d, then at f: %s; want 400, the session as it was", a.Status, place(h.f))
	}
	h.proxy.SetInstance("f", "server f")
	h.proxy.SetInstance("x", "server f")
	if a := c.get("a"); a.Status != 200 || a.body != oldBody {
		t.Errorf("GET when the server is known = %d, %q; want the session", a.Status, a.body)
	}
}
