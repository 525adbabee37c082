package proxy_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// waitingClient is a case of TestNobodyWaitsForOthers.
type waitingClient struct {
	name    string
	prepare func(t *testing.T, s *proxy.Settings, slow string) // settings for what comes
	then    func(t *testing.T, s *proxy.Settings)              // and for when it has begun; may be nil
	wait    func(c *client)                                    // what a client asks for that will not be answered
	local   bool                                               // the proxy answers it itself
}

const slowSite = "%2fslow%2fROOT(oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5%2fHxWS854%3d)%2f"

// More clients than there are workers have something under way that waits, each for
// another reason, and everybody else is served all the same.
func TestNobodyWaitsForOthers(t *testing.T) {
	large := strings.Repeat("x", 8<<20)
	slowPool := func(s *proxy.Settings, b proxy.Backend) {
		s.Backends = append(s.Backends, b)
		s.Pools = []proxy.Pool{{Name: "slow", Applications: []string{"/slow/*"}, Backends: []string{b.Name}}}
	}
	toSlow := func(_ *testing.T, s *proxy.Settings, slow string) {
		slowPool(s, proxy.Backend{Name: "slow", Address: slow, Weight: 1})
	}
	askSlow := func(c *client) { c.send([]byte("HEAD " + slowSite + "a HTTP/1.1\r\nHost: a\r\n\r\n")) }
	unread := func(c *client) {
		_ = c.c.(*net.TCPConn).SetReadBuffer(4 << 10)
		c.send(wire.AppendRequest(nil, &wire.Request{Verb: wire.GET, Target: target("large")}))
	}
	tests := []waitingClient{
		{name: "dial", prepare: func(_ *testing.T, s *proxy.Settings, _ string) {
			slowPool(s, proxy.Backend{Name: "slow", Address: "dial.test:1", Weight: 1})
		}, wait: askSlow},
		{name: "answer", prepare: toSlow, wait: askSlow},
		{name: "queue for a connection", prepare: func(t *testing.T, s *proxy.Settings, slow string) {
			toSlow(t, s, slow)
			s.BackendConns, s.BackendWait = 1, time.Minute
		}, wait: askSlow},
		{name: "body that streams in", prepare: toSlow, wait: func(c *client) {
			c.send([]byte("PUT " + string(target("in")) + " HTTP/1.1\r\nHost: a\r\nTimeout: 20\r\nContent-Length: 1000000\r\n\r\nbegin"))
		}},
		{name: "answer that streams out", prepare: toSlow, wait: unread},
		{name: "whole answer that is not read", prepare: func(t *testing.T, s *proxy.Settings, slow string) {
			toSlow(t, s, slow)
			s.MaxWhole = 16 << 20
		}, wait: unread},
		{name: "former owner", prepare: toSlow, then: func(t *testing.T, s *proxy.Settings) {
			slowPool(s, proxy.Backend{Name: "new", Address: stateserver.RunT(t).Addr(), Weight: 1})
		}, wait: askSlow},
		{name: "requests without end", prepare: toSlow, local: true, wait: func(c *client) {
			head := strings.Repeat("HEAD %2fstateproxy%2fproxy HTTP/1.1\r\nHost: a\r\n\r\n", 200)
			go io.Copy(io.Discard, c.c)
			go func() {
				for {
					if _, err := io.WriteString(c.c, head); err != nil {
						return
					}
				}
			}()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			silent := startFake(t, func(c *fakeConn) { io.Copy(io.Discard, c) })
			s := proxy.Settings{
				Backends: backends(stateserver.RunT(t)), Budget: time.Minute, ClientStall: time.Minute, DialTimeout: time.Minute,
			}
			good := s.Backends
			tt.prepare(t, &s, silent.addr)
			r := startRig(t, s, func(p *proxy.Proxy) {
				var d net.Dialer
				p.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if address == "dial.test:1" {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return d.DialContext(ctx, network, address)
				}
			})
			dial(t, r.addr).put("large", large, wire.Int{})
			if tt.then != nil {
				s.Backends = append([]proxy.Backend(nil), good...)
				tt.then(t, &s)
				r.reconfigure(s)
			}
			n, left := runtime.GOMAXPROCS(0)+2, 100
			if tt.local { // and takes time for it
				n, left = 1, 5
			}
			for range n {
				tt.wait(dial(t, r.addr))
			}
			others := []*client{dial(t, r.addr), dial(t, r.addr), dial(t, r.addr), dial(t, r.addr)}
			for left > 0 {
				for _, c := range others {
					c.head("other")
				}
				if tt.local || r.proxy.Status().InFlight == n {
					left--
				}
			}
		})
	}
}
