package proxy

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// Shutdown may come at any moment in the life of a connection, and a deadline
// set for the next request must not hide it.
func TestLeaveBeforeServeBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Proxy{}
		if _, err := p.Reconfigure(Settings{}); err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		defer theirs.Close()
		c := newConn(p, ours, netip.AddrPort{})
		c.leave(time.Unix(1, 0))
		start := time.Now()
		c.serve()
		if d := time.Since(start); d != 0 {
			t.Errorf("serve() of a connection that is to leave took %v; want nothing", d)
		}
	})
}
