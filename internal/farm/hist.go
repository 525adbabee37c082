package farm

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Latency sums up how long something took.
type Latency struct {
	Count         uint64
	P50, P99, Max time.Duration // P50 and P99 are up to 6 % too long, never too short
}

// histogram counts durations in buckets of a sixteenth of a power of two. The
// zero value is empty. It is safe for concurrent use.
type histogram struct {
	counts [976]atomic.Uint64
	max    atomic.Int64
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))].Add(1)
	for {
		old := h.max.Load()
		if int64(d) <= old || h.max.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// bucket returns the number of the bucket that counts v: v itself below 16,
// else four bits behind the leading one.
func bucket(v uint64) int {
	if v < 16 {
		return int(v)
	}
	shift := bits.Len64(v) - 5
	return shift*16 + int(v>>shift)
}

// bucketEnd returns the greatest value in bucket i.
func bucketEnd(i int) uint64 {
	if i < 32 {
		return uint64(i)
	}
	shift := i/16 - 1
	return uint64(i%16+17)<<shift - 1
}

// latency returns the summary so far. Durations added meanwhile may be in it or not.
func (h *histogram) latency() Latency {
	var counts [len(h.counts)]uint64
	var l Latency
	for i := range h.counts {
		counts[i] = h.counts[i].Load()
		l.Count += counts[i]
	}
	l.Max = time.Duration(h.max.Load())
	l.P50 = min(quantile(&counts, (l.Count+1)/2), l.Max)
	l.P99 = min(quantile(&counts, l.Count-l.Count/100), l.Max)
	return l
}

// quantile returns the end of the bucket that holds the rank-th shortest value.
func quantile(counts *[976]uint64, rank uint64) time.Duration {
	var sum uint64
	for i, n := range counts {
		sum += n
		if sum >= rank && n > 0 {
			return time.Duration(bucketEnd(i))
		}
	}
	return 0
}
