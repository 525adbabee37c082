package proxy_test

import (
	"bytes"
	"io"
	"net"
	"testing"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// plainBackend answers every request by the same bytes and allocates nothing.
func plainBackend(t testing.TB, request, answer []byte) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		got := make([]byte, len(request))
		for {
			if _, err := io.ReadFull(nc, got); err != nil {
				return
			}
			if _, err := nc.Write(answer); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().String()
}

func TestRequestsAllocateNothing(t *testing.T) {
	tests := []struct {
		name string
		op   wire.Op
		size int // of the answer's body
	}{
		{"head", wire.OpResetTimeout, 0},
		{"get-1KiB", wire.OpGet, 1 << 10},
		{"acquire-1KiB", wire.OpGetExclusive, 1 << 10},
		{"get-40KiB", wire.OpGet, 40 << 10},
		{"put", wire.OpSet, 0},
		{"release", wire.OpRelease, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := request(tt.op, "session")
			resp := wire.Response{Status: 200, AspNetVersion: []byte("4.0.30319"), LockCookie: wire.Some(2), ContentLength: wire.Some(int64(tt.size))}
			want := append(wire.AppendResponse(nil, &resp), bytes.Repeat([]byte("x"), tt.size)...)
			p := &proxy.Proxy{Done: func(*proxy.Outcome) {}, Evidence: func(string, error) {}}
			settings := proxy.Settings{Backends: []proxy.Backend{{Name: "s1", Address: plainBackend(t, req, want), Weight: 1}}}
			if _, err := p.Reconfigure(settings); err != nil {
				t.Fatal(err)
			}
			wantNoAllocs(t, p, req, want)
		})
	}
}

// A session that stays where it is costs no allocation either while others move.
func TestRequestsInAWindowAllocateNothing(t *testing.T) {
	req := request(wire.OpGet, "session")
	resp := wire.Response{Status: 200, AspNetVersion: []byte("4.0.30319"), ContentLength: wire.Some(1)}
	want := append(wire.AppendResponse(nil, &resp), 'x')
	p := &proxy.Proxy{}
	stays := proxy.Backend{Name: "s1", Address: plainBackend(t, req, want), Weight: 1000}
	for _, backends := range [][]proxy.Backend{{stays}, {stays, {Name: "s2", Address: "127.0.0.1:1", Weight: 1}}} {
		if _, err := p.Reconfigure(proxy.Settings{Backends: backends, HandoffDelay: -1}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(p.Status().Pools[0].Windows); n != 1 {
		t.Fatalf("%d windows are open; want 1", n)
	}
	wantNoAllocs(t, p, req, want)
}

// wantNoAllocs fails the test if a request through p allocates, or is not answered
// as wanted. p has its settings.
func wantNoAllocs(t *testing.T, p *proxy.Proxy, req, want []byte) {
	t.Helper()
	c := startProxy(t, p)
	got := make([]byte, len(want))
	exchange := func() {
		if _, err := c.Write(req); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("answer = %d bytes, %v; want the backend's %d", len(got), err, len(want))
		}
	}
	exchange()
	if n := testing.AllocsPerRun(500, exchange); n > 0 && !raceEnabled {
		t.Errorf("a request allocates %v times; want 0", n)
	}
}

// startProxy serves on loopback and returns a connection to the proxy.
func startProxy(t testing.TB, p *proxy.Proxy) net.Conn {
	c, err := net.Dial("tcp", serveProxy(t, p))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// serveProxy serves on loopback until the test ends and returns the address.
func serveProxy(t testing.TB, p *proxy.Proxy) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Serve(ln)
	}()
	t.Cleanup(func() {
		p.Close()
		<-done
	})
	return ln.Addr().String()
}
