package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// rig is a proxy on loopback before some backends.
type rig struct {
	t     *testing.T
	proxy *proxy.Proxy
	addr  string

	mu       sync.Mutex
	outcomes []proxy.Outcome
}

// newRig starts a proxy with the settings.
func newRig(t *testing.T, s proxy.Settings) *rig {
	t.Helper()
	return startRig(t, s, func(*proxy.Proxy) {})
}

// startRig is newRig with something to be done before the first settings.
func startRig(t *testing.T, s proxy.Settings, prepare func(*proxy.Proxy)) *rig {
	t.Helper()
	r := &rig{t: t, proxy: &proxy.Proxy{}}
	prepare(r.proxy)
	r.proxy.Done = func(o *proxy.Outcome) {
		r.mu.Lock()
		defer r.mu.Unlock()
		c := *o
		c.App = append([]byte(nil), o.App...)
		r.outcomes = append(r.outcomes, c)
	}
	r.reconfigure(s)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.proxy.Serve(ln); err != proxy.ErrClosed {
			t.Errorf("Serve() = %v; want ErrClosed", err)
		}
	})
	t.Cleanup(func() {
		r.proxy.Close()
		wg.Wait()
	})
	return r
}

func (r *rig) reconfigure(s proxy.Settings) proxy.Change {
	r.t.Helper()
	if s.HandoffDelay == 0 {
		s.HandoffDelay = -1 // tests of the delay set it
	}
	c, err := r.proxy.Reconfigure(s)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// lastOutcome waits for n outcomes in all and returns the last.
func (r *rig) lastOutcome(n int) proxy.Outcome {
	r.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		if len(r.outcomes) >= n {
			o := r.outcomes[n-1]
			r.mu.Unlock()
			return o
		}
		r.mu.Unlock()
		select {
		case <-deadline:
			r.t.Fatalf("no outcome %d in time", n)
		case <-time.After(time.Millisecond):
		}
	}
}

// backends names servers s1, s2, ... of weight 1.
func backends(servers ...*stateserver.Server) (list []proxy.Backend) {
	for i, s := range servers {
		list = append(list, proxy.Backend{Name: fmt.Sprintf("s%d", i+1), Address: s.Addr(), Weight: 1})
	}
	return list
}

func startServers(t *testing.T, n int) (list []*stateserver.Server) {
	for range n {
		list = append(list, stateserver.RunT(t))
	}
	return list
}

// client is one connection to a proxy or server.
type client struct {
	t *testing.T
	c net.Conn
	r *wire.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: t, c: c, r: wire.NewReader(c, 4<<10, 8<<10)}
}

const app = "/LM/W3SVC/2/ROOT(oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5/HxWS854=)/"

func target(id string) []byte { return wire.AppendEncoded(nil, []byte(app+id)) }

// answer is a response with its own memory.
type answer struct {
	wire.Response
	body string
}

// send sends raw bytes.
func (c *client) send(b []byte) {
	c.t.Helper()
	if _, err := c.c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// read reads the answer to a request with the verb.
func (c *client) read(verb wire.Verb) (answer, error) {
	var a answer
	if err := c.r.ReadResponse(&a.Response); err != nil {
		return a, err
	}
	body, err := c.r.ReadBody(nil, a.BodyLen(verb))
	a.body = string(body)
	return a, err
}

// do sends a request and returns its answer.
func (c *client) do(req wire.Request, body string) answer {
	c.t.Helper()
	if req.Verb == wire.PUT {
		req.ContentLength = wire.Some(int64(len(body)))
	}
	c.send(append(wire.AppendRequest(nil, &req), body...))
	a, err := c.read(req.Verb)
	if err != nil {
		c.t.Fatalf("%s: %v", req.Verb, err)
	}
	return a
}

func (c *client) get(id string) answer {
	c.t.Helper()
	return c.do(wire.Request{Verb: wire.GET, Target: target(id)}, "")
}

func (c *client) acquire(id string) answer {
	c.t.Helper()
	return c.do(wire.Request{Verb: wire.GET, Target: target(id), Exclusive: wire.Acquire}, "")
}

func (c *client) release(id string, cookie wire.Int) answer {
	c.t.Helper()
	return c.do(wire.Request{Verb: wire.GET, Target: target(id), Exclusive: wire.Release, LockCookie: cookie}, "")
}

func (c *client) put(id, body string, cookie wire.Int) answer {
	c.t.Helper()
	return c.do(wire.Request{Verb: wire.PUT, Target: target(id), Timeout: wire.Some(20), ExtraFlags: wire.Some(0), LockCookie: cookie}, body)
}

func (c *client) delete(id string, cookie wire.Int) answer {
	c.t.Helper()
	return c.do(wire.Request{Verb: wire.DELETE, Target: target(id), LockCookie: cookie}, "")
}

func (c *client) head(id string) answer {
	c.t.Helper()
	return c.do(wire.Request{Verb: wire.HEAD, Target: target(id)}, "")
}

func shutdown(t *testing.T, p *proxy.Proxy) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
}

// startFront starts a plain forwarder to address and returns its own address.
func startFront(t *testing.T, address string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { ln.Close() })
	t.Cleanup(stop)
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", address)
			if err != nil {
				in.Close()
				continue
			}
			end := func() {
				in.Close()
				out.Close()
			}
			context.AfterFunc(ctx, end)
			pipe := func(to, from net.Conn) {
				defer end()
				io.Copy(to, from)
			}
			wg.Go(func() { pipe(in, out) })
			wg.Go(func() { pipe(out, in) })
		}
	})
	return ln.Addr().String()
}
