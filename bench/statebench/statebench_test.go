package main

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// startBackend starts a backend of n servers that ends with the test process,
// and returns their addresses.
func startBackend(t *testing.T, n int, rate float64) []string {
	t.Helper()
	s, err := newBackend(slices.Repeat([]string{"127.0.0.1:0"}, n), rate)
	if err != nil {
		t.Fatal(err)
	}
	go s.run()
	return s.addrs
}

// listen returns a listener that is closed when the test ends.
func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func testLoad(addr string) loadConfig {
	return loadConfig{addr: addr, conns: 8, sessions: 20, threads: 2, body: 1000, mix: "page", form: "slashless", minutes: 20,
		seed: 7, duration: 200 * time.Millisecond, givingUp: 10, printErrors: 3}
}

func TestLoad(t *testing.T) {
	backends := startBackend(t, 3, 0)
	naive, reverse := listen(t), listen(t)
	go naiveProxy(naive, backends)
	go reverseProxy(reverse, backends)
	direct, through := backends[0], naive.Addr().String()
	tests := []struct {
		name   string
		addr   string
		change func(*loadConfig)
	}{
		{"page direct", direct, func(*loadConfig) {}},
		{"page", through, func(*loadConfig) {}},
		{"page with large bodies", through, func(c *loadConfig) { c.body = 1 << 20 }},
		{"get", through, func(c *loadConfig) { c.mix, c.body = "get", 20_000 }},
		{"put", through, func(c *loadConfig) { c.mix = "put" }},
		{"head", through, func(c *loadConfig) { c.mix = "head" }},
		{"few of the connections at a time", through, func(c *loadConfig) { c.inflight = 2 }},
		{"at a rate", through, func(c *loadConfig) { c.rate = 1000 }},
		{"at a rate, few at a time, and kept", through, func(c *loadConfig) { c.rate, c.inflight, c.keep = 1000, 2, true }},
		{"standard library", reverse.Addr().String(), func(c *loadConfig) { c.form, c.body = "slash", 70_000 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testLoad(tt.addr)
			tt.change(&cfg)
			res, err := runLoad(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if res.Errors != 0 || res.Mismatches != 0 || res.Requests == 0 {
				t.Errorf("%d requests, %d errors, %d mismatches: %v; want requests and nothing wrong", res.Requests, res.Errors, res.Mismatches, res.Notes)
			}
		})
	}
}

// The load must notice a server that answers every GET with the same bytes.
func TestLoadSeesWrongBodies(t *testing.T) {
	body := strings.Repeat("x", 64)
	tests := []struct {
		name, form, stored, found string
	}{
		{"state protocol", "slashless", "200 OK\r\nContent-Length: 0\r\n\r\n", "200 OK\r\nContent-Length: 64\r\n\r\n" + body},
		{"RESP", "resp", "+OK\r\n", "$64\r\n" + body + "\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ln := listen(t)
			go serveSame(ln, tt.stored, tt.found)
			cfg := testLoad(ln.Addr().String())
			cfg.form, cfg.mix, cfg.body, cfg.givingUp = tt.form, "get", 64, 50
			res, err := runLoad(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if res.Mismatches == 0 {
				t.Errorf("mismatches = 0 in %d requests; want some", res.Requests)
			}
		})
	}
}

// serveSame answers what has GET in it with found, all else with stored.
func serveSame(ln net.Listener, stored, found string) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			buf := make([]byte, 4096)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				answer := stored
				if strings.Contains(string(buf[:n]), "GET") {
					answer = found
				}
				if _, err := conn.Write([]byte(answer)); err != nil {
					return
				}
			}
		}()
	}
}

func TestServersOfABackendAreApart(t *testing.T) {
	addrs := startBackend(t, 2, 0)
	const rest = " HTTP/1.1\r\nHost: h\r\n"
	tests := []struct {
		name, addr, request string
		want                int
	}{
		{"PUT to the first", addrs[0], "PUT %2fa" + rest + "Content-Length:1\r\n\r\nx", 200},
		{"GET from the first", addrs[0], "GET %2fa" + rest + "\r\n", 200},
		{"GET from the second", addrs[1], "GET %2fa" + rest + "\r\n", 404},
		{"acquire", addrs[0], "GET %2fa" + rest + "Exclusive: acquire\r\n\r\n", 200},
		{"acquire what is locked", addrs[0], "GET %2fa" + rest + "Exclusive: acquire\r\n\r\n", 423},
		{"DELETE without the cookie", addrs[0], "DELETE %2fa" + rest + "\r\n", 423},
		{"release", addrs[0], "GET %2fa" + rest + "Exclusive: release\r\nLockCookie:1\r\n\r\n", 200},
		{"DELETE", addrs[0], "DELETE %2fa" + rest + "\r\n", 200},
		{"PUT without a length", addrs[0], "PUT %2fa" + rest + "\r\n", 400},
	}
	for _, tt := range tests {
		got, err := ask(nil, tt.addr, tt.request, stall)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if h, _ := parseHead([]byte(got)); status(h.line) != tt.want {
			t.Errorf("%s = %q; want %d", tt.name, got, tt.want)
		}
	}
}

func TestPace(t *testing.T) {
	const rate = 1000
	begin := time.Now()
	var p pace
	for range 100 {
		p.wait(&bconn{})
	}
	served := 0
	for ms := range 51 {
		p.refill(begin.Add(time.Duration(ms)*time.Millisecond), rate)
		for c := p.next(); c != nil; c = p.next() {
			p.allowance--
			served++
		}
	}
	if served < 49 || served > 50 {
		t.Errorf("served in 50 ms at %d per second = %d; want 50", rate, served)
	}
	// What an idle server may catch up on is bounded.
	p.refill(begin.Add(time.Hour), rate)
	if want := paceBurst.Seconds() * rate; p.allowance != want {
		t.Errorf("allowance after an hour = %g; want %g", p.allowance, want)
	}
}

func TestPacedBackend(t *testing.T) {
	addrs := startBackend(t, 1, 500)
	cfg := testLoad(addrs[0])
	cfg.mix, cfg.duration = "get", time.Second
	res, err := runLoad(cfg)
	if err != nil {
		t.Fatal(err)
	}
	// More than the rate allows must not be served, however busy the machine.
	if most := 500*res.Seconds + 500*paceBurst.Seconds() + 8; float64(res.Requests) > most || res.Requests == 0 || res.Errors > 0 {
		t.Errorf("requests = %d, errors = %d; want 1..%g and none", res.Requests, res.Errors, most)
	}
}

func TestSessionID(t *testing.T) {
	tests := []struct{ in, want string }{
		{"%2flm%2fw3svc%2f1%2froot(8Xk%3d)%2fabc", "abc"},
		{"/%2flm%2Fw3svc%2F1%2Froot(8Xk%3d)%2Fabc", "abc"},
		{"/LM/W3SVC/1/ROOT(8Xk=)/abc", "abc"},
		{"abc", "abc"},
		{"", ""},
	}
	for _, tt := range tests {
		if got := string(sessionID([]byte(tt.in))); got != tt.want {
			t.Errorf("sessionID(%q) = %q; want %q", tt.in, got, tt.want)
		}
	}
}

func TestStatus(t *testing.T) {
	tests := []struct {
		in   string
		want int
	}{{"200 OK", 200}, {"HTTP/1.1 423 Locked", 423}, {"HTTP/1.1 ", 0}, {"OK", 0}, {"", 0}}
	for _, tt := range tests {
		if got := status([]byte(tt.in)); got != tt.want {
			t.Errorf("status(%q) = %d; want %d", tt.in, got, tt.want)
		}
	}
}

func TestParseReply(t *testing.T) {
	tests := []struct {
		in     string
		ok     bool
		status int
		length int
	}{
		{"+OK\r\n", true, 200, 0},
		{":1\r\n", true, 200, 0},
		{":0\r\n", true, 404, 0},
		{"$5\r\nhello\r\n", true, 200, 5},
		{"$-1\r\n", true, 404, 0},
		{"-ERR no\r\n", true, 400, 0},
		{"$5\r", false, 0, 0},
		{"\r\n", false, 0, 0},
	}
	for _, tt := range tests {
		a, ok := parseReply([]byte(tt.in))
		if ok != tt.ok || a.status != tt.status || a.length != tt.length {
			t.Errorf("parseReply(%q) = %d, %d, %v; want %d, %d, %v", tt.in, a.status, a.length, ok, tt.status, tt.length, tt.ok)
		}
	}
}

func TestAppendCommand(t *testing.T) {
	tests := []struct {
		op   int
		size int
		want string
	}{
		{opGet, 0, "*2\r\n$3\r\nGET\r\n$2\r\nab\r\n"},
		{opSave, 12, "*3\r\n$3\r\nSET\r\n$2\r\nab\r\n$12\r\n"},
		{opDelete, 0, "*2\r\n$3\r\nDEL\r\n$2\r\nab\r\n"},
	}
	for _, tt := range tests {
		if got := string(appendCommand(nil, tt.op, []byte("ab"), tt.size)); got != tt.want {
			t.Errorf("appendCommand(%s) = %q; want %q", opNames[tt.op], got, tt.want)
		}
	}
}

func TestSame(t *testing.T) {
	tests := []struct {
		b    string
		at   int
		want bool
	}{{"abcde\r\n", 0, true}, {"cd", 2, true}, {"\n", 6, true}, {"cx", 2, false}, {"abcde\r\n!", 0, false}, {"", 3, true}}
	for _, tt := range tests {
		if got := same([]byte(tt.b), tt.at, []byte("ab"), []byte("cde"), lineEnd); got != tt.want {
			t.Errorf("same(%q, %d) = %v; want %v", tt.b, tt.at, got, tt.want)
		}
	}
}

func TestHist(t *testing.T) {
	var h hist
	for i := range 100000 {
		h.add(int64(i) * 1000)
	}
	for _, q := range []float64{.5, .9, .99, .999} {
		got, want := float64(h.quantile(q)), q*1e8
		if got < want*.99 || got > want*1.01 {
			t.Errorf("quantile(%g) = %g; want about %g", q, got, want)
		}
	}
}
