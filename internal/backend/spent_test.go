package backend_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/wire"
)

// slowly serves requests with time between all that it does. The end of the
// pipe takes a request when it is read, not before.
func slowly(c *peer) {
	for {
		pass(2 * time.Second)
		if !c.next() {
			return
		}
		pass(3 * time.Second)
		head, body, _ := strings.Cut(found, "\r\n\r\n")
		c.say(head)
		pass(time.Second)
		c.say("\r\n\r\n")
		pass(3 * time.Second)
		c.say(body)
	}
}

// dialSlowly makes each connection of p take five seconds.
func dialSlowly(p *backend.Pool) {
	dial := p.Dial
	p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		pass(5 * time.Second)
		return dial(ctx, network, address)
	}
}

func TestSpent(t *testing.T) {
	const sec = time.Second
	tests := []struct {
		name   string
		script func(c *peer)
		ops    []wire.Op // each begins while the one before is under way
		want   []backend.Spent
	}{
		{"a connection of its own", slowly, []wire.Op{wire.OpGet}, []backend.Spent{{Connect: 5 * sec, Send: 2 * sec, Body: 4 * sec}}},
		{"one that another uses", slowly, []wire.Op{wire.OpGet, wire.OpGet}, []backend.Spent{
			{Connect: 5 * sec, Send: 2 * sec, Body: 4 * sec},
			{Queue: 14 * sec, Send: 2 * sec, Body: 4 * sec},
		}},
		{"an answer at once", good, []wire.Op{wire.OpGet}, []backend.Spent{{Connect: 5 * sec}}},
		{"an answer that breaks off", func(c *peer) {
			c.next()
			c.say(found[:9])
			pass(6 * sec)
		}, []wire.Op{wire.OpGet}, []backend.Spent{{Connect: 5 * sec, Body: 6 * sec}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, _ := inMemory(t, tt.script)
				dialSlowly(p)
				p.Configure(backend.Settings{MaxConns: 1, Wait: time.Minute, DialTimeout: time.Minute})
				var wg sync.WaitGroup
				for i, op := range tt.ops {
					wg.Go(func() {
						x := exchange(op)
						_ = p.RoundTrip(t.Context(), x) // one of them fails
						x.Release()
						if x.Spent != tt.want[i] {
							t.Errorf("exchange %d: Spent = %+v; want %+v", i, x.Spent, tt.want[i])
						}
					})
					synctest.Wait()
				}
				wg.Wait()
			})
		})
	}
}

// Time that was spent in vain counts, too.
func TestSpentInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		p, _ := inMemory(t, gate(open))
		dialSlowly(p)
		p.Configure(backend.Settings{MaxConns: 1, Wait: 4 * time.Second, DialTimeout: 3 * time.Second})
		x := exchange(wire.OpGet)
		p.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		var wg sync.WaitGroup
		wg.Go(func() { fault(t, p, x) })
		synctest.Wait()
		y := exchange(wire.OpGet)
		fault(t, p, y) // gets the leave to dial when the first gives up
		wg.Wait()
		if want := (backend.Spent{Connect: 3 * time.Second}); x.Spent != want {
			t.Errorf("Spent without a connection = %+v; want %+v", x.Spent, want)
		}
		if want := (backend.Spent{Queue: 3 * time.Second, Connect: 3 * time.Second}); y.Spent != want {
			t.Errorf("Spent in the queue = %+v; want %+v", y.Spent, want)
		}
		close(open)
	})
}

func TestSpentSendingALongRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := inMemory(t, slowly)
		x := exchange(wire.OpSet)
		x.Deadline = time.Now().Add(time.Minute)
		x.Rest, x.RestLen = strings.NewReader("ent"), 3
		x.Request = x.Request[:len(x.Request)-3]
		if err := p.RoundTrip(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		x.Release()
		if x.Spent.Send != 2*time.Second {
			t.Errorf("Spent.Send = %v; want 2s", x.Spent.Send)
		}
	})
}
