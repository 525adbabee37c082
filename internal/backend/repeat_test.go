package backend_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/internal/sock"
	"stateproxy/wire"
)

// harmless tells which operations may be sent again although the first try may
// have been carried out (protocol.md section 11).
var harmless = map[wire.Op]bool{
	wire.OpGet: true, wire.OpResetTimeout: true, wire.OpSetUninitialized: true,
	wire.OpGetExclusive: false, wire.OpSet: false, wire.OpRelease: false, wire.OpRemove: false,
}

// eachOp runs test for every operation.
func eachOp(t *testing.T, test func(t *testing.T, op wire.Op)) {
	for _, op := range ops {
		t.Run(op.String(), func(t *testing.T) { test(t, op) })
	}
}

// A pooled connection is broken, and nobody knows: no byte could be written,
// so every operation goes out on a new one.
func TestRepeatWhereNothingWasSent(t *testing.T) {
	eachOp(t, func(t *testing.T, op wire.Op) {
		pooled := make(chan struct{})
		p, f := inMemory(t, func(c *peer) {
			if c.n == 0 && c.next() {
				c.say(done)
				<-pooled
				return
			}
			good(c)
		})
		ask(t, p, wire.OpResetTimeout)
		close(pooled)
		eventually(t, "the connection is closed", func() bool { return f.serving() == 0 })
		x := exchange(op)
		x.Started = p.LastUsed() // young: used without a look
		if err := p.RoundTrip(t.Context(), x); err != nil {
			t.Fatalf("RoundTrip(%v) = %v; want a second try", op, err)
		}
		x.Release()
		want := []string{"0 reset_timeout", fmt.Sprint("1 ", op)}
		if got := f.requests(); !slices.Equal(got, want) {
			t.Errorf("requests = %v; want %v", got, want)
		}
		if s := p.Stats(); s.Repeated != 1 || s.Reused != 1 || s.Dials != 2 || s.Open != 1 {
			t.Errorf("Stats = %+v; want 1 repeated, 1 reused, 2 dials, 1 open", s)
		}
	})
}

// A pooled connection dies with the request on it.
func TestRepeatAfterSending(t *testing.T) {
	eachOp(t, func(t *testing.T, op wire.Op) {
		p, f := overTCP(t, func(c *peer) {
			if c.n == 0 && c.next() {
				c.say(done)
				c.next()
				return
			}
			good(c)
		})
		ask(t, p, wire.OpResetTimeout)
		first := []string{"0 reset_timeout", fmt.Sprint("0 ", op)}
		if harmless[op] {
			ask(t, p, op)
			want := append(first, fmt.Sprint("1 ", op))
			if got := f.requests(); !slices.Equal(got, want) || p.Stats().Repeated != 1 {
				t.Errorf("requests = %v, %d repeated; want %v, 1 repeated", got, p.Stats().Repeated, want)
			}
			return
		}
		e := fault(t, p, exchange(op))
		if e.Reason != backend.Closed || !e.Sent {
			t.Errorf("RoundTrip(%v) = %v, sent %v; want %v, sent", op, e, e.Sent, backend.Closed)
		}
		if got := f.requests(); !slices.Equal(got, first) || p.Stats().Repeated != 0 {
			t.Errorf("requests = %v, %d repeated; want %v and no repetition", got, p.Stats().Repeated, first)
		}
	})
}

// A pooled connection dies by a reset after the request on it was read, so soon
// that the backend's system has acknowledged none of it.
func TestRepeatAfterReset(t *testing.T) {
	eachOp(t, func(t *testing.T, op wire.Op) {
		const before = 5 // exchanges, after which acknowledgements wait for answers
		p, f := overTCP(t, func(c *peer) {
			if c.n > 0 {
				good(c)
				return
			}
			for range before {
				c.next()
				c.say(done)
			}
			c.next()
			c.reset()
		})
		for range before {
			ask(t, p, wire.OpResetTimeout)
		}
		want := []string{fmt.Sprint("0 ", op)}
		if harmless[op] {
			ask(t, p, op)
			want = append(want, fmt.Sprint("1 ", op))
		} else if e := fault(t, p, exchange(op)); e.Reason != backend.Closed || !e.Sent {
			t.Errorf("RoundTrip(%v) = %v, sent %v; want %v, sent", op, e, e.Sent, backend.Closed)
		}
		if got := f.requests()[before:]; !slices.Equal(got, want) {
			t.Errorf("requests = %v; want %v", got, want)
		}
	})
}

// A pooled connection that the backend closed before the request came, and
// nobody looked: where the system tells so, every operation goes out again.
func TestRepeatWhereNothingArrived(t *testing.T) {
	eachOp(t, func(t *testing.T, op wire.Op) {
		pooled := make(chan struct{})
		p, f := overTCP(t, func(c *peer) {
			if c.n == 0 && c.next() {
				c.say(done)
				<-pooled
				return
			}
			good(c)
		})
		ask(t, p, wire.OpResetTimeout)
		close(pooled)
		eventually(t, "the end is there", func() bool { return p.Quiet() == 0 && f.serving() == 0 })
		x := exchange(op)
		x.Started = p.LastUsed() // young: used without a look
		err := p.RoundTrip(t.Context(), x)
		if again := harmless[op] || sock.TellsDelivery; again != (err == nil) {
			t.Errorf("RoundTrip(%v) = %v; want a second try: %v", op, err, again)
		}
		x.Release()
		if got := f.requests(); len(got) > 2 || err == nil && got[1] != fmt.Sprint("1 ", op) {
			t.Errorf("requests = %v; want %v to have arrived once at most", got, op)
		}
	})
}

// The second try is the last, and nothing is tried twice on a new connection.
func TestRepeatOnce(t *testing.T) {
	eachOp(t, func(t *testing.T, op wire.Op) {
		p, f := overTCP(t, func(c *peer) {
			if c.n == 0 && c.next() {
				c.say(done)
			}
			c.next()
		})
		ask(t, p, wire.OpResetTimeout)
		tries := 1
		if harmless[op] {
			tries = 2
		}
		if e := fault(t, p, exchange(op)); e.Reason != backend.Closed || !e.Sent {
			t.Errorf("RoundTrip(%v) = %v, sent %v; want %v, sent", op, e, e.Sent, backend.Closed)
		}
		if got := f.requests(); len(got) != 1+tries {
			t.Errorf("requests = %v; want %d of %v", got, tries, op)
		}
		before := len(f.requests())
		fault(t, p, exchange(op)) // on a new connection now
		if got := f.requests(); len(got) != before+1 {
			t.Errorf("requests = %v; want one more", got)
		}
		if s := p.Stats(); s.Open != 0 || s.Repeated != int64(tries-1) {
			t.Errorf("Stats = %+v; want none open, %d repeated", s, tries-1)
		}
	})
}

// Once a byte of an answer came, or time is up, nothing is repeated.
func TestNoRepeatAfterAnAnswerBegan(t *testing.T) {
	for _, begin := range []string{"2", "200 OK\r\nContent-Le", "200 OK\r\nContent-Length: 9\r\n\r\nbod"} {
		eachOp(t, func(t *testing.T, op wire.Op) {
			if op == wire.OpResetTimeout && strings.HasSuffix(begin, "bod") {
				return // HEAD has no body: this answer is whole, and bytes follow
			}
			p, f := overTCP(t, func(c *peer) {
				if c.n == 0 && c.next() {
					c.say(done)
				}
				c.next()
				c.say(begin)
			})
			ask(t, p, wire.OpResetTimeout)
			if e := fault(t, p, exchange(op)); e.Reason != backend.CutAnswer || !e.Sent {
				t.Errorf("RoundTrip(%v) = %v; want %v", op, e, backend.CutAnswer)
			}
			if got := f.requests(); len(got) != 2 || p.Stats().Repeated != 0 {
				t.Errorf("requests = %v; want one try", got)
			}
		})
	}
}

func TestNoRepeatAfterTimeout(t *testing.T) {
	eachOp(t, func(t *testing.T, op wire.Op) {
		synctest.Test(t, func(t *testing.T) {
			p, f := inMemory(t, func(c *peer) {
				if c.next() {
					c.say(done)
				}
				c.next()
				c.gone()
			})
			ask(t, p, wire.OpResetTimeout)
			if e := fault(t, p, exchange(op)); e.Reason != backend.Timeout || !e.Sent {
				t.Errorf("RoundTrip(%v) = %v; want %v", op, e, backend.Timeout)
			}
			if got := f.requests(); len(got) != 2 || p.Stats().Repeated != 0 {
				t.Errorf("requests = %v; want one try", got)
			}
		})
	})
}

// A body that streams can't be sent again, even where that would be harmless.
func TestNoRepeatOfLongBody(t *testing.T) {
	p, f := overTCP(t, func(c *peer) {
		if c.n == 0 && c.next() {
			c.say(done)
		}
		c.next()
	})
	ask(t, p, wire.OpResetTimeout)
	x := longSet(io.LimitReader(zeros{}, 1<<20), 1<<20)
	x.Op = wire.OpSetUninitialized
	if e := fault(t, p, x); e.Reason != backend.Closed || !e.Sent {
		t.Errorf("RoundTrip = %v, sent %v; want %v, sent", e, e.Sent, backend.Closed)
	}
	if got := f.requests(); len(got) != 2 || p.Stats().Repeated != 0 {
		t.Errorf("requests = %v; want one try", got)
	}
}

// resetInPool returns a pool whose backend resets the one connection in it, and
// serves others.
func resetInPool(t *testing.T) (*backend.Pool, *farm) {
	t.Helper()
	pooled := make(chan struct{})
	p, f := overTCP(t, func(c *peer) {
		if c.n == 0 && c.next() {
			c.say(done)
			<-pooled
			c.reset()
			return
		}
		good(c)
	})
	ask(t, p, wire.OpResetTimeout)
	close(pooled)
	return p, f
}

// A body that can't be sent twice is not sent on a connection that has died in
// the pool, however short its time there was.
func TestLongBodyLooksFirst(t *testing.T) {
	p, f := resetInPool(t)
	eventually(t, "the reset is there", func() bool { return p.Quiet() == 0 })
	x := longSet(io.LimitReader(zeros{}, 1<<20), 1<<20)
	x.Started = p.LastUsed()
	if err := p.RoundTrip(t.Context(), x); err != nil {
		t.Fatalf("RoundTrip(%v) = %v; want nil", x.Op, err)
	}
	x.Release()
	if got := f.requests(); len(got) != 2 || p.Stats().Repeated != 0 {
		t.Errorf("requests = %v, %d repeated; want two, none repeated", got, p.Stats().Repeated)
	}
}

// One dead connection tells of the others: all are dropped with it.
func TestRepeatDropsAllIdle(t *testing.T) {
	open, pooled := make(chan struct{}), make(chan struct{})
	p, f := inMemory(t, func(c *peer) {
		if c.n > 2 {
			good(c)
			return
		}
		c.next()
		<-open
		c.say(found)
		<-pooled
	})
	hold(t, p, f, 3, open)
	close(pooled)
	eventually(t, "the connections are closed", func() bool { return f.serving() == 0 })
	x := exchange(wire.OpSet)
	x.Started = p.LastUsed()
	if err := p.RoundTrip(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	x.Release()
	if s := p.Stats(); s.Dropped != 2 || s.Open != 1 || s.Idle != 1 || s.Dials != 4 {
		t.Errorf("Stats = %+v; want 2 dropped beside the one used, 1 open, 4 dials", s)
	}
}

// With all connections busy, a repetition waits for its turn and takes no
// pooled connection even then.
func TestRepeatWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := inMemory(t, func(c *peer) {
			for i := 0; c.next(); i++ {
				switch {
				case c.n == 0 && i == 1:
					pass(time.Second)
					return
				case c.n == 0:
					c.say(done)
				default:
					pass(3 * time.Second)
					c.say(right(c.req.Op()))
				}
			}
		})
		p.Configure(backend.Settings{MaxConns: 1, Wait: 10 * time.Second})
		ask(t, p, wire.OpResetTimeout)
		first := make(chan struct{})
		go func() { defer close(first); ask(t, p, wire.OpGet) }()
		synctest.Wait()
		ask(t, p, wire.OpRemove) // waits, and gets the place of the dead connection
		<-first
		want := []string{"0 reset_timeout", "0 get", "1 remove", "2 get"}
		if got := f.requests(); !slices.Equal(got, want) {
			t.Errorf("requests = %v; want %v", got, want)
		}
		if s := p.Stats(); s.Open != 1 || s.Idle != 1 || s.Waits != 2 {
			t.Errorf("Stats = %+v; want 1 open and idle, 2 waits", s)
		}
	})
}

// zeros is a stream without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// longSet returns a PUT whose body of n bytes comes from r.
func longSet(r io.Reader, n int64) *backend.Exchange {
	req := wire.Request{
		Verb: wire.PUT, Target: []byte("%2fa"), Timeout: wire.Some(20), ContentLength: wire.Some(n + 5),
		ExtraFlags: wire.Some(0),
	}
	return &backend.Exchange{
		Op: wire.OpSet, Request: append(wire.AppendRequest(nil, &req), "begin"...),
		Rest: r, RestLen: n, Deadline: time.Now().Add(patience),
	}
}
