package ring

import (
	"fmt"
	"math"
	"strconv"
	"testing"
)

// keySets are sets of n keys: random ones, and two with nearly equal neighbours.
var keySets = []struct {
	name string
	keys func(n int) [][]byte
}{
	{"session IDs", sessionIDs},
	{"binary counters", counters},
	{"decimal counters", func(n int) [][]byte {
		keys := make([][]byte, n)
		for i := range keys {
			keys[i] = strconv.AppendInt(nil, int64(i), 10)
		}
		return keys
	}},
}

// lopsided returns n members of weight 1000 and one of weight 1.
func lopsided(n int) []Member {
	members := []Member{{"light", 1}}
	for i := range n {
		members = append(members, Member{fmt.Sprintf("heavy-%d", i), MaxWeight})
	}
	return members
}

// Each member's load keeps within 1 ± 4·√(m/K) of its fair share, with K keys and
// m the total weight over the smallest; that is at least four standard
// deviations. The sum of the squared deviations of all members is held to five of
// its own.
func TestLoad(t *testing.T) {
	type test struct {
		name    string
		members []Member
	}
	tests := []test{{"1 to 1000", lopsided(1)}, {"one of 1, twenty of 1000", lopsided(20)}}
	for _, n := range []int{2, 3, 4, 5, 7, 10, 16, 17, 33, 64, 100} {
		tests = append(tests,
			test{benchName("members", n, false), fleet(n, false)},
			test{benchName("members", n, true), fleet(n, true)})
	}
	const n = 50_000
	for _, set := range keySets {
		keys := set.keys(n)
		for _, tt := range tests {
			t.Run(set.name+"/"+tt.name, func(t *testing.T) {
				r := mustNew(t, tt.members)
				loads := make([]int, len(tt.members))
				for _, key := range keys {
					loads[r.Owner(key)]++
				}
				checkLoads(t, r, loads, n)
			})
		}
	}
}

func checkLoads(t *testing.T, r *Ring, loads []int, keys int) {
	t.Helper()
	smallest := 1.0
	for i := range loads {
		smallest = min(smallest, r.Share(i))
	}
	bound := 4 * math.Sqrt(1/smallest/float64(keys))
	var squares chiSquare
	for i, load := range loads {
		fair := r.Share(i) * float64(keys)
		if got := float64(load) / fair; math.Abs(got-1) > bound {
			t.Errorf("load of %v = %.4f of its fair share; want 1 ± %.4f", r.Members()[i], got, bound)
		}
		squares.add(load, fair)
	}
	squares.check(t)
}

// chiSquare is Pearson's statistic of counts against expectations.
type chiSquare struct {
	sum   float64
	cells int
}

func (c *chiSquare) add(count int, want float64) {
	c.sum += (float64(count) - want) * (float64(count) - want) / want
	c.cells++
}

// check fails if the sum is far above its expectation, the number of cells less
// one.
func (c *chiSquare) check(t *testing.T) {
	t.Helper()
	free := float64(c.cells - 1)
	if limit := free + 5*math.Sqrt(2*free) + 8; c.sum > limit {
		t.Errorf("chi-square of %d cells = %.1f; want at most %.1f", c.cells, c.sum, limit)
	}
}

// The successor of a key is drawn among the others by their weights, whoever
// owns the key: a dead member's load spreads evenly.
func TestSuccessorIsIndependentOfOwner(t *testing.T) {
	r := mustNew(t, []Member{{"s1", 1}, {"s2", 2}, {"s3", 3}, {"s4", 4}, {"s5", 5}, {"s6", 1}})
	const n = 50_000
	for _, set := range keySets {
		t.Run(set.name, func(t *testing.T) {
			var counts [6][6]int
			dst := make([]int, 0, 2)
			for _, key := range set.keys(n) {
				dst = r.Owners(dst[:0], key, 2)
				counts[dst[0]][dst[1]]++
			}
			var squares chiSquare
			for i := range counts {
				for j := range counts[i] {
					if i != j {
						squares.add(counts[i][j], n*r.Share(i)*r.Share(j)/(1-r.Share(i)))
					}
				}
			}
			squares.check(t)
		})
	}
}

func TestMovedAsMeasured(t *testing.T) {
	reweighted := fleet(12, true)
	reweighted[3].Weight *= 3
	tests := []struct {
		name string
		a, b []Member
	}{
		{"one of five leaves", fleet(5, false), fleet(4, false)},
		{"one of a hundred leaves", fleet(100, true), fleet(99, true)},
		{"one gains weight", fleet(12, true), reweighted},
		{"all weights change", fleet(12, false), fleet(12, true)},
		{"half replaced", fleet(12, true), append(fleet(6, true), lopsided(1)...)},
	}
	const n = 50_000
	keys := sessionIDs(n)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := mustNew(t, tt.a), mustNew(t, tt.b)
			moved := 0
			for _, key := range keys {
				if ownerName(a, key) != ownerName(b, key) {
					moved++
				}
			}
			want := Moved(a, b)
			limit := 4 * math.Sqrt(want*(1-want)/n)
			if got := float64(moved) / n; math.Abs(got-want) > limit {
				t.Errorf("measured %.5f; want Moved = %.5f ± %.5f", got, want, limit)
			}
		})
	}
}
