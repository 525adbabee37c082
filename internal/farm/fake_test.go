package farm

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"stateproxy/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeServer is a state server as protocol.md section 7 has it, reached by
// pipes, with a place to be faulty in. It takes its time before and after it
// acts, so that exchanges overlap.
type fakeServer struct {
	delay  time.Duration // at most, before and after acting
	fault  func(s *fakeServer, call *fakeCall)
	change func(call *fakeCall, out []byte) []byte // of the bytes sent; nil to close instead

	mu     sync.Mutex
	began  time.Time // of the first connection
	random *rand.Rand
	items  map[string]*fakeItem
	ends   []net.Conn
	wg     sync.WaitGroup
}

type fakeItem struct {
	body, before []byte // the present and the former one
	locked       bool
	since        time.Time
	cookie       int64
	flag         bool
	timeout      int64
	expires      time.Time
}

// fakeCall is one request on its way. A fault before the act may set skip, one
// after it changes the answer.
type fakeCall struct {
	op   wire.Op
	key  string
	req  wire.Request
	in   []byte
	item *fakeItem // nil if absent
	acted,
	skip bool // do not act: resp and body are what the fault says
	resp wire.Response
	body []byte
}

func newFakeServer(delay time.Duration) *fakeServer {
	return &fakeServer{delay: delay, random: rand.New(rand.NewPCG(3, 4)), items: map[string]*fakeItem{}}
}

func (s *fakeServer) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends = append(s.ends, far); len(s.ends) == 1 {
		s.began = time.Now()
	}
	s.wg.Go(func() { s.serve(far) })
	return near, nil
}

// close ends all connections and waits for their goroutines.
func (s *fakeServer) close() {
	s.mu.Lock()
	for _, c := range s.ends {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *fakeServer) serve(c net.Conn) {
	defer c.Close()
	r := wire.NewReader(c, 4<<10, wire.DefaultMaxHead)
	for {
		call := &fakeCall{}
		if err := r.ReadRequest(&call.req); err != nil {
			return
		}
		call.op = call.req.Op()
		call.key = string(wire.AppendDecoded(nil, call.req.Target))
		var err error
		if call.in, err = r.ReadBody(nil, call.req.BodyLen()); err != nil {
			return
		}
		s.pause()
		s.act(call)
		s.pause()
		call.resp.ContentLength = wire.Some(int64(len(call.body)))
		out := append(wire.AppendResponse(nil, &call.resp), call.body...)
		if s.change != nil {
			if out = s.change(call, out); out == nil {
				return
			}
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func (s *fakeServer) pause() {
	if s.delay > 0 {
		s.mu.Lock()
		d := time.Duration(s.random.Int64N(int64(s.delay)))
		s.mu.Unlock()
		<-time.After(d)
	}
}

// oneIn is true once in n calls. The server's mutex is held.
func (s *fakeServer) oneIn(n int) bool { return s.random.IntN(n) == 0 }

func (s *fakeServer) act(call *fakeCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	call.resp.AspNetVersion = []byte(wire.DefaultAspNetVersion)
	call.item = s.items[call.key]
	if call.item != nil && time.Now().After(call.item.expires) {
		delete(s.items, call.key)
		call.item = nil
	}
	if s.fault != nil {
		s.fault(s, call)
	}
	if !call.skip {
		s.do(call)
	}
	call.acted = true
	if s.fault != nil {
		s.fault(s, call)
	}
	if call.item != nil {
		call.item.expires = time.Now().Add(time.Duration(call.item.timeout) * time.Minute)
	}
}

func (s *fakeServer) do(call *fakeCall) {
	it, resp := call.item, &call.resp
	resp.Status = wire.StatusOK
	fits := call.req.LockCookie.Set && it != nil && call.req.LockCookie.N == it.cookie
	switch {
	case it == nil && call.op.Verb() == wire.PUT:
		call.item = &fakeItem{
			body: slices.Clone(call.in), cookie: 1, timeout: call.req.Timeout.N, flag: call.op == wire.OpSetUninitialized,
		}
		s.items[call.key] = call.item
		return
	case it == nil:
		resp.Status = wire.StatusNotFound
		return
	case call.op.Verb() == wire.GET && it.flag:
		it.flag = false
		resp.ActionFlags = wire.Some(1)
	}
	switch call.op {
	case wire.OpGet, wire.OpGetExclusive:
		s.get(call)
	case wire.OpRelease:
		if it.locked && !fits {
			s.refuse(call)
		} else {
			it.locked = false
		}
	case wire.OpSet:
		if it.locked && !fits {
			s.refuse(call)
		} else {
			it.body, it.before, it.locked = slices.Clone(call.in), it.body, false
		}
	case wire.OpRemove:
		if it.locked && !fits {
			s.refuse(call)
		} else {
			delete(s.items, call.key)
		}
	}
}

func (s *fakeServer) get(call *fakeCall) {
	it := call.item
	if it.locked {
		s.refuse(call)
		return
	}
	call.body = slices.Clone(it.body)
	call.resp.Timeout = wire.Some(it.timeout)
	if call.op == wire.OpGetExclusive {
		it.cookie++
		it.locked, it.since = true, time.Now()
		call.resp.LockCookie = wire.Some(it.cookie)
	}
}

func (s *fakeServer) refuse(call *fakeCall) {
	call.resp.Status = wire.StatusLocked
	call.resp.LockCookie = wire.Some(call.item.cookie)
	call.resp.LockAge = wire.Some(int64(time.Since(call.item.since) / time.Second))
}

// other returns the body of another session than key's.
func (s *fakeServer) other(key string) []byte {
	for k, it := range s.items {
		if k != key {
			return slices.Clone(it.body)
		}
	}
	return nil
}
