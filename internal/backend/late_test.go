package backend_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/wire"
)

// granted returns an answer to an exclusive GET that took the lock 7.
func granted(body int) string {
	return fmt.Sprintf("200 OK\r\nX-AspNet-Version: 4.0.30319\r\nLockCookie: 7\r\nContent-Length: %d\r\n\r\n%s",
		body, strings.Repeat("x", body))
}

// late makes an exclusive GET that misses its deadline of a second.
func late(t *testing.T, p *backend.Pool) {
	t.Helper()
	x := exchangeOf(wire.OpGetExclusive, "%2flate")
	x.Deadline = time.Now().Add(time.Second)
	if e := fault(t, p, x); e.Reason != backend.Timeout || !e.Sent || e.Lock.Set {
		t.Errorf("RoundTrip = %v, sent %v, lock %v; want %v, sent, no lock known", e, e.Sent, e.Lock, backend.Timeout)
	}
}

// A lock that is granted after its request has failed is given back.
func TestLateLockIsReleased(t *testing.T) {
	tests := []struct {
		name     string
		early    string        // comes before the deadline
		after    time.Duration // when the rest comes
		answer   string
		cut      bool // the backend closes after it
		released bool
	}{
		{"whole answer", "", 5 * time.Second, granted(100), false, true},
		{"cut in the head", "200 OK\r\nX-AspNet", 5 * time.Second, granted(100), false, true},
		{"cut in the body", granted(100)[:120], 5 * time.Second, granted(100), false, true},
		{"longer than the first read", "", 5 * time.Second, granted(60_000), false, true},
		{"cut in a long body", granted(60_000)[:20_000], 5 * time.Second, granted(60_000), false, true},
		{"with a tail", "", 5 * time.Second, granted(300_000), false, true},
		{"just in time", "", backend.LateWait, granted(1), false, true},
		{"too late", "", backend.LateWait + 2*time.Second, granted(1), false, false},
		{"closed", "", 5 * time.Second, "", true, false},
		{"tail cut", "", 5 * time.Second, granted(300_000)[:299_000], true, false},
		{"locked", "", 5 * time.Second, "423 Locked\r\nLockCookie: 7\r\nContent-Length: 0\r\n\r\n", false, false},
		{"absent", "", 5 * time.Second, absent, false, false},
		{"no cookie", "", 5 * time.Second, found, false, false},
		{"odd status", "", 5 * time.Second, "503 Busy\r\nLockCookie: 7\r\nContent-Length: 0\r\n\r\n", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var release wire.Request
				p, f := inMemory(t, func(c *peer) {
					c.next()
					c.say(tt.early)
					pass(tt.after)
					c.say(tt.answer[len(tt.early):])
					if !tt.cut && c.next() {
						release = c.req
						c.say(done)
						c.gone()
					}
				})
				late(t, p)
				if s := p.Stats(); s.Open != 0 {
					t.Errorf("Stats while a late answer is waited for = %+v; want its place free", s)
				}
				pass(2 * backend.LateWait)
				synctest.Wait()
				want := []string{"0 get_exclusive"}
				if tt.released {
					want = append(want, "0 release")
					if string(release.Target) != "%2flate" || release.LockCookie != wire.Some(7) {
						t.Errorf("release of %s with cookie %v; want %%2flate, 7", release.Target, release.LockCookie)
					}
				}
				if got := f.requests(); !slices.Equal(got, want) {
					t.Errorf("requests = %v; want %v", got, want)
				}
				if got := p.Stats().LateReleased; got == 1 != tt.released {
					t.Errorf("LateReleased = %d; want %v", got, tt.released)
				}
				if s := p.Stats(); s.Open != 0 || p.Tracked() != 0 || f.serving() != 0 {
					t.Errorf("Stats = %+v, %d tracked; want the connection closed", s, p.Tracked())
				}
			})
		})
	}
}

// Of the other operations none takes a lock: their connections are closed when
// time is up.
func TestOnlyAcquiresAreAwaited(t *testing.T) {
	eachOp(t, func(t *testing.T, op wire.Op) {
		synctest.Test(t, func(t *testing.T) {
			p, _ := inMemory(t, func(c *peer) {
				c.next()
				c.gone()
			})
			x := exchange(op)
			x.Deadline = time.Now().Add(time.Second)
			fault(t, p, x)
			want := 0
			if op == wire.OpGetExclusive {
				want = 1
			}
			if got := p.Tracked(); got != want {
				t.Errorf("%d connections open after a timeout of %v; want %d", got, op, want)
			}
		})
	})
}

// A request of which not every byte was sent can't be granted anything.
func TestUnsentAcquireIsNotAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := inMemory(t, func(c *peer) { // takes a part and stalls
			c.Read(make([]byte, 10))
			<-t.Context().Done()
		})
		x := exchange(wire.OpGetExclusive)
		x.Deadline = time.Now().Add(time.Second)
		if e := fault(t, p, x); e.Reason != backend.Timeout || !e.Sent {
			t.Errorf("RoundTrip = %v, sent %v; want %v, sent", e, e.Sent, backend.Timeout)
		}
		if got := p.Tracked(); got != 0 {
			t.Errorf("%d connections are open; want 0", got)
		}
	})
}

// Waiting for late answers is bounded, and takes no place from other requests.
func TestLateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := inMemory(t, func(c *peer) {
			for c.next() {
				if c.req.Op() == wire.OpGetExclusive {
					c.gone()
					return
				}
				c.say(right(c.req.Op()))
			}
		})
		p.Configure(backend.Settings{MaxConns: 4})
		for range 4 { // each wait lasts longer than all of these exchanges
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { late(t, p) })
			}
			wg.Wait()
		}
		if s := p.Stats(); s.Open != 0 || p.Tracked() != 16 {
			t.Errorf("Stats = %+v, %d late answers waited for; want all places free, 16", s, p.Tracked())
		}
		p.Configure(backend.Settings{MaxConns: 40})
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() { late(t, p) })
		}
		wg.Wait()
		if s := p.Stats(); s.Open != 0 || p.Tracked() != backend.LateLimit {
			t.Errorf("Stats = %+v, %d late answers waited for; want all places free, %d", s, p.Tracked(), backend.LateLimit)
		}
		ask(t, p, wire.OpSet)
		pass(2 * backend.LateWait)
		if got := p.Tracked(); got != 0 {
			t.Errorf("%d connections open a minute later; want 0", got)
		}
	})
}

// With one place alone, the next request is served while the late answer is
// still waited for, and a request in the queue gets the place at once.
func TestLateAnswerHoldsNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := inMemory(t, func(c *peer) {
			for c.next() {
				if c.req.Op() == wire.OpGetExclusive {
					pass(10 * time.Second)
					c.say(granted(5))
					continue
				}
				c.say(right(c.req.Op()))
			}
		})
		p.Configure(backend.Settings{MaxConns: 1, Wait: 5 * time.Second})
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { late(t, p) })
		synctest.Wait()
		ask(t, p, wire.OpSet)
		if took := time.Since(start); took != time.Second {
			t.Errorf("the next request took %v; want 1s", took)
		}
		wg.Wait()
		pass(20 * time.Second)
		want := []string{"0 get_exclusive", "1 set", "0 release"}
		if got := f.requests(); !slices.Equal(got, want) {
			t.Errorf("requests = %v; want %v", got, want)
		}
	})
}

func TestAbortEndsLateWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := inMemory(t, func(c *peer) {
			c.next()
			c.gone()
		})
		for range 3 {
			late(t, p)
		}
		if got := p.Tracked(); got != 3 {
			t.Errorf("%d late answers are waited for; want 3", got)
		}
		start := time.Now()
		p.Abort()
		if took := time.Since(start); took != 0 || p.Tracked() != 0 {
			t.Errorf("Abort took %v and left %d connections; want at once, 0", took, p.Tracked())
		}
	})
}

// The wait works over sockets as over pipes.
func TestLateOverTCP(t *testing.T) {
	failed := make(chan struct{})
	p, f := overTCP(t, func(c *peer) {
		c.next()
		c.say(granted(300_000)[:20])
		<-failed
		c.say(granted(300_000)[20:])
		if c.next() {
			c.say(done)
		}
	})
	late(t, p)
	close(failed)
	eventually(t, "the lock is released", func() bool { return p.Stats().LateReleased == 1 })
	if got, want := f.requests(), []string{"0 get_exclusive", "0 release"}; !slices.Equal(got, want) {
		t.Errorf("requests = %v; want %v", got, want)
	}
}

func TestReleaseRequest(t *testing.T) {
	req := wire.Request{Verb: wire.GET, Target: []byte("%2fa"), Host: []byte("web1"), Exclusive: wire.Acquire}
	got := backend.ReleaseRequest([]byte("before"), &req, wire.Some(9))
	var r wire.Request
	if _, err := wire.ParseRequest(got[len("before"):], &r); err != nil || string(got[:6]) != "before" {
		t.Fatalf("ReleaseRequest = %q: %v; want a request appended", got, err)
	}
	if r.Op() != wire.OpRelease || string(r.Target) != "%2fa" || string(r.Host) != "web1" || r.LockCookie != wire.Some(9) {
		t.Errorf("ReleaseRequest = %q; want a release of the same target by cookie 9", got)
	}
}
