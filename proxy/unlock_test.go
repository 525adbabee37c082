package proxy_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// lockedBackend is a backend whose one session has a lock.
type lockedBackend struct {
	mu       sync.Mutex
	cookie   int
	age      int
	status   int // of a read; 0: by held
	held     bool
	onLooked func(*lockedBackend) // called after each answer to a read
	released []int64              // cookies of releases
}

func (b *lockedBackend) serve(c *fakeConn) {
	for {
		q, err := c.next()
		if err != nil {
			return
		}
		c.say(b.answer(q))
	}
}

const emptyEnd = "\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 0\r\n\r\n"

func (b *lockedBackend) answer(q received) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	locked := fmt.Sprintf("423 Locked\r\nX-AspNet-Version: 4.0.30319\r\nLockAge: %d\r\nLockCookie: %d\r\nContent-Length: 0\r\n\r\n", b.age, b.cookie)
	switch {
	case q.op == wire.OpRelease:
		b.released = append(b.released, q.LockCookie.N)
		if b.held && q.LockCookie.N != int64(b.cookie) {
			return locked
		}
		b.held = false
		return "200 OK" + emptyEnd
	case q.op != wire.OpGet && b.held:
		return locked
	case q.op != wire.OpGet:
		return good(q.op, q.id)
	}
	answer := good(q.op, q.id)
	if b.status != 0 {
		answer = fmt.Sprintf("%d Odd", b.status) + emptyEnd
	} else if b.held {
		answer = locked
	}
	if b.onLooked != nil {
		b.onLooked(b)
	}
	return answer
}

func TestUnlock(t *testing.T) {
	tests := []struct {
		name     string
		backend  *lockedBackend
		cookie   int64
		want     error
		says     string // part of the error
		released int    // releases that the backend got
	}{
		{"a lock that is held too long", &lockedBackend{held: true, cookie: 7, age: 200}, 7, nil, "", 1},
		{"not locked", &lockedBackend{}, 7, proxy.ErrNotLocked, "", 0},
		{"another lock", &lockedBackend{held: true, cookie: 8, age: 200}, 7, proxy.ErrLockChanged, "", 0},
		{"a lock as young as a handoff's", &lockedBackend{held: true, cookie: 7, age: 8}, 7, nil, "is 8s old", 0},
		{"an age that makes no sense", &lockedBackend{held: true, cookie: 7, age: 1 << 31}, 7, nil, "is 0s old", 0},
		{"gone", &lockedBackend{status: 404}, 7, proxy.ErrUnknownSession, "expired or was removed", 0},
		{"refused", &lockedBackend{status: 400}, 7, nil, "answered 400", 0},
		{"odd", &lockedBackend{status: 503}, 7, nil, "odd_status", 0},
		{"changes hands after the look", &lockedBackend{held: true, cookie: 7, age: 200, onLooked: func(b *lockedBackend) {
			b.cookie, b.age = 8, 0
		}}, 7, proxy.ErrLockChanged, "", 1},
		{"is freed after the look", &lockedBackend{held: true, cookie: 7, age: 200, onLooked: func(b *lockedBackend) { b.held = false }}, 7, nil, "", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := tt.backend
			f := startFake(t, b.serve)
			r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}, Remember: 10})
			dial(t, r.addr).wantAnswered(wire.OpSetUninitialized, "a") // lets the proxy know of it
			session := r.lastOutcome(1).Session
			l, err := r.proxy.Unlock(t.Context(), session, tt.cookie)
			if tt.want != nil && !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil && tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Unlock() = %v; want %v %q", err, tt.want, tt.says)
			}
			if err == nil && (l.App != "/LM/W3SVC/2/ROOT" || l.Backend != "s1" || l.Age != 200*time.Second || !l.Held) {
				t.Errorf("Unlock() = %+v; want application, backend and age of the lock", l)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			if len(b.released) != tt.released || err == nil && b.held {
				t.Errorf("releases with cookies %v, held %t; want %d", b.released, b.held, tt.released)
			}
			if err != nil && strings.Contains(err.Error(), "(") {
				t.Errorf("the error %q holds a key", err)
			}
		})
	}
}

// wantAnswered sends a request and takes whatever comes back.
func (c *client) wantAnswered(op wire.Op, id string) {
	c.t.Helper()
	if _, err := c.exchange(op, id); err != nil {
		c.t.Fatal(err)
	}
}

// A lock that was taken before the ring changed is at the former owner, and is
// released there.
func TestUnlockAtTheFormerOwner(t *testing.T) {
	b := &lockedBackend{cookie: 7, age: 200}
	former := startFake(t, b.serve)
	owner := startServers(t, 1)[0]
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{former.backend("old")}, Remember: 10})
	dial(t, r.addr).wantAnswered(wire.OpSetUninitialized, "a")
	session := r.lastOutcome(1).Session
	b.mu.Lock()
	b.held = true
	b.mu.Unlock()
	r.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "new", Address: owner.Addr(), Weight: 1}}, Remember: 10})
	l, err := r.proxy.Lock(t.Context(), session)
	if err != nil || !l.Held || l.Cookie != 7 || l.Backend != "old" {
		t.Fatalf("Lock() = %+v, %v; want the lock at the former owner", l, err)
	}
	if _, err := r.proxy.Unlock(t.Context(), session, 7); err != nil {
		t.Errorf("Unlock() = %v; want nil", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.released) != 1 || b.held {
		t.Errorf("releases at the former owner with cookies %v; want one", b.released)
	}
}

func TestLockOfUnknownSessions(t *testing.T) {
	s := startServers(t, 1)[0]
	r := newRig(t, proxy.Settings{Backends: backends(s), Remember: 1})
	c := dial(t, r.addr)
	long := strings.Repeat("x", 30)
	c.put(long, "body", wire.Some(0))
	c.put("b", "body", wire.Some(0))
	known, missed := r.lastOutcome(1).Session, r.lastOutcome(2).Session
	if l, err := r.proxy.Lock(t.Context(), known); err != nil || l.Held {
		t.Errorf("Lock(of the one remembered) = %+v, %v; want one that is not held", l, err)
	}
	for name, session := range map[string]uint64{"no room for it": missed, "never seen": known + 1} {
		if _, err := r.proxy.Lock(t.Context(), session); !errors.Is(err, proxy.ErrUnknownSession) {
			t.Errorf("Lock(%s) = %v; want ErrUnknownSession", name, err)
		}
	}
	r.reconfigure(proxy.Settings{Backends: backends(s), Remember: 1, Pools: []proxy.Pool{{Name: "other", Applications: []string{"/x"}, Backends: []string{"s1"}}}})
	if _, err := r.proxy.Lock(t.Context(), known); err == nil || !strings.Contains(err.Error(), "no pool") && !strings.Contains(err.Error(), "no backend") {
		t.Errorf("Lock(without a pool) = %v; want an error that says so", err)
	}
}
