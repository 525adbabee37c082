package proxy

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// serveToEnd serves a connection and returns at its end.
func serveToEnd(c *conn) {
	c.p.running.Add(1)
	c.serve()
	c.p.running.Wait()
}

// Shutdown may come at any moment in the life of a connection, and a deadline
// set for the next request must not hide it.
func TestLeaveBeforeServeBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Proxy{}
		if _, err := p.Reconfigure(Settings{}); err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		defer theirs.Close()
		c := newConn(p, ours, netip.AddrPort{})
		c.leave(time.Unix(1, 0))
		start := time.Now()
		serveToEnd(c)
		if d := time.Since(start); d != 0 {
			t.Errorf("serve() of a connection that is to leave took %v; want nothing", d)
		}
	})
}

// interrupted has something done as soon as an answer is on its way.
type interrupted struct {
	net.Conn
	written func()
}

func (c *interrupted) Write(b []byte) (int, error) {
	defer c.written()
	return c.Conn.Write(b)
}

// Who has an answer that did not say that it is the last may send the next request
// at any moment, so a connection that is told to leave just then carries one more.
func TestLeaveBehindAnAnswer(t *testing.T) {
	const request = "HEAD %2fa HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, until := range map[string]time.Duration{"handed over": time.Hour, "shut down": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &Proxy{} // without a backend all answers are F
				if _, err := p.Reconfigure(Settings{}); err != nil {
					t.Fatal(err)
				}
				ours, theirs := net.Pipe()
				defer theirs.Close()
				nc := &interrupted{Conn: ours}
				c := newConn(p, nc, netip.AddrPort{})
				nc.written = func() { c.leave(time.Now().Add(until)) }
				go serveToEnd(c)
				answers, b := 0, make([]byte, 1024)
				for {
					if _, err := theirs.Write([]byte(request)); err != nil {
						break
					}
					if n, err := theirs.Read(b); err != nil || n == 0 {
						break
					}
					answers++
				}
				want := 1
				if until > 0 {
					want = 2
				}
				if answers != want {
					t.Errorf("%d answers; want %d", answers, want)
				}
				synctest.Wait()
			})
		})
	}
}
