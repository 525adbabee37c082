package ring

import "math/bits"

// The arithmetic of a score, all in integers.
//
// draw gives a uniform u of 48 bits, standing for the fraction u/2^48, and cost
// its exponential variable -ln(1 - u/2^48) in units of 2^-48, rounded down. The
// largest cost is ln(2^48) = 33.3 < 2^6, so a cost has 54 bits, a weight has 10,
// and scores cost/weight compare exactly by cross multiplication in 64 bits.
//
// Precision: cost is less than 2 units from the true logarithm and never decreases
// with u; the draw's own grain adds one unit. A cost that is off by 3 units is a
// score that is off by 3/weight units, while the lowest of all scores is an
// exponential variable with the total weight as its rate. A share therefore
// differs from the ratio of weights by a factor within 1 ± 3·m·2^-48, m being the
// total over the smallest weight: 10^-9 for a hundred members of weight 1000 and
// one of weight 1. Two members tie with a chance of the same order.

const (
	fraction = 48            // bits of a draw
	unit     = 1 << fraction // a draw or cost of 1

	tableBits = 8 // the logarithm's table has 2^tableBits intervals
	logBits   = 58
)

// score is a member's result for a key: cost/weight, the lowest owns. Of equal ones
// the one with the lower index, the name that sorts first, counts as lower.
type score struct {
	cost, weight uint64
	index        int
}

// last is above every score that a member can have.
var last = score{cost: 64 * unit, weight: 1, index: -1}

func (s score) less(t score) bool {
	a, b := s.cost*t.weight, t.cost*s.weight
	return a < b || a == b && s.index < t.index
}

func lower(s, t score) score {
	if t.less(s) {
		return t
	}
	return s
}

// draw returns the uniform number, below unit, of the member with the given
// seed for a key with hash h.
func draw(h, seed uint64) uint64 { return mix(h^seed) >> (64 - fraction) }

// mix is the bijective finalizer of SplitMix64 (D. Stafford's variant 13): each
// bit of x changes each bit of the result with a chance close to one half.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// cost returns -ln(1 - u/unit) in units of 1/unit, for u below unit. It is never
// below u.
//
// With y = unit - u shifted left by s into (unit/2, unit], and c the upper end of
// the table's interval that holds it, y = c·(1-r) and
//
//	-ln(1 - u/unit) = s·ln 2 - ln(c/unit) - ln(1-r), 0 <= r < 2^-8.
//
// The last term is the series r + r²/2 + r³/3 + r⁴/4 + r⁵/5, which leaves out less
// than 2^-50. In the topmost interval s and ln(c/unit) are 0 and r is u itself, so
// a small cost, one that wins, has full relative precision.
func cost(u uint64) uint64 {
	y := unit - u
	s := fraction - bits.Len64(y-1)
	y <<= s
	const intervalBits = fraction - 1 - tableBits
	e := &table[((y-1)>>intervalBits)%(1<<tableBits)]
	toEnd := -y % (1 << intervalBits) // c - y
	r := mulHigh(toEnd<<(64-fraction+1), e.inverse)
	r2 := mulHigh(r, r)
	tail := mulHigh(r2, quarter+mulHigh(r, fifth))
	series := r + mulHigh(r2, half+mulHigh(r, third)+tail)
	return (uint64(s)*ln2 + e.log + series>>(64-logBits)) >> (logBits - fraction)
}

// mulHigh multiplies two fractions of 2^64.
func mulHigh(a, b uint64) uint64 {
	hi, _ := bits.Mul64(a, b)
	return hi
}

// Fractions of 2^64, rounded down.
const (
	half    = 1 << 63
	third   = (1 << 64) / 3
	quarter = 1 << 62
	fifth   = (1 << 64) / 5
)

// interval is an interval of y in cost; c, its upper end, counts.
type interval struct {
	inverse uint64 // unit/2 / c as a fraction of 2^64
	log     uint64 // -ln(c/unit) in units of 2^-logBits
}

// table holds the intervals that part (unit/2, unit] evenly; ln2 is in the same
// units as its logarithms.
var table, ln2 = newTable()

// newTable adds up ln(512/k) = Σ ln((n+1)/n), n from k to 511, downwards from
// k = 512, where c/unit = k/512. Each term is less than 4 units of 2^-64 too
// small, the sum of all 256 less than 2^-54.
func newTable() (t [1 << tableBits]interval, ln2 uint64) {
	const size = 1 << tableBits
	sum := uint64(0) // ln(2·size/k), a fraction of 2^64
	for k := uint64(2 * size); k > size; k-- {
		inverse, _ := bits.Div64(size, 0, k)
		t[k-size-1] = interval{inverse: inverse, log: sum >> (64 - logBits)}
		sum += logStep(k - 1)
	}
	return t, sum >> (64 - logBits)
}

// logStep returns ln((n+1)/n) as a fraction of 2^64, for n of at least 256, by
// the series 2·(x + x³/3 + x⁵/5 + x⁷/7 + …) with x = 1/(2n+1).
func logStep(n uint64) uint64 {
	x := 2*n + 1
	power, _ := bits.Div64(2, 0, x) // 2·2^64/x
	sum := uint64(0)
	for i := uint64(1); power > 0; i += 2 {
		sum += power / i
		power /= x * x
	}
	return sum
}
