package proxy

import (
	"hash/maphash"
	"sync"
)

// settled is a bounded memory of sessions that need not be looked for at former
// owners any more. Forgetting one costs its next request the look-up again.
// The zero value is empty; it is safe for concurrent use.
type settled struct {
	shards [settledShards]settledShard
}

const (
	settledShards = 16
	settledMax    = 1 << 20 / settledShards / 2 // entries of a generation in one shard
)

type settledShard struct {
	mu         sync.Mutex
	young, old map[uint64]struct{} // old goes when young is full
}

var keySeed = maphash.MakeSeed()

// keyHash is the number by which this process remembers a key.
func keyHash(key []byte) uint64 { return maphash.Bytes(keySeed, key) }

func (s *settled) has(h uint64) bool {
	sh := &s.shards[h%settledShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if _, ok := sh.young[h]; ok {
		return true
	}
	_, ok := sh.old[h]
	if ok {
		sh.add(h)
	}
	return ok
}

func (s *settled) add(h uint64) {
	sh := &s.shards[h%settledShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.add(h)
}

func (sh *settledShard) add(h uint64) {
	if sh.young == nil || len(sh.young) >= settledMax {
		sh.old, sh.young = sh.young, map[uint64]struct{}{}
	}
	sh.young[h] = struct{}{}
}
