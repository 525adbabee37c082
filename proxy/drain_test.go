package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"stateproxy/proxy"
	"stateproxy/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("stateproxy/internal/sock.(*Worker).run"))
}

// holding returns a backend that answers only when told to.
func holding(answer <-chan struct{}) func(*fakeConn) {
	return func(c *fakeConn) {
		for {
			q, err := c.next()
			if err != nil {
				return
			}
			<-answer
			c.say(good(q.op, q.id))
		}
	}
}

func TestShutdownFinishesWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		b := newBubble(t, proxy.Settings{}, holding(answer))
		defer b.stop()
		idle, busy, begun, more := b.client(), b.client(), b.client(), b.client()
		put := request(wire.OpSet, "begun")
		begun.send(put[:50])
		busy.send(request(wire.OpSet, "busy"))
		more.send(append(request(wire.OpSet, "more"), request(wire.OpSet, "never")...))
		synctest.Wait()
		ended := make(chan error)
		go func() { ended <- b.proxy.Shutdown(t.Context()) }()
		synctest.Wait()
		if n, err := io.ReadAll(idle.c); len(n) > 0 || err != nil {
			t.Errorf("idle connection: %q, %v; want its end", n, err)
		}
		if nc, err := b.clients.dial(t.Context(), "", ""); err == nil {
			nc.Close()
			t.Error("a new connection was accepted after Shutdown")
		}
		begun.send(put[50:])
		close(answer)
		for c, id := range map[*client]string{busy: "busy", begun: "begun", more: "more"} {
			if got, err := c.answer(wire.OpSet); got != good(wire.OpSet, id) || err != nil {
				t.Errorf("answer to %s = %q, %v; want its own", id, got, err)
			}
			if n, err := io.ReadAll(c.c); len(n) > 0 || err != nil {
				t.Errorf("after the answer to %s: %q, %v; want the end", id, n, err)
			}
		}
		if err := <-ended; err != nil {
			t.Errorf("Shutdown() = %v; want nil", err)
		}
		if n := len(b.fake.requests("never")); n != 0 {
			t.Error("a request that had not begun was forwarded")
		}
		if s := b.proxy.Status(); s.Conns != 0 || s.InFlight != 0 || s.Backends[0].Conns.Open != 0 {
			t.Errorf("after Shutdown: %d connections, %d in flight, %d to the backend; want none", s.Conns, s.InFlight, s.Backends[0].Conns.Open)
		}
	})
}

func TestShutdownCutsWhatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, proxy.Settings{Budget: time.Hour}, func(c *fakeConn) {
			_, _ = c.next()
			_, _ = c.next()
		})
		defer b.stop()
		c := b.client()
		c.send(request(wire.OpSet, "a"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		if err := b.proxy.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() = %v; want the context's error", err)
		}
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("Shutdown() took %v; want 5s", d)
		}
		if n, _ := io.ReadAll(c.c); len(n) > 0 {
			t.Errorf("the client got %q; want nothing", n)
		}
	})
}

func TestCloseCutsAtOnce(t *testing.T) {
	tests := []struct {
		name string
		busy func(t *testing.T, b *bubble)
	}{
		{"request at the backend", func(*testing.T, *bubble) {}},
		{"backend has left the settings", func(t *testing.T, b *bubble) {
			other := proxy.Backend{Name: "s2", Address: "s2:42424", Weight: 1}
			b.reconfigure(proxy.Settings{Backends: []proxy.Backend{other}, HandoffWindow: time.Second, Budget: time.Hour})
			<-time.After(25 * time.Minute) // the sessions' time-out and a little
			b.reconfigure(proxy.Settings{Backends: []proxy.Backend{other}, Budget: time.Hour})
			if n := len(b.proxy.Status().Backends); n != 1 {
				t.Errorf("%d backends are known; want the first one forgotten", n)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t, proxy.Settings{Budget: time.Hour}, func(c *fakeConn) {
					_, _ = c.next()
					_, _ = c.next()
				})
				defer b.stop()
				c := b.client()
				c.send(request(wire.OpSet, "a"))
				synctest.Wait()
				tt.busy(t, b)
				start := time.Now()
				if err := b.proxy.Close(); err != nil {
					t.Errorf("Close() = %v; want nil", err)
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("Close() took %v; want nothing", d)
				}
				if n, _ := io.ReadAll(c.c); len(n) > 0 {
					t.Errorf("the client got %q; want nothing", n)
				}
			})
		})
	}
}

// A connection that comes into being while the proxy closes must not outlive
// it.
func TestCloseWhileDialing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, proxy.Settings{}, goodUntilClosed)
		defer b.stop()
		b.proxy.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, theirs) }() // silent
			<-ctx.Done()
			return ours, nil
		}
		b.reconfigure(proxy.Settings{
			Backends: []proxy.Backend{{Name: "s2", Address: "s2:42424", Weight: 1}},
			Budget:   time.Hour, DialTimeout: time.Hour, HandoffWindow: time.Second,
		})
		<-time.After(time.Minute)
		c := b.client()
		c.send(request(wire.OpSet, "a"))
		synctest.Wait()
		start := time.Now()
		b.proxy.Close()
		if d := time.Since(start); d != 0 {
			t.Errorf("Close() took %v; want nothing", d)
		}
	})
}

func TestServeErrors(t *testing.T) {
	if err := new(proxy.Proxy).Serve(newMemory()); err == nil || !strings.Contains(err.Error(), "no settings") {
		t.Errorf("Serve() without settings = %v; want an error that says so", err)
	}
	p := &proxy.Proxy{}
	if _, err := p.Reconfigure(proxy.Settings{}); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if err := p.Serve(newMemory()); err != proxy.ErrClosed {
		t.Errorf("Serve() after Close = %v; want ErrClosed", err)
	}
	if err := p.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown() after Close = %v; want nil", err)
	}
}

func TestServeOnSeveralListeners(t *testing.T) {
	f := startFake(t, goodUntilClosed)
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error)
	go func() { second <- r.proxy.Serve(ln) }()
	dial(t, r.addr).wantGood(wire.OpGet, "a")
	dial(t, ln.Addr().String()).wantGood(wire.OpGet, "a")
	shutdown(t, r.proxy)
	if err := <-second; err != proxy.ErrClosed {
		t.Errorf("Serve() = %v; want ErrClosed", err)
	}
}
