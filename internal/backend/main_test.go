package backend_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"stateproxy/internal/backend"
	"stateproxy/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("stateproxy/internal/sock.(*Worker).run"))
}

// patience is the deadline of exchanges that have to succeed.
const patience = 30 * time.Second

// The answers that most scripts give.
const (
	found  = "200 OK\r\nX-AspNet-Version: 4.0.30319\r\nTimeout: 20\r\nContent-Length: 4\r\n\r\nbody"
	done   = "200 OK\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 0\r\n\r\n"
	absent = "404 Not Found\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 0\r\n\r\n"
)

// right returns the answer that a good backend gives to op.
func right(op wire.Op) string {
	if op == wire.OpGet || op == wire.OpGetExclusive {
		return found
	}
	return done
}

// farm is a backend whose connections are served by a script.
type farm struct {
	script func(c *peer)

	mu     sync.Mutex
	conns  []net.Conn
	seen   []string // "connection operation", as they came
	served int      // connections that have ended
	wg     sync.WaitGroup
	ln     net.Listener
}

// peer is the backend's end of one connection.
type peer struct {
	net.Conn
	farm *farm
	n    int // 0 for the first connection
	r    *wire.Reader
	req  wire.Request
	body []byte
}

// next reads a whole request. It returns false if there is none.
func (c *peer) next() bool {
	if c.r.ReadRequest(&c.req) != nil {
		return false
	}
	var err error
	if c.body, err = c.r.ReadBody(nil, c.req.BodyLen()); err != nil {
		return false
	}
	c.farm.mu.Lock()
	c.farm.seen = append(c.farm.seen, fmt.Sprint(c.n, " ", c.req.Op()))
	c.farm.mu.Unlock()
	return true
}

// say sends s as it is.
func (c *peer) say(s string) { io.WriteString(c, s) }

// reset closes the connection by an RST.
func (c *peer) reset() {
	c.Conn.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// gone waits until the proxy closes the connection.
func (c *peer) gone() { io.Copy(io.Discard, c) }

// good answers everything rightly.
func good(c *peer) {
	for c.next() {
		c.say(right(c.req.Op()))
	}
}

func (f *farm) accept(nc net.Conn) {
	f.mu.Lock()
	c := &peer{Conn: nc, farm: f, n: len(f.conns), r: wire.NewReader(nc, 4<<10, wire.DefaultMaxHead)}
	f.conns = append(f.conns, nc)
	f.mu.Unlock()
	f.wg.Go(func() {
		defer f.ended()
		defer c.Close()
		f.script(c)
	})
}

func (f *farm) ended() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.served++
}

// serving returns how many connections a script still serves.
func (f *farm) serving() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns) - f.served
}

// requests returns what was seen.
func (f *farm) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

func (f *farm) stop() {
	if f.ln != nil {
		f.ln.Close()
	}
	f.mu.Lock()
	for _, c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// overTCP returns a pool whose backend listens on the loopback.
func overTCP(t testing.TB, script func(c *peer)) (*backend.Pool, *farm) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &farm{script: script, ln: ln}
	f.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			f.accept(nc)
		}
	})
	p := &backend.Pool{Address: ln.Addr().String()}
	t.Cleanup(func() {
		p.Abort()
		f.stop()
	})
	return p, f
}

// inMemory returns a pool whose backend is at the other end of pipes, for use
// in a bubble with its own time.
func inMemory(t testing.TB, script func(c *peer)) (*backend.Pool, *farm) {
	f := &farm{script: script}
	p := &backend.Pool{Address: "memory", Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		f.accept(theirs)
		return ours, nil
	}}
	t.Cleanup(func() {
		p.Abort()
		f.stop()
	})
	return p, f
}

// exchange returns one that asks for op on the session a.
func exchange(op wire.Op) *backend.Exchange { return exchangeOf(op, "%2fa") }

func exchangeOf(op wire.Op, target string) *backend.Exchange {
	req := wire.Request{Verb: op.Verb(), Target: []byte(target)}
	body := ""
	switch op {
	case wire.OpGetExclusive:
		req.Exclusive = wire.Acquire
	case wire.OpRelease:
		req.Exclusive, req.LockCookie = wire.Release, wire.Some(2)
	case wire.OpSet, wire.OpSetUninitialized:
		body = "content"
		req.Timeout, req.ContentLength = wire.Some(20), wire.Some(int64(len(body)))
		req.ExtraFlags = wire.Some(0)
		if op == wire.OpSetUninitialized {
			req.ExtraFlags = wire.Some(1)
		}
	}
	return &backend.Exchange{
		Op: op, Request: append(wire.AppendRequest(nil, &req), body...), Deadline: time.Now().Add(patience),
	}
}

// ops are all operations.
var ops = []wire.Op{
	wire.OpGet, wire.OpGetExclusive, wire.OpRelease, wire.OpSet, wire.OpSetUninitialized, wire.OpRemove, wire.OpResetTimeout,
}

// ask makes an exchange that has to succeed, and releases it.
func ask(t testing.TB, p *backend.Pool, op wire.Op) {
	t.Helper()
	x := exchange(op)
	if err := p.RoundTrip(t.Context(), x); err != nil {
		t.Errorf("RoundTrip(%v) = %v; want nil", op, err)
		return
	}
	x.Release()
}

// fault makes an exchange that has to fail, and returns its error.
func fault(t testing.TB, p *backend.Pool, x *backend.Exchange) *backend.Error {
	t.Helper()
	err := p.RoundTrip(t.Context(), x)
	var e *backend.Error
	if !errors.As(err, &e) {
		t.Fatalf("RoundTrip(%v) = %v; want a *backend.Error", x.Op, err)
	}
	if len(x.Answer) != 0 || x.Tail != 0 || x.Response.Status != 0 {
		t.Errorf("RoundTrip(%v) = %v and an answer of %d bytes, status %d, tail %d; want nothing beside an error",
			x.Op, err, len(x.Answer), x.Response.Status, x.Tail)
	}
	if e.Address != p.Address || !strings.Contains(e.Error(), p.Address) || !strings.Contains(e.Error(), string(e.Reason)) {
		t.Errorf("error %q of %q; want address and reason in it", e, e.Address)
	}
	if strings.Contains(e.Error(), "%2f") {
		t.Errorf("error %q holds the target", e)
	}
	return e
}

// eventually waits until what the network does has come about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

// pass lets d pass, in a bubble with its own time.
func pass(d time.Duration) { <-time.After(d) }

// hold makes n exchanges at once, each on a connection of its own, and waits
// until all have begun; the backend must answer only after open is closed.
func hold(t testing.TB, p *backend.Pool, f *farm, n int, open chan struct{}) {
	t.Helper()
	before := len(f.requests())
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { ask(t, p, wire.OpGet) })
	}
	eventually(t, "all requests are at the backend", func() bool { return len(f.requests()) == before+n })
	close(open)
	wg.Wait()
}
