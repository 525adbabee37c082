package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// What an answer says of its server and of a lock is in the outcome.
func TestOutcomeOfOddAnswers(t *testing.T) {
	const version, end = "X-AspNet-Version: 4.0.30319\r\n", "Content-Length: 0\r\n\r\n"
	tests := []struct {
		name   string
		answer string
		bad    bool
		age    time.Duration
		date   int64
	}{
		{"usual", "404 Not Found\r\n" + version + end, false, 0, 0},
		{"of .NET 2.0", "404 Not Found\r\nX-AspNet-Version: 2.0.50727\r\n" + end, false, 0, 0},
		{"of a version to come", "404 Not Found\r\nX-AspNet-Version: 12.1\r\n" + end, false, 0, 0},
		{"without a version", "404 Not Found\r\n" + end, true, 0, 0},
		{"of .NET 1.1", "404 Not Found\r\nX-AspNet-Version: 1.1.4322\r\n" + end, true, 0, 0},
		{"no number", "404 Not Found\r\nX-AspNet-Version: x.y\r\n" + end, true, 0, 0},
		{"locked", "423 Locked\r\n" + version + "LockDate: 638500000000000000\r\nLockAge: 4\r\nLockCookie: 12\r\n" + end, false, 4 * time.Second, 638500000000000000},
		{"locked for ever", "423 Locked\r\n" + version + "LockDate: 0\r\nLockAge: 63850000000\r\nLockCookie: 0\r\n" + end, false, 0, 0},
		{"age without a lock", "404 Not Found\r\n" + version + "LockDate: 638500000000000000\r\nLockAge: 4\r\n" + end, false, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t, func(c *fakeConn) {
				if _, err := c.head(); err == nil {
					c.say(tt.answer)
				}
			})
			r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}})
			dial(t, r.addr).send(request(wire.OpGet, "a"))
			o := r.lastOutcome(1)
			if o.BadVersion != tt.bad || o.LockAge != tt.age || o.LockDate != tt.date {
				t.Errorf("outcome: bad version %v, lock age %v, date %d; want %v, %v, %d", o.BadVersion, o.LockAge, o.LockDate, tt.bad, tt.age, tt.date)
			}
		})
	}
}

// The body of a save is told of while it is held; of a longer one its size.
func TestOutcomeOfSaves(t *testing.T) {
	server := stateserver.RunT(t)
	r := newRig(t, proxy.Settings{Backends: backends(server), MaxWhole: 100 << 10})
	c := dial(t, r.addr)
	for i, tt := range []struct {
		name string
		size int
		held bool
	}{{"short", 7, true}, {"longest that is held", 32 << 10, true}, {"given up once it is sent", 48 << 10, false}, {"streamed", 200 << 10, false}} {
		t.Run(tt.name, func(t *testing.T) {
			c.send([]byte(fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: h\r\nTimeout:20\r\nContent-Length:%d\r\n\r\n%s", target(tt.name), tt.size, strings.Repeat("x", tt.size))))
			o := r.lastOutcome(i + 1)
			if held := o.Body != nil; held != tt.held || o.Status != 200 || o.RequestBytes <= int64(tt.size) {
				t.Errorf("outcome of %d bytes: body held %v, status %d, %d bytes; want %v, 200, more", tt.size, held, o.Status, o.RequestBytes, tt.held)
			}
		})
	}
}
