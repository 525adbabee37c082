package proxy_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// dialFrom connects from one of the addresses of loopback, which only Linux has
// more than one of.
func dialFrom(t *testing.T, ip, to string) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	nc, err := d.DialContext(context.Background(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: t, c: nc, r: wire.NewReader(nc, 4<<10, 8<<10)}
}

// TestLimitsOverTCP: each address has its own limits, and one that floods leaves
// the others alone.
func TestLimitsOverTCP(t *testing.T) {
	s := on(proxy.Listener{Access: proxy.Access{Deny: networks("127.0.0.9/32")}})
	s.Backends, s.MaxConnsPerClient = backends(startServers(t, 1)...), 2
	r := newRig(t, s)
	var open []*client
	for _, ip := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
		for range 2 {
			c := dialFrom(t, ip, r.addr)
			if a := c.put("a", "body", wire.Int{}); a.Status != 200 {
				t.Errorf("save from %s = %d; want 200", ip, a.Status)
			}
			open = append(open, c)
		}
	}
	for _, ip := range []string{"127.0.0.2", "127.0.0.9"} {
		if b, err := io.ReadAll(dialFrom(t, ip, r.addr).c); len(b) > 0 || err != nil && !isReset(err) {
			t.Errorf("connection of %s: read %q, %v; want the end", ip, b, err)
		}
	}
	for _, c := range open {
		if a := c.get("a"); a.Status != 200 || a.body != "body" {
			t.Errorf("read by a client within its limit = %d, %q; want 200", a.Status, a.body)
		}
	}
	if s := r.proxy.Status(); s.Conns != 6 || s.Refused != 2 {
		t.Errorf("Status() = %d open, %d refused; want 6, 2", s.Conns, s.Refused)
	}
}
