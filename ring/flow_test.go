package ring

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestFlows(t *testing.T) {
	tests := []struct {
		name string
		a, b []Member
		want []Flow
	}{
		{"same", []Member{{"s1", 1}, {"s2", 3}}, []Member{{"s2", 3}, {"s1", 1}}, nil},
		{"common factor", []Member{{"s1", 1}, {"s2", 3}}, []Member{{"s1", 2}, {"s2", 6}}, nil},
		{"no members at all", nil, nil, nil},
		{"first members", nil, []Member{{"s1", 1}, {"s2", 3}}, []Flow{{"", "s1", 0.25}, {"", "s2", 0.75}}},
		{"last members", []Member{{"s1", 1}, {"s2", 3}}, nil, []Flow{{"s1", "", 0.25}, {"s2", "", 0.75}}},
		{"one added", []Member{{"s1", 1}, {"s2", 1}}, []Member{{"s1", 1}, {"s2", 1}, {"s3", 2}}, []Flow{{"s1", "s3", 0.25}, {"s2", "s3", 0.25}}},
		{"one removed", []Member{{"s1", 2}, {"s2", 1}, {"s3", 1}}, []Member{{"s2", 1}, {"s3", 1}}, []Flow{{"s1", "s2", 0.25}, {"s1", "s3", 0.25}}},
		{"all replaced", []Member{{"s1", 1}, {"s2", 1}}, []Member{{"s3", 3}, {"s4", 1}}, []Flow{
			{"s1", "s3", 0.375}, {"s1", "s4", 0.125}, {"s2", "s3", 0.375}, {"s2", "s4", 0.125},
		}},
		{"one renamed", []Member{{"s1", 1}, {"s2", 1}}, []Member{{"s1", 1}, {"x2", 1}}, []Flow{
			{"s1", "x2", 1. / 6}, {"s2", "s1", 1. / 6}, {"s2", "x2", 1. / 3},
		}},
		{"one heavier", []Member{{"s1", 1}, {"s2", 1}}, []Member{{"s1", 1}, {"s2", 3}}, []Flow{{"s1", "s2", 0.25}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Flows(mustNew(t, tt.a), mustNew(t, tt.b))
			same := slices.EqualFunc(got, tt.want, func(f, g Flow) bool {
				return f.From == g.From && f.To == g.To && math.Abs(f.Share-g.Share) < 1e-12
			})
			if !same {
				t.Errorf("Flows(%v, %v) = %v; want %v", tt.a, tt.b, got, tt.want)
			}
		})
	}
}

// What Flows says in sum is what Moved says, and the same backwards. What it takes
// from a member and adds to it is the difference of its shares.
func TestFlowsAddUp(t *testing.T) {
	const grain = 1e-11
	rapid.Check(t, func(t *rapid.T) {
		a, b := mustNew(t, someMembers(t, 0)), mustNew(t, someMembers(t, 0))
		flows, back := Flows(a, b), Flows(b, a)
		sum := 0.0
		balance := map[string]float64{}
		for i, r := range a.members {
			balance[r.Name] = a.Share(i)
		}
		for _, f := range flows {
			sum += f.Share
			balance[f.From] -= f.Share
			balance[f.To] += f.Share
			if !slices.ContainsFunc(back, func(g Flow) bool {
				return g.From == f.To && g.To == f.From && math.Abs(g.Share-f.Share) < grain
			}) {
				t.Fatalf("Flows(b, a) = %v; want %v backwards in it", back, f)
			}
		}
		if want := Moved(a, b); math.Abs(sum-want) > grain {
			t.Fatalf("Flows(a, b) adds up to %v; want Moved = %v", sum, want)
		}
		for i, r := range b.members {
			if got, want := balance[r.Name], b.Share(i); math.Abs(got-want) > grain {
				t.Fatalf("share of %q in a and what flows = %v; want its share in b = %v", r.Name, got, want)
			}
		}
		if !slices.IsSortedFunc(flows, func(f, g Flow) int { return slices.Compare([]string{f.From, f.To}, []string{g.From, g.To}) }) {
			t.Fatalf("Flows(a, b) = %v; want it sorted", flows)
		}
	})
}

func TestFlowsAsMeasured(t *testing.T) {
	reweighted := fleet(12, true)
	reweighted[3].Weight *= 3
	tests := []struct {
		name string
		a, b []Member
	}{
		{"one of five leaves", fleet(5, false), fleet(4, false)},
		{"one gains weight", fleet(12, true), reweighted},
		{"all weights change", fleet(12, false), fleet(12, true)},
		{"half replaced", fleet(12, true), append(fleet(6, true), lopsided(1)...)},
	}
	const n = 50_000
	keys := sessionIDs(n)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := mustNew(t, tt.a), mustNew(t, tt.b)
			counts := map[[2]string]int{}
			for _, key := range keys {
				if from, to := ownerName(a, key), ownerName(b, key); from != to {
					counts[[2]string{from, to}]++
				}
			}
			var squares chiSquare
			kept := n
			for _, f := range Flows(a, b) {
				pair := [2]string{f.From, f.To}
				kept -= counts[pair]
				squares.add(counts[pair], f.Share*n)
				delete(counts, pair)
			}
			squares.add(kept, (1-Moved(a, b))*n)
			if len(counts) > 0 {
				t.Errorf("keys moved between %v; want none there", counts)
			}
			squares.check(t)
		})
	}
}

func BenchmarkFlows(b *testing.B) {
	before, after := mustNew(b, fleet(100, true)), mustNew(b, fleet(100, false))
	for b.Loop() {
		Flows(before, after)
	}
}
