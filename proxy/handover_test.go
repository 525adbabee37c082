package proxy_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// handOver starts a proxy in a bubble and hands it over with an idle time of 12 s
// and a limit of 20 s. It returns clients that were connected before, and the
// time that it took.
func handOver(t *testing.T, clients int, serve func(*fakeConn), during func([]*client)) (took time.Duration, err error) {
	t.Helper()
	servers, fronts := newMemory(), newMemory()
	f := &fake{t: t}
	stop := f.serve(servers, serve)
	defer stop()
	p := &proxy.Proxy{Dial: servers.dial}
	if _, err := p.Reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "s1", Address: "s1:42424", Weight: 1}}, Budget: time.Minute}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(fronts) }()
	var list []*client
	for range clients {
		nc, err := fronts.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, &client{t: t, c: nc, r: wire.NewReader(nc, 4<<10, 8<<10)})
	}
	synctest.Wait()
	began := time.Now()
	over := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		over <- p.HandOver(ctx, 12*time.Second)
	}()
	synctest.Wait()
	if _, err := fronts.dial(t.Context(), "", ""); err == nil {
		t.Error("a connection was accepted after the proxy was handed over")
	}
	during(list)
	err = <-over
	took = time.Since(began)
	if got := <-ended; got != proxy.ErrClosed {
		t.Errorf("Serve() = %v; want ErrClosed", got)
	}
	return took, err
}

// wantEnd fails the test unless the proxy closes the connection after d.
func (c *client) wantEnd(d time.Duration) {
	c.t.Helper()
	began := time.Now()
	if b, err := io.ReadAll(c.c); len(b) > 0 || err != nil {
		c.t.Errorf("read %q, %v; want the end", b, err)
	}
	if got := time.Since(began); got != d {
		c.t.Errorf("the connection was closed after %v; want %v", got, d)
	}
}

func TestHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took, err := handOver(t, 3, goodUntilClosed, func(list []*client) {
			<-time.After(5 * time.Second)
			list[0].wantGood(wire.OpGet, "a")
			list[0].wantEnd(0)
			<-time.After(6 * time.Second)
			list[1].wantGood(wire.OpSet, "b")
			list[1].wantEnd(0)
			list[2].wantEnd(time.Second)
		})
		if took != 12*time.Second || err != nil {
			t.Errorf("HandOver() = %v after %v; want nil after 12s", err, took)
		}
	})
}

// Nobody is waited for who leaves by himself.
func TestHandOverEndsWithTheClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took, err := handOver(t, 1, goodUntilClosed, func(list []*client) {
			<-time.After(3 * time.Second)
			list[0].c.Close()
		})
		if took != 3*time.Second || err != nil {
			t.Errorf("HandOver() = %v after %v; want nil after 3s", err, took)
		}
	})
}

// A request that is under way when connections are closed for being idle has
// until the limit.
func TestHandOverLimit(t *testing.T) {
	slow := func(after time.Duration) func(*fakeConn) {
		return func(c *fakeConn) {
			q, err := c.next()
			if err != nil {
				return
			}
			<-time.After(after)
			c.say(good(q.op, q.id))
		}
	}
	tests := []struct {
		name   string
		answer time.Duration
		whole  bool
	}{
		{"in time", 7 * time.Second, true},
		{"too late", 9500 * time.Millisecond, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				took, err := handOver(t, 1, slow(tt.answer), func(list []*client) {
					<-time.After(11 * time.Second)
					list[0].send(request(wire.OpGet, "a"))
					<-time.After(7 * time.Second)
					got, err := list[0].answer(wire.OpGet)
					if whole := err == nil && got == good(wire.OpGet, "a"); whole != tt.whole {
						t.Errorf("answer = %q, %v; want a whole one %v", got, err, tt.whole)
					}
				})
				if (err == nil) != tt.whole || took > 20*time.Second {
					t.Errorf("HandOver() = %v after %v; want an error %v, within 20s", err, took, !tt.whole)
				}
			})
		})
	}
}
