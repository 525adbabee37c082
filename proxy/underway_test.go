package proxy_test

import (
	"testing"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// A request is on its way to the owner of its session when the routing changes. The
// session is moved before it gets there: it is asked for where it is now.
func TestSessionThatMovesBeforeItsRequestComes(t *testing.T) {
	for _, op := range []wire.Op{wire.OpGet, wire.OpGetExclusive, wire.OpRelease, wire.OpRemove, wire.OpResetTimeout} {
		t.Run(op.String(), func(t *testing.T) {
			moved := make(chan struct{})
			f := startFake(t, func(c *fakeConn) {
				for {
					if _, err := c.next(); err != nil {
						return
					}
					<-moved
					c.say("404 Not Found\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 0\r\n\r\n")
				}
			})
			r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("f")}})
			c := dial(t, r.addr)
			c.send(request(op, "a"))
			f.await("a", 1)
			o := stateserver.RunT(t)
			dial(t, o.Addr()).put("a", oldBody, wire.Some(0))
			r.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "o", Address: o.Addr(), Weight: 1}}})
			close(moved)
			if a, err := c.read(op.Verb()); err != nil || a.Status != 200 {
				t.Errorf("%v = %d, %v; want 200 from the new owner", op, a.Status, err)
			}
			if _, there := o.Peek(app + "a"); there == (op == wire.OpRemove) {
				t.Errorf("after %v the session is at the new owner: %v", op, there)
			}
		})
	}
}
