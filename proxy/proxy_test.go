package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"stateproxy/proxy"
	"stateproxy/wire"
)

func TestRoutesEverySessionToOneBackend(t *testing.T) {
	servers := startServers(t, 3)
	r := newRig(t, proxy.Settings{Backends: backends(servers...)})
	c := dial(t, r.addr)
	const n = 300
	for i := range n {
		id := fmt.Sprintf("session%d", i)
		body := strings.Repeat(id, 1+i)
		if a := c.put(id, body, wire.Some(0)); a.Status != 200 {
			t.Fatalf("PUT = %d; want 200", a.Status)
		}
		a := c.acquire(id)
		if a.Status != 200 || a.body != body || a.LockCookie != wire.Some(2) {
			t.Fatalf("acquire = %d, %d bytes, cookie %v; want 200, %d bytes, cookie 2", a.Status, len(a.body), a.LockCookie, len(body))
		}
		if a := c.put(id, body+"!", a.LockCookie); a.Status != 200 {
			t.Fatalf("second PUT = %d; want 200", a.Status)
		}
	}
	total := 0
	for i, s := range servers {
		if s.Len() < n/6 {
			t.Errorf("server %d holds %d of %d sessions; want about a third", i+1, s.Len(), n)
		}
		total += s.Len()
	}
	if total != n {
		t.Errorf("servers hold %d sessions in all; want %d", total, n)
	}
	for i := range n {
		id := fmt.Sprintf("session%d", i)
		if a := c.get(id); a.Status != 200 || a.body != strings.Repeat(id, 1+i)+"!" {
			t.Fatalf("GET of session %d = %d, %d bytes", i, a.Status, len(a.body))
		}
	}
	shutdown(t, r.proxy)
}

func TestLongBodiesStreamBothWays(t *testing.T) {
	servers := startServers(t, 2)
	r := newRig(t, proxy.Settings{Backends: backends(servers...), MaxWhole: 16 << 10})
	c := dial(t, r.addr)
	for _, size := range []int{15 << 10, 16 << 10, 17 << 10, 1 << 20, 9 << 20} {
		body := strings.Repeat("0123456789abcdef", size/16)
		if a := c.put("long", body, wire.Int{}); a.Status != 200 {
			t.Fatalf("PUT of %d bytes = %d; want 200", size, a.Status)
		}
		if a := c.get("long"); a.Status != 200 || a.body != body {
			t.Fatalf("GET of %d bytes = %d, %d bytes", size, a.Status, len(a.body))
		}
	}
}

func TestHandoffBringsSessionsOver(t *testing.T) {
	servers := startServers(t, 4)
	all := backends(servers...)
	r := newRig(t, proxy.Settings{Backends: all[:3], MaxWhole: 16 << 10})
	c := dial(t, r.addr)
	const n = 200
	body := func(i int) string { return strings.Repeat(fmt.Sprintf("body of %d;", i), 1+i*20) }
	for i := range n {
		c.put(fmt.Sprint("id", i), body(i), wire.Some(0))
	}
	r.reconfigure(proxy.Settings{Backends: all, MaxWhole: 16 << 10})
	for i := range n {
		id := fmt.Sprint("id", i)
		a := c.acquire(id)
		if a.Status != 200 || a.body != body(i) {
			t.Fatalf("acquire after the change = %d, %d bytes; want 200, %d bytes", a.Status, len(a.body), len(body(i)))
		}
		if a := c.put(id, body(i), a.LockCookie); a.Status != 200 {
			t.Fatalf("PUT after the change = %d", a.Status)
		}
	}
	if servers[3].Len() < n/8 {
		t.Errorf("new server holds %d of %d sessions; want about a quarter", servers[3].Len(), n)
	}
	total := 0
	for _, s := range servers {
		total += s.Len()
	}
	if total != n {
		t.Errorf("%d copies of %d sessions", total, n)
	}
}
