package backend_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/wire"
)

// gate answers each request when it is opened for it.
func gate(open chan struct{}) func(c *peer) {
	return func(c *peer) {
		for c.next() {
			<-open
			c.say(right(c.req.Op()))
		}
	}
}

func TestQueueIsFirstComeFirstServed(t *testing.T) {
	// What ends the exchange before decides what the next in the queue gets: a
	// connection, or the leave to dial one.
	for _, way := range []string{"answered", "closed"} {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var order []string
				open := make(chan struct{})
				p, _ := inMemory(t, func(c *peer) {
					for c.next() {
						<-open
						mu.Lock()
						order = append(order, string(c.req.Target))
						mu.Unlock()
						if way == "closed" {
							c.say(found + "!") // more than announced
						} else {
							c.say(found)
						}
					}
				})
				p.Configure(backend.Settings{MaxConns: 1, Wait: time.Minute})
				var want []string
				var wg sync.WaitGroup
				for i := range 10 {
					target := "%2f" + strconv.Itoa(i)
					want = append(want, target)
					wg.Go(func() {
						x := exchangeOf(wire.OpGet, target)
						p.RoundTrip(t.Context(), x)
						x.Release()
					})
					synctest.Wait()
				}
				close(open)
				wg.Wait()
				if !slices.Equal(order, want) {
					t.Errorf("served in the order %v; want %v", order, want)
				}
				if s := p.Stats(); s.Waits != 9 || s.Refused != 0 || s.Waiting != 0 || s.Open != s.Idle {
					t.Errorf("Stats = %+v; want 9 waits, none refused, all idle", s)
				}
			})
		})
	}
}

func TestWaitEnds(t *testing.T) {
	tests := []struct {
		name           string
		wait, deadline time.Duration
		cancel, want   time.Duration
		cause          error
	}{
		{"after Wait", time.Second, 8 * time.Second, 0, time.Second, context.DeadlineExceeded},
		{"at the deadline", 5 * time.Second, 2 * time.Second, 0, 2 * time.Second, context.DeadlineExceeded},
		{"by ctx", 5 * time.Second, 8 * time.Second, time.Second, time.Second, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open := make(chan struct{})
				p, f := inMemory(t, gate(open))
				p.Configure(backend.Settings{MaxConns: 1, Wait: tt.wait})
				var wg sync.WaitGroup
				wg.Go(func() { ask(t, p, wire.OpGet) })
				synctest.Wait()

				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.cancel > 0 {
					time.AfterFunc(tt.cancel, cancel)
				}
				x := exchange(wire.OpSet)
				start := time.Now()
				x.Deadline = start.Add(tt.deadline)
				var e *backend.Error
				err := p.RoundTrip(ctx, x)
				if !errors.As(err, &e) || e.Reason != backend.WaitTimeout || e.Sent || !errors.Is(err, tt.cause) {
					t.Errorf("RoundTrip = %v; want %v because of %v, not sent", err, backend.WaitTimeout, tt.cause)
				}
				if took := time.Since(start); took != tt.want {
					t.Errorf("it took %v; want %v", took, tt.want)
				}
				if e != nil && e.BackendFault() {
					t.Error("BackendFault() = true; want false: the backend was not asked")
				}
				close(open)
				wg.Wait()
				if s := p.Stats(); s.Refused != 1 || s.Waits != 1 || s.Waiting != 0 || s.Open != 1 || s.Idle != 1 {
					t.Errorf("Stats = %+v; want 1 refused, 1 wait, 1 idle", s)
				}
				if got := f.requests(); len(got) != 1 {
					t.Errorf("the backend saw %v; want the first alone", got)
				}
			})
		})
	}
}

func TestQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		p, _ := inMemory(t, gate(open))
		p.Configure(backend.Settings{MaxConns: 1, MaxWaiting: 2, Wait: time.Minute})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { ask(t, p, wire.OpGet) })
		}
		synctest.Wait()
		start := time.Now()
		e := fault(t, p, exchange(wire.OpGet))
		if e.Reason != backend.QueueFull || e.Sent || e.BackendFault() || time.Since(start) != 0 {
			t.Errorf("RoundTrip = %v after %v; want %v at once, not sent, no fault of the backend",
				e, time.Since(start), backend.QueueFull)
		}
		close(open)
		wg.Wait()
		ask(t, p, wire.OpGet)
		if s := p.Stats(); s.Refused != 1 || s.Waits != 2 || s.Open != 1 {
			t.Errorf("Stats = %+v; want 1 refused, 2 waits, 1 open", s)
		}
	})
}

// A dial that fails gives its place to the next in the queue.
func TestFailedDialPassesItsPlaceOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := inMemory(t, good)
		dial, fails := p.Dial, 3
		p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			pass(time.Second)
			if fails > 0 {
				fails--
				return nil, errors.New("no route")
			}
			return dial(ctx, network, address)
		}
		p.Configure(backend.Settings{MaxConns: 1, Wait: time.Minute})
		var failed int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				x := exchange(wire.OpGet)
				if err := p.RoundTrip(t.Context(), x); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed++
					return
				}
				x.Release()
			})
		}
		wg.Wait()
		if s := p.Stats(); failed != 3 || s.DialErrors != 3 || s.Open != 1 || s.Idle != 1 || s.Waiting != 0 {
			t.Errorf("%d failed, Stats = %+v; want 3, 3 dial errors, 1 idle", failed, s)
		}
	})
}

// A connection that is handed to a request at the very moment in which it gives
// up goes to the next, and no place is lost.
func TestTurnAtTheLastMoment(t *testing.T) {
	for _, way := range []string{"connection", "leave to dial"} {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, _ := inMemory(t, func(c *peer) {
					for c.next() {
						pass(time.Second) // just as long as the others wait
						if way == "connection" {
							c.say(found)
						} else {
							c.say(found + "!") // more than announced
						}
					}
				})
				p.Configure(backend.Settings{MaxConns: 1, Wait: time.Second})
				for range 200 {
					var wg sync.WaitGroup
					for range 4 {
						wg.Go(func() {
							x := exchange(wire.OpGet)
							p.RoundTrip(t.Context(), x)
							x.Release()
						})
					}
					wg.Wait()
					synctest.Wait()
					if s := p.Stats(); s.Open != s.Idle || s.Open > 1 || s.Waiting != 0 {
						t.Fatalf("Stats = %+v; want none busy, none waiting, at most 1 open", s)
					}
				}
			})
		})
	}
}

// storm is what the backend makes of a request in the storm tests, chosen by
// the request.
func storm(limit time.Duration) func(c *peer) {
	return func(c *peer) {
		rnd := rand.New(rand.NewPCG(uint64(c.n), 7))
		for c.next() {
			if limit > 0 {
				pass(rand.N(limit))
			}
			body := string(c.req.Target)
			whole := fmt.Sprintf("200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			switch rnd.IntN(12) {
			case 0:
				return
			case 1:
				c.say(whole[:len(whole)-1])
				return
			case 2:
				c.say("503 Server Too Busy\r\nContent-Length: 0\r\n\r\n")
			case 3:
				c.say(whole + "HTTP")
			case 4:
				for _, b := range []byte(whole) {
					c.say(string(b))
				}
			case 5:
				c.say(whole)
				return
			default:
				c.say(whole)
			}
		}
	}
}

// weather sends n requests over p from many goroutines. No answer may reach
// another request than its own.
func weather(t *testing.T, p *backend.Pool, workers, n int, limit time.Duration) (answered int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 8))
			for i := range n {
				target := fmt.Sprintf("%%2f%d-%d", w, i)
				op := ops[rnd.IntN(2)]
				x := exchangeOf(op, target)
				ctx, cancel := context.WithCancel(t.Context())
				switch rnd.IntN(8) {
				case 0:
					cancel()
				case 1:
					x.Deadline = time.Now().Add(rand.N(limit + time.Millisecond))
				case 2:
					time.AfterFunc(rand.N(limit+time.Millisecond), cancel)
				}
				if p.RoundTrip(ctx, x) == nil {
					if string(x.Body()) != target {
						t.Errorf("%s got the answer of %s", target, x.Body())
					}
					mu.Lock()
					answered++
					mu.Unlock()
				}
				x.Release()
				cancel()
			}
		})
	}
	wg.Wait()
	return answered
}

// stillServes checks that no place was lost: max exchanges at once have a
// connection each.
func stillServes(t *testing.T, p *backend.Pool, max int) {
	t.Helper()
	if s := p.Stats(); s.Open != s.Idle || s.Waiting != 0 || s.Open > max {
		t.Errorf("Stats after the storm = %+v; want all open ones idle, none waiting", s)
	}
	p.Age(time.Hour) // of those, some are dead
	var mu sync.Mutex
	arrived, all := 0, make(chan struct{})
	var wg sync.WaitGroup
	for range max {
		wg.Go(func() {
			x := longSet(nil, 1)
			x.Rest = readerFunc(func(b []byte) (int, error) { // is read when the request has its connection
				mu.Lock()
				if arrived++; arrived == max {
					close(all)
				}
				mu.Unlock()
				select {
				case <-all:
				case <-time.After(patience / 2):
				}
				return 1, io.EOF
			})
			p.RoundTrip(t.Context(), x)
			x.Release()
		})
	}
	wg.Wait()
	if arrived != max {
		t.Errorf("%d exchanges at once had a connection; want %d", arrived, max)
	}
}

type readerFunc func(b []byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestStormInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := inMemory(t, storm(100*time.Millisecond))
		p.Configure(backend.Settings{MaxConns: 8, MaxWaiting: 20, Wait: 50 * time.Millisecond, IdleTimeout: time.Second})
		answered := weather(t, p, 32, 100, 200*time.Millisecond)
		if answered == 0 {
			t.Error("none of the requests was answered")
		}
		stillServes(t, p, 8)
		pass(2 * backend.LateWait)
		synctest.Wait()
		if s := p.Stats(); s.Open != 0 || p.Tracked() != 0 {
			t.Errorf("Stats a minute later = %+v, %d tracked; want all closed", s, p.Tracked())
		}
	})
}

func TestStormOverTCP(t *testing.T) {
	p, _ := overTCP(t, storm(0))
	p.Configure(backend.Settings{MaxConns: 8, MaxWaiting: 20, Wait: 50 * time.Millisecond})
	if weather(t, p, 32, 100, time.Millisecond) == 0 {
		t.Error("none of the requests was answered")
	}
	stillServes(t, p, 8)
}
