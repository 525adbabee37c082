package ring

import (
	"math/big"
	"math/bits"
	"testing"

	"pgregory.net/rapid"
)

// interesting returns draws at the edges of the table and of the range, and some
// between.
func interesting() []uint64 {
	us := []uint64{0, 1, 2, 3, unit - 1, unit - 2, unit - 3}
	for _, i := range []int{0, 1, 2, 24, fraction - 2, fraction - 1} {
		for j := range uint64(2 << tableBits) {
			u := unit - (unit>>i - j*(unit>>i)>>(tableBits+1)) // ends and middles of intervals
			us = append(us, u-1, u, u+1)
		}
	}
	valid := us[:0]
	for _, u := range us {
		if u < unit {
			valid = append(valid, u)
		}
	}
	return valid
}

func TestCostPrecision(t *testing.T) {
	low, high := big.NewFloat(0), big.NewFloat(2)
	halfLn2 := artanh(float(1), float(3))
	for _, u := range interesting() {
		exact := exactCost(u, halfLn2)
		diff := exact.Sub(exact, new(big.Float).SetUint64(cost(u)))
		if diff.Cmp(low) < 0 || diff.Cmp(high) >= 0 {
			t.Fatalf("-ln(1-%d/unit) - cost(%d) = %.3f units; want 0 to 2", u, u, diff)
		}
	}
}

// exactCost returns -ln(1-u/unit) in units, good to some 60 bits below one. With
// z in (1/2, 1] it is s·ln 2 - ln z, and -ln z is 2·artanh((1-z)/(1+z)).
func exactCost(u uint64, halfLn2 *big.Float) *big.Float {
	s := fraction - bits.Len64(unit-u-1)
	y := (unit - u) << s
	sum := artanh(float(unit-y), float(unit+y))
	sum.Add(sum, float(0).Mul(float(uint64(s)), halfLn2))
	return sum.Mul(sum, float(2*unit))
}

// artanh returns artanh(p/q) for p/q of at most 1/3.
func artanh(p, q *big.Float) *big.Float {
	x := float(0).Quo(p, q)
	square := float(0).Mul(x, x)
	sum := float(0)
	for i := uint64(1); i < 80; i += 2 {
		sum.Add(sum, float(0).Quo(x, float(i)))
		x = float(0).Mul(x, square)
	}
	return sum
}

func float(x uint64) *big.Float { return new(big.Float).SetPrec(128).SetUint64(x) }

func TestCostOrder(t *testing.T) {
	check := func(t rapid.TB, u uint64) {
		got := cost(u)
		if got < u {
			t.Fatalf("cost(%d) = %d; want at least the draw", u, got)
		}
		if got >= last.cost {
			t.Fatalf("cost(%d) = %d; want less than %d", u, got, last.cost)
		}
		if u+1 < unit && cost(u+1) < got {
			t.Fatalf("cost(%d) = %d, cost(%d) = %d; want no decrease", u, got, u+1, cost(u+1))
		}
	}
	for _, u := range interesting() {
		check(t, u)
	}
	rapid.Check(t, func(t *rapid.T) { check(t, rapid.Uint64Max(unit-1).Draw(t, "u")) })
}

func TestScoreLess(t *testing.T) {
	tests := []struct {
		name string
		s, t score
		want bool
	}{
		{"lower cost", score{5, 1, 1}, score{6, 1, 0}, true},
		{"higher cost", score{6, 1, 0}, score{5, 1, 1}, false},
		{"heavier", score{6, 2, 1}, score{5, 1, 0}, true},
		{"equal ratio, lower index", score{6, 2, 0}, score{9, 3, 1}, true},
		{"equal ratio, higher index", score{9, 3, 1}, score{6, 2, 0}, false},
		{"same", score{6, 2, 0}, score{6, 2, 0}, false},
		{"largest cost before last", score{cost(unit - 1), 1, 0}, last, true},
		{"last after heaviest", last, score{cost(unit - 1), MaxWeight, 0}, false},
		{"largest products", score{cost(unit-1) - 1, MaxWeight, 1}, score{cost(unit - 1), MaxWeight, 0}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.s.less(tt.t); got != tt.want {
				t.Errorf("%v.less(%v) = %t; want %t", tt.s, tt.t, got, tt.want)
			}
		})
	}
}
