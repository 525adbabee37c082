package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/stateserver"
	"stateproxy/wire"
)

const host = "10.0.0.1:42424"

func at(serve func(net.Conn)) map[string]func(net.Conn) {
	return map[string]func(net.Conn){host: serve}
}

func TestGoodServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stateserver.Server{}
		r, n := probed(t, Probe{Idle: 10 * time.Second}, "tcpip=state1", at(stateServer(t, s)))
		var names []string
		for _, step := range r.Steps {
			names = append(names, step.Name)
			if step.Result != Good || step.Kind != "" || step.Advice != "" || step.Text == "" {
				t.Errorf("step %+v; want ok", step)
			}
		}
		want := []string{StepName, StepConnect, StepAnswer, StepStatusLine, StepVersion, StepStore, StepRead, StepLock, StepSecondLock,
			StepRelease, StepReadAgain, StepRemove, StepGone, StepIdle}
		if !r.OK || r.Address != "state1:42424" || !slices.Equal(names, want) {
			t.Errorf("Run = OK %v, %q, %v; want true, state1:42424, %v", r.OK, r.Address, names, want)
		}
		if st := s.Stats(); st.Sessions != 0 || n.dials[host] != 1 {
			t.Errorf("%d sessions left, %d connections made; want 0, 1", st.Sessions, n.dials[host])
		}
	})
}

func TestClosedIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		serve := stateServer(t, &stateserver.Server{IdleTimeout: time.Second})
		r, _ := probed(t, Probe{Idle: 5 * time.Second}, "state1", at(serve))
		s := r.Steps[len(r.Steps)-1]
		if !r.OK || s.Name != StepIdle || s.Result != Warning || s.Kind != ClosedIdle || !strings.Contains(s.Text, "after 1s") {
			t.Errorf("OK = %v, last step %+v; want a warning that it was closed after 1s", r.OK, s)
		}
	})
}

func TestFindings(t *testing.T) {
	ok := "200 OK\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 0\r\n\r\n"
	first := func(text string) func(net.Conn) { return scripted{"reset_timeout": text}.serve }
	server := func(s scripted) func(net.Conn) { return s.serve }
	tests := []struct {
		name   string
		serve  func(net.Conn)
		step   string
		kind   Kind
		text   string // part of it
		advice string // likewise
	}{
		{"firewall", nil, StepConnect, NoConnection, "within 10s", "firewall"},
		{"remote connections not allowed", hangsUp, StepAnswer, ClosedUnasked, "remote connections are not allowed", "AllowRemoteConnection"},
		{"hangs", silent, StepAnswer, Silent, "no answer within 10s", "Restart"},
		{"TLS", tlsServer, StepAnswer, TLS, "TLS", "plain TCP"},
		{"TLS alert at once", says("\x15\x03\x01\x00\x02\x02\x28"), StepAnswer, TLS, "TLS", "plain TCP"},
		{"web server", says("HTTP/1.1 400 Bad Request\r\nServer: x\r\nContent-Length: 0\r\n\r\n"), StepAnswer, HTTP, "HTTP/1.1 400 Bad Request", "forward TCP"},
		{"web server, chunked", says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), StepAnswer, HTTP, "web server", "forward TCP"},
		{"other service", says("SSH-2.0-x\r\n"), StepAnswer, NoStateServer, "SSH-2.0-x", "42424"},
		{"proxy without backend", first("400 Bad Request\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 0\r\n\r\n"), StepAnswer, Unavailable, "400", "stateproxy status"},
		{"shutting down", first("503 Busy\r\nContent-Length: 0\r\n\r\n"), StepAnswer, OddStatus, "503", "out of service"},
		{"header off", first("404 Not Found\r\nContent-Length: 0\r\n\r\n"), StepVersion, NoVersion, "X-AspNet-Version", "enableVersionHeader"},
		{"too old", first("404 Not Found\r\nX-AspNet-Version: 1.1.4322\r\nContent-Length: 0\r\n\r\n"), StepVersion, TooOld, "1.1.4322", ".NET"},
		{"body to HEAD", first("404 Not Found\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 2\r\n\r\nhi"), StepStore, TooMuch, "more bytes", "one user's session"},
		{"full", server(scripted{"set": "400 Bad Request\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 0\r\n\r\n"}), StepStore, NotTaken, "400", "memory"},
		{"store locked", server(scripted{"set": locked}), StepStore, NotTaken, "423", "log"},
		{"faulty", server(scripted{"set": "500 Error\r\nContent-Length: 0\r\n\r\n"}), StepStore, OddStatus, "500", "out of service"},
		{"several servers", server(scripted{"get": notFound}), StepRead, Lost, "not there", "load balancer"},
		{"damaged", server(scripted{"get": "200 OK\r\nContent-Length: 3\r\n\r\nabc"}), StepRead, Changed, "3 other", "changes session bodies"},
		{"empty", server(scripted{"get": ok}), StepRead, Changed, "0 other", "changes session bodies"},
		{"breaks", server(scripted{"get": ""}), StepRead, Broken, "EOF", "cut the connection"},
		{"stalls", server(scripted{"get": "silence"}), StepRead, Silent, "within 10s", "hangs"},
		{"huge", server(scripted{"get": "200 OK\r\nContent-Length: 2000000\r\n\r\n"}), StepRead, Broken, "2000000", "log"},
		{"no cookie", server(scripted{"get_exclusive": "200 OK\r\nContent-Length: BODY\r\n\r\n"}), StepLock, Locks, "LockCookie", "AspNetStateService"},
		{"locked at once", server(scripted{"get_exclusive": locked}), StepLock, Locks, "423, want 200", "changes"},
		{"granted twice", server(nil), StepSecondLock, Locks, "second lock", "changes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := probed(t, Probe{Idle: 5 * time.Second}, "state1", at(tt.serve))
				s := find(r, func(s Step) bool { return s.Result != Good })
				if r.OK || s.Name != tt.step || s.Result != Failed || s.Kind != tt.kind || !strings.Contains(s.Text, tt.text) || !strings.Contains(s.Advice, tt.advice) {
					t.Errorf("OK = %v, first finding %+v; want %s %s, text with %q, advice with %q", r.OK, s, tt.step, tt.kind, tt.text, tt.advice)
				}
			})
		})
	}
}

func find(r *Report, match func(Step) bool) Step {
	if i := slices.IndexFunc(r.Steps, match); i >= 0 {
		return r.Steps[i]
	}
	return Step{}
}

// lockedFrom is a server whose locks hold from the second try on, and that
// answers releases with the given text.
func lockedFrom(release string) func(net.Conn) {
	return func(c net.Conn) {
		acquires := 0
		s := scripted{"release": release}
		r := wire.NewReader(c, 4<<10, wire.DefaultMaxHead)
		inner, outer := net.Pipe()
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { defer inner.Close(); s.serve(inner) })
		defer outer.Close()
		for {
			var req wire.Request
			if r.ReadRequest(&req) != nil {
				return
			}
			head := slices.Clone(req.Head)
			body, err := r.ReadBody(nil, req.BodyLen())
			if err != nil {
				return
			}
			if req.Op() == wire.OpGetExclusive {
				if acquires++; acquires > 1 {
					io.WriteString(c, locked)
					continue
				}
			}
			outer.Write(append(head, body...))
			b := make([]byte, 8<<10)
			n, err := outer.Read(b)
			if err != nil {
				return
			}
			c.Write(b[:n])
		}
	}
}

func TestLockThatCanNotBeGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, n := probed(t, Probe{}, "state1", at(lockedFrom(locked)))
		s := find(r, func(s Step) bool { return s.Result != Good })
		if s.Name != StepRelease || s.Kind != Locks || s.Result != Failed {
			t.Errorf("first finding %+v; want %s %s", s, StepRelease, Locks)
		}
		if n.dials[host] != 2 {
			t.Errorf("%d connections; want a second one that removes the session", n.dials[host])
		}
	})
}

func TestRemovedSessionThatIsStillThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := probed(t, Probe{}, "state1", at(lockedFrom("200 OK\r\nContent-Length: 0\r\n\r\n")))
		s := find(r, func(s Step) bool { return s.Result != Good })
		if s.Name != StepGone || s.Kind != NotTaken {
			t.Errorf("first finding %+v; want %s %s", s, StepGone, NotTaken)
		}
	})
}

// TestSessionIsRemovedAfterAFailure lets the connection die once the session is
// stored and locked.
func TestSessionIsRemovedAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stateserver.Server{}
		serve := stateServer(t, s)
		first := true
		r, _ := probed(t, Probe{}, "state1", at(func(c net.Conn) {
			if first {
				first = false
				c = &dying{Conn: c, after: 4} // probe, store, read, lock
			}
			serve(c)
		}))
		if got := find(r, func(s Step) bool { return s.Result == Failed }); got.Name != StepSecondLock {
			t.Errorf("failed step %+v; want %s", got, StepSecondLock)
		}
		if n := s.Len(); n != 0 {
			t.Errorf("%d sessions left; want none", n)
		}
	})
}

// dying is a connection that ends after a number of writes.
type dying struct {
	net.Conn
	after int
}

func (d *dying) Write(b []byte) (int, error) {
	if d.after--; d.after < 0 {
		d.Close()
		return 0, io.ErrClosedPipe
	}
	return d.Conn.Write(b)
}

func TestNames(t *testing.T) {
	tests := []struct {
		name  string
		hosts []string
		err   error
		text  string
	}{
		{"unknown", nil, &net.DNSError{IsNotFound: true, Name: "state1"}, "no such host: state1"},
		{"resolver down", nil, errors.New("resolver is down"), "resolver is down"},
		{"no address", nil, nil, "no address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Probe{Lookup: func(context.Context, string) ([]string, error) { return tt.hosts, tt.err }}
			r, _ := probed(t, p, "state1", nil)
			if s := r.Steps[0]; r.OK || len(r.Steps) != 1 || s.Kind != NoName || !strings.Contains(s.Text, tt.text) {
				t.Errorf("steps %+v; want one, %s, with %q", r.Steps, NoName, tt.text)
			}
		})
	}
}

func TestSeveralAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Probe{Lookup: func(context.Context, string) ([]string, error) {
			return []string{"fe80::1", "10.0.0.1", "10.0.0.2"}, nil
		}}
		serve := stateServer(t, &stateserver.Server{})
		r, _ := probed(t, p, "state1:42424", map[string]func(net.Conn){host: serve, "10.0.0.2:42424": serve})
		if s := r.Steps[1]; s.Result != Warning || s.Kind != Refused || !strings.HasPrefix(s.Text, "[fe80::1]:42424: ") {
			t.Errorf("step %+v; want a warning that [fe80::1]:42424 refuses", s)
		}
		if s := find(r, func(s Step) bool { return s.Name == StepGone }); !r.OK || s.Result != Good {
			t.Errorf("OK = %v, %+v; want a round over the second address", r.OK, s)
		}
	})
}

func TestRefusedOnThisMachine(t *testing.T) {
	for address, remote := range map[string]bool{"127.0.0.1:1234": false, "[::1]:1234": false, "10.1.2.3:1234": true} {
		r, _ := probed(t, Probe{}, address, nil)
		s := find(r, func(s Step) bool { return s.Name == StepConnect })
		if s.Kind != Refused || s.Result != Failed || !strings.Contains(s.Advice, "1234") || strings.Contains(s.Advice, "AllowRemoteConnection") != remote {
			t.Errorf("Run(%q): step %+v; want %s, with a word on remote connections: %v", address, s, Refused, remote)
		}
	}
}

// slow is a connection that answers late.
type slow struct{ net.Conn }

func (s slow) Write(b []byte) (int, error) {
	<-time.After(300 * time.Millisecond)
	return s.Conn.Write(b)
}

func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		serve := stateServer(t, &stateserver.Server{})
		r, _ := probed(t, Probe{Slow: 200 * time.Millisecond}, "state1", at(func(c net.Conn) { serve(slow{c}) }))
		s := find(r, func(s Step) bool { return s.Name == StepStore })
		if !r.OK || s.Result != Warning || s.Kind != Slow || s.Seconds != .3 || !strings.Contains(s.Text, "300ms") {
			t.Errorf("OK = %v, step %+v; want a warning of 300ms", r.OK, s)
		}
	})
}

func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n := &network{servers: at(silent), dials: map[string]int{}}
		p := Probe{Dial: n.dial}
		r, err := p.Run(ctx, host)
		n.wg.Wait()
		if s := r.Steps[len(r.Steps)-1]; err != nil || r.OK || s.Kind != Cancelled || s.Seconds != 1 {
			t.Errorf("Run = OK %v, %v, last step %+v; want it broken off after 1s", r.OK, err, s)
		}
	})
}

func TestSplitAddress(t *testing.T) {
	tests := []struct{ in, want string }{
		{"state1", "state1:42424"},
		{"state1:1", "state1:1"},
		{"tcpip=state1:42424", "state1:42424"},
		{"10.0.0.1", "10.0.0.1:42424"},
		{"::1", "[::1]:42424"},
		{"[::1]", "[::1]:42424"},
		{"tcpip=[fe80::1]:5", "[fe80::1]:5"},
		{"", ""},
		{":42424", ""},
		{"state1:0", ""},
		{"state1:70000", ""},
		{"state1:x", ""},
		{"http://state1", ""},
		{"a:b:c", ""},
		{"two words", ""},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			host, port, err := splitAddress(tt.in)
			got := ""
			if err == nil {
				got = net.JoinHostPort(host, port)
			}
			if got != tt.want {
				t.Errorf("splitAddress(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
			}
		})
	}
}

// TestOwnKey: the key splits as an application's does, so that proxies route by
// it, and no two are alike.
func TestOwnKey(t *testing.T) {
	r := &run{Probe: &Probe{App: "/LM/W3SVC/2/ROOT/a (b)"}}
	seen := map[string]bool{}
	for range 100 {
		target := r.ownTarget()
		k := wire.ParseTarget(nil, target)
		if string(k.App) != r.App || len(k.SessionID) != 24 || len(k.Digest) != 44 {
			t.Fatalf("ownTarget has application part %q, %d bytes of ID, %d of digest; want %q, 24, 44", k.App, len(k.SessionID), len(k.Digest), r.App)
		}
		seen[string(target)] = true
	}
	if len(seen) != 100 {
		t.Errorf("%d different targets of 100", len(seen))
	}
}

// TestAdvices: there is an advice for each kind that a step may have.
func TestAdvices(t *testing.T) {
	kinds := []Kind{NoName, Refused, NoConnection, ConnectError, ClosedUnasked, Silent, TLS, HTTP, NoStateServer, Unavailable, OddStatus,
		NoVersion, TooOld, Lost, Changed, Locks, Broken, NotTaken, TooMuch, ClosedIdle, Slow, Cancelled,
		TLSPlain, TLSName, TLSUntrusted, TLSExpired, TLSRefused, TLSBroken}
	if len(kinds) != len(advices) {
		t.Errorf("%d kinds, %d advices", len(kinds), len(advices))
	}
	r := &run{Probe: &Probe{}, port: "42424", address: host}
	for _, k := range kinds {
		if a := k.advice(r); !strings.HasSuffix(a, ".") || strings.Contains(a, "REMOTE") || strings.Contains(a, "PORT ") {
			t.Errorf("%s.advice = %q; want sentences", k, a)
		}
	}
}
