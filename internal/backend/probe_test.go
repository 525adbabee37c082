package backend_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/wire"
)

func TestProbeVerdicts(t *testing.T) {
	const odd = "status 200, want 404"
	tests := []struct {
		name   string
		answer string
		want   string // part of the error; "" for none
	}{
		{"right", absent, ""},
		{"right with HTTP version", "HTTP/1.1 " + absent, ""},
		{"version 2", "404 Not Found\r\nX-AspNet-Version: 2.0.50727\r\nContent-Length: 0\r\n\r\n", ""},
		{"found", done, odd},
		{"503", "503 Busy\r\nContent-Length: 0\r\n\r\n", "status 503, want 404"},
		{"no version", "404 Not Found\r\nContent-Length: 0\r\n\r\n", "without X-AspNet-Version"},
		{"version 1", "404 Not Found\r\nX-AspNet-Version: 1.1.4322\r\nContent-Length: 0\r\n\r\n", "below 2"},
		{"version unreadable", "404 Not Found\r\nX-AspNet-Version: new\r\nContent-Length: 0\r\n\r\n", "below 2"},
		{"body", "404 Not Found\r\nX-AspNet-Version: 4.0\r\nContent-Length: 2\r\n\r\nno", "sent a body"},
		{"length of a body", "404 Not Found\r\nX-AspNet-Version: 4.0\r\nContent-Length: 2\r\n\r\n", "sent a body"},
		{"body without length", absent + "no", "sent a body"},
		{"another protocol", "SSH-2.0-OpenSSH\r\n", "no state server: "},
		{"no length", "404 Not Found\r\n\r\n", "no state server: "},
		{"endless head", "404 Not Found\r\nX-Pad: " + strings.Repeat("x", 10_000), "no state server: "},
		{"closed", "", "closed without an answer"},
		{"cut", "404 Not", "closed without an answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, f := overTCP(t, func(c *peer) {
				if c.next() {
					c.say(tt.answer)
				}
				if tt.answer == done {
					c.next()
				}
			})
			checkVerdict(t, backend.Probe(t.Context(), nil, p.Address), tt.want)
			want := "[0 reset_timeout]"
			if tt.answer == done { // it might be a proxy
				want = "[0 reset_timeout 0 get]"
			}
			if got := fmt.Sprint(f.requests()); got != want {
				t.Errorf("the backend saw %s; want %s", got, want)
			}
		})
	}
}

func checkVerdict(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("Probe = %v; want nil", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("Probe = %v; want %q in it", err, want)
	}
}

func TestProbeClosesItsConnection(t *testing.T) {
	for _, answer := range []string{absent, "503 Busy\r\nContent-Length: 0\r\n\r\n", "SSH-2.0\r\n"} {
		p, f := overTCP(t, func(c *peer) {
			c.next()
			c.say(answer)
			c.gone()
		})
		backend.Probe(t.Context(), nil, p.Address)
		eventually(t, "the connection is closed", func() bool { return f.serving() == 0 })
	}
}

func TestProbeReset(t *testing.T) {
	p, _ := overTCP(t, func(c *peer) {
		c.next()
		c.reset()
	})
	checkVerdict(t, backend.Probe(t.Context(), nil, p.Address), "closed without an answer")
}

func TestProbeWithoutConnection(t *testing.T) {
	checkVerdict(t, backend.Probe(t.Context(), nil, "127.0.0.1:1"), "no state server listens there")
	checkVerdict(t, backend.Probe(t.Context(), dialError(context.DeadlineExceeded), "a"), "no connection in time")
	checkVerdict(t, backend.Probe(t.Context(), dialError(errors.New("no route")), "a"), "no route")

	ours, theirs := net.Pipe()
	theirs.Close()
	dead := func(context.Context, string, string) (net.Conn, error) { return ours, nil }
	checkVerdict(t, backend.Probe(t.Context(), dead, "a"), "send probe: ")
	if _, err := ours.Write([]byte("x")); err == nil {
		t.Error("Probe left its connection open")
	}
}

func TestProbeEndsWithContext(t *testing.T) {
	tests := []struct {
		name   string
		script func(c *peer)
		want   string
	}{
		{"silent", func(c *peer) { c.next(); c.gone() }, "connected, but no answer in time"},
		{"half an answer", func(c *peer) { c.next(); c.say(absent[:30]); c.gone() }, "connected, but no answer in time"},
		{"takes nothing", func(c *peer) { pass(time.Minute) }, "send probe: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, _ := inMemory(t, tt.script)
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				start := time.Now()
				err := backend.Probe(ctx, p.Dial, p.Address)
				checkVerdict(t, err, tt.want)
				if took := time.Since(start); took != 3*time.Second {
					t.Errorf("Probe took %v; want 3s", took)
				}
			})
		})
	}
}

// keeper answers as a server does that holds one item.
type keeper struct {
	body string
	puts []wire.Request
}

func (k *keeper) serve(c *peer) {
	for c.next() {
		switch {
		case c.req.Verb == wire.PUT:
			req := c.req
			req.Target = append([]byte(nil), req.Target...)
			k.puts = append(k.puts, req)
			if k.body == "" {
				k.body = string(c.body)
			}
			c.say(done)
		case k.body == "":
			c.say(absent)
		default:
			c.say(string(wire.AppendResponse(nil, &wire.Response{
				Status: wire.StatusOK, ContentLength: wire.Some(int64(len(k.body))),
			})) + k.body)
		}
	}
}

func TestInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		p, f := inMemory(t, k.serve)
		first, err := backend.Instance(t.Context(), p.Dial, p.Address)
		if err != nil || first == "" || first != k.body {
			t.Fatalf("Instance of a new server = %q, %v; want the nonce it holds, %q", first, err, k.body)
		}
		if len(k.puts) != 1 || k.puts[0].Op() != wire.OpSetUninitialized || k.puts[0].Timeout.N < 60 {
			t.Errorf("it was stored by %v; want one create-if-absent for hours", k.puts)
		}
		if again, err := backend.Instance(t.Context(), p.Dial, p.Address); again != first || err != nil {
			t.Errorf("Instance again = %q, %v; want %q", again, err, first)
		}
		k.body = "" // restarted
		if other, err := backend.Instance(t.Context(), p.Dial, p.Address); other == first || err != nil {
			t.Errorf("Instance after a restart = %q, %v; want another nonce", other, err)
		}
		synctest.Wait()
		if got := f.serving(); got != 0 {
			t.Errorf("%d connections are left open; want 0", got)
		}
	})
}

// Of two proxies that store at once the first wins, and both learn its nonce.
func TestInstanceOfTwoProxies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := ""
		p, _ := inMemory(t, func(c *peer) {
			for c.next() {
				switch {
				case c.req.Verb == wire.PUT:
					body = "OTHERS" // was faster
					c.say(done)
				case body == "":
					c.say(absent)
				default:
					c.say("200 OK\r\nContent-Length: 6\r\n\r\n" + body)
				}
			}
		})
		if got, err := backend.Instance(t.Context(), p.Dial, p.Address); got != "OTHERS" || err != nil {
			t.Errorf("Instance = %q, %v; want that of the other proxy", got, err)
		}
	})
}

func TestInstanceErrors(t *testing.T) {
	large := "200 OK\r\nContent-Length: 257\r\n\r\n" + strings.Repeat("x", 257)
	tests := []struct {
		name     string
		get, put string
		want     string
	}{
		{"locked", "423 Locked\r\nContent-Length: 0\r\n\r\n", "", "read sentinel: status 423"},
		{"too large", large, "", "read sentinel: a body of 257 bytes"},
		{"closed", "", "", "read sentinel: "},
		{"refused", absent, "400 Bad Request\r\nContent-Length: 0\r\n\r\n", "store sentinel: status 400"},
		{"closed at the store", absent, "", "store sentinel: "},
		{"forgotten", absent, done, "does not keep the sentinel"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := overTCP(t, func(c *peer) {
				for c.next() {
					answer := tt.get
					if c.req.Verb == wire.PUT {
						answer = tt.put
					}
					if answer == "" {
						return
					}
					c.say(answer)
				}
			})
			got, err := backend.Instance(t.Context(), nil, p.Address)
			if err == nil || got != "" || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Instance = %q, %v; want no nonce, %q", got, err, tt.want)
			}
		})
	}
	noRoute := errors.New("no route")
	if got, err := backend.Instance(t.Context(), dialError(noRoute), "a"); got != "" || !errors.Is(err, noRoute) {
		t.Errorf("Instance without a connection = %q, %v; want no nonce, %v", got, err, noRoute)
	}
}

func TestInstanceEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := inMemory(t, func(c *peer) { c.next(); c.gone() })
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		got, err := backend.Instance(ctx, p.Dial, p.Address)
		if err == nil || got != "" || time.Since(start) != 3*time.Second {
			t.Errorf("Instance = %q, %v after %v; want an error after 3s", got, err, time.Since(start))
		}
	})
}
