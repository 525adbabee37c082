package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// fake is a backend that behaves as a test's script says.
type fake struct {
	t    testing.TB
	addr string

	mu    sync.Mutex
	seen  []received
	conns int
}

// received is a request as a fake got it.
type received struct {
	wire.Request // its slices are gone
	op           wire.Op
	id           string
	raw          string
	conn         int // number of the connection, from 1
}

// fakeConn is a connection of a fake.
type fakeConn struct {
	net.Conn
	f *fake
	r *wire.Reader
	n int
}

// startFake starts a fake on loopback. serve is called for each connection and
// closes it by returning.
func startFake(t testing.TB, serve func(*fakeConn)) *fake {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, addr: ln.Addr().String()}
	t.Cleanup(f.serve(ln, serve))
	return f
}

// serve accepts from ln until stop is called.
func (f *fake) serve(ln net.Listener, serve func(*fakeConn)) (stop func()) {
	var wg sync.WaitGroup
	open := map[net.Conn]bool{}
	closed := false
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns++
			c := &fakeConn{Conn: nc, f: f, r: wire.NewReader(nc, 4<<10, 64<<10), n: f.conns}
			open[nc] = true
			if closed {
				nc.Close()
			}
			f.mu.Unlock()
			wg.Go(func() {
				defer nc.Close()
				serve(c)
			})
		}
	})
	return func() {
		ln.Close()
		f.mu.Lock()
		closed = true
		for c := range open {
			c.Close()
		}
		f.mu.Unlock()
		wg.Wait()
	}
}

// backend returns the fake as a backend of that name.
func (f *fake) backend(name string) proxy.Backend {
	return proxy.Backend{Name: name, Address: f.addr, Weight: 1}
}

// requests returns what the fake has received for the session so far; "" is
// every session.
func (f *fake) requests(id string) (list []received) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.seen {
		if id == "" || r.id == id {
			list = append(list, r)
		}
	}
	return list
}

// await waits until the fake has received n requests for the session.
func (f *fake) await(id string, n int) []received {
	f.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		if list := f.requests(id); len(list) >= n {
			return list
		}
		select {
		case <-deadline:
			f.t.Fatalf("backend has received %d requests for %s in time; want %d", len(f.requests(id)), id, n)
		case <-time.After(time.Millisecond):
		}
	}
}

// head reads the head of the next request.
func (c *fakeConn) head() (received, error) {
	var q received
	if err := c.r.ReadRequest(&q.Request); err != nil {
		return q, err
	}
	q.op, q.raw, q.conn = q.Op(), string(q.Head), c.n
	key := wire.ParseTarget(nil, q.Target)
	q.id = string(key.RoutingKey())
	return q, nil
}

// next reads the next request, body included, and notes it.
func (c *fakeConn) next() (received, error) {
	q, err := c.head()
	if err != nil {
		return q, err
	}
	body, err := c.r.ReadBody(nil, q.BodyLen())
	if err != nil {
		return q, err
	}
	q.raw += string(body)
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.seen = append(c.f.seen, q)
	return q, nil
}

// say sends an answer. That the proxy has gone meanwhile is no error here.
func (c *fakeConn) say(answer string) { _, _ = io.WriteString(c.Conn, answer) }

// goodUntilClosed answers every request as a sound backend does.
func goodUntilClosed(c *fakeConn) {
	for {
		q, err := c.next()
		if err != nil {
			return
		}
		c.say(good(q.op, q.id))
	}
}

// cookie of every lock that a fake grants.
const cookie = 7

// good is the answer that a fake gives to a request when all is well. It shows
// which session it is for, so that a misled one can be told.
func good(op wire.Op, id string) string {
	head, body := "200 OK\r\nX-AspNet-Version: 4.0.30319\r\nX-For: "+id+"\r\n", ""
	switch op {
	case wire.OpGetExclusive:
		head += fmt.Sprintf("LockCookie: %d\r\n", cookie)
		fallthrough
	case wire.OpGet:
		head += "Timeout: 20\r\n"
		body = "body of " + id
	}
	return head + fmt.Sprintf("Cache-Control: private\r\nContent-Length: %d\r\n\r\n", len(body)) + body
}

// Answers of the proxy's own.
const (
	failure = "400 Bad Request\r\nX-AspNet-Version: 4.0.30319\r\nCache-Control: private\r\nContent-Length: 0\r\n\r\n"
	hold    = "423 Locked\r\nX-AspNet-Version: 4.0.30319\r\nLockAge: 0\r\nLockCookie: 0\r\nCache-Control: private\r\nContent-Length: 0\r\n\r\n"
)

// verbs are the seven operations.
var verbs = []wire.Op{
	wire.OpGet, wire.OpGetExclusive, wire.OpSet, wire.OpSetUninitialized, wire.OpRelease, wire.OpRemove, wire.OpResetTimeout,
}

// request is the whole request that a client sends for op.
func request(op wire.Op, id string) []byte {
	req := wire.Request{Verb: op.Verb(), Target: target(id)}
	body := ""
	switch op {
	case wire.OpGetExclusive:
		req.Exclusive = wire.Acquire
	case wire.OpRelease:
		req.Exclusive, req.LockCookie = wire.Release, wire.Some(cookie)
	case wire.OpRemove:
		req.LockCookie = wire.Some(cookie)
	case wire.OpSet, wire.OpSetUninitialized:
		body = "new body of " + id
		req.Timeout, req.ContentLength = wire.Some(20), wire.Some(int64(len(body)))
		req.ExtraFlags, req.LockCookie = wire.Some(0), wire.Some(cookie)
		if op == wire.OpSetUninitialized {
			req.ExtraFlags, req.LockCookie = wire.Some(1), wire.Int{}
		}
	}
	return append(wire.AppendRequest(nil, &req), body...)
}

// exchange sends the request and returns the answer's bytes.
func (c *client) exchange(op wire.Op, id string) (string, error) {
	c.t.Helper()
	c.send(request(op, id))
	return c.answer(op)
}

// answer returns the bytes of the answer to a request for op.
func (c *client) answer(op wire.Op) (string, error) {
	a, err := c.read(op.Verb())
	return string(a.Head) + a.body, err
}

// wantGood fails the test unless the request is answered as by a sound backend.
func (c *client) wantGood(op wire.Op, id string) {
	c.t.Helper()
	if got, err := c.exchange(op, id); got != good(op, id) || err != nil {
		c.t.Errorf("answer to %v of %s = %q, %v; want its own: %q", op, id, got, err, good(op, id))
	}
}

// wantClosed fails the test unless the proxy closes the connection without
// another byte.
func (c *client) wantClosed() {
	c.t.Helper()
	if b, err := io.ReadAll(c.c); len(c.r.Buffered())+len(b) > 0 || err != nil && !isReset(err) {
		c.t.Errorf("read %q, %v; want a closed connection", append(bytes.Clone(c.r.Buffered()), b...), err)
	}
}

func isReset(err error) bool { return strings.Contains(err.Error(), "reset") }

// memory is a network of pipes, for tests whose clock is a bubble's.
type memory struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	from  string // address of the next client
}

func newMemory() *memory {
	return &memory{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Accept implements net.Listener.
func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (m *memory) Close() error {
	m.once.Do(func() { close(m.done) })
	return nil
}

// Addr implements net.Listener.
func (m *memory) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// dial connects to whoever accepts.
func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case m.conns <- fromAddr{theirs, m.from}:
		return ours, nil
	case <-m.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fromAddr is a connection that came from an address.
type fromAddr struct {
	net.Conn
	ip string
}

// RemoteAddr implements net.Conn.
func (c fromAddr) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.ip), Port: 2} }

// bubble is a proxy with one backend, s1, and clients on pipes. stop ends all.
type bubble struct {
	rig
	clients *memory
	fake    *fake
	stop    func()
}

// newBubble is called within a bubble. dial may be nil: connections then go to
// serve.
func newBubble(t *testing.T, s proxy.Settings, serve func(*fakeConn)) *bubble {
	b := &bubble{rig: rig{t: t}, clients: newMemory(), fake: &fake{t: t, addr: "s1:42424"}}
	ln := newMemory()
	stopFake := b.fake.serve(ln, serve)
	b.proxy = &proxy.Proxy{Dial: ln.dial, Done: b.note}
	s.Backends = []proxy.Backend{b.fake.backend("s1")}
	b.reconfigure(s)
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.proxy.Serve(b.clients) })
	b.stop = func() {
		b.proxy.Close()
		stopFake()
		wg.Wait()
	}
	return b
}

// note keeps an outcome.
func (r *rig) note(o *proxy.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := *o
	kept.App = bytes.Clone(o.App)
	r.outcomes = append(r.outcomes, kept)
}

// count returns how many outcomes there are.
func (r *rig) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.outcomes)
}

// client connects a client.
func (b *bubble) client() *client {
	b.t.Helper()
	nc, err := b.clients.dial(b.t.Context(), "", "")
	if err != nil {
		b.t.Fatal(err)
	}
	return &client{t: b.t, c: nc, r: wire.NewReader(nc, 4<<10, 8<<10)}
}
