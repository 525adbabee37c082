package proxy_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// benchClient is a client that allocates nothing in its loop.
type benchClient struct {
	b      *testing.B
	c      net.Conn
	r      *bufio.Reader
	length map[string]int // of the answer to each request
}

func newBenchClient(b *testing.B, c net.Conn) *benchClient {
	return &benchClient{b: b, c: c, r: bufio.NewReaderSize(c, 128<<10), length: map[string]int{}}
}

// learn sends the request and notes how long its answer is.
func (c *benchClient) learn(req string, verb wire.Verb) wire.Response {
	c.b.Helper()
	if _, err := c.c.Write([]byte(req)); err != nil {
		c.b.Fatal(err)
	}
	r := wire.NewReader(c.c, 64<<10, 8<<10)
	var resp wire.Response
	if err := r.ReadResponse(&resp); err != nil || resp.Status != 200 {
		c.b.Fatalf("answer = %d, %v; want 200", resp.Status, err)
	}
	n := len(resp.Head) + resp.BodyLen(verb)
	if _, err := r.ReadBody(nil, resp.BodyLen(verb)); err != nil {
		c.b.Fatal(err)
	}
	c.length[req] = n
	return resp
}

func (c *benchClient) do(raw []byte, n int) {
	if _, err := c.c.Write(raw); err != nil {
		c.b.Error(err)
		return
	}
	if _, err := c.r.Discard(n); err != nil {
		c.b.Error(err)
	}
}

// put is a whole PUT.
func put(id string, size int, cookie int64) string {
	req := wire.Request{
		Verb: wire.PUT, Target: target(id), Timeout: wire.Some(20), ContentLength: wire.Some(int64(size)),
		ExtraFlags: wire.Some(0), LockCookie: wire.Some(cookie),
	}
	return string(wire.AppendRequest(nil, &req)) + strings.Repeat("x", size)
}

// benchProxy starts a proxy before n state servers.
func benchProxy(b *testing.B, n int) net.Conn {
	var servers []*stateserver.Server
	for range n {
		servers = append(servers, stateserver.RunT(b))
	}
	p := &proxy.Proxy{Done: func(*proxy.Outcome) {}, Evidence: func(string, error) {}}
	if _, err := p.Reconfigure(proxy.Settings{Backends: backends(servers...)}); err != nil {
		b.Fatal(err)
	}
	return startProxy(b, p)
}

func BenchmarkProxy(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("get-%dKiB", size>>10), func(b *testing.B) {
			c := newBenchClient(b, benchProxy(b, 3))
			get := string(request(wire.OpGet, "a"))
			c.learn(put("a", size, 0), wire.PUT)
			c.learn(get, wire.GET)
			c.loop(b, get)
		})
		b.Run(fmt.Sprintf("page-%dKiB", size>>10), func(b *testing.B) {
			c := newBenchClient(b, benchProxy(b, 3))
			save := put("a", size, 0)
			acquire := string(request(wire.OpGetExclusive, "a"))
			c.learn(save, wire.PUT)
			resp := c.learn(acquire, wire.GET)
			c.learn(put("a", size, resp.LockCookie.N), wire.PUT)
			c.pages(b, size, resp.LockCookie.N+1)
		})
	}
	b.Run("head", func(b *testing.B) {
		c := newBenchClient(b, benchProxy(b, 3))
		head := string(request(wire.OpResetTimeout, "a"))
		c.learn(put("a", 100, 0), wire.PUT)
		c.learn(head, wire.HEAD)
		c.loop(b, head)
	})
	for _, clients := range []int{8, 64} {
		b.Run(fmt.Sprintf("get-1KiB-parallel-%d", clients), func(b *testing.B) { benchParallel(b, clients) })
	}
}

func (c *benchClient) loop(b *testing.B, req string) {
	raw, n := []byte(req), c.length[req]
	b.SetBytes(int64(n))
	b.ReportAllocs()
	for b.Loop() {
		c.do(raw, n)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// pages acquires the session and writes it again, with the cookie of each lock.
func (c *benchClient) pages(b *testing.B, size int, cookie int64) {
	acquire := request(wire.OpGetExclusive, "a")
	var req wire.Request
	save := []byte(put("a", size, cookie))
	if _, err := wire.ParseRequest(save, &req); err != nil {
		b.Fatal(err)
	}
	body, saved := save[len(req.Head):], c.length[put("a", size, cookie-1)]
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.c.Write(acquire); err != nil {
			b.Fatal(err)
		}
		answer, err := c.r.Peek(200)
		if err != nil {
			b.Fatal(err)
		}
		var resp wire.Response
		if _, err := wire.ParseResponse(answer, &resp); err != nil || resp.Status != 200 {
			b.Fatalf("acquire = %d, %v", resp.Status, err)
		}
		req.LockCookie = resp.LockCookie
		if _, err := c.r.Discard(len(resp.Head) + size); err != nil {
			b.Fatal(err)
		}
		out = append(wire.AppendRequest(out[:0], &req), body...)
		c.do(out, saved)
	}
	b.ReportMetric(2*float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

func benchParallel(b *testing.B, clients int) {
	first := benchProxy(b, 3)
	var all []*benchClient
	var gets []string
	for i := range clients {
		nc := first
		if i > 0 {
			var err error
			if nc, err = net.Dial("tcp", first.RemoteAddr().String()); err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { nc.Close() })
		}
		c := newBenchClient(b, nc)
		id := fmt.Sprint("session", i)
		gets = append(gets, string(request(wire.OpGet, id)))
		c.learn(put(id, 1<<10, 0), wire.PUT)
		c.learn(gets[i], wire.GET)
		all = append(all, c)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, c := range all {
		raw, n := []byte(gets[i]), c.length[gets[i]]
		wg.Go(func() {
			for range b.N/clients + 1 {
				c.do(raw, n)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}
