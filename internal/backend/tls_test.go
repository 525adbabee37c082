package backend_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/internal/certtest"
	"stateproxy/internal/sock"
	"stateproxy/wire"
)

var testCA = sync.OnceValue(func() *certtest.CA { return certtest.NewCA("farm") })

// trusting returns what a client of a backend named central has.
func trusting() *tls.Config { return &tls.Config{RootCAs: testCA().Pool(), ServerName: "central"} }

// showing returns what a backend has that shows p.
func showing(p certtest.Pair) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{p.TLS()}}
}

func central() certtest.Pair { return testCA().Issue(certtest.Leaf{Hosts: []string{"central"}}) }

// overTLS returns a pool whose backend speaks TLS on the loopback. A script sees
// a handshake that fails as a connection without a request.
func overTLS(t testing.TB, config *tls.Config, script func(c *peer)) (*backend.Pool, *farm) {
	t.Helper()
	p, f := overTCP(t, func(c *peer) {
		c.Conn = tls.Server(c.Conn, config)
		c.r = wire.NewReader(c.Conn, 4<<10, wire.DefaultMaxHead)
		script(c)
	})
	p.Configure(backend.Settings{TLS: trusting(), DialTimeout: patience})
	return p, f
}

func TestTLSExchanges(t *testing.T) {
	p, f := overTLS(t, showing(central()), good)
	for _, op := range ops {
		ask(t, p, op)
	}
	want := make([]string, len(ops))
	for i, op := range ops {
		want[i] = fmt.Sprint("0 ", op)
	}
	if got := f.requests(); !slices.Equal(got, want) {
		t.Errorf("requests = %v; want %v, all on one connection", got, want)
	}
}

func TestTLSLongBodies(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 40<<10)
	p, _ := overTLS(t, showing(central()), func(c *peer) {
		for c.next() {
			c.say(fmt.Sprintf("200 OK\r\nX-AspNet-Version: 4.0\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		}
	})
	for range 2 {
		x := exchange(wire.OpGet)
		if err := p.RoundTrip(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		rest := &strings.Builder{}
		rest.Write(x.Body())
		if err := x.CopyTail(rest); err != nil || rest.String() != body {
			t.Errorf("body of %d bytes, %v; want %d as sent", rest.Len(), err, len(body))
		}
		x.Release()
	}
	if s := p.Stats(); s.Dials != 1 || s.Reused != 1 {
		t.Errorf("Stats = %+v; want one connection for both", s)
	}
}

func TestTLSFailures(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Now()
	old := testCA().Issue(certtest.Leaf{Hosts: []string{"central"}, NotBefore: now.Add(-2 * day), NotAfter: now.Add(-day)})
	early := testCA().Issue(certtest.Leaf{Hosts: []string{"central"}, NotBefore: now.Add(day), NotAfter: now.Add(2 * day)})
	demanding := showing(central())
	demanding.ClientAuth, demanding.ClientCAs = tls.RequireAndVerifyClientCert, testCA().Pool()
	stranger := trusting()
	stranger.Certificates = []tls.Certificate{certtest.SelfSigned(certtest.Leaf{}).TLS()}
	outdated := showing(central())
	outdated.MinVersion, outdated.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	modern := trusting()
	modern.MinVersion = tls.VersionTLS12

	tests := []struct {
		name           string
		client, server *tls.Config // server nil: plain
		want           backend.Reason
		text           string // in the error
	}{
		{"another name", trusting(), showing(testCA().Issue(certtest.Leaf{Hosts: []string{"other"}})), backend.TLSName, "certificate is for another name"},
		{"expired", trusting(), showing(old), backend.TLSExpired, "not valid at this time"},
		{"not yet valid", trusting(), showing(early), backend.TLSExpired, "not valid at this time"},
		{"self-signed", trusting(), showing(certtest.SelfSigned(certtest.Leaf{Hosts: []string{"central"}})), backend.TLSUntrusted, "of no CA that is trusted"},
		{"of another CA", trusting(), showing(certtest.NewCA("farm").Issue(certtest.Leaf{Hosts: []string{"central"}})), backend.TLSUntrusted, "of no CA that is trusted"},
		{"client without certificate", trusting(), demanding, backend.TLSRefused, "certificate required"},
		{"client of a stranger", stranger, demanding, backend.TLSRefused, "refused the handshake"},
		{"TLS 1.1 server", modern, outdated, backend.TLSRefused, "protocol version"},
		{"plain server", trusting(), nil, backend.TLSPlain, "does not speak TLS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := overTCP(t, func(c *peer) {
				if tt.server == nil {
					io.ReadFull(c, make([]byte, 16))
					c.say("400 Bad Request\r\n\r\n")
					c.gone()
					return
				}
				c.Conn = tls.Server(c.Conn, tt.server)
				c.r = wire.NewReader(c.Conn, 4<<10, wire.DefaultMaxHead)
				c.next()
				c.NetConn().(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c.NetConn())
			})
			p.Configure(backend.Settings{TLS: tt.client, DialTimeout: patience})
			e := fault(t, p, exchange(wire.OpSet))
			if e.Reason != tt.want || !e.BackendFault() {
				t.Errorf("RoundTrip = %v; want %s, a fault of the backend", e, tt.want)
			}
			dial := backend.TLSDialer(nil, tt.client)
			if err := backend.Probe(t.Context(), dial, p.Address); err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Probe = %v; want %q in it", err, tt.text)
			}
			if _, err := backend.Instance(t.Context(), dial, p.Address); err == nil {
				t.Error("Instance = nil; want an error")
			}
		})
	}
}

// A backend that wants another handshake, in which it could show another
// certificate, gets none: the exchange fails, and the next one goes elsewhere.
func TestTLSRenegotiationIsRefused(t *testing.T) {
	p, f := overTCP(t, func(c *peer) {
		tap := &certtest.Tap{Conn: c.Conn}
		c.Conn = tls.Server(tap, tap.Config(showing(central())))
		c.r = wire.NewReader(c.Conn, 4<<10, wire.DefaultMaxHead)
		for c.next() {
			if c.n > 0 {
				c.say(found)
				continue
			}
			if err := tap.Renegotiate(); err != nil {
				t.Error(err)
			}
			io.Copy(io.Discard, tap)
			return
		}
	})
	p.Configure(backend.Settings{TLS: trusting(), DialTimeout: patience})
	e := fault(t, p, exchange(wire.OpSet))
	if !e.BackendFault() || !strings.Contains(e.Error(), "no renegotiation") {
		t.Errorf("RoundTrip = %v; want a fault of the backend, no renegotiation", e)
	}
	if s := p.Stats(); s.Open != 0 {
		t.Errorf("Stats = %+v; want the connection closed", s)
	}
	x := exchange(wire.OpGet)
	if err := p.RoundTrip(t.Context(), x); err != nil || string(x.Body()) != "body" {
		t.Errorf("the next RoundTrip = %v, %q; want body", err, x.Body())
	}
	x.Release()
	if got := f.requests(); !slices.Equal(got, []string{"0 set", "1 get"}) {
		t.Errorf("requests = %v; want the next on another connection", got)
	}
}

// NetConn returns the connection under TLS.
func (c *peer) NetConn() net.Conn { return c.Conn.(*tls.Conn).NetConn() }

func TestTLSHandshakeIsBounded(t *testing.T) {
	tests := []struct {
		name   string
		script func(c *peer)
		text   string
		limit  time.Duration
	}{
		{"silence", func(c *peer) { c.gone() }, "not over in time", 2 * time.Second},
		{"closed", func(c *peer) { c.Read(make([]byte, 64<<10)) }, "broken off by the other side", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, _ := inMemory(t, tt.script)
				p.Configure(backend.Settings{TLS: trusting(), DialTimeout: 2 * time.Second})
				began := time.Now()
				e := fault(t, p, exchange(wire.OpGet))
				if e.Reason != backend.TLSHandshake || !strings.Contains(e.Error(), tt.text) {
					t.Errorf("RoundTrip = %v; want %s with %q", e, backend.TLSHandshake, tt.text)
				}
				if took := time.Since(began); took != tt.limit {
					t.Errorf("RoundTrip took %v; want %v, the dial's limit", took, tt.limit)
				}
				if s := p.Stats(); s.Open != 0 || s.DialErrors != 1 {
					t.Errorf("Stats = %+v; want nothing open, 1 dial error", s)
				}
			})
		})
	}
}

// What is said behind an answer lies in the TLS connection and not in the
// socket. The next request must not get it.
func TestTLSBytesBehindAnAnswer(t *testing.T) {
	evil := strings.Replace(found, "body", "evil", 1)
	tests := []struct {
		name string
		say  func(c *peer)
	}{
		{"in the same record", func(c *peer) { c.say(found + evil) }},
		{"in a record of its own", func(c *peer) { c.say(found); c.say(evil) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, f := overTCP(t, func(c *peer) {
				under := &corked{Conn: c.Conn}
				c.Conn = tls.Server(under, showing(central()))
				c.r = wire.NewReader(c.Conn, 4<<10, wire.DefaultMaxHead)
				for c.next() {
					if c.n > 0 {
						c.say(found)
						continue
					}
					under.cork = true
					tt.say(c)
					under.flush()
				}
			})
			p.Configure(backend.Settings{TLS: trusting(), DialTimeout: patience})
			for range 3 {
				x := exchange(wire.OpGet)
				err := p.RoundTrip(t.Context(), x)
				if got := string(x.Body()); err == nil && got != "body" {
					t.Errorf("an answer has the body %q; want %q", got, "body")
				}
				x.Release()
			}
			if got := f.requests(); len(got) != 3 || got[1] != "1 get" || got[2] != "1 get" {
				t.Errorf("requests = %v; want the first connection used once", got)
			}
		})
	}
}

// corked keeps what is written while it is corked, to send it at once.
type corked struct {
	net.Conn
	cork bool
	kept []byte
}

func (c *corked) Write(b []byte) (int, error) {
	if c.cork {
		c.kept = append(c.kept, b...)
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *corked) flush() {
	c.cork = false
	c.Conn.Write(c.kept)
	c.kept = nil
}

// A backend that closed its pooled connections, as a restart does, fails no
// request where the system tells that it never took it.
func TestTLSClosedConnectionsAreReplaced(t *testing.T) {
	for _, op := range ops {
		t.Run(op.String(), func(t *testing.T) {
			p, f := overTLS(t, showing(central()), func(c *peer) {
				if c.n == 0 && c.next() {
					c.say(right(c.req.Op()))
					return
				}
				good(c)
			})
			ask(t, p, wire.OpGet)
			eventually(t, "the backend closed the connection", func() bool { return f.serving() == 0 })
			if !sock.TellsDelivery {
				p.Age(backend.CheckAfter)
			}
			eventually(t, "the connection is seen to be dead", func() bool { return p.Quiet() == 0 })
			ask(t, p, op)
			if got := f.requests(); len(got) != 2 || got[1] != fmt.Sprint("1 ", op) {
				t.Errorf("requests = %v; want the second on a new connection", got)
			}
		})
	}
}

func TestConfigureWithAnotherTLS(t *testing.T) {
	p, f := overTLS(t, showing(central()), good)
	ask(t, p, wire.OpGet)
	ask(t, p, wire.OpGet)
	settings := backend.Settings{TLS: trusting(), DialTimeout: patience}
	p.Configure(settings)
	if s := p.Stats(); s.Idle != 0 || s.Open != 0 {
		t.Errorf("Stats after Configure with another TLS = %+v; want none idle", s)
	}
	ask(t, p, wire.OpGet)
	settings.MaxConns = 7
	p.Configure(settings)
	ask(t, p, wire.OpGet)
	if got, want := f.requests(), []string{"0 get", "0 get", "1 get", "1 get"}; !slices.Equal(got, want) {
		t.Errorf("requests = %v; want %v", got, want)
	}
}

// A connection that was busy while the TLS changed is not pooled.
func TestConfigureWhileBusy(t *testing.T) {
	open := make(chan struct{})
	p, f := overTLS(t, showing(central()), func(c *peer) {
		for c.next() {
			if c.n == 0 {
				<-open
			}
			c.say(right(c.req.Op()))
		}
	})
	var wg sync.WaitGroup
	wg.Go(func() { ask(t, p, wire.OpGet) })
	eventually(t, "the request is under way", func() bool { return len(f.requests()) == 1 })
	p.Configure(backend.Settings{TLS: trusting(), DialTimeout: patience})
	close(open)
	wg.Wait()
	ask(t, p, wire.OpGet)
	if got, want := f.requests(), []string{"0 get", "1 get"}; !slices.Equal(got, want) {
		t.Errorf("requests = %v; want %v", got, want)
	}
}

func TestTLSDialer(t *testing.T) {
	p, _ := overTLS(t, showing(central()), func(c *peer) {
		for c.next() {
			c.say(absent)
		}
	})
	if err := backend.Probe(t.Context(), backend.TLSDialer(nil, trusting()), p.Address); err != nil {
		t.Errorf("Probe over TLS = %v; want nil", err)
	}
	if err := backend.Probe(t.Context(), nil, p.Address); err == nil || !strings.Contains(err.Error(), "does it want TLS?") {
		t.Errorf("plain Probe of a TLS port = %v; want that it was closed", err)
	}
	none := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no way") }
	var handshake *backend.TLSError
	if _, err := backend.TLSDialer(none, trusting())(t.Context(), "tcp", "x"); err == nil || errors.As(err, &handshake) {
		t.Errorf("TLSDialer over a dial that fails = %v; want its error", err)
	}
}
