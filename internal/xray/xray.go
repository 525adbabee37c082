// Package xray looks at the sessions behind the requests: what each application
// asks for, how large its sessions are, how long they stay locked, and whether
// the web servers agree on what the application is called.
//
//	x := &xray.XRay{}
//	p.Done = x.Observe         // each request, some 50 ns
//	report := x.Report()       // numbers by application
//	for _, f := range x.Findings() {
//		log.Println(f.Text, f.Advice)
//	}
//
// Its memory is bounded, whatever clients send. Requests, polls and sizes are
// counted exactly. What needs a memory of single sessions is learned from all of
// them on a small farm and from a sample on a large or busy one, chosen by the
// hash of the session ID, so that a session is followed whole or not at all.
//
// Sessions appear as the keyed hashes of an Outcome, never as IDs. Names of
// applications are the clients' choice: they are made printable and bounded in
// length here; escaping them for HTML is left to the caller.
package xray

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// Defaults of an XRay's fields.
const (
	DefaultBudget       = 8 * time.Second
	DefaultLargeSession = 1 << 20
	DefaultLongLock     = 30 * time.Second
	DefaultMemory       = 10 * time.Minute
)

// XRay observes requests. The zero value is ready for use; its fields are set
// before first use. All methods are safe for concurrent use. An XRay must not be
// copied.
type XRay struct {
	Budget       time.Duration // that a request may spend; 0 means DefaultBudget
	LargeSession int64         // bytes from which on a session is a finding; 0 means DefaultLargeSession
	LongLock     time.Duration // that makes a lock a finding; 0 means DefaultLongLock
	Memory       time.Duration // for how long a session ID under two application parts counts; 0 means DefaultMemory

	apps     directory
	clients  addresses
	sessions followed
	busy     busiest
	held     heldLocks
	doctor   doctor
	servers  servers
	slow     atomic.Int64 // requests that came close to the budget
	reset    atomic.Int64 // budget of SetBudget; 0 if it was not called

	mu             sync.Mutex // guards what follows
	samples        []sample   // the oldest first
	slowAt         time.Time  // since when there have been enough slow ones; zero if there are not
	tuned, rotated time.Time
}

// seed keys the hashes of bodies. They never leave the process.
var seed = maphash.MakeSeed()

// SetBudget changes Budget while requests are observed.
func (x *XRay) SetBudget(d time.Duration) { x.reset.Store(int64(d)) }

func (x *XRay) budget() time.Duration {
	if d := x.reset.Load(); d > 0 {
		return time.Duration(d)
	}
	if x.Budget > 0 {
		return x.Budget
	}
	return DefaultBudget
}

// nearBudget is the duration from which on a request is close to the budget.
func (x *XRay) nearBudget() time.Duration { return x.budget() / 5 * 4 }

func (x *XRay) largeSession() int64 {
	if x.LargeSession > 0 {
		return x.LargeSession
	}
	return DefaultLargeSession
}

func (x *XRay) longLock() time.Duration {
	if x.LongLock > 0 {
		return x.LongLock
	}
	return DefaultLongLock
}

// memory is Memory in nanoseconds.
func (x *XRay) memory() int64 {
	if x.Memory > 0 {
		return int64(x.Memory)
	}
	return int64(DefaultMemory)
}

// Observe takes a finished request; it is meant for proxy.Proxy.Done. It keeps
// nothing of what o points to. It allocates nothing, but for the first request
// of an application or a client address.
func (x *XRay) Observe(o *proxy.Outcome) {
	if o.Pool == "" { // refused before it was known whose it is
		return
	}
	a := x.apps.recall(o.Client, o.App, o.Start)
	c := &a.shards[shardOf(o.Client)]
	c.requests[min(int(o.Op), wire.NumOps-1)].Add(1)
	if o.Duration >= x.nearBudget() {
		x.slow.Add(1)
	}
	if o.Reason != "" { // the proxy's own answer says nothing of the session
		return
	}
	if o.BadVersion {
		x.servers.noteVersion(o.Backend, o.Start.UnixNano())
	}
	x.measure(a, c, o)
	x.busy.observe(o.Session, a.index, o.Start)
	if key := sessionKey(o); x.sessions.follows(key) {
		x.follow(key, a, o)
	}
}

// sessionKey returns what decides whether and where a session is followed. All
// applications that share a session ID share it.
func sessionKey(o *proxy.Outcome) uint64 {
	if o.ID != 0 {
		return o.ID
	}
	return o.Session
}

// measure counts what is told of every answer.
func (x *XRay) measure(a *app, c *counts, o *proxy.Outcome) {
	switch {
	case o.Status == wire.StatusLocked:
		x.servers.noteLock(o)
		if o.Op != wire.OpGet && o.Op != wire.OpGetExclusive {
			return
		}
		c.polls.Add(1)
		if o.LockAge > 0 {
			x.held.note(o.Session, a.index, o.Start.UnixNano(), o.LockAge)
		}
	case o.Status != wire.StatusOK:
	case o.Op == wire.OpSet:
		size := bodySize(o, o.RequestBytes)
		c.sizes.add(sizeBucket(size), size)
		a.largest.offer(o.Session, size, o.Start)
		x.held.drop(o.Session)
	case o.Op == wire.OpGet || o.Op == wire.OpGetExclusive:
		a.largest.offer(o.Session, bodySize(o, o.ResponseBytes), o.Start)
	case o.Op == wire.OpRelease || o.Op == wire.OpRemove:
		x.held.drop(o.Session)
	}
}

// bodySize returns the size of the session that o carried. Of one that was too
// large to be held whole only the size with its head is known.
func bodySize(o *proxy.Outcome, all int64) int64 {
	if o.Body != nil {
		return int64(len(o.Body))
	}
	return all
}

// Counters are kept in shards, lest many cores write the same memory. A client's
// connection always counts in the same one.
const (
	shardBits = 3
	numShards = 1 << shardBits
)

// shardOf spreads ports, which systems hand out in steps of one or two.
func shardOf(client netip.AddrPort) int {
	return int(uint32(client.Port()) * 0x9E3779B1 >> (32 - shardBits))
}
