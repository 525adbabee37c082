package proxy_test

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// Whatever a client sends, it gets whole answers of the protocol, the backend
// gets whole requests, and there is an answer for each of those.
func FuzzClient(f *testing.F) {
	for _, op := range verbs {
		f.Add(request(op, "a"))
		f.Add(append(request(op, "a"), request(wire.OpSet, "b")...))
		f.Add(request(op, "a")[:60])
	}
	f.Add([]byte("GET %2fa HTTP/1.1\r\nContent-Length: 30\r\n\r\n" + string(request(wire.OpRemove, "victim"))))
	f.Add([]byte("PUT %2fa HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabc"))
	f.Add([]byte("PUT %2fa HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n1\r\nx\r\n0\r\n\r\n"))
	f.Add([]byte("PUT %2fa HTTP/1.1\r\nContent-Length: 3000\r\n\r\nabc"))
	f.Add([]byte("PUT %2fa HTTP/1.1\r\nContent-Length: 0\r\n\r\nHEAD // HTTP/1.0\r\n\r\n"))
	f.Add([]byte("GET /%2f%u00ff%zz+( HTTP/1.1\r\nX: \xff\r\n\r\n"))
	var answered, broken atomic.Int64
	backend := startFake(f, func(c *fakeConn) {
		for {
			q, err := c.head()
			var syntax *wire.SyntaxError
			if errors.As(err, &syntax) || q.CloseAfter() {
				broken.Add(1)
			}
			if err != nil {
				return
			}
			if _, err := c.r.ReadBody(nil, q.BodyLen()); err != nil {
				return
			}
			answered.Add(1)
			if q.op == wire.OpGetExclusive { // a lock would not be given to a client that sends no more
				c.say("423 Locked\r\nLockCookie: 7\r\nLockAge: 1\r\nContent-Length: 0\r\n\r\n")
			} else {
				c.say(good(q.op, "x"))
			}
		}
	})
	p := &proxy.Proxy{}
	settings := proxy.Settings{
		Backends: []proxy.Backend{backend.backend("s1")}, MaxWhole: 1 << 10, MaxBody: 1 << 16, ClientIdle: time.Second,
	}
	if _, err := p.Reconfigure(settings); err != nil {
		f.Fatal(err)
	}
	addr := serveProxy(f, p)
	f.Fuzz(func(t *testing.T, input []byte) {
		before := answered.Load()
		defer func() {
			if broken.Swap(0) > 0 {
				t.Errorf("backend got what is no request after %q", input)
			}
		}()
		sent := talk(t, addr, input)
		if got := int64(passedOn(t, sent)); got != answered.Load()-before {
			t.Errorf("client got %d good answers; want the %d that the backend gave", got, answered.Load()-before)
		}
	})
}

// talk sends the input, then what ends every dialogue, and returns all that
// comes back.
func talk(t *testing.T, addr string, input []byte) []byte {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = nc.Write(append(append([]byte(nil), input...), "\r\n\r\nno request\r\n\r\n"...))
		_ = nc.(*net.TCPConn).CloseWrite()
	}()
	b, err := io.ReadAll(nc)
	if err != nil {
		t.Fatalf("the answers to %q end by %v after %q", input, err, b)
	}
	return b
}

// passedOn returns how many of the answers in b are a backend's. All others must
// be F.
func passedOn(t *testing.T, b []byte) (n int) {
	for len(b) > 0 {
		var resp wire.Response
		head, err := wire.ParseResponse(b, &resp)
		if err != nil {
			t.Fatalf("client got %q: %v", b, err)
		}
		whole := head + int(resp.ContentLength.N)
		switch {
		case whole > len(b):
			t.Fatalf("client got %q: cut off", b)
		case resp.Status == wire.StatusOK || resp.Status == wire.StatusLocked:
			n++
		case string(b[:whole]) != failure:
			t.Fatalf("client got %q; want an answer of the backend or F", b[:whole])
		}
		b = b[whole:]
	}
	return n
}
