package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"stateproxy/health"
	"stateproxy/proxy"
)

// ask sends a request to the handler, for "GET /path" on localhost.
func ask(t *testing.T, h http.Handler, request string) *http.Response {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, onLoopback(httptest.NewRequest(method, "http://localhost:42480"+path, nil)))
	return w.Result()
}

// onLoopback returns r as if it had come in on loopback.
func onLoopback(r *http.Request) *http.Request { return cameInOn(r, "127.0.0.1:42480") }

func cameInOn(r *http.Request, address string) *http.Request {
	at := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
	return r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, at))
}

func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// farm is a proxy with pools shop (s3) and default (s1, s2), all of it well.
func farm() proxy.Status {
	backend := func(name string) proxy.BackendStatus {
		return proxy.BackendStatus{Name: name, Address: name + ".test:42424", Weight: 1, State: proxy.Up}
	}
	return proxy.Status{
		Pools: []proxy.PoolStatus{
			{Name: "shop", Applications: []string{"/LM/W3SVC/2/*"}, Fingerprint: 0xabc, Owners: []proxy.OwnerStatus{{Name: "s3", Weight: 1, Share: 1}}},
			{Name: "default", Fingerprint: 0xdef, Owners: []proxy.OwnerStatus{{Name: "s1", Weight: 1, Share: .5}, {Name: "s2", Weight: 1, Share: .5}}},
		},
		Backends: []proxy.BackendStatus{backend("s1"), backend("s2"), backend("s3")},
	}
}

// showing returns an Admin that shows the states.
func showing(s proxy.Status, healths ...health.Status) *Admin {
	return &Admin{Proxy: func() proxy.Status { return s }, Health: func() []health.Status { return healths }}
}

func TestEndpoints(t *testing.T) {
	h := showing(farm()).Handler()
	tests := []struct {
		request string
		status  int
		body    string // beginning of it
	}{
		{"GET /healthz", 200, "ok\n"},
		{"HEAD /healthz", 200, ""},
		{"GET /readyz", 200, "ready\n"},
		{"GET /metrics", 200, "# HELP go_"},
		{"GET /api/status", 200, "{\n  \"version\": 1,"},
		{"GET /api/v1/status", 200, "{\n  \"version\": 1,"},
		{"GET /api/v2/status", 404, "{\n  \"error\": \"There is nothing"},
		{"GET /page", 404, "404 page not found"},
		{"GET /assets/../admin.go", 307, ""},
		{"GET /assets/", 404, "404 page not found"},
		{"GET /healthz/", 404, "404 page not found"},
		{"POST /healthz", 405, "Method Not Allowed"},
		{"POST /metrics", 405, "Method Not Allowed"},
		{"DELETE /api/status", 405, "{\n  \"error\": \"Want GET, HEAD.\""},
		{"OPTIONS /readyz", 405, "Method Not Allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.request, func(t *testing.T) {
			r := ask(t, h, tt.request)
			if body := bodyOf(t, r); r.StatusCode != tt.status || !strings.HasPrefix(body, tt.body) {
				t.Errorf("%s = %d, %.80q; want %d, %q", tt.request, r.StatusCode, body, tt.status, tt.body)
			}
			for _, header := range guardHeaders {
				if got := r.Header.Get(header[0]); got != header[1] {
					t.Errorf("%s: %s = %q; want %q", tt.request, header[0], got, header[1])
				}
			}
			if allow := r.Header.Get("Allow"); tt.status == 405 && allow != "GET, HEAD" {
				t.Errorf("%s: Allow = %q; want GET, HEAD", tt.request, allow)
			}
		})
	}
}

func TestHost(t *testing.T) {
	tests := []struct {
		host    string
		allowed bool
	}{
		{"localhost", true},
		{"LocalHost:42480", true},
		{"localhost.:42480", true},
		{"127.0.0.1:42480", true},
		{"10.0.0.7", true},
		{"[::1]:42480", true},
		{"[::1]", true},
		{"", true},
		{"state.example:42480", true},
		{"STATE.example", true},
		{"evil.example:42480", false},
		{"localhost.evil.example", false},
		{"127.0.0.1.evil.example:42480", false},
		{"x.state.example", false},
	}
	a := &Admin{}
	a.Configure(Settings{Hosts: []string{"state.example"}})
	h := a.Handler()
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/healthz", nil)
			r.Host = tt.host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			want := http.StatusOK
			if !tt.allowed {
				want = http.StatusMisdirectedRequest
			}
			if w.Code != want {
				t.Errorf("GET /healthz at host %q = %d; want %d", tt.host, w.Code, want)
			}
		})
	}
}

// kept are the healths of backends that fail but are kept in service.
func kept(names ...string) (list []health.Status) {
	for _, n := range names {
		list = append(list, health.Status{Name: n, Up: true, Kept: true})
	}
	return list
}

// down is the farm with backends of the default pool out of service.
func down(names ...string) proxy.Status {
	s := farm()
	for i := range s.Backends {
		if slices.Contains(names, s.Backends[i].Name) {
			s.Backends[i].State = proxy.Down
		}
	}
	owners := &s.Pools[1].Owners
	*owners = slices.DeleteFunc(*owners, func(o proxy.OwnerStatus) bool { return slices.Contains(names, o.Name) })
	return s
}

func TestReady(t *testing.T) {
	draining := down("s1")
	draining.Backends[0].State = proxy.Draining
	former := farm()
	former.Backends = append(former.Backends, proxy.BackendStatus{Name: "s0", State: proxy.Down})
	large := farm() // 0.28 of 25 is a little more than 7 in binary
	for len(large.Backends) < 25 {
		b := proxy.BackendStatus{Name: "s4", Weight: 1, State: proxy.Up}
		if len(large.Backends) >= 7 {
			b.State = proxy.Down
		}
		large.Backends = append(large.Backends, b)
	}

	tests := []struct {
		name  string
		admin *Admin
		minUp float64
		drain bool
		want  string // "" for ready
	}{
		{"no proxy", &Admin{}, 0, false, "no config in force yet\n"},
		{"before the first config", showing(proxy.Status{}), 0, false, "no config in force yet\n"},
		{"all up", showing(farm()), 1, false, ""},
		{"about to stop", showing(farm()), 0, true, "draining: the proxy is about to stop\n"},
		{"one down", showing(down("s1")), 0, false, ""},
		{"one down, share reached", showing(down("s1")), 2.0 / 3, false, ""},
		{"one down, share missed", showing(down("s1")), .75, false, "2 of 3 backends are up, want 75%\n"},
		{"a pool down", showing(down("s1", "s2")), 0, false, "pool default: no backend is up\n"},
		{"a pool down, share missed", showing(down("s1", "s2")), .5, false, "pool default: no backend is up\n1 of 3 backends are up, want 50%\n"},
		{"one kept", showing(farm(), kept("s1")...), 0, false, ""},
		{"one kept, share missed", showing(farm(), kept("s1")...), 1, false, "2 of 3 backends are up, want 100%\n"},
		{"all of a pool kept or down", showing(down("s1"), kept("s2")...), 0, false, "pool default: no backend is up, 1 failing kept in service\n"},
		{"two pools", showing(down("s1", "s2"), kept("s3")...), 0, false, "pool shop: no backend is up, 1 failing kept in service\npool default: no backend is up\n"},
		{"a draining backend does not count", showing(draining, kept("s1")...), 1, false, ""},
		{"share just reached", showing(large), .28, false, ""},
		{"a former backend does not count", showing(former), 1, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.admin.Configure(Settings{MinUp: tt.minUp})
			if tt.drain {
				tt.admin.Drain()
			}
			status, body := http.StatusServiceUnavailable, tt.want
			if tt.want == "" {
				status, body = http.StatusOK, "ready\n"
			}
			r := ask(t, tt.admin.Handler(), "GET /readyz")
			if got := bodyOf(t, r); r.StatusCode != status || got != body {
				t.Errorf("GET /readyz = %d, %q; want %d, %q", r.StatusCode, got, status, body)
			}
		})
	}
}

// serve runs a on loopback and returns the address and what Serve returns.
func serve(t *testing.T, a *Admin) (net.Listener, <-chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	ended := make(chan error, 1)
	go func() { ended <- a.Serve(ln) }()
	return ln, ended
}

func TestServe(t *testing.T) {
	a := showing(farm())
	first, firstEnded := serve(t, a)
	second, secondEnded := serve(t, a)
	client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	for _, ln := range []net.Listener{first, second} {
		r, err := client.Get("http://" + ln.Addr().String() + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		if body := bodyOf(t, r); body != "ready\n" {
			t.Errorf("GET /readyz = %q; want ready", body)
		}
		r.Body.Close()
	}
	idle, err := net.Dial("tcp", first.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	answers := bufio.NewReader(idle)
	fmt.Fprint(idle, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if r, err := http.ReadResponse(answers, nil); err != nil || bodyOf(t, r) != "ok\n" {
		t.Fatalf("GET /healthz = %v, %v; want ok", r, err)
	}

	first.Close()
	if err := <-firstEnded; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve() = %v; want net.ErrClosed", err)
	}
	idle.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := answers.ReadByte(); err != io.EOF {
		t.Errorf("idle connection after Serve: %v; want EOF", err)
	}
	r, err := client.Get("http://" + second.Addr().String() + "/healthz")
	if err != nil {
		t.Fatalf("second listener, after the first was closed: %v", err)
	}
	r.Body.Close()
	second.Close()
	if err := <-secondEnded; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve() = %v; want net.ErrClosed", err)
	}
}

func TestServeBoundsHeaders(t *testing.T) {
	ln, ended := serve(t, &Admin{})
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The server may answer and close before it has taken all of this.
	fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 20<<10))
	answer := make([]byte, 64)
	n, err := io.ReadAtLeast(c, answer, len("HTTP/1.1 431"))
	if got := string(answer[:n]); err != nil || !strings.HasPrefix(got, "HTTP/1.1 431") {
		t.Errorf("answer to 20 KiB of headers = %q, %v; want HTTP/1.1 431", got, err)
	}
	c.Close()
	ln.Close()
	<-ended
}
