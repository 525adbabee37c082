package proxy_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// headerOf makes a PROXY header of version 1.
func headerOf(ip string) string {
	return "PROXY TCP4 " + ip + " 10.0.0.5 40000 42424\r\n"
}

func balanced() proxy.Settings {
	return on(proxy.Listener{
		Access:        proxy.Access{Allow: networks("10.1.0.0/16")},
		ProxyProtocol: networks("10.0.0.5/32"),
	})
}

func TestProxyHeader(t *testing.T) {
	const v2 = "\r\n\r\n\x00\r\nQUIT\n"
	local := v2 + "\x20\x00\x00\x00"
	four := v2 + "\x21\x11\x00\x0c\x0a\x01\x00\x02\x0a\x00\x00\x05\x9c\x40\xa5\xb8"
	tests := []struct {
		name    string
		peer    string
		header  string
		client  string       // that requests come from; "" if the connection is closed
		refused proxy.Reason // "" if it is served
	}{
		{"version 1", "10.0.0.5", headerOf("10.1.0.1"), "10.1.0.1:40000", ""},
		{"version 2", "10.0.0.5", four, "10.1.0.2:40000", ""},
		{"a client that may not", "10.0.0.5", headerOf("10.2.0.1"), "", proxy.NotAllowed},
		{"the balancer itself, which may not", "10.0.0.5", local, "", proxy.NotAllowed},
		{"no header", "10.0.0.5", string(request(wire.OpGet, "a")), "", proxy.BadProxyHeader},
		{"wrong header", "10.0.0.5", "PROXY TCP4 10.1.0.1 10.0.0.5 x y\r\n", "", proxy.BadProxyHeader},
		{"a client of its own", "10.1.0.1", "", "10.1.0.1:2", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDoorRig(t, balanced())
				defer d.stop()
				c := d.from(tt.peer)
				if tt.header != "" {
					go c.c.Write([]byte(tt.header))
					synctest.Wait()
				}
				if tt.client == "" {
					wantRefused(t, c)
					r := d.wantRefusal(1, d.refusals[0].Client.Addr().String(), tt.refused)
					if r.Peer.Addr().String() != tt.peer || strings.Contains(fmt.Sprint(r.Err), app) {
						t.Errorf("refusal of peer %v, %v; want peer %s and nothing of the request", r.Peer, r.Err, tt.peer)
					}
					return
				}
				c.wantGood(wire.OpGet, "a")
				c.wantGood(wire.OpSet, "b")
				if o := d.lastOutcome(2); o.Client.String() != tt.client {
					t.Errorf("outcome's client = %v; want %s", o.Client, tt.client)
				}
			})
		})
	}
}

// TestProxyHeaderFromElsewhere: a peer that is not named can't choose its address.
// What it sends is no request.
func TestProxyHeaderFromElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorRig(t, balanced())
		defer d.stop()
		c := d.from("10.1.0.7")
		c.send([]byte(headerOf("10.1.0.1") + "\r\n"))
		if got, err := c.answer(wire.OpGet); got != failure || err != nil {
			t.Errorf("answer to the header = %q, %v; want F", got, err)
		}
		if o := d.lastOutcome(1); o.Reason != proxy.Malformed || o.Client.Addr().String() != "10.1.0.7" {
			t.Errorf("outcome = %s of %v; want malformed of the peer", o.Reason, o.Client)
		}
		wantRefused(t, c)
	})
}

func TestSlowProxyHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := balanced()
		s.ClientStall, s.ClientIdle = 3*time.Second, time.Minute
		d := newDoorRig(t, s)
		defer d.stop()
		silent, slow, inTime := d.from("10.0.0.5"), d.from("10.0.0.5"), d.from("10.0.0.5")
		slow.send([]byte(headerOf("10.1.0.1")[:20]))
		inTime.send([]byte(headerOf("10.1.0.1")[:20]))
		start := time.Now()
		<-time.After(2 * time.Second)
		inTime.send([]byte(headerOf("10.1.0.1")[20:]))
		wantRefused(t, silent)
		wantRefused(t, slow)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("closed after %v; want 3s", took)
		}
		d.wantRefusal(2, "10.0.0.5", proxy.BadProxyHeader)
		<-time.After(30 * time.Second)
		inTime.wantGood(wire.OpGet, "a")
	})
}

// TestBalancerLooks: a balancer that connects to see whether somebody listens is
// no trouble to tell of.
func TestBalancerLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorRig(t, balanced())
		defer d.stop()
		d.from("10.0.0.5").c.Close()
		synctest.Wait()
		if s := d.proxy.Status(); s.Conns != 0 || s.Refused != 0 || s.Accepted != 0 {
			t.Errorf("Status() = %d open, %d refused, %d accepted; want none", s.Conns, s.Refused, s.Accepted)
		}
		cut := d.from("10.0.0.5")
		cut.send([]byte("PROXY TCP4 10.1"))
		cut.c.Close()
		d.wantRefusal(1, "10.0.0.5", proxy.BadProxyHeader)
	})
}

// TestShutdownWhileHeaderIsAwaited: nobody waits for the header, and it is no
// refusal.
func TestShutdownWhileHeaderIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorRig(t, balanced())
		defer d.stop()
		c := d.from("10.0.0.5")
		synctest.Wait()
		shutdown(t, d.proxy)
		wantRefused(t, c)
		if s := d.proxy.Status(); s.Refused != 0 {
			t.Errorf("Status() = %d refused; want 0", s.Refused)
		}
	})
}

// TestLimitsBehindABalancer: limits go by the clients, not by the balancer that
// they all come through.
func TestLimitsBehindABalancer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := balanced()
		s.MaxConnsPerClient, s.MaxConns = 1, 3
		d := newDoorRig(t, s)
		defer d.stop()
		through := func(ip string) *client {
			c := d.from("10.0.0.5")
			go c.c.Write([]byte(headerOf(ip)))
			synctest.Wait()
			return c
		}
		first := through("10.1.0.1")
		first.wantGood(wire.OpGet, "a")
		through("10.1.0.2").wantGood(wire.OpGet, "b")
		wantRefused(t, through("10.1.0.1"))
		d.wantRefusal(1, "10.1.0.1", proxy.ClientConnLimit)
		d.reload(on(proxy.Listener{Access: proxy.Access{Deny: networks("10.1.0.1/32")}, ProxyProtocol: networks("10.0.0.5/32")}))
		wantRefused(t, first)
		silent := d.from("10.0.0.5")
		synctest.Wait()
		if s := d.proxy.Status(); s.Conns != 2 {
			t.Errorf("Status() = %d open; want 2, one before its header", s.Conns)
		}
		silent.c.Close()
	})
}

func TestMaxConnsHoldsBeforeTheHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := balanced()
		s.MaxConns = 1
		d := newDoorRig(t, s)
		defer d.stop()
		silent := d.from("10.0.0.5")
		synctest.Wait()
		wantRefused(t, d.from("10.0.0.5"))
		d.wantRefusal(1, "10.0.0.5", proxy.ConnLimit)
		silent.c.Close()
	})
}

// TestHeaderAndRequestInOnePiece: over TCP, what comes with the header is the
// first request, however long; and in pieces it is the same.
func TestHeaderAndRequestInOnePiece(t *testing.T) {
	s := on(proxy.Listener{ProxyProtocol: networks("127.0.0.0/8")})
	s.Backends = backends(startServers(t, 1)...)
	r := newRig(t, s)
	for _, size := range []int{10, 200 << 10} {
		for _, piece := range []int{1, 7, 1 << 20} {
			c := dial(t, r.addr)
			id := fmt.Sprintf("s%d-%d", size, piece)
			out := append([]byte(headerOf("10.1.0.1")), put(id, size, 0)...)
			for head := out[:min(300, len(out))]; len(head) > 0; {
				n := min(piece, len(head))
				c.send(head[:n])
				head = head[n:]
			}
			c.send(out[min(300, len(out)):])
			if a, err := c.read(wire.PUT); a.Status != 200 || err != nil {
				t.Errorf("%d bytes in pieces of %d: %d, %v; want 200", size, piece, a.Status, err)
			}
			if a := c.get(id); a.Status != 200 || !bytes.Equal([]byte(a.body), bytes.Repeat([]byte("x"), size)) {
				t.Errorf("%d bytes in pieces of %d: read %d with %d bytes", size, piece, a.Status, len(a.body))
			}
		}
	}
}

// behindBalancerAndTLS is settings for clients that come by TLS through a balancer
// on loopback.
func behindBalancerAndTLS(servers ...*stateserver.Server) proxy.Settings {
	s := behindTLS(servers...)
	s.Listeners[""] = proxy.Listener{
		Access: proxy.Access{Allow: networks("10.1.0.0/16")}, ProxyProtocol: networks("127.0.0.0/8"), TLS: certs().server,
	}
	return s
}

// TestHeaderBeforeTLS: a balancer that passes TLS on says in the clear whom it
// connects for, and then the client shakes hands.
func TestHeaderBeforeTLS(t *testing.T) {
	r := newRig(t, behindBalancerAndTLS(startServers(t, 1)...))
	c := dial(t, r.addr)
	c.send([]byte(headerOf("10.1.0.1")))
	c.c = tls.Client(c.c, certs().named("central"))
	c.r = wire.NewReader(c.c, 4<<10, 8<<10)
	if a := c.put("a", "body", wire.Int{}); a.Status != 200 {
		t.Errorf("save = %d; want 200", a.Status)
	}
	if a := c.get("a"); a.Status != 200 || a.body != "body" {
		t.Errorf("read = %d, %q; want 200 with what was saved", a.Status, a.body)
	}
	if o := r.lastOutcome(2); o.Client.String() != "10.1.0.1:40000" {
		t.Errorf("outcome's client = %v; want 10.1.0.1:40000", o.Client)
	}
}

// TestHeaderAloneBeforeTLS: a balancer that says whom it connects for and leaves
// is no failed handshake, but one whose client speaks no TLS is.
func TestHeaderAloneBeforeTLS(t *testing.T) {
	r := newRig(t, behindBalancerAndTLS(startServers(t, 1)...))
	c := dial(t, r.addr)
	c.send([]byte(headerOf("10.1.0.1")))
	c.c.Close()
	eventually(t, func() bool { s := r.proxy.Status(); return s.Accepted == 1 && s.Conns == 0 })
	if n := r.count(); n != 0 {
		t.Errorf("%d outcomes after a header alone; want none", n)
	}
	plain := dial(t, r.addr)
	plain.send(append([]byte(headerOf("10.1.0.2")), request(wire.OpGet, "a")...))
	if o := r.lastOutcome(1); o.Reason != proxy.ClientTLS || o.Client.Addr().String() != "10.1.0.2" {
		t.Errorf("outcome = %s of %v; want %s of 10.1.0.2", o.Reason, o.Client, proxy.ClientTLS)
	}
}
