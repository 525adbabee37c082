package stateserver

import (
	"errors"
	"net"
	"slices"
	"time"
)

// TB is the part of testing.TB that RunT needs, so that programs which embed a
// server don't link package testing.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// RunT returns a server on a free port of 127.0.0.1 that is closed with the
// test. It fails the test if there is no such port, or serving ends early.
func RunT(t TB) *Server {
	t.Helper()
	s := new(Server)
	s.StartT(t)
	return s
}

// StartT is RunT for a server whose fields the caller has set.
func (s *Server) StartT(t TB) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen on loopback: %v", err)
		return
	}
	if !s.open(ln) {
		ln.Close()
		t.Fatalf("start server: %v", ErrClosed)
		return
	}
	served := make(chan error, 1) // 1: the server may end before the test looks
	go func() { served <- s.accept(ln) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Fatalf("close server: %v", err)
		}
		if err := <-served; !errors.Is(err, ErrClosed) {
			t.Fatalf("serve: %v", err)
		}
	})
}

// Item is a session as Peek shows it.
type Item struct {
	Body          []byte // a copy
	Timeout       int    // minutes; 0 is no expiry
	Locked        bool
	LockCookie    int           // the counter: cookie of the lock, or while unlocked of the last one, or -1
	LockAge       time.Duration // 0 while unlocked
	Uninitialized bool          // the next GET gets ActionFlags: 1
	TimeLeft      time.Duration // until it expires if nobody asks for it; 0 if it never does
}

// Peek returns the session with this decoded key, if there is one, and does
// what no request can: leave its expiry and flag as they are.
func (s *Server) Peek(key string) (Item, bool) {
	s.once.Do(s.init)
	sh := s.store.shard([]byte(key))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := s.store.now()
	it := sh.items[key]
	if it == nil || now >= it.expires {
		return Item{}, false
	}
	item := Item{
		Body:          slices.Clone(it.body),
		Timeout:       int(it.timeout),
		Locked:        it.locked,
		LockCookie:    int(it.cookie),
		Uninitialized: it.uninit,
	}
	if it.locked {
		item.LockAge = now - it.lockedAt
	}
	if it.expires != neverExpires {
		item.TimeLeft = it.expires - now
	}
	return item, true
}

// Len returns the number of sessions, expired ones that were not swept yet
// included.
func (s *Server) Len() int { return s.Stats().Sessions }

// Reset forgets all sessions, as a restart does. Connections stay open, counters
// stay as they are.
func (s *Server) Reset() {
	s.once.Do(s.init)
	s.store.reset()
}

// Age makes everything on the server older by d, which is not below 0: the time
// that locks are held and that sessions have not been used. Tests need not wait
// for it, then. Lock dates move with it, so that the server's clock seems right.
func (s *Server) Age(d time.Duration) {
	s.once.Do(s.init)
	s.store.older.Add(int64(max(d, 0)))
}
