package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"stateproxy/internal/certtest"
	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// tlsFarm is the certificates of a central proxy and of those beside the web
// servers.
type tlsFarm struct {
	ca             *certtest.CA
	central, edge  certtest.Pair
	server, client *tls.Config
}

var certs = sync.OnceValue(func() *tlsFarm {
	f := &tlsFarm{ca: certtest.NewCA("farm")}
	f.central = f.ca.Issue(certtest.Leaf{Name: "central", Hosts: []string{"127.0.0.1", "central"}})
	f.edge = f.ca.Issue(certtest.Leaf{Name: "edge"})
	f.server = &tls.Config{
		Certificates: []tls.Certificate{f.central.TLS()}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: f.ca.Pool(),
	}
	f.client = &tls.Config{Certificates: []tls.Certificate{f.edge.TLS()}, RootCAs: f.ca.Pool(), MinVersion: tls.VersionTLS12}
	return f
})

// named returns the client's config for a server that it takes for name.
func (f *tlsFarm) named(name string) *tls.Config {
	c := f.client.Clone()
	c.ServerName = name
	return c
}

// behindTLS is settings whose unnamed listener wants TLS and a certificate.
func behindTLS(servers ...*stateserver.Server) proxy.Settings {
	return proxy.Settings{
		Backends: backends(servers...), Listeners: map[string]proxy.Listener{"": {TLS: certs().server}},
		ClientStall: 5 * time.Second,
	}
}

// dialTLS returns a client that has shaken hands, or the error.
func dialTLS(t *testing.T, addr string, config *tls.Config) (*client, error) {
	t.Helper()
	c := dial(t, addr)
	tc := tls.Client(c.c, config)
	if err := tc.Handshake(); err != nil {
		return nil, err
	}
	t.Cleanup(func() { tc.Close() })
	c.c, c.r = tc, wire.NewReader(tc, 4<<10, 8<<10)
	return c, nil
}

func TestTLSListener(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			r := newRig(t, behindTLS(stateserver.RunT(t)))
			config := certs().named("central")
			config.MaxVersion = version
			c, err := dialTLS(t, r.addr, config)
			if err != nil {
				t.Fatal(err)
			}
			for _, body := range []string{"small", strings.Repeat("0123456789", 50<<10)} {
				if a := c.put("a", body, wire.Int{}); a.Status != wire.StatusOK {
					t.Fatalf("PUT of %d bytes = %d; want 200", len(body), a.Status)
				}
				if a := c.get("a"); a.Status != wire.StatusOK || a.body != body {
					t.Errorf("GET = %d, %d bytes; want 200 and the %d that were put", a.Status, len(a.body), len(body))
				}
			}
			lock := c.acquire("a")
			if a := c.release("a", lock.LockCookie); a.Status != wire.StatusOK {
				t.Errorf("release = %d; want 200", a.Status)
			}
			if o := r.lastOutcome(1); !o.Client.Addr().IsLoopback() || o.Reason != "" {
				t.Errorf("Outcome = %+v; want the client's address and no reason", o)
			}
		})
	}
}

func TestTLSClientsThatAreRefused(t *testing.T) {
	stranger := certs().named("central")
	strange := certtest.SelfSigned(certtest.Leaf{}).TLS()
	stranger.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &strange, nil }
	nobody := certs().named("central")
	nobody.Certificates = nil
	late := certs().named("central")
	late.Certificates = []tls.Certificate{certs().ca.Issue(certtest.Leaf{
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour),
	}).TLS()}
	misused := certs().named("central")
	servers := certs().ca.Issue(certtest.Leaf{Usage: x509.ExtKeyUsageServerAuth}).TLS()
	misused.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &servers, nil }
	old := certs().named("central")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	elsewhere := certs().named("other")
	distrusting := certs().named("central")
	distrusting.RootCAs = certtest.NewCA("another").Pool()
	tests := []struct {
		name   string
		config *tls.Config
		want   string // in the outcome's error
	}{
		{"no certificate", nobody, "didn't provide a certificate"},
		{"certificate of a stranger", stranger, "unknown authority"},
		{"certificate that has expired", late, "expired"},
		{"certificate that is for servers", misused, "incompatible key usage"},
		{"TLS 1.1", old, "unsupported versions"},
		{"client that looks for another name", elsewhere, "the client refused"},
		{"client that does not trust the listener", distrusting, "the client refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, behindTLS(stateserver.RunT(t)))
			c, err := dialTLS(t, r.addr, tt.config)
			if err == nil { // with TLS 1.3 a client hears of it later
				_, err = c.c.Read(make([]byte, 1))
			}
			if err == nil {
				t.Error("handshake and read = nil; want an error")
			}
			o := r.lastOutcome(1)
			if o.Reason != proxy.ClientTLS || o.Err == nil || !strings.Contains(o.Err.Error(), tt.want) || o.Status != 0 {
				t.Errorf("Outcome = %s, %v, status %d; want %s with %q, closed", o.Reason, o.Err, o.Status, proxy.ClientTLS, tt.want)
			}
		})
	}
}

// A client that wants another handshake, in which it could show another
// certificate or none, loses its connection, and so does one that goes on with what
// is not TLS.
func TestBrokenTLSAfterTheHandshake(t *testing.T) {
	tests := []struct {
		name string
		say  func(tap *certtest.Tap) error
		want string // in the outcome's error
	}{
		{"renegotiation", (*certtest.Tap).Renegotiate, "unexpected handshake message"},
		{"plain bytes", func(tap *certtest.Tap) error {
			_, err := tap.Conn.Write(wire.AppendRequest(nil, &wire.Request{Verb: wire.GET, Target: target("a")}))
			return err
		}, "record"},
		{"a record of another key", func(tap *certtest.Tap) error {
			_, err := tap.Conn.Write(append([]byte{23, 3, 3, 0, 40}, make([]byte, 40)...))
			return err
		}, "bad record MAC"},
		{"no more", func(tap *certtest.Tap) error { return tap.Conn.Close() }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, behindTLS(stateserver.RunT(t)))
			tap := &certtest.Tap{Conn: dial(t, r.addr).c}
			c := tls.Client(tap, tap.ClientConfig(certs().named("central")))
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			if err := tt.say(tap); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Errorf("read = %d bytes, %v; want an error", n, err)
			}
			eventually(t, func() bool { return r.proxy.Status().Conns == 0 })
			if tt.want == "" {
				if n := r.proxy.Status().Requests; n != 0 {
					t.Errorf("Requests = %d; want none for an end between two requests", n)
				}
				return
			}
			o := r.lastOutcome(1)
			if o.Reason != proxy.ClientTLS || !strings.Contains(o.Err.Error(), tt.want) || o.Status != 0 || o.Backend != "" {
				t.Errorf("Outcome = %+v; want %s with %q, no answer, no backend", o, proxy.ClientTLS, tt.want)
			}
		})
	}
}

func TestPlainBytesOnTLSListener(t *testing.T) {
	r := newRig(t, behindTLS(stateserver.RunT(t)))
	c := dial(t, r.addr)
	c.send(wire.AppendRequest(nil, &wire.Request{Verb: wire.GET, Target: target("a")}))
	if b, err := io.ReadAll(c.c); len(b) > 0 {
		t.Errorf("answer to plain bytes = %q, %v; want a closed connection", b, err)
	}
	if o := r.lastOutcome(1); o.Reason != proxy.ClientTLS || !strings.Contains(o.Err.Error(), "does not speak TLS") {
		t.Errorf("Outcome = %s, %v; want %s", o.Reason, o.Err, proxy.ClientTLS)
	}
}

func TestTLSOnPlainListener(t *testing.T) {
	r := newRig(t, proxy.Settings{Backends: backends(stateserver.RunT(t))})
	var record tls.RecordHeaderError
	if _, err := dialTLS(t, r.addr, certs().named("central")); !errors.As(err, &record) {
		t.Errorf("handshake = %v; want that the answer is no TLS", err)
	}
	if o := r.lastOutcome(1); o.Reason != proxy.ClientTLS || !strings.Contains(o.Err.Error(), "speaks TLS") {
		t.Errorf("Outcome = %s, %v; want %s", o.Reason, o.Err, proxy.ClientTLS)
	}
}

// A client that does not shake hands keeps nobody waiting, counts as a
// connection and is cut off in time. One that only looks at the port is no
// failure.
func TestTLSHandshakeThatStalls(t *testing.T) {
	s := behindTLS(stateserver.RunT(t))
	s.ClientStall, s.MaxConns = 300*time.Millisecond, 2
	r := newRig(t, s)
	look := dial(t, r.addr)
	look.c.Close()
	eventually(t, func() bool { s := r.proxy.Status(); return s.Accepted == 1 && s.Conns == 0 })

	stalled := dial(t, r.addr)
	stalled.send([]byte{0x16, 3, 1})
	eventually(t, func() bool { return r.proxy.Status().Conns == 1 })
	c, err := dialTLS(t, r.addr, certs().named("central"))
	if err != nil {
		t.Fatal(err)
	}
	c.get("a")
	if b, err := io.ReadAll(stalled.c); len(b) > 0 {
		t.Errorf("read of a stalled handshake = %q, %v; want a closed connection", b, err)
	}
	o := r.lastOutcome(2)
	if o.Reason != proxy.ClientTLS || !strings.Contains(o.Err.Error(), "not over in time") {
		t.Errorf("Outcome = %s, %v; want %s, not over in time", o.Reason, o.Err, proxy.ClientTLS)
	}
}

func TestShutdownDuringHandshake(t *testing.T) {
	s := behindTLS(stateserver.RunT(t))
	s.ClientStall = time.Minute
	r := newRig(t, s)
	c := dial(t, r.addr)
	c.send([]byte{0x16})
	eventually(t, func() bool { return r.proxy.Status().Conns == 1 })
	shutdown(t, r.proxy)
	if n := r.proxy.Status().Requests; n != 0 {
		t.Errorf("Requests = %d; want a handshake that was broken off by the end to count as none", n)
	}
}

// A reload turns TLS on and off, and takes trust away, for new connections;
// those that exist go on.
func TestReconfigureTLSOfListener(t *testing.T) {
	server := stateserver.RunT(t)
	r := newRig(t, proxy.Settings{Backends: backends(server)})
	plain := dial(t, r.addr)
	plain.put("a", "body", wire.Int{})

	r.reconfigure(behindTLS(server))
	secured, err := dialTLS(t, r.addr, certs().named("central"))
	if err != nil {
		t.Fatalf("handshake after TLS was turned on = %v; want nil", err)
	}
	s := behindTLS(server)
	strict := certs().server.Clone()
	strict.ClientCAs = certtest.NewCA("another").Pool()
	s.Listeners = map[string]proxy.Listener{"": {TLS: strict}}
	r.reconfigure(s)
	if c, err := dialTLS(t, r.addr, certs().named("central")); err == nil {
		if _, err := c.c.Read(make([]byte, 1)); err == nil {
			t.Error("a client of a CA that was taken away came in")
		}
	}
	for _, c := range []*client{plain, secured} {
		if a := c.get("a"); a.body != "body" {
			t.Errorf("GET on a connection from before = %d, %q; want the session", a.Status, a.body)
		}
	}
	r.reconfigure(proxy.Settings{Backends: backends(server), Listeners: map[string]proxy.Listener{"": {}}})
	if a := dial(t, r.addr).get("a"); a.body != "body" {
		t.Errorf("GET after TLS was turned off = %d; want the session", a.Status)
	}
}

// overTLS names the central proxy as the one backend.
func overTLS(address string) proxy.Settings {
	return proxy.Settings{
		Backends:   []proxy.Backend{{Name: "c1", Address: address, Weight: 1, TLS: true}},
		BackendTLS: certs().client,
	}
}

func TestChainOverMutualTLS(t *testing.T) {
	server := stateserver.RunT(t)
	central := newRig(t, behindTLS(server))
	edge := newRig(t, overTLS(central.addr))
	c := dial(t, edge.addr)
	body := strings.Repeat("0123456789", 50<<10)
	c.put("a", "small", wire.Int{})
	c.put("b", body, wire.Int{})
	if a := c.get("a"); a.body != "small" {
		t.Errorf("GET through both = %d, %q; want the session", a.Status, a.body)
	}
	if a := c.get("b"); a.body != body {
		t.Errorf("GET through both = %d, %d bytes; want %d", a.Status, len(a.body), len(body))
	}
	if s := edge.proxy.Status().Backends[0].Conns; s.Dials != 1 || s.DialErrors != 0 {
		t.Errorf("connections to the central proxy = %+v; want one", s)
	}
	nc, err := edge.proxy.Dialer("c1")(t.Context(), "tcp", central.addr)
	if err != nil {
		t.Fatalf("Dialer = %v; want nil", err)
	}
	defer nc.Close()
	if _, ok := nc.(*tls.Conn); !ok {
		t.Errorf("Dialer connects by %T; want TLS", nc)
	}
	if _, err := edge.proxy.Dialer("c2")(t.Context(), "tcp", central.addr); err == nil {
		t.Error("Dialer of an unknown backend = nil; want an error")
	}
}

func TestBackendTLSFailures(t *testing.T) {
	central := newRig(t, behindTLS(stateserver.RunT(t)))
	tests := []struct {
		name   string
		change func(s *proxy.Settings)
		want   proxy.Reason
	}{
		{"none", func(*proxy.Settings) {}, ""},
		{"server name of its certificate", func(s *proxy.Settings) { s.Backends[0].ServerName = "central" }, ""},
		{"another server name", func(s *proxy.Settings) { s.Backends[0].ServerName = "other" }, "tls_name"},
		{"CA that is not trusted", func(s *proxy.Settings) {
			s.BackendTLS = s.BackendTLS.Clone()
			s.BackendTLS.RootCAs = certtest.NewCA("another").Pool()
		}, "tls_untrusted"},
		{"the system's CAs", func(s *proxy.Settings) { s.BackendTLS = nil }, "tls_untrusted"},
		{"no certificate", func(s *proxy.Settings) {
			s.BackendTLS = s.BackendTLS.Clone()
			s.BackendTLS.Certificates = nil
		}, "tls_refused"},
		{"plain", func(s *proxy.Settings) { s.Backends[0].TLS = false }, "closed"},
	}
	edge := newRig(t, overTLS(central.addr))
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := overTLS(central.addr)
			tt.change(&s)
			if change := edge.reconfigure(s); !change.At.IsZero() || change.Pools[0].Moved != 0 {
				t.Errorf("Reconfigure = %+v; want no change of routing", change)
			}
			a := dial(t, edge.addr).get("a")
			want := wire.StatusNotFound
			if tt.want != "" {
				want = wire.StatusBadRequest
			}
			if o := edge.lastOutcome(i + 1); a.Status != want || o.Reason != tt.want {
				t.Errorf("GET = %d, %s (%v); want %d, %s", a.Status, o.Reason, o.Err, want, tt.want)
			}
		})
	}
}

// With a delay a change of routing waits, and one of TLS does not.
func TestTLSDoesNotWaitForTheHandoff(t *testing.T) {
	central := newRig(t, behindTLS(stateserver.RunT(t)))
	s := overTLS(central.addr)
	s.Backends[0].TLS = false
	s.HandoffDelay = time.Hour
	edge := newRig(t, s)
	s.Backends = []proxy.Backend{
		{Name: "c1", Address: central.addr, Weight: 1, TLS: true},
		{Name: "c2", Address: "127.0.0.1:1", Weight: 1, TLS: true},
	}
	if change := edge.reconfigure(s); change.At.IsZero() {
		t.Error("Reconfigure with another backend: At is zero; want it to wait")
	}
	if a := dial(t, edge.addr).get("a"); a.Status != wire.StatusNotFound {
		t.Errorf("GET = %d; want 404, over TLS by now", a.Status)
	}
}

// A former owner is asked over TLS too, also after a restart.
func TestFormerOwnerOverTLS(t *testing.T) {
	central := newRig(t, behindTLS(stateserver.RunT(t)))
	s := overTLS(central.addr)
	s.Backends[0].ServerName = "central"
	first := newRig(t, s)
	dial(t, first.addr).put("a", "body", wire.Int{})
	s.Backends = backends(stateserver.RunT(t))
	s.HandoffWindow = time.Hour
	first.reconfigure(s)
	snapshot := first.proxy.Snapshot()
	second := startRig(t, s, func(p *proxy.Proxy) {
		if err := p.Restore(snapshot); err != nil {
			t.Fatal(err)
		}
	})
	if a := dial(t, second.addr).get("a"); a.body != "body" {
		t.Errorf("GET of a session at a former owner = %d, %q; want it brought over", a.Status, a.body)
	}
}

// Certificates change under load on both sides and no request fails.
func TestTLSChangesUnderLoad(t *testing.T) {
	server := stateserver.RunT(t)
	central := newRig(t, behindTLS(server))
	edge := newRig(t, overTLS(central.addr))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for _, id := range []string{"a", "b", "c", "d"} {
		c := dial(t, edge.addr)
		wg.Go(func() {
			for ctx.Err() == nil {
				if !saves(c, id) {
					t.Errorf("a request of session %s failed while certificates changed", id)
					return
				}
			}
		})
	}
	for range 20 {
		before := edge.proxy.Status().Requests
		f := certs()
		s := behindTLS(server)
		config := f.server.Clone()
		config.Certificates = []tls.Certificate{f.ca.Issue(certtest.Leaf{Hosts: []string{"127.0.0.1"}}).TLS()}
		s.Listeners = map[string]proxy.Listener{"": {TLS: config}}
		central.reconfigure(s)
		e := overTLS(central.addr)
		e.BackendTLS = f.client.Clone()
		e.BackendTLS.Certificates = []tls.Certificate{f.ca.Issue(certtest.Leaf{}).TLS()}
		edge.reconfigure(e)
		eventually(t, func() bool { return edge.proxy.Status().Requests > before+20 || t.Failed() })
	}
	cancel()
	wg.Wait()
	if s := edge.proxy.Status().Backends[0].Conns; s.Dials < 20 {
		t.Errorf("connections made = %d; want some after each of 20 changes", s.Dials)
	}
}

// saves stores and reads a session and reports whether that worked.
func saves(c *client, id string) bool {
	body := []byte("body of " + id)
	req := wire.Request{Verb: wire.PUT, Target: target(id), Timeout: wire.Some(20), ContentLength: wire.Some(int64(len(body)))}
	if _, err := c.c.Write(append(wire.AppendRequest(nil, &req), body...)); err != nil {
		return false
	}
	if a, err := c.read(wire.PUT); err != nil || a.Status != wire.StatusOK {
		return false
	}
	if _, err := c.c.Write(wire.AppendRequest(nil, &wire.Request{Verb: wire.GET, Target: target(id)})); err != nil {
		return false
	}
	a, err := c.read(wire.GET)
	return err == nil && bytes.Equal([]byte(a.body), body)
}

// eventually waits until something has come about.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.After(20 * time.Second); !ok(); {
		select {
		case <-end:
			t.Fatal("it never came about")
		case <-time.After(time.Millisecond):
		}
	}
}
