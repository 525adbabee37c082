package main

import "math/bits"

// hist counts durations in nanoseconds in buckets under 0.8 % wide.
type hist struct {
	n      uint64
	max    int64
	counts [256 + 40*128]uint64
}

func (h *hist) add(v int64) {
	if v < 0 {
		v = 0
	}
	h.n++
	h.max = max(h.max, v)
	i := int(v)
	if v >= 256 {
		e := bits.Len64(uint64(v)) - 8
		i = 256 + (e-1)*128 + int(v>>e) - 128
	}
	h.counts[min(i, len(h.counts)-1)]++
}

func (h *hist) merge(o *hist) {
	h.n += o.n
	h.max = max(h.max, o.max)
	for i, c := range o.counts {
		h.counts[i] += c
	}
}

// quantile returns the value under which the share q of all values lies.
func (h *hist) quantile(q float64) int64 {
	if h.n == 0 {
		return 0
	}
	want, seen := uint64(q*float64(h.n)), uint64(0)
	for i, c := range h.counts {
		if seen += c; seen > want {
			if i < 256 {
				return int64(i)
			}
			e := (i-256)/128 + 1
			low := int64((i-256)%128+128) << e
			return min(low+int64(1)<<(e-1), h.max)
		}
	}
	return h.max
}

// us returns the quantile in microseconds.
func (h *hist) us(q float64) float64 { return float64(h.quantile(q)) / 1e3 }
