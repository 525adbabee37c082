package stateserver

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"stateproxy/wire"
)

// scriptConn is a connection whose client sends one request again and again and
// takes every answer.
type scriptConn struct {
	net.Conn
	request string
}

func (c *scriptConn) Read(p []byte) (int, error)       { return copy(p, c.request), nil }
func (c *scriptConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }

// once serves one request of a scriptConn.
func (c *conn) once() bool {
	c.state.Store(connIdle)
	return c.await() && c.exchange()
}

func TestAllocations(t *testing.T) {
	tests := []struct {
		name string
		verb string
		send send
		body int
		want float64
	}{
		{"GET small", "GET", send{}, smallBody, 0},
		{"GET large", "GET", send{}, 3 * bodyStep, 0},
		{"acquire, locked", "GET", send{exclusive: "acquire"}, 100, 0},
		{"release", "GET", send{exclusive: "release", cookie: 1}, 100, 0},
		{"HEAD", "HEAD", send{}, 100, 0},
		{"PUT", "PUT", send{body: "body"}, 100, 1}, // the body
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := new(Server)
			s.once.Do(s.init)
			doText(t, &s.store, 0, send{body: strings.Repeat("x", tt.body)}.text("PUT", testTarget))
			c := newConn(s, &scriptConn{request: tt.send.text(tt.verb, testTarget)})
			allocs := testing.AllocsPerRun(200, func() {
				if !c.once() {
					t.Fatal("connection ended")
				}
			})
			if allocs != tt.want {
				t.Errorf("allocations = %v; want %v", allocs, tt.want)
			}
		})
	}
}

func BenchmarkRequest(b *testing.B) {
	page := strings.Repeat("x", 2048)
	for _, bm := range []struct {
		name string
		verb string
		send send
	}{
		{"get-2KiB", "GET", send{}},
		{"head", "HEAD", send{}},
		{"put-2KiB", "PUT", send{body: page}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			s := new(Server)
			s.once.Do(s.init)
			doText(b, &s.store, 0, send{body: page}.text("PUT", testTarget))
			c := newConn(s, &scriptConn{request: bm.send.text(bm.verb, testTarget)})
			b.ReportAllocs()
			for b.Loop() {
				if !c.once() {
					b.Fatal("connection ended")
				}
			}
		})
	}
}

// BenchmarkPage is what a page costs over loopback: acquire, then save.
func BenchmarkPage(b *testing.B) {
	for _, size := range []int{2 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := RunT(b)
			c := dialTCP(b, s)
			body := strings.Repeat("x", size)
			c.wantStatus("PUT", testTarget, send{body: body}, 200)
			acquire := send{exclusive: "acquire"}.text("GET", testTarget)
			put := wire.Request{Verb: wire.PUT, Target: []byte(testTarget), Timeout: wire.Some(20), ContentLength: wire.Some(int64(size))}
			var resp wire.Response
			var out, in []byte
			exchange := func(request []byte, verb wire.Verb) {
				if _, err := c.nc.Write(request); err != nil {
					b.Fatal(err)
				}
				if err := c.r.ReadResponse(&resp); err != nil || resp.Status != 200 {
					b.Fatal(resp.Status, err)
				}
				var err error
				if in, err = c.r.ReadBody(in[:0], resp.BodyLen(verb)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				exchange([]byte(acquire), wire.GET)
				put.LockCookie = resp.LockCookie
				out = append(wire.AppendRequest(out[:0], &put), body...)
				exchange(out, wire.PUT)
			}
		})
	}
}

// BenchmarkMillionSessions reports what a session of 2 KiB costs beyond its
// body, key included, and what the garbage collector and the sweep make of a
// million.
func BenchmarkMillionSessions(b *testing.B) {
	const sessions, size = 1_000_000, 2048
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		st := newStore(0)
		req := wire.Request{Verb: wire.PUT}
		var resp wire.Response
		var key []byte
		for i := range sessions {
			key = fmt.Appendf(key[:0], "%s%07d", testKey[:len(testKey)-7], i)
			st.do(0, &req, key, make([]byte, size), &resp)
		}
		used := heap() - before
		b.ReportMetric(float64(used)/sessions-size, "overhead-B/session")
		b.ReportMetric(float64(st.used.Load())/sessions-size, "estimate-B/session")
		start := time.Now()
		runtime.GC()
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/gc")
		start = time.Now()
		st.sweep(time.Hour)
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/sweep")
		if n := st.len(); n != 0 {
			b.Fatalf("%d sessions after the sweep; want 0", n)
		}
	}
}
