package proxy_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// wantRefused fails the test unless the proxy closes the connection unasked.
func wantRefused(t *testing.T, c *client) {
	t.Helper()
	if b, err := io.ReadAll(c.c); len(b) > 0 || err != nil {
		t.Errorf("connection beyond the limit: read %q, %v; want the end", b, err)
	}
}

func TestMaxConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, proxy.Settings{MaxConns: 2}, goodUntilClosed)
		defer b.stop()
		first, second := b.client(), b.client()
		first.wantGood(wire.OpGet, "a")
		second.wantGood(wire.OpGet, "b")
		wantRefused(t, b.client())
		if s := b.proxy.Status(); s.Conns != 2 || s.Accepted != 2 || s.Refused != 1 {
			t.Errorf("Status() = %d open, %d accepted, %d refused; want 2, 2, 1", s.Conns, s.Accepted, s.Refused)
		}
		first.c.Close()
		synctest.Wait()
		b.client().wantGood(wire.OpGet, "c")
		second.wantGood(wire.OpGet, "d")
		b.reconfigure(proxy.Settings{Backends: []proxy.Backend{b.fake.backend("s1")}, MaxConns: 3})
		if got := b.proxy.Status().MaxConns; got != 3 {
			t.Errorf("Status().MaxConns after a reload = %d; want 3", got)
		}
		b.client().wantGood(wire.OpGet, "e")
		wantRefused(t, b.client())
	})
}

func TestMaxConnsPerClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, proxy.Settings{MaxConnsPerClient: 1}, goodUntilClosed)
		defer b.stop()
		from := func(ip string) *client {
			b.clients.from = ip
			return b.client()
		}
		first := from("10.0.0.1")
		first.wantGood(wire.OpGet, "a")
		if o := b.lastOutcome(1); o.Client.Addr().String() != "10.0.0.1" {
			t.Errorf("outcome's client = %v; want 10.0.0.1", o.Client)
		}
		wantRefused(t, from("10.0.0.1"))
		wantRefused(t, from("::ffff:10.0.0.1"))
		from("10.0.0.2").wantGood(wire.OpGet, "b")
		first.wantGood(wire.OpGet, "c")
		first.c.Close()
		synctest.Wait()
		from("10.0.0.1").wantGood(wire.OpGet, "d")
	})
}

func TestBackendQueueIsBounded(t *testing.T) {
	tests := []struct {
		name   string
		free   bool // the connection becomes free while the second waits
		answer string
		reason proxy.Reason
	}{
		{"free in time", true, good(wire.OpSet, "second"), ""},
		{"not free in time", false, failure, "wait_timeout"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testBackendQueue(t, tt.free, tt.answer, tt.reason) })
		})
	}
}

func testBackendQueue(t *testing.T, free bool, answer string, reason proxy.Reason) {
	busy := make(chan struct{})
	b := newBubble(t, proxy.Settings{
		OnUnavailable: proxy.Wait, BackendConns: 1, BackendQueue: 1, BackendWait: 500 * time.Millisecond,
	}, func(c *fakeConn) {
		for {
			q, err := c.next()
			if err != nil {
				return
			}
			if q.id == "first" {
				<-busy
			}
			c.say(good(q.op, q.id))
		}
	})
	defer b.stop()
	first, second, third := b.client(), b.client(), b.client()
	first.send(request(wire.OpGet, "first"))
	synctest.Wait()
	second.send(request(wire.OpSet, "second"))
	synctest.Wait()
	start := time.Now()
	// That is no outage, so nobody is told to wait for its end.
	if got, err := third.exchange(wire.OpGet, "third"); got != failure || err != nil || time.Since(start) != 0 {
		t.Errorf("request that found the queue full = %q, %v after %v; want F at once", got, err, time.Since(start))
	}
	if o := b.lastOutcome(1); o.Reason != "queue_full" {
		t.Errorf("outcome = %s; want queue_full", o.Reason)
	}
	if free {
		close(busy)
		first.answer(wire.OpGet)
	}
	if got, err := second.answer(wire.OpSet); got != answer || err != nil {
		t.Errorf("request that waited = %q, %v; want %q", got, err, answer)
	}
	if !free {
		if d := time.Since(start); d != 500*time.Millisecond {
			t.Errorf("it waited %v; want 500ms", d)
		}
		close(busy)
		first.answer(wire.OpGet)
	}
	synctest.Wait()
	for _, o := range b.outcomes[1:] {
		if o.Op == wire.OpSet && o.Reason != reason {
			t.Errorf("outcome of the waiting request = %q; want %q", o.Reason, reason)
		}
	}
	conns := b.proxy.Status().Backends[0].Conns
	if conns.Open != 1 || conns.Waiting != 0 || conns.Waits != 1 || conns.Dials != 1 {
		t.Errorf("connections: %d open, %d waiting, %d waits, %d dials; want 1, 0, 1, 1", conns.Open, conns.Waiting, conns.Waits, conns.Dials)
	}
	third.wantGood(wire.OpGet, "afterwards")
}

func TestBackendQueueIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := make(chan struct{})
		b := newBubble(t, proxy.Settings{BackendConns: 1}, func(c *fakeConn) {
			for {
				q, err := c.next()
				if err != nil {
					return
				}
				<-busy
				c.say(good(q.op, q.id))
			}
		})
		defer b.stop()
		ids := []string{"a", "b", "c", "d", "e"}
		var clients []*client
		for _, id := range ids {
			c := b.client()
			c.send(request(wire.OpGet, id))
			clients = append(clients, c)
			synctest.Wait()
		}
		close(busy)
		for i, c := range clients {
			if got, err := c.answer(wire.OpGet); got != good(wire.OpGet, ids[i]) || err != nil {
				t.Errorf("answer %d = %q, %v", i, got, err)
			}
		}
		for i, q := range b.fake.requests("") {
			if q.id != ids[i] {
				t.Errorf("request %d at the backend was %s; want %s", i, q.id, ids[i])
			}
		}
	})
}

func TestIdleClientsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, proxy.Settings{ClientIdle: 30 * time.Second}, goodUntilClosed)
		defer b.stop()
		silent, used := b.client(), b.client()
		start := time.Now()
		for range 5 {
			<-time.After(20 * time.Second)
			used.wantGood(wire.OpGet, "a")
		}
		wantRefused(t, silent)
		wantRefused(t, used)
		if d := time.Since(start); d < 130*time.Second || d > 138*time.Second {
			t.Errorf("connection closed %v after the start; want 30s to 38s after its last request at 100s", d)
		}
		if n := b.count(); n != 5 {
			t.Errorf("%d outcomes; want only those of the 5 requests", n)
		}
		if s := b.proxy.Status(); s.Conns != 0 || s.Backends[0].Conns.Open != 0 {
			t.Errorf("%d client connections, %d backend connections are open; want none", s.Conns, s.Backends[0].Conns.Open)
		}
	})
}

func TestIdleBackendConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, proxy.Settings{BackendIdle: 8 * time.Second}, goodUntilClosed)
		defer b.stop()
		c := b.client()
		c.wantGood(wire.OpGet, "a")
		<-time.After(7 * time.Second)
		c.wantGood(wire.OpGet, "b")
		if n := b.proxy.Status().Backends[0].Conns; n.Dials != 1 || n.Reused != 1 {
			t.Errorf("%d dials, %d reused; want 1 and 1", n.Dials, n.Reused)
		}
		<-time.After(13 * time.Second)
		if n := b.proxy.Status().Backends[0].Conns; n.Open != 0 || n.Idle != 0 || n.Dropped != 1 {
			t.Errorf("%d open, %d idle, %d dropped; want 0, 0, 1", n.Open, n.Idle, n.Dropped)
		}
		c.wantGood(wire.OpGet, "c")
	})
}
