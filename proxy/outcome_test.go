package proxy_test

import (
	"testing"
	"time"

	"stateproxy/proxy"
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
