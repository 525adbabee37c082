package proxy_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// lockOf returns a backend that answers acquires by what it gets from answers
// and all else well.
func lockOf(answers <-chan string) func(*fakeConn) {
	return func(c *fakeConn) {
		for {
			q, err := c.next()
			if err != nil {
				return
			}
			if q.op != wire.OpGetExclusive {
				c.say(good(q.op, q.id))
				continue
			}
			c.say(<-answers)
		}
	}
}

// wantRelease fails the test unless the backend got the acquire and then one
// release with the lock's cookie.
func (f *fake) wantRelease(id string) {
	f.t.Helper()
	list := f.await(id, 2)
	if last := list[len(list)-1]; len(list) != 2 || list[0].op != wire.OpGetExclusive || last.op != wire.OpRelease || last.LockCookie != wire.Some(cookie) {
		f.t.Errorf("backend got %d requests, the last a %v with cookie %v; want an acquire and a release with cookie %d",
			len(list), last.op, last.LockCookie, cookie)
	}
}

func TestLockOfAClientThatLeftIsReleased(t *testing.T) {
	answers := make(chan string)
	f := startFake(t, lockOf(answers))
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
	c := dial(t, r.addr)
	c.send(request(wire.OpGetExclusive, "orphan"))
	f.await("orphan", 1)
	c.c.Close()
	answers <- good(wire.OpGetExclusive, "orphan")
	f.wantRelease("orphan")
	o := r.lastOutcome(1)
	if o.Status == wire.StatusOK { // sent before it was known that the client is gone
		o = r.lastOutcome(2)
	}
	if o.Reason != proxy.ClientGone || !o.LockReleased || o.Status != 0 || o.Err == nil {
		t.Errorf("outcome = %s, released %t, %d, %v; want client_gone, released, 0 and an error", o.Reason, o.LockReleased, o.Status, o.Err)
	}
}

func TestLongAnswerOfAClientThatLeftIsReleased(t *testing.T) {
	answers := make(chan string)
	f := startFake(t, lockOf(answers))
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}, MaxWhole: 1 << 10, Budget: 2 * time.Second})
	c := dial(t, r.addr)
	c.send(request(wire.OpGetExclusive, "orphan"))
	f.await("orphan", 1)
	answers <- okHead + "Timeout: 20\r\nContent-Length: 100000\r\n\r\n" + "beginning"
	if err := c.r.ReadResponse(new(wire.Response)); err != nil {
		t.Fatal(err)
	}
	c.c.Close()
	// The rest never comes; the connection of the acquire is of no use.
	o := r.lastOutcome(1)
	if o.Reason != proxy.CutTail || !o.LockReleased {
		t.Errorf("outcome = %s, released %t; want cut_tail, released", o.Reason, o.LockReleased)
	}
	f.wantRelease("orphan")
}

func TestLockOfAClientThatGotItStays(t *testing.T) {
	for _, answer := range []string{
		good(wire.OpGetExclusive, "held"),
		"423 Locked\r\nLockCookie: 7\r\nLockAge: 1\r\nContent-Length: 0\r\n\r\n",
		"404 Not Found\r\nLockCookie: 7\r\nContent-Length: 0\r\n\r\n",
	} {
		answers := make(chan string, 1)
		f := startFake(t, lockOf(answers))
		r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
		c := dial(t, r.addr)
		answers <- answer
		if got, err := c.exchange(wire.OpGetExclusive, "held"); got != answer || err != nil {
			t.Fatalf("acquire = %q, %v; want %q", got, err, answer)
		}
		c.c.Close()
		shutdown(t, r.proxy)
		if list := f.requests(""); len(list) != 1 {
			t.Errorf("backend got %d requests, the last a %v; want the acquire alone", len(list), list[len(list)-1].op)
		}
	}
}

func TestLockThatWasNotTakenIsNotReleased(t *testing.T) {
	answers := make(chan string)
	f := startFake(t, lockOf(answers))
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
	for i, answer := range []string{
		"423 Locked\r\nLockCookie: 7\r\nLockAge: 1\r\nContent-Length: 0\r\n\r\n",
		"404 Not Found\r\nContent-Length: 0\r\n\r\n",
		"503 Busy\r\nLockCookie: 7\r\nContent-Length: 0\r\n\r\n",
	} {
		c := dial(t, r.addr)
		c.send(request(wire.OpGetExclusive, "other"))
		f.await("other", i+1)
		c.c.Close()
		answers <- answer
		if o := r.lastOutcome(i + 1); o.LockReleased {
			t.Errorf("%q: a release was sent", answer)
		}
	}
	shutdown(t, r.proxy)
	if n := len(f.requests("")); n != 3 {
		t.Errorf("backend got %d requests; want the 3 acquires alone", n)
	}
}

// A lock whose grant was seen in an answer that can't be passed on would be
// nobody's.
func TestLockOfABadAnswerIsReleased(t *testing.T) {
	tests := []struct {
		name   string
		answer string
		reason proxy.Reason
	}{
		{"empty", okHead + "Content-Length: 0\r\n\r\n", "empty_answer"},
		{"too large", okHead + "Content-Length: 2000000\r\n\r\nx", "answer_too_large"},
		{"long", okHead + "Content-Length: 1\r\n\r\nxy", "long_answer"},
		{"cut", okHead + "Content-Length: 9\r\n\r\nxy", "cut_answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t, func(c *fakeConn) {
				q, err := c.next()
				if err == nil && q.op == wire.OpGetExclusive {
					c.say(tt.answer)
				} else if err == nil {
					c.say(good(q.op, q.id))
				}
			})
			r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}, MaxBody: 1 << 20})
			c := dial(t, r.addr)
			if got, err := c.exchange(wire.OpGetExclusive, "orphan"); got != failure || err != nil {
				t.Errorf("acquire = %q, %v; want F", got, err)
			}
			f.wantRelease("orphan")
			if o := r.lastOutcome(1); o.Reason != tt.reason || !o.LockReleased {
				t.Errorf("outcome = %s, released %t; want %s, released", o.Reason, o.LockReleased, tt.reason)
			}
		})
	}
}

func TestLateLockIsReleased(t *testing.T) {
	tests := []struct {
		name     string
		op       wire.Op
		early    string // sent before the deadline
		late     string // and after
		released bool
	}{
		{"all late", wire.OpGetExclusive, "", okHead + "Content-Length: 1\r\n\r\nx", true},
		{"head cut in two", wire.OpGetExclusive, okHead[:30], okHead[30:] + "Content-Length: 1\r\n\r\nx", true},
		{"body late", wire.OpGetExclusive, okHead + "Content-Length: 2\r\n\r\nx", "x", true},
		{"not granted", wire.OpGetExclusive, "", "423 Locked\r\nLockCookie: 7\r\nContent-Length: 0\r\n\r\n", false},
		{"fault", wire.OpGetExclusive, "", "500 Error\r\nLockCookie: 7\r\nContent-Length: 0\r\n\r\n", false},
		{"no acquire", wire.OpGet, "", okHead + "Content-Length: 1\r\n\r\nx", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testLateLock(t, tt.op, tt.early, tt.late, tt.released) })
		})
	}
}

func testLateLock(t *testing.T, op wire.Op, early, late string, released bool) {
	b := newBubble(t, proxy.Settings{}, func(c *fakeConn) {
		q, err := c.next()
		if err != nil {
			return
		}
		c.say(early)
		<-time.After(proxy.DefaultBudget + time.Second)
		c.say(late)
		if q, err = c.next(); err == nil {
			c.say(good(q.op, q.id))
			_, _ = c.next()
		}
	})
	defer b.stop()
	c := b.client()
	if got, err := c.exchange(op, "late"); got != failure || err != nil {
		t.Errorf("%v = %q, %v; want F", op, got, err)
	}
	<-time.After(time.Minute)
	want := 1
	if released {
		want = 2
		b.fake.wantRelease("late")
	}
	if n := len(b.fake.requests("late")); n != want {
		t.Errorf("backend got %d requests; want %d", n, want)
	}
	conns := b.proxy.Status().Backends[0].Conns
	if conns.LateReleased != int64(want-1) || conns.Open != 0 {
		t.Errorf("locks released late: %d, connections open: %d; want %d and none", conns.LateReleased, conns.Open, want-1)
	}
}

func TestSilentBackendIsNotWaitedForForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, proxy.Settings{}, func(c *fakeConn) {
			_, _ = c.next()
			_, _ = c.next() // until the proxy closes
		})
		defer b.stop()
		c := b.client()
		for _, op := range verbs {
			start := time.Now()
			if got, err := c.exchange(op, "a"); got != failure || err != nil {
				t.Errorf("%v = %q, %v; want F", op, got, err)
			}
			if d := time.Since(start); d > proxy.DefaultBudget {
				t.Errorf("%v took %v; want at most the budget", op, d)
			}
		}
		<-time.After(time.Minute)
		if s := b.proxy.Status(); s.Backends[0].Conns.Open != 0 || s.InFlight != 0 || s.Backends[0].FailingSince.IsZero() {
			t.Errorf("open %d, in flight %d, failing since %v; want none, none and a time", s.Backends[0].Conns.Open, s.InFlight, s.Backends[0].FailingSince)
		}
	})
}

func TestForwardedWritesAreNotCancelled(t *testing.T) {
	for _, op := range []wire.Op{wire.OpSet, wire.OpSetUninitialized, wire.OpRelease, wire.OpRemove} {
		t.Run(op.String(), func(t *testing.T) {
			answer := make(chan string)
			ended := make(chan error, 1)
			f := startFake(t, func(c *fakeConn) {
				if _, err := c.next(); err == nil {
					c.say(<-answer)
					_, err := c.next()
					ended <- err
				}
			})
			r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
			c := dial(t, r.addr)
			c.send(request(op, "w"))
			f.await("w", 1)
			c.c.Close()
			answer <- good(op, "w")
			if o := r.lastOutcome(1); o.Backend != "s1" || o.LockReleased {
				t.Errorf("outcome = %q, %s, released %t; want s1's answer taken", o.Reason, o.Backend, o.LockReleased)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := r.proxy.Shutdown(ctx); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err == nil {
				t.Error("another request came after the write")
			}
		})
	}
}
