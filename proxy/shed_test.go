package proxy_test

import (
	"bytes"
	"fmt"
	"testing"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// A body of more than 32 KiB is not held after it was sent. What comes behind it
// on the connection, and what is done with its head, must not show that.
func TestBodiesThatAreNotKept(t *testing.T) {
	f := startFake(t, func(c *fakeConn) {
		for {
			q, err := c.next()
			if err != nil {
				return
			}
			switch q.id {
			case "dies":
				return
			}
			c.say(good(q.op, q.id))
		}
	})
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
	c := dial(t, r.addr)
	for _, size := range []int{32<<10 - 1, 32 << 10, 32<<10 + 1, 60 << 10, 64 << 10, 64<<10 + 1, 200 << 10} {
		for _, id := range []string{"well", "dies", "next"} {
			name := fmt.Sprintf("%d bytes for %s", size, id)
			body := bytes.Repeat([]byte(id+"\n"), size/len(id)+1)[:size]
			c.send(append(putHead(id, size), body...))
			want := good(wire.OpSet, id)
			if id == "dies" {
				want = failure
			}
			got, err := c.answer(wire.OpSet)
			if got != want || err != nil {
				t.Fatalf("PUT of %s = %q, %v; want %q", name, got, err, want)
			}
			seen := f.requests(id)
			if last := seen[len(seen)-1].raw; last != string(putHead(id, size))+string(body) {
				t.Errorf("PUT of %s reached the backend as %d other bytes", name, len(last))
			}
			if id == "dies" && size > 64<<10 {
				c = dial(t, r.addr) // for part of the body may have been on its way
			}
			c.wantGood(wire.OpGet, "between")
		}
	}
	if n := len(f.requests("dies")); n != 7 {
		t.Errorf("the backend got %d PUTs that it did not answer; want each of 7 once", n)
	}
}

// Requests that wait behind a long one in the same buffer are served.
func TestLongBodyWithRequestsBehind(t *testing.T) {
	f := startFake(t, goodUntilClosed)
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
	c := dial(t, r.addr)
	const size = 48 << 10
	for range 3 {
		c.send(bytes.Join([][]byte{
			putHead("a", size), make([]byte, size), request(wire.OpGet, "b"),
			putHead("c", size), make([]byte, size), request(wire.OpGetExclusive, "d"),
		}, nil))
		for _, want := range []struct {
			op wire.Op
			id string
		}{{wire.OpSet, "a"}, {wire.OpGet, "b"}, {wire.OpSet, "c"}, {wire.OpGetExclusive, "d"}} {
			if got, err := c.answer(want.op); got != good(want.op, want.id) || err != nil {
				t.Fatalf("answer to %v of %s = %q, %v; want its own", want.op, want.id, got, err)
			}
		}
	}
}
