package proxy

import (
	"math/bits"
	"math/rand/v2"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// keyHash is the number by which a proxy remembers a key. The salt is the
// proxy's own, so that the number tells nobody else which session it is.
func keyHash(salt uint64, key []byte) uint64 {
	hi, lo := bits.Mul64(xxhash.Sum64(key)^salt, 0x9e3779b97f4a7c15)
	return hi ^ lo
}

func newSalt() uint64 { return rand.Uint64() }

const (
	keyShards = 16
	shardMax  = 1 << 20 / keyShards // entries
)

// settled is which sessions need not be looked for at former owners any more. What
// is found early, while proxies may still go by the ring before, counts only for as
// long: one of them may have removed the session and made it anew over there.
// Forgetting a session costs its next request the look-up again. The zero value is
// empty; it is safe for concurrent use.
type settled struct{ early, late generations }

func (s *settled) in(early bool) *generations {
	if early {
		return &s.early
	}
	return &s.late
}

// generations is a bounded set of sessions that forgets the oldest. The zero value
// is empty; it is safe for concurrent use.
type generations struct {
	shards [keyShards]struct {
		mu         sync.Mutex
		young, old map[uint64]struct{} // old goes when young is full
	}
}

func (s *generations) has(h uint64) bool {
	sh := &s.shards[h%keyShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if _, ok := sh.young[h]; ok {
		return true
	}
	_, ok := sh.old[h]
	return ok
}

func (s *generations) add(h uint64) {
	sh := &s.shards[h%keyShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.young == nil || len(sh.young) >= shardMax/2 {
		sh.old, sh.young = sh.young, map[uint64]struct{}{}
	}
	sh.young[h] = struct{}{}
}

func (s *generations) remove(h uint64) {
	sh := &s.shards[h%keyShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	delete(sh.young, h)
	delete(sh.old, h)
}

// keySet is a bounded set of sessions, each with a time. The zero value is empty;
// it is safe for concurrent use.
type keySet struct {
	shards [keyShards]struct {
		mu   sync.Mutex
		keys map[uint64]int64 // Unix nanoseconds
	}
}

func (s *keySet) has(h uint64) bool {
	_, ok := s.time(h)
	return ok
}

func (s *keySet) time(h uint64) (at int64, ok bool) {
	sh := &s.shards[h%keyShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	at, ok = sh.keys[h]
	return at, ok
}

// add returns false if there is no room. A session that is there already has the
// later of both times.
func (s *keySet) add(h uint64, at int64) bool {
	sh := &s.shards[h%keyShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	before, ok := sh.keys[h]
	if !ok && len(sh.keys) >= shardMax {
		return false
	}
	if sh.keys == nil {
		sh.keys = map[uint64]int64{}
	}
	sh.keys[h] = max(at, before)
	return true
}

func (s *keySet) remove(h uint64) {
	sh := &s.shards[h%keyShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	delete(sh.keys, h)
}

// addAll adds what o has.
func (s *keySet) addAll(o *keySet) {
	for _, h := range o.all() {
		if at, ok := o.time(h); ok {
			s.add(h, at)
		}
	}
}

// all returns the members in no order.
func (s *keySet) all() (list []uint64) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for h := range sh.keys {
			list = append(list, h)
		}
		sh.mu.Unlock()
	}
	return list
}

func (s *keySet) clear() {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.keys = nil
		sh.mu.Unlock()
	}
}

// tally counts something by session. The zero value is empty; it is safe for
// concurrent use.
type tally struct {
	mu sync.Mutex
	n  map[uint64]int // without those of which there are none
}

func (t *tally) has(h uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n[h] > 0
}

func (t *tally) add(h uint64, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil {
		t.n = map[uint64]int{}
	}
	if t.n[h] += n; t.n[h] == 0 {
		delete(t.n, h)
	}
}
