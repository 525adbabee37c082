package probe

import (
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/certtest"
	"stateproxy/stateserver"
)

// secured serves as serve does, over TLS.
func secured(config *tls.Config, serve func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		b := newBuffered(c)
		serve(tls.Server(b, config))
		b.Close()
	}
}

// buffered is a pipe's end whose writes do not wait for the reader, as those of
// sockets don't: both sides of a handshake may write at once.
type buffered struct {
	net.Conn
	out  chan []byte
	done chan struct{}

	mu     sync.Mutex
	closed bool
}

func newBuffered(c net.Conn) *buffered {
	b := &buffered{Conn: c, out: make(chan []byte, 100), done: make(chan struct{})}
	go func() {
		defer close(b.done)
		for p := range b.out {
			c.Write(p)
		}
	}()
	return b
}

func (b *buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, net.ErrClosed
	}
	b.out <- slices.Clone(p)
	return len(p), nil
}

// Close has what was written be read first, if it is within a second.
func (b *buffered) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		b.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		close(b.out)
	}
	b.mu.Unlock()
	<-b.done
	return b.Conn.Close()
}

func TestTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := certtest.NewCA("farm")
		own := ca.Issue(certtest.Leaf{Name: "central", Hosts: []string{"state1", "central"}})
		server := &tls.Config{Certificates: []tls.Certificate{own.TLS()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}
		client := &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Issue(certtest.Leaf{}).TLS()}}
		for _, name := range []string{"", "central"} {
			s := &stateserver.Server{}
			client.ServerName = name
			r, _ := probed(t, Probe{Idle: 10 * time.Second, TLS: client}, "state1", at(secured(server, stateServer(t, s))))
			step := find(r, func(s Step) bool { return s.Name == StepTLS })
			if !r.OK || step.Result != Good || !strings.Contains(step.Text, `TLS 1.3; its certificate "CN=central"`) || !strings.Contains(step.Text, "valid until 2099-01-01") {
				t.Errorf("Run with server name %q = OK %v, %+v; want a good handshake", name, r.OK, step)
			}
			if n := s.Stats().Sessions; n != 0 {
				t.Errorf("%d sessions left; want none", n)
			}
		}
	})
}

func TestTLSFindings(t *testing.T) {
	tests := []struct {
		name         string
		change       func(f *tlsFiles)
		step         string
		kind         Kind
		text, advice string
	}{
		{"another name", func(f *tlsFiles) { f.client.ServerName = "other" }, StepTLS, TLSName, "not other", "-server-name"},
		{"another CA", func(f *tlsFiles) { f.client.RootCAs = certtest.NewCA("another").Pool() }, StepTLS, TLSUntrusted, "unknown authority", "-ca"},
		{"expired", func(f *tlsFiles) {
			f.server.Certificates = []tls.Certificate{f.ca.Issue(certtest.Leaf{Hosts: []string{"state1"}, NotAfter: time.Now().Add(-time.Minute)}).TLS()}
		}, StepTLS, TLSExpired, "expired", "Renew"},
		{"old TLS", func(f *tlsFiles) { f.server.MinVersion, f.server.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, StepTLS, TLSRefused, "protocol version", "log there"},
		{"plain state server", func(f *tlsFiles) { f.serve = says("400 Bad Request\r\n\r\n") }, StepTLS, TLSPlain, `it says "400 Bad Request"`, "without -tls"},
		{"hangs up", func(f *tlsFiles) { f.serve = hangsUp }, StepTLS, TLSBroken, "closed in the handshake", "42424"},
		{"silent", func(f *tlsFiles) { f.serve = func(c net.Conn) { io.Copy(io.Discard, c) } }, StepTLS, TLSBroken, "within 10s", "42424"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &tlsFiles{ca: certtest.NewCA("farm"), client: &tls.Config{MinVersion: tls.VersionTLS12}}
				f.client.RootCAs = f.ca.Pool()
				f.server = &tls.Config{Certificates: []tls.Certificate{f.ca.Issue(certtest.Leaf{Hosts: []string{"state1"}}).TLS()}}
				tt.change(f)
				if f.serve == nil {
					f.serve = secured(f.server, stateServer(t, &stateserver.Server{}))
				}
				r, _ := probed(t, Probe{TLS: f.client}, "state1", at(f.serve))
				s := find(r, func(s Step) bool { return s.Result != Good })
				if r.OK || s.Name != tt.step || s.Kind != tt.kind || !strings.Contains(s.Text, tt.text) || !strings.Contains(s.Advice, tt.advice) {
					t.Errorf("OK = %v, first finding %+v; want %s %s, text with %q, advice with %q", r.OK, s, tt.step, tt.kind, tt.text, tt.advice)
				}
			})
		})
	}
}

// tlsFiles is what both sides of a handshake have.
type tlsFiles struct {
	ca             *certtest.CA
	server, client *tls.Config
	serve          func(net.Conn) // nil: a state server behind server
}
