package access

import (
	"container/list"
	"net/netip"
	"sync/atomic"
	"time"
)

// Limits bound what one client address may use. In each, zero is no limit.
type Limits struct {
	Conns    int // open connections
	ConnRate int // new connections a second, ConnBurst times as many at once after a pause
}

// ConnBurst is for how many seconds' worth of new connections a client address
// saves up: a web server whose application pool has just been recycled opens all
// its connections in a moment.
const ConnBurst = 10

// Verdict says what became of a client that wants to come in.
type Verdict uint8

// The verdicts.
const (
	Entered      Verdict = iota
	TooManyConns         // Limits.Conns are open
	TooFast              // Limits.ConnRate is exceeded
)

// maxIdle bounds the clients without a connection that are remembered for their
// rates. Each takes about 200 bytes. Those that are forgotten early, in a flood of
// addresses, may come in again sooner.
const maxIdle = 10000

// Clients keeps what each client address has used of its limits. The zero value
// is ready. It is not safe for concurrent use.
//
// Each address counts by itself, in IPv6 too: the web servers of a farm stand in
// one /64 as a rule, and must not share one limit. What a client with many
// addresses can get is bounded by the limit of connections in all.
type Clients struct {
	byAddr map[netip.Addr]*Client
	idle   list.List // of *Client without a connection, the longest so first
}

// Client is one address. It is made by Clients.Enter. Only Ask is safe for
// concurrent use.
type Client struct {
	addr       netip.Addr
	born       time.Time // from which its times count
	conns      int
	idle       *list.Element // nil while it has connections
	connecting pace
	asking     pace
}

// Enter counts a new connection of addr, or tells why it may not have one. The
// Client is nil unless it has entered.
func (c *Clients) Enter(addr netip.Addr, l Limits, now time.Time) (*Client, Verdict) {
	c.forget(now)
	k := c.byAddr[addr]
	if k == nil {
		k = &Client{addr: addr, born: now}
	}
	if l.Conns > 0 && k.conns >= l.Conns {
		return nil, TooManyConns
	}
	if _, ok := k.connecting.take(now.Sub(k.born), l.ConnRate, ConnBurst*l.ConnRate, 0); !ok {
		return nil, TooFast
	}
	if c.byAddr == nil {
		c.byAddr = map[netip.Addr]*Client{}
	}
	c.byAddr[addr] = k
	if k.idle != nil {
		c.idle.Remove(k.idle)
		k.idle = nil
	}
	k.conns++
	return k, Entered
}

// Leave counts the end of a connection that had entered.
func (c *Clients) Leave(k *Client, now time.Time) {
	if k.conns--; k.conns > 0 {
		return
	}
	if k.rested(now) {
		delete(c.byAddr, k.addr)
		return
	}
	k.idle = c.idle.PushBack(k)
	c.forget(now)
}

// Len returns how many addresses are remembered.
func (c *Clients) Len() int { return len(c.byAddr) }

// forget drops clients without a connection that have nothing to remember, and
// the longest idle one if there are too many. It looks at a few only, and more
// often than clients are added.
func (c *Clients) forget(now time.Time) {
	for range 3 {
		first := c.idle.Front()
		if first == nil {
			return
		}
		k := first.Value.(*Client)
		if c.idle.Len() <= maxIdle && !k.rested(now) {
			return
		}
		c.idle.Remove(first)
		delete(c.byAddr, k.addr)
	}
}

// rested reports whether k is as good as a client that was never seen.
func (k *Client) rested(now time.Time) bool {
	at := now.Sub(k.born)
	return k.connecting.rested(at) && k.asking.rested(at)
}

// Ask counts a request at a rate of so many a second, a second's worth of which
// may come at once after a pause. It returns how long the request has to wait,
// or false, and does not count it, if that is more than patience. A rate of zero
// is no limit.
func (k *Client) Ask(now time.Time, rate int, patience time.Duration) (wait time.Duration, ok bool) {
	return k.asking.take(now.Sub(k.born), rate, rate, patience)
}

// pace spaces events evenly. The zero value has seen none. It is safe for
// concurrent use.
type pace struct {
	// next is when an event would be due if all so far had come at equal
	// distances, in nanoseconds since the client was born.
	next atomic.Int64
}

// take counts an event at the time at. It returns how long the event has to wait
// so that at most burst come at once and rate a second from then on; false if that
// is longer than patience.
func (p *pace) take(at time.Duration, rate, burst int, patience time.Duration) (wait time.Duration, ok bool) {
	if rate <= 0 {
		return 0, true
	}
	step := time.Second / time.Duration(rate)
	for {
		old := p.next.Load()
		due := max(time.Duration(old), at)
		wait = max(0, due-at-step*time.Duration(burst-1))
		if wait > patience {
			return wait, false
		}
		if p.next.CompareAndSwap(old, int64(due+step)) {
			return wait, true
		}
	}
}

// rested reports whether nothing that came before at matters any more.
func (p *pace) rested(at time.Duration) bool { return time.Duration(p.next.Load()) <= at }
