package proxy

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"stateproxy/internal/certtest"
	"stateproxy/internal/sock"
	"stateproxy/stateserver"
)

// tcpPair returns both ends of a connection on loopback.
func tcpPair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if theirs, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if ours, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// proxyBefore returns a proxy that has settings and no listener.
func proxyBefore(t *testing.T, s *stateserver.Server) *Proxy {
	t.Helper()
	p := &Proxy{}
	if _, err := p.Reconfigure(Settings{Backends: []Backend{{Name: "s1", Address: s.Addr(), Weight: 1}}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// serveOne serves the connection; served is closed at its end.
func serveOne(c *conn) (served chan struct{}) {
	served = make(chan struct{})
	go func() {
		defer close(served)
		serveToEnd(c)
	}()
	return served
}

const headRequest = "HEAD %2fa HTTP/1.1\r\nHost: a\r\n\r\n"

// A request that has come before its connection is told to leave is answered,
// whole or not.
func TestLeaveAnswersWhatHasCome(t *testing.T) {
	p := proxyBefore(t, stateserver.RunT(t))
	for _, cut := range []int{0, 5} {
		ours, theirs := tcpPair(t)
		c := newConn(p, ours, netip.AddrPort{})
		if _, err := theirs.Write([]byte(headRequest[:len(headRequest)-cut])); err != nil {
			t.Fatal(err)
		}
		for !c.nc.Pending() {
			<-time.After(time.Millisecond)
		}
		c.leave(time.Unix(1, 0))
		served := serveOne(c)
		if _, err := theirs.Write([]byte(headRequest[len(headRequest)-cut:])); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		theirs.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := got.ReadFrom(theirs); err != nil || !strings.HasPrefix(got.String(), "404 ") {
			t.Errorf("answer to a request that had come, but for %d bytes = %q, %v; want 404 and the end", cut, got.String(), err)
		}
		<-served
	}
}

// Who has read the last answer of a connection finds its end there too, so that no
// request is sent behind it.
func TestLastAnswerBringsTheEnd(t *testing.T) {
	ca := certtest.NewCA("farm")
	server := &tls.Config{Certificates: []tls.Certificate{ca.Issue(certtest.Leaf{Hosts: []string{"central"}}).TLS()}}
	client := &tls.Config{RootCAs: ca.Pool(), ServerName: "central"}
	tests := []struct {
		name           string
		secure, unpack func(net.Conn) net.Conn // of the proxy's end, of the client's
	}{
		{"plain", func(c net.Conn) net.Conn { return c }, func(c net.Conn) net.Conn { return c }},
		{
			"TLS", func(c net.Conn) net.Conn { return sock.TLSServer(c, server) },
			func(c net.Conn) net.Conn { return sock.TLSClient(c, client) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := proxyBefore(t, stateserver.RunT(t))
			for i := range 200 {
				ours, theirs := tcpPair(t)
				c := newConn(p, tt.secure(ours), netip.AddrPort{})
				c.leave(time.Now().Add(time.Hour))
				served := serveOne(c)
				theirs = tt.unpack(theirs)
				if _, err := theirs.Write([]byte(headRequest)); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 1024)
				n, err := theirs.Read(b)
				if err != nil || !bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) {
					t.Fatalf("answer %d = %q, %v; want a whole one", i, b[:n], err)
				}
				if sock.New(theirs).Idle() {
					t.Fatalf("answer %d has been read, and the connection seems open; want its end to have come too", i)
				}
				<-served
			}
		})
	}
}
