package stateserver

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	numShards    = 64
	wheelTick    = 20 * time.Second // width of a bucket, as in the Microsoft server
	wheelSlots   = 128              // buckets ahead; what expires later is looked at again on the way
	sweepBatch   = 1000             // items looked at under one hold of a shard's lock
	minRenewal   = time.Second      // a renewal that gains less is skipped
	itemOverhead = 160              // bytes of an item beyond key and body: struct, share of the map, rounding
)

const (
	neverExpires = time.Duration(math.MaxInt64)
	noSlot       = -1
)

// store holds the sessions. Times are durations since epoch by the monotonic
// clock, so that a step of the system's clock expires nothing.
type store struct {
	epoch   time.Time
	seed    maphash.Seed
	max     int64         // bytes; 0 is no bound
	older   atomic.Int64  // nanoseconds by which Age has moved now on
	used    atomic.Int64  // sum of cost over all items
	refused atomic.Uint64 // PUTs refused because of max
	shards  [numShards]shard
}

// shard holds the sessions whose keys hash to it.
type shard struct {
	st *store

	mu      sync.Mutex // guards the fields below and the items
	items   map[string]*item
	wheel   [wheelSlots]*item // lists of items by the tick at which to look at them, modulo wheelSlots
	swept   int64             // last tick whose bucket was swept
	bodies  int64             // bytes
	locked  int
	expired uint64
}

// item is one session (protocol.md section 6). A body is never written to once
// it is here, only replaced: answers that send it hold no lock.
type item struct {
	key        string
	body       []byte
	next, prev *item // in the wheel's list
	expires    time.Duration
	lockedAt   time.Duration
	timeout    int32 // minutes; 0 is no expiry
	cookie     int32 // the lock counter, K; -1 possible while unlocked
	slot       int16 // of the wheel, noSlot for none. The item may be there early, never late.
	locked     bool
	uninit     bool // F: the next GET is told ActionFlags: 1
}

func (it *item) cost() int64 { return cost(len(it.key), len(it.body)) }

func cost(key, body int) int64 { return int64(key) + int64(body) + itemOverhead }

func (st *store) init(maxMemory int64) {
	st.epoch, st.seed, st.max = time.Now(), maphash.MakeSeed(), maxMemory
	for i := range st.shards {
		st.shards[i].st = st
		st.shards[i].items = make(map[string]*item)
	}
}

func (st *store) now() time.Duration { return time.Since(st.epoch) + time.Duration(st.older.Load()) }

// date returns what the system's clock showed, or would have shown, at a time.
func (st *store) date(at time.Duration) time.Time {
	return st.epoch.Add(at - time.Duration(st.older.Load()))
}

func (st *store) shard(key []byte) *shard {
	return &st.shards[maphash.Bytes(st.seed, key)%numShards]
}

// reserve takes delta bytes of the memory allowed, or gives them back if delta
// is negative. It reports false, and takes nothing, if they are not there.
func (st *store) reserve(delta int64) bool {
	for {
		used := st.used.Load()
		if delta > 0 && st.max > 0 && delta > st.max-used {
			st.refused.Add(1)
			return false
		}
		if st.used.CompareAndSwap(used, used+delta) {
			return true
		}
	}
}

// reset forgets all items.
func (st *store) reset() {
	for i := range st.shards {
		st.shards[i].reset()
	}
}

func (sh *shard) reset() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	freed := int64(0)
	for _, it := range sh.items {
		freed += it.cost()
	}
	sh.st.reserve(-freed)
	sh.items = make(map[string]*item)
	sh.wheel = [wheelSlots]*item{}
	sh.bodies, sh.locked = 0, 0
}

// find returns the item, renewed, or nil. An expired one is removed: it is
// absent from its last moment on, swept or not.
func (sh *shard) find(now time.Duration, key []byte) *item {
	it := sh.items[string(key)]
	if it == nil {
		return nil
	}
	if now >= it.expires {
		sh.expire(it)
		return nil
	}
	if e := it.expiry(now); e-it.expires >= minRenewal {
		it.expires = e // the wheel looks at it too early and then moves it
	}
	return it
}

// expiry returns when the item expires if it is touched at now.
func (it *item) expiry(now time.Duration) time.Duration {
	if it.timeout == 0 {
		return neverExpires
	}
	return now + time.Duration(it.timeout)*time.Minute
}

func (sh *shard) add(it *item) {
	sh.items[it.key] = it
	sh.bodies += int64(len(it.body))
	sh.link(it)
}

func (sh *shard) remove(it *item) {
	sh.unlock(it)
	sh.unlink(it)
	delete(sh.items, it.key)
	sh.bodies -= int64(len(it.body))
	sh.st.reserve(-it.cost())
}

func (sh *shard) expire(it *item) {
	sh.remove(it)
	sh.expired++
}

func (sh *shard) lock(now time.Duration, it *item) {
	it.locked, it.lockedAt = true, now
	sh.locked++
}

func (sh *shard) unlock(it *item) {
	if it.locked {
		it.locked = false
		sh.locked--
	}
}

// setBody replaces the body. It reports false, and changes nothing, if there is
// no memory for it.
func (sh *shard) setBody(it *item, body []byte) bool {
	delta := int64(len(body) - len(it.body))
	if !sh.st.reserve(delta) {
		return false
	}
	it.body = body
	sh.bodies += delta
	return true
}

// link puts the item into the bucket that is swept next after it expires, or
// the farthest one if that is beyond the wheel.
func (sh *shard) link(it *item) {
	if it.expires == neverExpires {
		it.slot = noSlot
		return
	}
	tick := int64(it.expires/wheelTick) + 1
	tick = min(max(tick, sh.swept+1), sh.swept+wheelSlots)
	it.slot = int16(tick % wheelSlots)
	head := &sh.wheel[it.slot]
	it.prev, it.next = nil, *head
	if it.next != nil {
		it.next.prev = it
	}
	*head = it
}

func (sh *shard) unlink(it *item) {
	if it.slot == noSlot {
		return
	}
	if it.next != nil {
		it.next.prev = it.prev
	}
	if it.prev != nil {
		it.prev.next = it.next
	} else {
		sh.wheel[it.slot] = it.next
	}
	it.next, it.prev, it.slot = nil, nil, noSlot
}

// sweep removes what expired before the last full tick.
func (st *store) sweep(now time.Duration) {
	for i := range st.shards {
		for st.shards[i].sweepSome(now) {
		}
	}
}

// sweepSome looks at no more than sweepBatch items of the oldest bucket that is
// due, for requests wait meanwhile. It reports whether there may be more.
func (sh *shard) sweepSome(now time.Duration) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	due := int64(now / wheelTick)
	if sh.swept >= due {
		return false
	}
	tick := max(sh.swept+1, due-wheelSlots+1) // once around covers every bucket
	sh.swept = tick - 1
	for range sweepBatch {
		it := sh.wheel[tick%wheelSlots]
		switch {
		case it == nil:
			sh.swept = tick
			return true
		case now >= it.expires:
			sh.expire(it)
		default: // to another bucket: it expires after this tick
			sh.unlink(it)
			sh.link(it)
		}
	}
	return true
}
