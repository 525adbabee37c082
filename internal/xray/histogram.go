package xray

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram is how values spread.
type Histogram struct {
	AtMost []float64 `json:"at_most"` // upper ends of the buckets, in bytes or seconds
	Counts []int64   `json:"counts"`  // values in each bucket; the last, beyond all ends, is one more
	Sum    float64   `json:"sum"`     // of the values
}

// Count returns the number of values.
func (h Histogram) Count() (n int64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Sizes go by powers of four.
const (
	smallest    = 8 // bits of the first bucket's end, 256 bytes
	sizeBuckets = 11
)

var sizeBounds = func() (ends []float64) {
	for i := range sizeBuckets - 1 {
		ends = append(ends, float64(int64(1)<<(smallest+2*i)))
	}
	return ends
}()

func sizeBucket(size int64) int {
	n := bits.Len64(uint64(max(size, 1) - 1))
	return min((max(n-smallest, 0)+1)/2, sizeBuckets-1)
}

// times are the ends of the buckets of lock times. 110 s is how long a page may
// run by default.
var times = [...]time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
	30 * time.Second, 60 * time.Second, 110 * time.Second, 300 * time.Second,
}

const timeBuckets = len(times) + 1

var timeBounds = func() (ends []float64) {
	for _, t := range times {
		ends = append(ends, t.Seconds())
	}
	return ends
}()

func timeBucket(d time.Duration) int {
	i := 0
	for i < len(times) && d > times[i] {
		i++
	}
	return i
}

// sizeCounts counts sizes in bytes. The zero value is empty.
type sizeCounts struct {
	buckets [sizeBuckets]atomic.Int64
	sum     atomic.Int64
}

func (s *sizeCounts) add(bucket int, size int64) {
	s.buckets[bucket].Add(1)
	s.sum.Add(size)
}

// timeCounts counts durations. The zero value is empty.
type timeCounts struct {
	buckets [timeBuckets]atomic.Int64
	sum     atomic.Int64 // nanoseconds
}

func (t *timeCounts) observe(d time.Duration) {
	d = max(d, 0) // the clock may have been set back
	t.buckets[timeBucket(d)].Add(1)
	t.sum.Add(int64(d))
}

func (t *timeCounts) histogram() Histogram {
	h := Histogram{AtMost: timeBounds, Counts: make([]int64, timeBuckets), Sum: time.Duration(t.sum.Load()).Seconds()}
	for i := range t.buckets {
		h.Counts[i] = t.buckets[i].Load()
	}
	return h
}
