package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/wire"
)

// census remembers the sessions that passed by within their time-out, so that a
// draining backend can be emptied without a way to list what it holds. It is
// bounded; what finds no room is counted. The zero value remembers nothing until
// its limit is set. It is safe for concurrent use.
type census struct {
	limit  atomic.Int64 // sessions; 0 or less: remember none
	missed atomic.Int64 // sessions that found no room
	size   atomic.Int64
	since  atomic.Int64 // Unix seconds: when it began to remember
	known  atomic.Int64 // likewise, what it was told of by another one included

	mu    sync.Mutex // guards apps and index
	apps  []string   // beginnings of keys, up to the session ID
	index map[string]uint32

	shards [censusShards]censusShard
}

const censusShards = 32

type censusShard struct {
	mu    sync.Mutex
	short map[uint64]sighting
	long  map[uint64]longSighting
	look  uint32 // when to look again for what has expired, in seconds since the census began
}

// lookEvery is how many seconds pass between two looks at a shard, all of whose
// sessions have to be looked at, for one that has expired.
const lookEvery = 10

// sighting is a session with an ID of the usual length. With its place in a map
// it takes some 64 bytes.
type sighting struct {
	id      [24]byte
	app     uint32 // index into apps
	seen    uint32 // seconds since the census began
	minutes uint32 // its time-out
}

// longSighting is a session with any other ID.
type longSighting struct {
	key           string
	seen, minutes uint32
}

// defaultMinutes is the time-out of a session whose own has not passed by.
const defaultMinutes = 20

// setLimit sets how many sessions are remembered. With none it forgets all, and
// begins anew with the next limit.
func (c *census) setLimit(n int) {
	if before := c.limit.Swap(int64(n)); (before > 0) == (n > 0) {
		return
	}
	now := time.Now().Unix()
	c.since.Store(now)
	c.known.Store(now)
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		c.size.Add(-int64(len(sh.short) + len(sh.long)))
		sh.short, sh.long, sh.look = nil, nil, 0
		sh.mu.Unlock()
	}
}

func (c *census) on() bool { return c.limit.Load() > 0 }

// wants reports whether the answer to x is worth a note. A granted lock is not:
// a save or a release of the same session follows.
func (c *census) wants(x *exchange) bool {
	return c.on() && (x.Op != wire.OpGetExclusive || x.Response.Status != wire.StatusOK)
}

// note takes the answer to a request for the session.
func (c *census) note(h uint64, x *exchange, now time.Time) {
	sh := &c.shards[h%censusShards]
	switch x.Response.Status {
	case wire.StatusOK, wire.StatusLocked:
		if x.Op == wire.OpRemove && x.Response.Status == wire.StatusOK {
			c.forget(sh, h)
			return
		}
	case wire.StatusNotFound:
		c.forget(sh, h)
		return
	default:
		return
	}
	seen := uint32(max(now.Unix()-c.since.Load(), 0))
	minutes := uint32(x.req.Timeout.Or(x.Response.Timeout.Or(0)))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s, ok := sh.short[h]; ok {
		s.seen = seen
		if minutes > 0 {
			s.minutes = minutes
		}
		sh.short[h] = s
		return
	}
	if s, ok := sh.long[h]; ok {
		s.seen = seen
		if minutes > 0 {
			s.minutes = minutes
		}
		sh.long[h] = s
		return
	}
	if c.size.Load() >= c.limit.Load() && !c.makeRoom(sh, seen) {
		c.missed.Add(1)
		return
	}
	if minutes == 0 {
		minutes = defaultMinutes
	}
	c.add(sh, h, &x.key, seen, minutes)
}

// add takes up a session that is not known. sh.mu is held.
func (c *census) add(sh *censusShard, h uint64, key *wire.Key, seen, minutes uint32) {
	c.size.Add(1)
	if len(key.SessionID) != len(sighting{}.id) {
		if sh.long == nil {
			sh.long = map[uint64]longSighting{}
		}
		sh.long[h] = longSighting{string(key.Full), seen, minutes}
		return
	}
	if sh.short == nil {
		sh.short = map[uint64]sighting{}
	}
	s := sighting{app: c.app(key.Full[:len(key.Full)-len(key.SessionID)]), seen: seen, minutes: minutes}
	copy(s.id[:], key.SessionID)
	sh.short[h] = s
}

// app returns the number of the beginning of a key.
func (c *census) app(begin []byte) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, ok := c.index[string(begin)]; ok {
		return i
	}
	if c.index == nil {
		c.index = map[string]uint32{}
	}
	i := uint32(len(c.apps))
	c.apps = append(c.apps, string(begin))
	c.index[c.apps[i]] = i
	return i
}

func (c *census) forget(sh *censusShard, h uint64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	before := len(sh.short) + len(sh.long)
	delete(sh.short, h)
	delete(sh.long, h)
	c.size.Add(int64(len(sh.short) + len(sh.long) - before))
}

// find returns the key of a session that is remembered.
func (c *census) find(h uint64) (key string, ok bool) {
	sh := &c.shards[h%censusShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s, ok := sh.short[h]; ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.apps[s.app] + string(s.id[:]), true
	}
	s, ok := sh.long[h]
	return s.key, ok
}

// makeRoom drops the sessions of the shard that have expired. It returns false
// if there are none, or if it has found none a moment ago. sh.mu is held.
func (c *census) makeRoom(sh *censusShard, now uint32) bool {
	if now < sh.look {
		return false
	}
	sh.look = now + lookEvery
	before := len(sh.short) + len(sh.long)
	for h, s := range sh.short {
		if expired(s.seen, s.minutes, now) {
			delete(sh.short, h)
		}
	}
	for h, s := range sh.long {
		if expired(s.seen, s.minutes, now) {
			delete(sh.long, h)
		}
	}
	after := len(sh.short) + len(sh.long)
	c.size.Add(int64(after - before))
	return after < before
}

func expired(seen, minutes, now uint32) bool { return now > seen+60*minutes+60 }

// each calls do with every session that may be alive, until that returns false.
func (c *census) each(now time.Time, do func(h uint64, key string) bool) {
	c.every(now, func(h uint64, s Seen) bool { return do(h, s.Key) })
}

// every is each with all that is known of the sessions.
func (c *census) every(now time.Time, do func(h uint64, s Seen) bool) {
	since := c.since.Load()
	at := uint32(max(now.Unix()-since, 0))
	seen := func(key string, seen, minutes uint32) Seen {
		return Seen{key, time.Unix(since+int64(seen), 0), minutes}
	}
	type known struct {
		h uint64
		s Seen
	}
	for i := range c.shards {
		sh := &c.shards[i]
		c.mu.Lock()
		apps := c.apps
		c.mu.Unlock()
		sh.mu.Lock()
		list := make([]known, 0, len(sh.short)+len(sh.long))
		for h, s := range sh.short {
			if int(s.app) < len(apps) && !expired(s.seen, s.minutes, at) {
				list = append(list, known{h, seen(apps[s.app]+string(s.id[:]), s.seen, s.minutes)})
			}
		}
		for h, s := range sh.long {
			if !expired(s.seen, s.minutes, at) {
				list = append(list, known{h, seen(s.key, s.seen, s.minutes)})
			}
		}
		sh.mu.Unlock()
		for _, k := range list {
			if !do(k.h, k.s) {
				return
			}
		}
	}
}
