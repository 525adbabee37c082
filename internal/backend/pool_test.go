package backend_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/wire"
)

func TestReuseIsLastInFirstOut(t *testing.T) {
	open := make(chan struct{})
	p, f := overTCP(t, func(c *peer) {
		for c.next() {
			<-open
			c.say(right(c.req.Op()))
		}
	})
	hold(t, p, f, 3, open)
	if s := p.Stats(); s.Idle != 3 || s.Open != 3 || s.Busy != 0 || s.Dials != 3 {
		t.Fatalf("Stats after 3 exchanges at once = %+v; want 3 idle connections", s)
	}
	for range 20 {
		ask(t, p, wire.OpGet)
	}
	last := slices.Compact(f.requests()[3:])
	if len(last) != 1 {
		t.Errorf("20 exchanges in a row used %v; want one connection", last)
	}
	if s := p.Stats(); s.Reused != 20 || s.Dials != 3 || s.Dropped != 0 {
		t.Errorf("Stats = %+v; want 20 reused, 3 dials", s)
	}
}

func TestSweepClosesWhatLayIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		p, f := inMemory(t, func(c *peer) {
			for c.next() {
				<-open
				c.say(right(c.req.Op()))
			}
		})
		p.Configure(backend.Settings{IdleTimeout: 8 * time.Second})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { ask(t, p, wire.OpGet) })
		}
		synctest.Wait()
		close(open)
		wg.Wait()
		for range 12 { // one of the three stays in use
			pass(time.Second)
			ask(t, p, wire.OpGet)
		}
		synctest.Wait()
		if s := p.Stats(); s.Open != 1 || s.Idle != 1 || s.Dropped != 2 || s.Reused != 12 {
			t.Errorf("Stats after 12 s of one exchange a second = %+v; want 1 open, 2 dropped, 12 reused", s)
		}
		pass(13 * time.Second)
		synctest.Wait()
		if s := p.Stats(); s.Open != 0 || s.Idle != 0 || s.Dropped != 3 {
			t.Errorf("Stats 13 s later = %+v; want none open", s)
		}
		ask(t, p, wire.OpGet)
		if got := f.requests()[15:]; !slices.Equal(got, []string{"3 get"}) {
			t.Errorf("the next exchange used %v; want a new connection", got)
		}
		pass(13 * time.Second)
		synctest.Wait()
		if s := p.Stats(); s.Open != 0 || s.Dropped != 4 || f.serving() != 0 {
			t.Errorf("Stats 13 s later = %+v, %d served; want the sweep to have begun anew", s, f.serving())
		}
	})
}

func TestIdleLimitHoldsBeforeTheSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := inMemory(t, good)
		p.Configure(backend.Settings{IdleTimeout: 8 * time.Second})
		ask(t, p, wire.OpGet)
		p.Age(8 * time.Second)
		ask(t, p, wire.OpGet)
		if got := f.requests(); !slices.Equal(got, []string{"0 get", "1 get"}) {
			t.Errorf("requests = %v; want the second on a new connection", got)
		}
	})
}

// A connection that the backend closed, or on which it said something, while it
// lay idle is found before it is used: no request of whatever kind fails by it.
func TestDeadIdleConnectionIsFoundBeforeUse(t *testing.T) {
	deaths := []struct {
		name string
		die  func(c *peer)
	}{
		{"closed", func(c *peer) { c.Close() }},
		{"closed its side", func(c *peer) { c.Conn.(*net.TCPConn).CloseWrite(); c.gone() }},
		{"reset", func(c *peer) { c.reset() }},
		{"said something", func(c *peer) { c.say(found); c.gone() }},
	}
	for _, death := range deaths {
		for _, op := range ops {
			t.Run(fmt.Sprint(death.name, "/", op), func(t *testing.T) {
				pooled := make(chan struct{})
				p, f := overTCP(t, func(c *peer) {
					if c.n == 0 && c.next() {
						c.say(done)
						<-pooled
						death.die(c)
						return
					}
					good(c)
				})
				ask(t, p, wire.OpResetTimeout)
				close(pooled)
				eventually(t, "the connection is seen to be dead", func() bool { return p.Quiet() == 0 })
				p.Age(backend.CheckAfter)
				ask(t, p, op)
				want := []string{"0 reset_timeout", fmt.Sprint("1 ", op)}
				if got := f.requests(); !slices.Equal(got, want) {
					t.Errorf("requests = %v; want %v", got, want)
				}
				if s := p.Stats(); s.Dropped != 1 || s.Repeated != 0 || s.Reused != 0 || s.Open != 1 {
					t.Errorf("Stats = %+v; want 1 dropped, none repeated or reused, 1 open", s)
				}
			})
		}
	}
}

// Started is used once: an exchange that is made again much later does not take
// it for the present.
func TestStartedIsUsedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := inMemory(t, good)
		p.Configure(backend.Settings{IdleTimeout: 2 * time.Second})
		x := exchange(wire.OpGet)
		x.Started = time.Now()
		for range 2 {
			if err := p.RoundTrip(t.Context(), x); err != nil {
				t.Fatal(err)
			}
			x.Release()
			pass(2 * time.Second)
		}
		if got := f.requests(); !slices.Equal(got, []string{"0 get", "1 get"}) {
			t.Errorf("requests = %v; want the idle limit to hold", got)
		}
	})
}

func TestStatsWhileBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		p, _ := inMemory(t, func(c *peer) {
			for c.next() {
				<-open
				c.say(right(c.req.Op()))
			}
		})
		p.Configure(backend.Settings{MaxConns: 2, Wait: time.Minute})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { ask(t, p, wire.OpGet) })
		}
		synctest.Wait()
		want := backend.Stats{Open: 2, Busy: 2, Waiting: 3, Dials: 2, Waits: 3}
		if s := p.Stats(); s != want {
			t.Errorf("Stats of 5 requests and 2 connections = %+v; want %+v", s, want)
		}
		close(open)
		wg.Wait()
		want = backend.Stats{Open: 2, Idle: 2, Dials: 2, Waits: 3}
		if s := p.Stats(); s != want {
			t.Errorf("Stats after them = %+v; want %+v", s, want)
		}
	})
}

func TestClose(t *testing.T) {
	open := make(chan struct{})
	p, f := overTCP(t, func(c *peer) {
		for c.next() {
			if c.req.Op() == wire.OpGetExclusive {
				<-open
			}
			c.say(right(c.req.Op()))
		}
	})
	ask(t, p, wire.OpGet)
	result := make(chan error, 1)
	x := exchange(wire.OpGetExclusive)
	go func() { result <- p.RoundTrip(t.Context(), x) }()
	eventually(t, "the exchange is under way", func() bool { return len(f.requests()) == 2 })

	p.Close()
	close(open)
	if err := <-result; err != nil || string(x.Body()) != "body" {
		t.Errorf("exchange under way at Close = %v; want the answer", err)
	}
	x.Release()
	for range 2 {
		ask(t, p, wire.OpSet) // one that began before a reload
	}
	p.Close() // again is fine
	want := []string{"0 get", "0 get_exclusive", "1 set", "2 set"}
	if got := f.requests(); !slices.Equal(got, want) {
		t.Errorf("requests = %v; want %v: nothing pooled after Close", got, want)
	}
	if s := p.Stats(); s.Open != 0 || s.Idle != 0 {
		t.Errorf("Stats after Close = %+v; want nothing open", s)
	}
}

func TestCloseEndsTheSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := inMemory(t, good)
		ask(t, p, wire.OpGet)
		p.Close()
		synctest.Wait()
		if s := p.Stats(); s.Open != 0 || s.Dropped != 1 || p.Tracked() != 0 {
			t.Errorf("Stats after Close = %+v, %d tracked; want none open, 1 dropped", s, p.Tracked())
		}
		pass(time.Minute) // a sweep would find nothing to sweep
		if s := p.Stats(); s.Open != 0 || s.Dropped != 1 {
			t.Errorf("Stats a minute after Close = %+v; want none open, 1 dropped", s)
		}
	})
}

func TestAbort(t *testing.T) {
	p, f := overTCP(t, func(c *peer) {
		for c.next() {
			if c.req.Op() == wire.OpGet {
				c.gone()
			}
			c.say(right(c.req.Op()))
		}
	})
	result := make(chan *backend.Error, 1)
	go func() { result <- fault(t, p, exchange(wire.OpGet)) }()
	eventually(t, "the exchange is under way", func() bool { return len(f.requests()) == 1 })
	p.Abort()
	if e := <-result; e.Reason != backend.Closed || !e.Sent {
		t.Errorf("exchange under way at Abort = %v; want %v, sent", e, backend.Closed)
	}
	if e := fault(t, p, exchange(wire.OpSet)); e.Reason != backend.SendError || e.Sent {
		t.Errorf("exchange after Abort = %v, sent %v; want %v, not sent", e, e.Sent, backend.SendError)
	}
	if s := p.Stats(); s.Open != 0 || p.Tracked() != 0 {
		t.Errorf("Stats after Abort = %+v, %d tracked; want none open", s, p.Tracked())
	}
	if got := len(f.requests()); got != 1 {
		t.Errorf("the backend saw %d requests; want 1", got)
	}
}

// A connection that is still being made at Abort is closed as soon as it is.
func TestAbortWhileDialing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := make(chan struct{})
		p, f := inMemory(t, good)
		dial := p.Dial
		p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			<-made
			return dial(ctx, network, address)
		}
		result := make(chan *backend.Error, 1)
		go func() { result <- fault(t, p, exchange(wire.OpGet)) }()
		synctest.Wait()
		p.Abort()
		close(made)
		if e := <-result; e.Sent {
			t.Errorf("exchange = %v, sent; want nothing sent", e)
		}
		if s := p.Stats(); s.Open != 0 || len(f.requests()) != 0 {
			t.Errorf("Stats = %+v, backend saw %v; want none open, nothing seen", s, f.requests())
		}
	})
}

func TestDialBudget(t *testing.T) {
	tests := []struct {
		name                  string
		dialTimeout, deadline time.Duration
		cancel, want          time.Duration
		reason                backend.Reason
	}{
		{"dial timeout first", 2 * time.Second, 8 * time.Second, 0, 2 * time.Second, backend.DialTimeout},
		{"deadline first", 2 * time.Second, time.Second, 0, time.Second, backend.DialTimeout},
		{"default", 0, 8 * time.Second, 0, backend.DefaultDialTimeout, backend.DialTimeout},
		{"cancel", 2 * time.Second, 8 * time.Second, time.Second, time.Second, backend.DialError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &backend.Pool{Address: "nowhere", Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
					<-ctx.Done()
					return nil, fmt.Errorf("dial nowhere: %w", ctx.Err())
				}}
				p.Configure(backend.Settings{DialTimeout: tt.dialTimeout})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.cancel > 0 {
					time.AfterFunc(tt.cancel, cancel)
				}
				x := exchange(wire.OpGet)
				start := time.Now()
				x.Deadline = start.Add(tt.deadline)
				err := p.RoundTrip(ctx, x)
				e, ok := err.(*backend.Error)
				if !ok || e.Reason != tt.reason || e.Sent {
					t.Errorf("RoundTrip = %v; want %v, not sent", err, tt.reason)
				}
				if took := time.Since(start); took != tt.want {
					t.Errorf("it took %v; want %v", took, tt.want)
				}
				if s := p.Stats(); s.Open != 0 || s.Dials != 1 || s.DialErrors != 1 {
					t.Errorf("Stats = %+v; want none open, 1 dial error", s)
				}
			})
		})
	}
}

// An exchange ends at its deadline, or a little before where connections are
// busy, and never because of the deadline of one before it.
func TestExchangeBudget(t *testing.T) {
	tests := []struct {
		name                   string
		first, pause, deadline time.Duration
		earliest               time.Duration
	}{
		{"first on a connection", 0, 0, 8 * time.Second, 8 * time.Second},
		{"soon after another", 8 * time.Second, 100 * time.Millisecond, 8 * time.Second, 7750 * time.Millisecond},
		{"long after another", 8 * time.Second, 4 * time.Second, 8 * time.Second, 8 * time.Second},
		{"shorter than the one before", 8 * time.Second, 0, time.Second, time.Second},
		{"short ones in a row", 200 * time.Millisecond, 201 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond},
		{"little left", 3 * time.Second, 2900 * time.Millisecond, 300 * time.Millisecond, 300 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, f := inMemory(t, func(c *peer) {
					for c.next() && c.req.Op() == wire.OpResetTimeout {
						c.say(done)
					}
					c.gone()
				})
				if tt.first > 0 {
					x := exchange(wire.OpResetTimeout)
					x.Deadline = time.Now().Add(tt.first)
					if err := p.RoundTrip(t.Context(), x); err != nil {
						t.Fatal(err)
					}
					x.Release()
					pass(tt.pause)
				}
				x := exchange(wire.OpSet)
				start := time.Now()
				x.Deadline = start.Add(tt.deadline)
				e := fault(t, p, x)
				if took := time.Since(start); took < tt.earliest || took > tt.deadline {
					t.Errorf("it took %v; want %v to %v", took, tt.earliest, tt.deadline)
				}
				if e.Reason != backend.Timeout || !e.Sent {
					t.Errorf("RoundTrip = %v, sent %v; want %v, sent", e, e.Sent, backend.Timeout)
				}
				if s := p.Stats(); s.Open != 0 || len(f.requests()) > 2 || s.Dials != 1 {
					t.Errorf("Stats = %+v after %v; want none open, no repetition", s, f.requests())
				}
			})
		})
	}
}
