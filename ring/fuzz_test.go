package ring

import (
	"math/bits"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// FuzzOwners holds New to its limits, and a ring that it accepts to a ranking
// sorted the plain way.
func FuzzOwners(f *testing.F) {
	if seeds, err := filepath.Glob("testdata/fuzz/FuzzOwners/*"); err != nil || len(seeds) == 0 {
		f.Fatalf("seeds in testdata/fuzz/FuzzOwners: %d, %v; want some", len(seeds), err)
	}
	f.Fuzz(func(t *testing.T, lines string, key []byte, n int) {
		members := parseMembers(lines)
		r, err := New(members)
		if err != nil {
			if r != nil {
				t.Fatalf("New(%v) = %v beside error %v; want nil", members, r, err)
			}
			return
		}
		checkAccepted(t, members)
		want := sortedPlainly(r, key)
		want = want[:max(0, min(n, len(want)))]
		if got := r.Owners(nil, key, n); !slices.Equal(got, want) {
			t.Fatalf("Owners(%q, %d) = %v; want %v", key, n, got, want)
		}
		if got := r.Owner(key); len(want) > 0 && got != want[0] {
			t.Fatalf("Owner(%q) = %d; want %d", key, got, want[0])
		}
	})
}

// parseMembers reads lines of the form name=weight; a bad weight counts as 0.
func parseMembers(lines string) []Member {
	var members []Member
	for line := range strings.Lines(lines) {
		name, weight, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		w, err := strconv.Atoi(weight)
		if err != nil {
			w = 0
		}
		members = append(members, Member{name, w})
	}
	return members
}

func checkAccepted(t *testing.T, members []Member) {
	t.Helper()
	seen := map[string]bool{}
	for _, m := range members {
		if m.Name == "" || len(m.Name) > MaxName || m.Weight < 1 || m.Weight > MaxWeight || seen[m.Name] {
			t.Fatalf("New(%v) accepted %v; want an error", members, m)
		}
		seen[m.Name] = true
	}
}

// sortedPlainly ranks all members by sorting their scores, compared in 128 bits.
func sortedPlainly(r *Ring, key []byte) []int {
	h := xxhash.Sum64(key)
	order := make([]int, len(r.Members()))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := r.score(h, i), r.score(h, j)
		aHigh, aLow := bits.Mul64(a.cost, b.weight)
		bHigh, bLow := bits.Mul64(b.cost, a.weight)
		low, borrow := bits.Sub64(aLow, bLow, 0)
		high, borrow := bits.Sub64(aHigh, bHigh, borrow)
		switch {
		case borrow != 0:
			return -1
		case high|low == 0:
			return 0
		}
		return 1
	})
	return order
}
