package proxy_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

func TestBadRequestsAreRefused(t *testing.T) {
	const line, end = "GET %2fa HTTP/1.1\r\n", "Host: h\r\n\r\n"
	tests := []struct {
		name   string
		raw    string
		reason proxy.Reason
		syntax wire.Reason // "": no syntax error
	}{
		{"unknown verb", "POST %2fa HTTP/1.1\r\n" + end, proxy.Malformed, wire.BadVerb},
		{"lower-case verb", "get %2fa HTTP/1.1\r\n" + end, proxy.Malformed, wire.BadVerb},
		{"no target", "GET HTTP/1.1\r\n" + end, proxy.Malformed, wire.BadRequestLine},
		{"empty line first", "\r\n" + line + end, proxy.Malformed, wire.BadRequestLine},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", proxy.Malformed, wire.BadRequestLine},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", proxy.ClientTLS, ""},
		{"bare LF", strings.ReplaceAll(line+end, "\r", ""), proxy.Malformed, wire.BadLineEnding},
		{"bare CR", line + "Host: h\rX: y\r\n\r\n", proxy.Malformed, wire.BadLineEnding},
		{"folded line", line + "Host: h\r\n folded\r\n\r\n", proxy.Malformed, wire.BadHeader},
		{"blank before colon", line + "Host : h\r\n\r\n", proxy.Malformed, wire.BadHeader},
		{"no colon", line + "Host\r\n\r\n", proxy.Malformed, wire.BadHeader},
		{"NUL", line + "Host: a\x00b\r\n\r\n", proxy.Malformed, wire.BadHeader},
		{"chunked", "PUT %2fa HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", proxy.Malformed, wire.UnsupportedTransferEncoding},
		{"two lengths", "PUT %2fa HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 30\r\n\r\nx", proxy.Malformed, wire.BadContentLength},
		{"list of lengths", "PUT %2fa HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\nx", proxy.Malformed, wire.BadContentLength},
		{"negative length", "PUT %2fa HTTP/1.1\r\nContent-Length: -1\r\n\r\n", proxy.Malformed, wire.BadContentLength},
		{"length with sign", "PUT %2fa HTTP/1.1\r\nContent-Length: +1\r\n\r\nx", proxy.Malformed, wire.BadContentLength},
		{"length beyond 31 bits", "PUT %2fa HTTP/1.1\r\nContent-Length: 2147483648\r\n\r\n", proxy.Malformed, wire.BadContentLength},
		{"length beyond 64 bits", "PUT %2fa HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", proxy.Malformed, wire.BadContentLength},
		{"PUT without length", "PUT %2fa HTTP/1.1\r\n" + end, proxy.Malformed, wire.MissingContentLength},
		{"endless line", "GET %2f" + strings.Repeat("a", 9<<10), proxy.Malformed, wire.HeadTooLong},
		{"endless head", line + strings.Repeat("X: y\r\n", 2<<10), proxy.Malformed, wire.HeadTooLong},
		{"head a little too long", line + "X: " + strings.Repeat("y", 8<<10) + "\r\n\r\n", proxy.Malformed, wire.HeadTooLong},
		{"long body", "PUT %2fa HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n" + strings.Repeat("x", 1<<16), proxy.TooLarge, ""},
		{"largest length", "PUT %2fa HTTP/1.1\r\nContent-Length: 2147483647\r\n\r\n", proxy.TooLarge, ""},
	}
	f := startFake(t, goodUntilClosed)
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}, MaxBody: 1 << 20})
	other := dial(t, r.addr)
	n := 0
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, r.addr)
			c.wantGood(wire.OpGet, "before")
			c.send([]byte(tt.raw))
			if got, err := c.answer(wire.OpGet); got != failure || err != nil {
				t.Errorf("answer = %q, %v; want F", got, err)
			}
			c.wantClosed()
			o := r.lastOutcome(n + 2)
			var syntax *wire.SyntaxError
			if tt.syntax != "" && (!errors.As(o.Err, &syntax) || syntax.Reason != tt.syntax) {
				t.Errorf("error = %v; want %s", o.Err, tt.syntax)
			}
			if o.Reason != tt.reason || o.Status != 400 || o.Pool != "" || o.Backend != "" || o.RequestBytes == 0 {
				t.Errorf("outcome = %s, %d, %q, %q, %d bytes; want %s, 400, no pool, no backend", o.Reason, o.Status, o.Pool, o.Backend, o.RequestBytes, tt.reason)
			}
			other.wantGood(wire.OpGet, "other")
			r.lastOutcome(n + 3)
			n += 3
		})
	}
	if got := len(f.requests("")); got != 2*len(tests) {
		t.Errorf("backend got %d requests; want only the %d good ones", got, 2*len(tests))
	}
}

func TestLengthOnARequestWithoutBody(t *testing.T) {
	smuggled := string(request(wire.OpRemove, "victim"))
	for _, verb := range []string{"GET", "HEAD", "DELETE"} {
		for _, pieces := range [][]string{{smuggled}, {"", smuggled}, {smuggled[:9], smuggled[9:]}, {strings.Repeat("x", 200<<10)}, {""}} {
			f := startFake(t, goodUntilClosed)
			r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
			c := dial(t, r.addr)
			c.send([]byte(verb + " " + string(target("a")) + " HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n" + pieces[0]))
			op := map[string]wire.Op{"GET": wire.OpGet, "HEAD": wire.OpResetTimeout, "DELETE": wire.OpRemove}[verb]
			if got, err := c.answer(op); got != good(op, "a") || err != nil {
				t.Errorf("%s with a length = %q, %v; want its answer", verb, got, err)
			}
			if b, err := io.ReadAll(c.c); len(b) > 0 || err != nil {
				t.Errorf("%s with a length: after the answer %q, %v; want an orderly close", verb, b, err)
			}
			for _, piece := range pieces[1:] {
				_, _ = io.WriteString(c.c, piece) // the proxy may be gone
			}
			shutdown(t, r.proxy)
			if list := f.requests(""); len(list) != 1 || strings.Contains(list[0].raw, "Content-Length") {
				t.Errorf("%s with a length: backend got %d requests, the first %q; want one without length", verb, len(list), list[0].raw)
			}
		}
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	f := startFake(t, goodUntilClosed)
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
	var all []byte
	ids := []string{"one", "two", "three", "four", "five", "six", "seven", "eight"}
	for _, id := range ids {
		for _, op := range verbs {
			all = append(all, request(op, id)...)
		}
	}
	for _, step := range []int{len(all), 1000, 77, 1} {
		c := dial(t, r.addr)
		go func() {
			for rest := all; len(rest) > 0; rest = rest[min(step, len(rest)):] {
				if _, err := c.c.Write(rest[:min(step, len(rest))]); err != nil {
					return
				}
			}
		}()
		for _, id := range ids {
			for _, op := range verbs {
				if got, err := c.answer(op); got != good(op, id) || err != nil {
					t.Fatalf("in steps of %d: answer to %v of %s = %q, %v", step, op, id, got, err)
				}
			}
		}
	}
}

func TestClientThatBreaksOff(t *testing.T) {
	put := string(request(wire.OpSet, "a"))
	tests := []struct {
		name string
		raw  string
		end  func(*net.TCPConn) error
	}{
		{"in the line", put[:9], (*net.TCPConn).Close},
		{"in the head", put[:120], (*net.TCPConn).Close},
		{"in the body", put[:len(put)-1], (*net.TCPConn).Close},
		{"half-closed in the head", put[:120], (*net.TCPConn).CloseWrite},
		{"half-closed in the body", put[:len(put)-1], (*net.TCPConn).CloseWrite},
		{"reset in the head", put[:120], func(c *net.TCPConn) error {
			return errors.Join(c.SetLinger(0), c.Close())
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t, goodUntilClosed)
			r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
			c := dial(t, r.addr)
			c.wantGood(wire.OpGet, "before")
			c.send([]byte(tt.raw))
			if err := tt.end(c.c.(*net.TCPConn)); err != nil {
				t.Fatal(err)
			}
			if o := r.lastOutcome(2); o.Reason != proxy.ClientGone || o.Status != 0 || o.Err == nil {
				t.Errorf("outcome = %s, %d, %v; want client_gone, 0 and an error", o.Reason, o.Status, o.Err)
			}
			if n := len(f.requests("")); n != 1 {
				t.Errorf("backend got %d requests; want 1", n)
			}
		})
	}
}

func TestClientThatStalls(t *testing.T) {
	put := string(request(wire.OpSet, "a"))
	tests := []struct {
		name   string
		raw    string
		limit  time.Duration
		reason proxy.Reason
		answer string
	}{
		{"in the line", put[:9], proxy.DefaultClientStall, proxy.ClientStalled, ""},
		{"in the head", put[:120], proxy.DefaultClientStall, proxy.ClientStalled, ""},
		{"in the body", put[:len(put)-1], proxy.DefaultClientStall, proxy.ClientStalled, ""},
		{"in a long body", strings.Replace(put, "Content-Length:", "Content-Length:99", 1), proxy.DefaultBudget, "relay_error", failure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t, proxy.Settings{MaxWhole: 1 << 10}, goodUntilClosed)
				defer b.stop()
				c := b.client()
				c.wantGood(wire.OpGet, "before")
				start := time.Now()
				c.send([]byte(tt.raw))
				got, err := io.ReadAll(c.c)
				if string(got) != tt.answer || err != nil {
					t.Errorf("read %q, %v; want %q and the end", got, err, tt.answer)
				}
				if d := time.Since(start); d < tt.limit || d > tt.limit*5/4 {
					t.Errorf("closed after %v; want about %v", d, tt.limit)
				}
				if o := b.lastOutcome(2); o.Reason != tt.reason {
					t.Errorf("outcome = %s; want %s", o.Reason, tt.reason)
				}
				if n := len(b.fake.requests("")); n != 1 {
					t.Errorf("backend got %d whole requests; want 1", n)
				}
				b.client().wantGood(wire.OpGet, "afterwards")
			})
		})
	}
}

func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, proxy.Settings{}, goodUntilClosed)
		defer b.stop()
		c := b.client()
		c.send(request(wire.OpGetExclusive, "orphan"))
		<-time.After(proxy.DefaultClientStall * 5 / 4)
		b.fake.wantRelease("orphan")
		if o := b.lastOutcome(1); o.Reason != proxy.ClientStalled || !o.LockReleased || o.Status != 0 {
			t.Errorf("outcome = %s, released %t, %d; want client_stalled, released, 0", o.Reason, o.LockReleased, o.Status)
		}
	})
}
