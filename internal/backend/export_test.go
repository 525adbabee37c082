package backend

import (
	"time"

	"stateproxy/internal/sock"
)

// Age makes the idle connections d older than they are.
func (p *Pool) Age(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.used = c.used.Add(-d)
	}
}

// LastUsed returns when the connection became idle that is used next.
func (p *Pool) LastUsed() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.idle[len(p.idle)-1].used
}

// Quiet returns how many idle connections are open and have brought nothing.
func (p *Pool) Quiet() int { return p.count((*conn).Idle) }

// Ending returns how many idle connections are known to have ended.
func (p *Pool) Ending() int { return p.count((*conn).Ending) }

func (p *Pool) count(is func(*conn) bool) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		if is(c) {
			n++
		}
	}
	return n
}

// Tracked returns how many connections Abort would close.
func (p *Pool) Tracked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

// What tests need to know of the insides.
const (
	LateWait  = lateWait
	LateLimit = lateLimit
	FirstRead = sock.FirstRead
)

// CheckAfter is checkAfter.
var CheckAfter = checkAfter

// Quiet reports whether nothing lies unread behind an answer whose tail was
// fetched.
func (x *Exchange) Quiet() bool { return x.conn.Idle() }
