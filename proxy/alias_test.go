package proxy_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// shopKey is the key of a session under an alias's name.
func shopKey(app, id string) string {
	digest := sha256.Sum256([]byte(app))
	return app + "(" + base64.StdEncoding.EncodeToString(digest[:]) + ")/" + id
}

// as sends a request for a key.
func (c *client) as(verb wire.Verb, key, body string, exclusive wire.Exclusive) answer {
	c.t.Helper()
	req := wire.Request{Verb: verb, Target: wire.AppendEncoded(nil, []byte(key)), Exclusive: exclusive}
	if verb == wire.PUT {
		req.Timeout, req.LockCookie = wire.Some(20), wire.Some(0)
	}
	return c.do(req, body)
}

func TestAliasJoinsApplications(t *testing.T) {
	const one, two, keyed = "/LM/W3SVC/1/ROOT/shop", "/lm/w3svc/7/root/Shop", "/LM/W3SVC/9/ROOT/shop(AAAAAAAAAAAAAAAAAAAAAAAAAAA=)/"
	servers := startServers(t, 3)
	r := newRig(t, proxy.Settings{
		Backends: backends(servers...), MaxWhole: 4 << 10,
		Aliases: []proxy.Alias{{To: one, From: []string{"/LM/W3SVC/*/ROOT/shop"}}},
	})
	first, second, third := dial(t, r.addr), dial(t, r.addr), dial(t, r.addr)
	done := 0
	for _, size := range []int{1, 3000, 4 << 10, 20 << 10, 200 << 10} { // some are held whole, some stream
		for n := range 20 {
			id := fmt.Sprintf("id-%d-%d-ä", size, n)
			body := strings.Repeat(string(rune('a'+n)), size)
			if a := first.as(wire.PUT, shopKey(one, id), body, 0); a.Status != wire.StatusOK {
				t.Fatalf("PUT by the first server = %d; want 200", a.Status)
			}
			if a := second.as(wire.GET, shopKey(two, id), "", wire.Acquire); a.Status != wire.StatusOK || a.body != body {
				t.Fatalf("GET by the second server = %d with %d bytes; want 200 with %d", a.Status, len(a.body), size)
			}
			if a := third.as(wire.GET, keyed+id, "", wire.Acquire); a.Status != wire.StatusLocked {
				t.Fatalf("GET by the third server = %d; want the 423 of the second one's lock", a.Status)
			}
			req := wire.Request{Verb: wire.PUT, Target: wire.AppendEncoded(nil, []byte(shopKey(two, id))), Timeout: wire.Some(20), LockCookie: wire.Some(2)}
			if a := second.do(req, body+"!"); a.Status != wire.StatusOK {
				t.Fatalf("PUT by the second server = %d; want 200", a.Status)
			}
			if a := third.as(wire.GET, keyed+id, "", 0); a.body != body+"!" {
				t.Fatalf("GET by the third server = %d with %d bytes; want what the second saved", a.Status, len(a.body))
			}
			done += 5
		}
	}
	o := r.lastOutcome(done)
	if string(o.App) != one {
		t.Errorf("Outcome.App = %q; want %q", o.App, one)
	}
	found := 0
	for _, s := range servers {
		found += s.Len()
		if _, ok := s.Peek(shopKey(one, "id-1-0-ä")); ok {
			found += 1000
		}
	}
	if found != 1100 {
		t.Errorf("servers hold %d sessions; want 100, under the alias", found)
	}
}

// What no alias takes goes to the backend as it came.
func TestAliasLeavesOthers(t *testing.T) {
	s := startServers(t, 1)[0]
	r := newRig(t, proxy.Settings{Backends: backends(s), Aliases: []proxy.Alias{
		{To: "/LM/W3SVC/1/ROOT/shop", From: []string{"/LM/W3SVC/2/ROOT/shop"}},
		{To: "/LM/W3SVC/1/ROOT/forum", From: []string{"/LM/W3SVC/?/ROOT/*"}},
	}})
	tests := []struct{ name, key, want string }{
		{"no digest", "/LM/W3SVC/2/ROOT/shop/a", "/LM/W3SVC/2/ROOT/shop/a"},
		{"another application", app + "a", app + "a"},
		{"the first that fits", shopKey("/LM/W3SVC/2/ROOT/shop", "a"), shopKey("/LM/W3SVC/1/ROOT/shop", "a")},
		{"the second", shopKey("/LM/W3SVC/3/ROOT/shop", "a"), shopKey("/LM/W3SVC/1/ROOT/forum", "a")},
		{"its name already", shopKey("/LM/W3SVC/1/ROOT/shop", "b"), shopKey("/LM/W3SVC/1/ROOT/shop", "b")},
		{"its name with another digest", "/LM/W3SVC/1/ROOT/shop(AAAAAAAAAAAAAAAAAAAAAAAAAAA=)/c", shopKey("/LM/W3SVC/1/ROOT/shop", "c")},
		{"an ID like a key", shopKey("/LM/W3SVC/2/ROOT/shop", app+"x"), shopKey("/LM/W3SVC/1/ROOT/shop", app+"x")},
		{"an empty ID", shopKey("/LM/W3SVC/2/ROOT/shop", ""), shopKey("/LM/W3SVC/1/ROOT/shop", "")},
	}
	c := dial(t, r.addr)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.Reset()
			if a := c.as(wire.PUT, tt.key, "body", 0); a.Status != wire.StatusOK {
				t.Fatalf("PUT = %d; want 200", a.Status)
			}
			if _, ok := s.Peek(tt.want); !ok || s.Len() != 1 {
				t.Errorf("%q is not at the server under %q", tt.key, tt.want)
			}
		})
	}
	lone := func(id string) []byte {
		return append(wire.AppendEncoded(nil, []byte(shopKey("/LM/W3SVC/2/ROOT/shop", ""))), id...)
	}
	t.Run("IDs that only %u tells apart", func(t *testing.T) {
		s.Reset()
		for _, id := range []string{"%ud800", "%ud801"} {
			c.do(wire.Request{Verb: wire.PUT, Target: lone(id), Timeout: wire.Some(20)}, "body")
		}
		if s.Len() != 2 {
			t.Errorf("the server holds %d sessions; want 2", s.Len())
		}
	})
}

// All of a request but its target reaches the backend as it came.
func TestAliasKeepsTheRest(t *testing.T) {
	key := shopKey("/LM/W3SVC/2/ROOT", "id")
	raw := func(key string) []byte {
		return []byte("PUT " + string(wire.AppendEncoded(nil, []byte(key))) +
			" HTTP/1.1\r\nHost: web1\r\nX-Other:  a b\r\ntimeout:20\r\nContent-Length:4\r\nExtraFlags:0\r\n\r\nbody")
	}
	want := raw(shopKey("/LM/W3SVC/1/ROOT", "id"))
	got := make(chan []byte, 1)
	b := scriptedBackend(t, len(want), got)
	r := newRig(t, proxy.Settings{
		Backends: []proxy.Backend{{Name: "s1", Address: b, Weight: 1}},
		Aliases:  []proxy.Alias{{To: "/LM/W3SVC/1/ROOT", From: []string{"/LM/W3SVC/2/ROOT"}}},
	})
	c := dial(t, r.addr)
	c.send(raw(key))
	if a, err := c.read(wire.PUT); err != nil || a.Status != wire.StatusOK {
		t.Fatalf("PUT = %d, %v; want 200", a.Status, err)
	}
	if sent := <-got; !bytes.Equal(sent, want) {
		t.Errorf("the backend got %q; want %q", sent, want)
	}
	if o := r.lastOutcome(1); string(o.Body) != "body" {
		t.Errorf("Outcome.Body = %q; want the body", o.Body)
	}
}

// scriptedBackend answers one request of size bytes by 200 and passes it on.
func scriptedBackend(t *testing.T, size int, got chan<- []byte) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		b := make([]byte, size)
		if _, err := io.ReadFull(nc, b); err != nil {
			t.Errorf("read the request: %v", err)
		}
		got <- b
		io.WriteString(nc, "200 OK\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 0\r\n\r\n")
		io.Copy(io.Discard, nc)
	})
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

func TestAliasOnRequestsThatEndTheConnection(t *testing.T) {
	s := startServers(t, 1)[0]
	r := newRig(t, proxy.Settings{Backends: backends(s), Aliases: []proxy.Alias{{To: "/LM/W3SVC/1/ROOT", From: []string{"/LM/W3SVC/2/ROOT"}}}})
	c := dial(t, r.addr)
	c.as(wire.PUT, shopKey("/LM/W3SVC/1/ROOT", "id"), "body", 0)
	c.send([]byte("GET " + string(wire.AppendEncoded(nil, []byte(shopKey("/LM/W3SVC/2/ROOT", "id")))) + " HTTP/1.1\r\nHost: h\r\nContent-Length:9\r\n\r\n"))
	if a, err := c.read(wire.GET); err != nil || a.body != "body" {
		t.Errorf("GET with a length = %d %q, %v; want the session", a.Status, a.body, err)
	}
	if _, err := c.read(wire.GET); err != io.EOF {
		t.Errorf("then: %v; want EOF", err)
	}
}

func TestAliasErrors(t *testing.T) {
	tests := []struct {
		name string
		a    proxy.Alias
		want string
	}{
		{"no slash", proxy.Alias{To: "LM/W3SVC/1/ROOT", From: []string{"*"}}, "begins with one slash"},
		{"two slashes", proxy.Alias{To: "//LM/W3SVC/1/ROOT", From: []string{"*"}}, "begins with one slash"},
		{"empty", proxy.Alias{From: []string{"*"}}, "begins with one slash"},
		{"long", proxy.Alias{To: "/" + strings.Repeat("x", 512), From: []string{"*"}}, "at most 512 bytes"},
		{"not UTF-8", proxy.Alias{To: "/\xff", From: []string{"*"}}, "want UTF-8"},
		{"of nothing", proxy.Alias{To: "/LM/W3SVC/1/ROOT"}, "nothing becomes it"},
		{"a digest", proxy.Alias{To: shopKey("/LM", "x"), From: []string{"*"}}, "has a digest in it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := (&proxy.Proxy{}).Reconfigure(proxy.Settings{Aliases: []proxy.Alias{tt.a}})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Reconfigure() = %v; want an error with %q", err, tt.want)
			}
		})
	}
}

func TestAliasAllocatesNothing(t *testing.T) {
	req := []byte("GET " + string(wire.AppendEncoded(nil, []byte(shopKey("/LM/W3SVC/2/ROOT", "session")))) + " HTTP/1.1\r\nHost: h\r\n\r\n")
	sent := []byte("GET " + string(wire.AppendEncoded(nil, []byte(shopKey("/LM/W3SVC/1/ROOT", "session")))) + " HTTP/1.1\r\nHost: h\r\n\r\n")
	want := []byte("200 OK\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 4\r\n\r\nbody")
	p := &proxy.Proxy{Done: func(*proxy.Outcome) {}}
	if _, err := p.Reconfigure(proxy.Settings{
		Backends: []proxy.Backend{{Name: "s1", Address: plainBackend(t, sent, want), Weight: 1}},
		Aliases:  []proxy.Alias{{To: "/LM/W3SVC/1/ROOT", From: []string{"/LM/W3SVC/*/ROOT"}}},
	}); err != nil {
		t.Fatal(err)
	}
	wantNoAllocs(t, p, req, want)
}

// A session under an alias is brought over as any other.
func TestAliasWithHandoff(t *testing.T) {
	servers := startServers(t, 2)
	s := proxy.Settings{Backends: backends(servers...)[:1], Aliases: []proxy.Alias{{To: "/LM/W3SVC/1/ROOT", From: []string{"/LM/W3SVC/*/ROOT"}}}}
	r := newRig(t, s)
	c := dial(t, r.addr)
	const n = 40
	for i := range n {
		c.as(wire.PUT, shopKey("/LM/W3SVC/2/ROOT", fmt.Sprint("id", i)), fmt.Sprint("body", i), 0)
	}
	s.Backends = backends(servers...)
	r.reconfigure(s)
	for i := range n {
		if a := c.as(wire.GET, shopKey("/LM/W3SVC/3/ROOT", fmt.Sprint("id", i)), "", 0); a.body != fmt.Sprint("body", i) {
			t.Errorf("GET of id%d = %d %q; want its session", i, a.Status, a.body)
		}
	}
	if servers[1].Len() == 0 {
		t.Error("no session was brought over")
	}
}
