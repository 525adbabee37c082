package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// part is one step of a body that goes on only when its last part has arrived.
var part = bytes.Repeat([]byte("0123456789abcdef"), 4<<10)

// putHead is the head of a PUT of n bytes.
func putHead(id string, n int) []byte {
	return wire.AppendRequest(nil, &wire.Request{
		Verb: wire.PUT, Target: target(id), Timeout: wire.Some(20), ContentLength: wire.Some(int64(n)),
		ExtraFlags: wire.Some(0), LockCookie: wire.Some(cookie),
	})
}

// readPart reads one part of a body.
func readPart(t *testing.T, r io.Reader, buf []byte) {
	t.Helper()
	if _, err := io.ReadFull(r, buf); err != nil || !bytes.Equal(buf, part) {
		t.Errorf("a part of the body was not what was sent: %v", err)
	}
}

// Each side sends a part only when the other has the one before: a proxy that
// held the body back would never end.
func TestLongBodiesPassPartByPart(t *testing.T) {
	const parts = 64 << 20 / (64 << 10)
	arrived := make(chan struct{})
	f := startFake(t, func(c *fakeConn) {
		buf := make([]byte, len(part))
		for {
			q, err := c.head()
			switch {
			case err != nil:
				return
			case q.op == wire.OpSet:
				for range q.BodyLen() / len(part) {
					readPart(t, c.r, buf)
					arrived <- struct{}{}
				}
				c.say(good(q.op, q.id))
			default:
				c.say(okHead + fmt.Sprintf("Content-Length: %d\r\n\r\n", parts*len(part)))
				for range parts {
					_, _ = c.Conn.Write(part)
					arrived <- struct{}{}
				}
			}
		}
	})
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}, Budget: proxy.DefaultWaitLimit})
	c := dial(t, r.addr)
	c.wantGoodLong(arrived, 1) // whatever is allocated once
	c.readLong(t, arrived, parts)
	before := heap()
	c.wantGoodLong(arrived, parts)
	c.readLong(t, arrived, parts)
	limit := int64(1 << 20)
	if raceEnabled { // pools forget some of what they are given: a buffer for each direction may be new
		limit += 1 << 20
	}
	if grown := int64(heap()) - int64(before); grown > limit {
		t.Errorf("64 MiB there and 64 MiB back allocated %d bytes; want at most %d", grown, limit)
	}
	if o := r.lastOutcome(4); o.Reason != "" || o.ResponseBytes <= 64<<20 {
		t.Errorf("outcome of the answer = %q, %d bytes; want none, more than 64 MiB", o.Reason, o.ResponseBytes)
	}
	if o := r.lastOutcome(3); o.Reason != "" || o.RequestBytes <= 64<<20 {
		t.Errorf("outcome of the request = %q, %d bytes; want none, more than 64 MiB", o.Reason, o.RequestBytes)
	}
	if n := f.connCount(); n != 1 {
		t.Errorf("all that took %d connections to the backend; want 1", n)
	}
}

// heap returns how many bytes have ever been allocated.
func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// wantGoodLong sends a long PUT part by part and wants it answered.
func (c *client) wantGoodLong(arrived <-chan struct{}, parts int) {
	c.t.Helper()
	c.send(putHead("long", parts*len(part)))
	for range parts {
		c.send(part)
		<-arrived
	}
	if got, err := c.answer(wire.OpSet); got != good(wire.OpSet, "long") || err != nil {
		c.t.Errorf("long PUT = %q, %v; want its answer", got, err)
	}
}

// readLong asks for a long body and reads it part by part.
func (c *client) readLong(t *testing.T, arrived <-chan struct{}, parts int) {
	t.Helper()
	c.send(request(wire.OpGet, "long"))
	var resp wire.Response
	if err := c.r.ReadResponse(&resp); err != nil || resp.BodyLen(wire.GET) != parts*len(part) {
		t.Fatalf("head of the long answer: %v, %d bytes", err, resp.BodyLen(wire.GET))
	}
	buf := make([]byte, len(part))
	for range parts {
		readPart(t, c.r, buf)
		<-arrived
	}
}

func TestBackendThatDiesWithinALongAnswer(t *testing.T) {
	for _, end := range []struct {
		name string
		end  func(*fakeConn)
	}{{"close", hangUp}, {"reset", reset}} {
		t.Run(end.name, func(t *testing.T) {
			die := make(chan struct{})
			f := startFake(t, func(c *fakeConn) {
				if q, err := c.next(); err != nil || q.id != "long" {
					c.say(good(q.op, q.id))
					return
				}
				c.say(okHead + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", 10*len(part), part))
				<-die
				end.end(c)
			})
			r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}, OnUnavailable: proxy.Wait})
			c := dial(t, r.addr)
			c.send(request(wire.OpGet, "long"))
			if err := c.r.ReadResponse(new(wire.Response)); err != nil {
				t.Fatal(err)
			}
			readPart(t, c.r, make([]byte, len(part)))
			close(die)
			c.wantClosed()
			o := r.lastOutcome(1)
			if o.Reason != proxy.CutTail || o.Err == nil || o.Backend != "s1" || o.ResponseBytes < int64(len(part)) {
				t.Errorf("outcome = %s, %v, %s, %d bytes; want cut_tail, an error, s1, a part", o.Reason, o.Err, o.Backend, o.ResponseBytes)
			}
			dial(t, r.addr).wantGood(wire.OpGet, "afterwards")
		})
	}
}

func TestClientThatLeavesALongAnswer(t *testing.T) {
	ended := make(chan error, 1)
	f := startFake(t, func(c *fakeConn) {
		if q, err := c.next(); err != nil || q.id != "long" {
			c.say(good(q.op, q.id))
			return
		}
		c.say(okHead + fmt.Sprintf("Content-Length: %d\r\n\r\n", 1<<30))
		for {
			if _, err := c.Conn.Write(part); err != nil {
				ended <- err
				return
			}
		}
	})
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}, MaxBody: 1 << 30})
	c := dial(t, r.addr)
	c.send(request(wire.OpGet, "long"))
	if err := c.r.ReadResponse(new(wire.Response)); err != nil {
		t.Fatal(err)
	}
	c.c.Close()
	<-ended // the backend is not left writing
	if o := r.lastOutcome(1); o.Reason != proxy.CutTail || o.Err == nil {
		t.Errorf("outcome = %s, %v; want cut_tail and an error", o.Reason, o.Err)
	}
	dial(t, r.addr).wantGood(wire.OpGet, "afterwards")
}

func TestClientThatDiesInALongPutStoresNothing(t *testing.T) {
	servers := startServers(t, 1)
	r := newRig(t, proxy.Settings{Backends: backends(servers...)})
	first := dial(t, r.addr)
	first.put("long", "as it was", wire.Int{})
	r.lastOutcome(1)
	for i, end := range []func(*net.TCPConn) error{
		(*net.TCPConn).Close,
		(*net.TCPConn).CloseWrite,
		func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() },
	} {
		c := dial(t, r.addr)
		c.send(append(putHead("long", 10*len(part)), part...))
		if err := end(c.c.(*net.TCPConn)); err != nil {
			t.Fatal(err)
		}
		if o := r.lastOutcome(2*i + 2); o.Reason != "relay_error" || o.Err == nil {
			t.Errorf("outcome = %s, %v; want relay_error and an error", o.Reason, o.Err)
		}
		if a := first.get("long"); a.Status != 200 || a.body != "as it was" {
			t.Errorf("the session afterwards = %d, %d bytes; want it as it was", a.Status, len(a.body))
		}
		r.lastOutcome(2*i + 3)
	}
}

func TestBackendThatRefusesALongPut(t *testing.T) {
	f := startFake(t, func(c *fakeConn) {
		if q, err := c.head(); err == nil && q.id == "long" {
			c.say(failure) // before the body, and goes
		} else if err == nil {
			c.say(good(q.op, q.id))
		}
	})
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
	c := dial(t, r.addr)
	go func() { _, _ = c.c.Write(append(putHead("long", 200*len(part)), bytes.Repeat(part, 200)...)) }()
	if got, err := c.answer(wire.OpSet); got != failure || err != nil {
		t.Errorf("long PUT that the backend refuses = %q, %v; want F", got, err)
	}
	dial(t, r.addr).wantGood(wire.OpGet, "afterwards")
}

func TestBodiesAtTheLimitOfWholeOnes(t *testing.T) {
	servers := startServers(t, 1)
	const whole = 4 << 10
	r := newRig(t, proxy.Settings{Backends: backends(servers...), MaxWhole: whole, MaxBody: 3 * whole})
	c := dial(t, r.addr)
	for _, n := range []int{1, whole - 1, whole, whole + 1, 2 * whole, 3*whole - 1, 3 * whole} {
		body := strings.Repeat("x", n)
		if a := c.put("a", body, wire.Int{}); a.Status != 200 {
			t.Errorf("PUT of %d bytes = %d; want 200", n, a.Status)
		}
		if a := c.get("a"); a.Status != 200 || a.body != body {
			t.Errorf("GET of %d bytes = %d, %d bytes", n, a.Status, len(a.body))
		}
	}
	if a := c.put("a", strings.Repeat("x", 3*whole+1), wire.Int{}); a.Status != 400 {
		t.Errorf("PUT above the limit = %d; want 400", a.Status)
	}
}
