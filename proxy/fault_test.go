package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// fault is what a backend does to a request instead of answering it well.
type fault struct {
	name   string
	answer string             // what it sends
	then   func(c *fakeConn)  // what it does after that
	reason proxy.Reason       // what the outcome tells
	only   func(wire.Op) bool // the operations that it is a fault for; nil: all
}

// Endings of a fault.
func hangUp(*fakeConn) {}

func reset(c *fakeConn) { _ = c.Conn.(*net.TCPConn).SetLinger(0) }

// stay waits until the proxy closes the connection, on which nothing may be
// sent any more.
func stay(c *fakeConn) {
	if q, err := c.next(); err == nil {
		c.f.t.Errorf("a %v came on a connection that is out of step", q.op)
	}
}

func isRead(op wire.Op) bool  { return op == wire.OpGet || op == wire.OpGetExclusive }
func hasBody(op wire.Op) bool { return op != wire.OpResetTimeout }

const okHead = "200 OK\r\nX-AspNet-Version: 4.0.30319\r\nLockCookie: 7\r\nCache-Control: private\r\n"

var faults = []fault{
	{"close", "", hangUp, "closed", nil},
	{"reset", "", reset, "closed", nil},
	{"silence", "", stay, "timeout", nil},
	{"half-head", "200 OK\r\nX-AspNet-Ver", hangUp, "cut_answer", nil},
	{"half-head-reset", "200 OK\r\nX-AspNet-Ver", reset, "cut_answer", nil},
	{"half-head-silence", "200 OK\r\nX-AspNet-Ver", stay, "timeout", nil},
	{"half-body", okHead + "Content-Length: 20\r\n\r\n0123456789", hangUp, "cut_answer", hasBody},
	{"half-body-silence", okHead + "Content-Length: 20\r\n\r\n0123456789", stay, "timeout", hasBody},
	{"no-body", okHead + "Content-Length: 20\r\n\r\n", hangUp, "cut_answer", hasBody},
	{"503", "503 Server Too Busy\r\nContent-Length: 0\r\n\r\n", stay, "odd_status", nil},
	{"503-body", "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy", stay, "odd_status", nil},
	{"500", "500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", stay, "odd_status", nil},
	{"302", "302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", stay, "odd_status", nil},
	{"201", "201 Created\r\nContent-Length: 0\r\n\r\n", stay, "odd_status", nil},
	{"100-continue", "HTTP/1.1 100 Continue\r\n\r\n" + okHead + "Content-Length: 1\r\n\r\nx", stay, "bad_answer", nil},
	{"ssh", "SSH-2.0-OpenSSH_9.6\r\n", stay, "bad_answer", nil},
	{"garbage", "\x00\x01\x02\xff", stay, "bad_answer", nil},
	{"chunked", okHead + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", stay, "bad_answer", nil},
	{"no-length", okHead + "\r\nbody until the end", hangUp, "bad_answer", nil},
	{"two-lengths", okHead + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", stay, "bad_answer", nil},
	{"endless-head", okHead + strings.Repeat("X: y\r\n", 3000), stay, "bad_answer", nil},
	{"huge-length", okHead + "Content-Length: 99999999999\r\n\r\n", stay, "bad_answer", nil},
	{"large-length", okHead + "Content-Length: 2000000\r\n\r\nx", stay, "answer_too_large", nil},
	{"long", okHead + "Content-Length: 1\r\n\r\nxy", stay, "long_answer", nil},
	{"two-answers", okHead + "Content-Length: 1\r\n\r\nx" + okHead + "Content-Length: 1\r\n\r\nx", stay, "long_answer", nil},
	{"empty", okHead + "Content-Length: 0\r\n\r\n", stay, "empty_answer", isRead},
}

// passes are answers that go to the client byte by byte.
var passes = []fault{
	{name: "400", answer: "400 Bad Request\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 0\r\n\r\n"},
	{name: "404", answer: "404 Not Found\r\nX-AspNet-Version: 4.0.30319\r\nCache-Control: private\r\nContent-Length: 0\r\n\r\n"},
	{name: "423", answer: "423 Locked\r\nX-AspNet-Version: 4.0.30319\r\nLockDate: 638500000000000000\r\nLockAge: 4\r\nLockCookie: 12\r\nContent-Length: 0\r\n\r\n"},
	{name: "404-kestrel", answer: "HTTP/1.1 404 Not Found\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer: Kestrel\r\ncontent-length:0\r\n\r\n"},
	{name: "404-body", answer: "404 Not Found\r\nContent-Length: 9\r\n\r\nnot\r\nhere", only: hasBody},
	{name: "200-flags", answer: "200 OK\r\nX-AspNet-Version: 2.0.50727\r\nActionFlags: 1\r\nTimeout: 20\r\nContent-Length: 3\r\n\r\na\x00b", only: isRead},
	{name: "200-http", answer: "HTTP/1.1 200 OK\r\nX-AspNet-Version:4.0.30319\r\nContent-Length:  3\r\n\r\n\xff\r\n", only: isRead},
	{name: "200-empty", answer: okHead + "Content-Length: 0\r\n\r\n", only: func(op wire.Op) bool { return !isRead(op) }},
}

// faulty answers a session whose ID begins with the name of a fault, and a dot,
// by that fault.
func faulty(c *fakeConn) {
	for {
		q, err := c.next()
		if err != nil {
			return
		}
		name, _, _ := strings.Cut(q.id, ".")
		same := func(f fault) bool { return f.name == name }
		giveBack := q.op == wire.OpRelease && strings.HasSuffix(q.id, "get_exclusive")
		if i := slices.IndexFunc(faults, same); i >= 0 && !giveBack {
			c.say(faults[i].answer)
			faults[i].then(c)
			return
		}
		if i := slices.IndexFunc(passes, same); i >= 0 {
			c.say(passes[i].answer)
			continue
		}
		c.say(good(q.op, q.id))
	}
}

func TestEachVerbMeetsEachFault(t *testing.T) {
	tests := []struct {
		name string
		on   proxy.OnUnavailable
	}{
		{"fail", proxy.Fail},
		{"close", proxy.CloseConn},
		{"wait", proxy.Wait},
	}
	for _, tt := range tests {
		settings := proxy.Settings{OnUnavailable: tt.on, MaxBody: 1 << 20}
		t.Run(tt.name+"/tcp", func(t *testing.T) {
			f := startFake(t, faulty)
			settings.Backends = []proxy.Backend{f.backend("s1")}
			r := newRig(t, settings)
			m := meeting{t, r, func() *client { return dial(t, r.addr) }, tt.on, 1}
			m.all(func(ft fault) bool { return ft.reason == "timeout" })
		})
		t.Run(tt.name+"/pipe", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t, settings, faulty)
				defer b.stop()
				m := meeting{t, &b.rig, b.client, tt.on, 1}
				m.all(func(ft fault) bool { return strings.Contains(ft.name, "reset") })
			})
		})
	}
}

// meeting lets requests meet faults.
type meeting struct {
	t    *testing.T
	r    *rig
	dial func() *client
	on   proxy.OnUnavailable
	n    int // of the next outcome
}

func (m *meeting) all(except func(fault) bool) {
	for _, op := range verbs {
		for _, ft := range faults {
			if !except(ft) && (ft.only == nil || ft.only(op)) {
				m.meet(op, ft)
			}
		}
	}
}

// meet sends a request that meets the fault and then two that don't.
func (m *meeting) meet(op wire.Op, ft fault) {
	c := m.dial()
	defer func() { c.c.Close() }()
	got, err := c.exchange(op, ft.name+"."+op.String())
	o := m.r.lastOutcome(m.n)
	if o.Reason != ft.reason || o.Backend != "s1" || o.Op != op || o.Err == nil {
		m.t.Errorf("%v, %s: outcome = %s, backend %s, %v, %v; want %s, s1, %v and an error", op, ft.name, o.Reason, o.Backend, o.Op, o.Err, ft.reason, op)
	}
	if strings.Contains(fmt.Sprint(o.Err), ft.name+".") {
		m.t.Errorf("%v, %s: error shows the session ID: %v", op, ft.name, o.Err)
	}
	want, status := failure, wire.StatusBadRequest
	outage := ft.reason != "answer_too_large" && ft.reason != "empty_answer"
	switch {
	case m.on == proxy.CloseConn:
		want, status = "", 0
	case m.on == proxy.Wait && isRead(op) && outage:
		want, status = hold, wire.StatusLocked
	}
	if got != want || o.Status != status {
		m.t.Errorf("%v, %s: answer = %q, %v, status %d; want %q, status %d", op, ft.name, got, err, o.Status, want, status)
	}
	if m.on == proxy.CloseConn {
		if err != io.EOF {
			m.t.Errorf("%v, %s: read error = %v; want EOF", op, ft.name, err)
		}
		c.c.Close()
		c = m.dial()
	}
	c.wantGood(op, "sound-"+op.String())
	c.wantGood(wire.OpGet, "sound-afterwards")
	m.r.lastOutcome(m.n + 2)
	m.n += 3
}

func TestProtocolAnswersPassUnchanged(t *testing.T) {
	f := startFake(t, faulty)
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
	c := dial(t, r.addr)
	n := 1
	for _, op := range verbs {
		for _, ft := range passes {
			if ft.only != nil && !ft.only(op) {
				continue
			}
			t.Run(op.String()+"/"+ft.name, func(t *testing.T) {
				got, err := c.exchange(op, ft.name+"."+op.String())
				if got != ft.answer || err != nil {
					t.Errorf("%v = %q, %v; want %q", op, got, err, ft.answer)
				}
				if o := r.lastOutcome(n); o.Reason != "" || o.Err != nil || o.ResponseBytes != int64(len(ft.answer)) {
					t.Errorf("outcome = %q, %v, %d bytes; want none, %d bytes", o.Reason, o.Err, o.ResponseBytes, len(ft.answer))
				}
				c.wantGood(op, "sound")
			})
			n += 2
		}
	}
	if n := f.connCount(); n != 1 {
		t.Errorf("all that took %d connections to the backend; want 1", n)
	}
}

func (f *fake) connCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns
}

func TestRequestsReachTheBackendUnchanged(t *testing.T) {
	f := startFake(t, goodUntilClosed)
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
	c := dial(t, r.addr)
	odd := "PUT " + strings.ToUpper(string(target("odd"))) + " HTTP/1.0\r\nX-Unknown:\t 1 \r\nlock-cookie:  4\r\nCONTENT-LENGTH:3\r\nTimeout: 20\r\n\r\n\r\n\x00"
	tests := []struct {
		name string
		raw  string
		op   wire.Op
	}{
		{"odd spelling", odd, wire.OpSet},
		{"second slash", "GET /" + string(target("slash")) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", wire.OpGet},
		{"no digest", "HEAD %2fhealth%2fprobe HTTP/1.1\r\nHost: probe\r\n\r\n", wire.OpResetTimeout},
	}
	for _, op := range verbs {
		tests = append(tests, struct {
			name string
			raw  string
			op   wire.Op
		}{op.String(), string(request(op, "plain")), op})
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c.send([]byte(tt.raw))
			if got, err := c.answer(tt.op); !strings.HasPrefix(got, "200 ") || err != nil {
				t.Fatalf("answer = %q, %v; want 200", got, err)
			}
			if list := f.requests(""); len(list) != i+1 || list[i].raw != tt.raw {
				t.Errorf("backend got %q; want %q", list[len(list)-1].raw, tt.raw)
			}
		})
	}
}

func TestBackendThatDoesNotListen(t *testing.T) {
	const nobody = "127.0.0.1:1"
	closer := startFake(t, func(*fakeConn) {})
	sound := startFake(t, goodUntilClosed)
	for _, op := range verbs {
		t.Run(op.String(), func(t *testing.T) {
			var addr atomic.Value
			addr.Store(nobody)
			r := newRig(t, proxy.Settings{})
			r.proxy.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, addr.Load().(string))
			}
			r.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "s1", Address: "s1:42424", Weight: 1}}})
			c := dial(t, r.addr)
			if got, err := c.exchange(op, "a"); got != failure || err != nil {
				t.Errorf("%v without a listener = %q, %v; want F", op, got, err)
			}
			if o := r.lastOutcome(1); o.Reason != "dial_refused" || o.Status != 400 || o.Backend != "s1" {
				t.Errorf("outcome = %s, %d, %s; want dial_refused, 400, s1", o.Reason, o.Status, o.Backend)
			}
			addr.Store(closer.addr)
			if got, err := c.exchange(op, "b"); got != failure || err != nil {
				t.Errorf("%v, connection closed at once = %q, %v; want F", op, got, err)
			}
			if o := r.lastOutcome(2); o.Reason != "closed" && o.Reason != "send_error" {
				t.Errorf("outcome = %s; want closed or send_error", o.Reason)
			}
			addr.Store(sound.addr)
			c.wantGood(op, "c")
		})
	}
}

func TestOnlyHarmlessRequestsAreRepeated(t *testing.T) {
	repeated := []wire.Op{wire.OpGet, wire.OpResetTimeout, wire.OpSetUninitialized}
	for _, op := range verbs {
		t.Run(op.String(), func(t *testing.T) {
			f := startFake(t, func(c *fakeConn) { // each connection dies of its second request
				if q, err := c.next(); err == nil {
					c.say(good(q.op, q.id))
					_, _ = c.next()
				}
			})
			r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
			c := dial(t, r.addr)
			c.wantGood(wire.OpGet, "first")
			want, times := failure, 1
			if slices.Contains(repeated, op) {
				want, times = good(op, "second"), 2
			}
			if got, err := c.exchange(op, "second"); got != want || err != nil {
				t.Errorf("%v on a connection that dies = %q, %v; want %q", op, got, err, want)
			}
			list := f.requests("second")
			if len(list) != times || list[0].conn != 1 {
				t.Errorf("backend got it %d times, first on connection %d; want %d times, first on 1", len(list), list[0].conn, times)
			}
			if times == 1 {
				if o := r.lastOutcome(2); o.Reason != "closed" {
					t.Errorf("outcome = %s; want closed", o.Reason)
				}
			}
		})
	}
}

func TestConnectionsThatDiedIdleAreNotUsed(t *testing.T) {
	for _, op := range verbs {
		t.Run(op.String(), func(t *testing.T) {
			f := startFake(t, func(c *fakeConn) { // one request on each connection
				if q, err := c.next(); err == nil {
					c.say(good(q.op, q.id))
				}
			})
			r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
			c := dial(t, r.addr)
			c.wantGood(wire.OpGet, "first")
			// A connection that was used a moment ago is trusted without a look.
			<-time.After(20 * time.Millisecond)
			c.wantGood(op, "second")
			if n := len(f.requests("second")); n != 1 {
				t.Errorf("backend got the request %d times; want once", n)
			}
		})
	}
}
