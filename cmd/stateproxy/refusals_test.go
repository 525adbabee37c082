package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"stateproxy/proxy"
	"stateproxy/stateserver"
)

func TestRefusalsAreLoggedByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logText{}
		f := &refusals{log: zerolog.New(log)}
		at := netip.MustParseAddrPort
		knock := func(client, peer string, reason proxy.Reason, err error) {
			f.note(proxy.Refusal{Listener: ":42424", Client: at(client), Peer: at(peer), Reason: reason, Err: err})
		}
		for range 5 {
			knock("10.0.0.1:1000", "10.0.0.1:1000", proxy.NotAllowed, nil)
			knock("10.0.0.1:1001", "10.0.0.1:1001", proxy.NotAllowed, nil)
			knock("10.0.0.2:1000", "10.0.0.5:1000", proxy.NotAllowed, nil)
			knock("10.0.0.5:1000", "10.0.0.5:1000", proxy.BadProxyHeader, errors.New("no PROXY header"))
		}
		want := `{"level":"warn","reason":"access","client":"10.0.0.1","listen":":42424","message":"client connection refused"}
{"level":"warn","reason":"access","client":"10.0.0.2","listen":":42424","peer":"10.0.0.5","message":"client connection refused"}
{"level":"warn","reason":"proxy_header","client":"10.0.0.5","listen":":42424","error":"no PROXY header","message":"client connection refused"}
`
		if got := log.String(); got != want {
			t.Errorf("log =\n%s; want\n%s", got, want)
		}
		<-time.After(time.Minute)
		knock("10.0.0.1:1000", "10.0.0.1:1000", proxy.NotAllowed, nil)
		if _, got, _ := strings.Cut(log.String(), want); !strings.Contains(got, `"client":"10.0.0.1"`) || !strings.Contains(got, `"also_before":17`) {
			t.Errorf("a minute later the log goes on with\n%s; want a line that tells of 17 more", got)
		}
	})
}

// TestAppLetsInWhomTheConfigSays plays a balancer in front of the proxy, whose
// config changes who may come in.
func TestAppLetsInWhomTheConfigSays(t *testing.T) {
	s1 := stateserver.RunT(t)
	config := func(allow, rule string) string {
		listen := "listen:\n  - address: 127.0.0.1:0\n    allow: [" + allow + "]\n    proxy_protocol: [127.0.0.1]\n"
		return strings.Replace(text(s1), "listen: 127.0.0.1:0\n", listen, 1) +
			"access:\n  - applications: [/LM/W3SVC/2/*]\n    " + rule + "\n"
	}
	const from1, from2 = "PROXY TCP4 10.1.0.1 10.0.0.5 40000 42424\r\n", "PROXY TCP4 10.2.0.1 10.0.0.5 40000 42424\r\n"
	r := runApp(t, config("10.1.0.0/16", "deny: []"))
	if got := r.ask(from1 + putOne); got != "200 OK" {
		t.Errorf("PUT of a client that may come in = %q; want 200 OK", got)
	}
	r.shutOut(from2 + getOne)
	r.logged("client connection refused", `"reason":"access"`, `"client":"10.2.0.1"`, `"peer":"127.0.0.1"`)
	r.shutOut(getOne)
	r.logged("client connection refused", `"reason":"proxy_header"`, `"client":"127.0.0.1"`)
	for _, reason := range []string{"access", "proxy_header"} {
		if _, body := r.get("/metrics"); !strings.Contains(body, `stateproxy_client_connections_refused_total{reason="`+reason+`"} 1`) {
			t.Errorf("/metrics does not count one refusal for %s", reason)
		}
	}
	replaceFile(t, r.file, config("10.1.0.0/16, 10.2.0.0/16", "allow: [10.2.0.0/16]"))
	r.logged("config reloaded", "allow 10.1.0.0/16, 10.2.0.0/16")
	if got := r.ask(from2 + getOne); got != "200 OK" {
		t.Errorf("GET after the reload = %q; want 200 OK", got)
	}
	if got := r.ask(from1 + getOne); got != "400 Bad Request" {
		t.Errorf("GET of another one's application = %q; want 400 Bad Request", got)
	}
	r.logged("request failed", `"reason":"app_access"`, `"client":"10.1.0.1:40000"`)
	if strings.Contains(r.log.String(), "bpr4mimb2vjnvtn2jc4yp3uo") {
		t.Error("the log holds a session ID")
	}
}

// shutOut fails the test unless the proxy closes the connection without a byte.
func (r *running) shutOut(request string) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.app.address())
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, request)
	b, err := io.ReadAll(c)
	if len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Errorf("answer to %.40q = %q, %v; want a closed connection", request, b, err)
	}
}

// TestRefusalsOfManyAddresses: a flood of addresses is a bounded number of lines.
func TestRefusalsOfManyAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logText{}
		f := &refusals{log: zerolog.New(log)}
		for i := range 20_000 {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], uint32(i))
			f.note(proxy.Refusal{Client: netip.AddrPortFrom(netip.AddrFrom4(b), 1), Reason: proxy.NotAllowed})
		}
		if n := strings.Count(log.String(), "\n"); n != maxRefused || len(f.told) != maxRefused {
			t.Errorf("%d lines, %d addresses remembered; want %d of each", n, len(f.told), maxRefused)
		}
	})
}
