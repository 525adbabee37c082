package ring

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// someMembers draws at least atLeast members of different names.
func someMembers(t *rapid.T, atLeast int) []Member {
	member := rapid.Custom(func(t *rapid.T) Member {
		return Member{
			Name:   rapid.StringMatching(`[a-z0-9.-]{1,6}`).Draw(t, "name"),
			Weight: someWeight(1, MaxWeight).Draw(t, "weight"),
		}
	})
	return rapid.SliceOfNDistinct(member, atLeast, 40, func(m Member) string { return m.Name }).Draw(t, "members")
}

// someWeight draws small weights as often as large ones.
func someWeight(low, high int) *rapid.Generator[int] {
	return rapid.OneOf(rapid.IntRange(low, min(low+3, high)), rapid.IntRange(low, high))
}

// someKeys draws keys of any length, the empty one included.
func someKeys(t *rapid.T) [][]byte {
	return rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 40), 30, 100).Draw(t, "keys")
}

func TestOrderOfMembersDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := someMembers(t, 0)
		a := mustNew(t, members)
		b := mustNew(t, rapid.Permutation(members).Draw(t, "permutation"))
		if a.Fingerprint() != b.Fingerprint() {
			t.Fatalf("Fingerprint() = %x and %x; want the same", a.Fingerprint(), b.Fingerprint())
		}
		for _, key := range someKeys(t) {
			if got, want := ranking(b, key), ranking(a, key); !slices.Equal(got, want) {
				t.Fatalf("ranking of %q = %q after reordering; want %q", key, got, want)
			}
		}
	})
}

func TestRanksAreAPermutation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := mustNew(t, someMembers(t, 1))
		n := len(r.Members())
		for _, key := range someKeys(t) {
			all := r.Owners(nil, key, n)
			if got := r.Owner(key); got != all[0] {
				t.Fatalf("Owner(%q) = %d; want %d as in Owners", key, got, all[0])
			}
			k := rapid.IntRange(0, n).Draw(t, "ranks")
			if got := r.Owners(nil, key, k); !slices.Equal(got, all[:k]) {
				t.Fatalf("Owners(%q, %d) = %v; want %v", key, k, got, all[:k])
			}
			sorted := slices.Sorted(slices.Values(all))
			for i := range n {
				if len(sorted) != n || sorted[i] != i {
					t.Fatalf("Owners(%q, %d) = %v; want each index once", key, n, all)
				}
			}
		}
	})
}

// One member is added, removed (or ejected, which is the same to the ring) or
// given another weight: the ranking of all others stays, and a key moves only
// from or to that member, in the direction that the change has.
func TestOnlyKeysOfTheChangedMemberMove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := someMembers(t, 2)
		i := rapid.IntRange(0, len(members)-1).Draw(t, "changed")
		name := members[i].Name
		lighter := slices.Clone(members)
		if low := someWeight(0, members[i].Weight).Draw(t, "lighter"); low == 0 {
			lighter = slices.Delete(lighter, i, i+1)
		} else {
			lighter[i].Weight = low
		}
		small, large := mustNew(t, lighter), mustNew(t, members)
		for _, key := range someKeys(t) {
			without, with := ranking(small, key), ranking(large, key)
			if without[0] != with[0] && with[0] != name {
				t.Fatalf("owner of %q goes from %q to %q when %q gains weight", key, without[0], with[0], name)
			}
			rankWithout, rankWith := slices.Index(without, name), slices.Index(with, name)
			if rankWithout >= 0 && rankWithout < rankWith {
				t.Fatalf("rank of %q for %q falls from %d to %d when it gains weight", name, key, rankWithout, rankWith)
			}
			if got, want := others(without, name), others(with, name); !slices.Equal(got, want) {
				t.Fatalf("%q changes the order of the others for %q from %q to %q", name, key, got, want)
			}
		}
	})
}

// others returns names without name.
func others(names []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == name })
}

func TestSuccessorInheritsFromOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := someMembers(t, 2)
		r := mustNew(t, members)
		for _, key := range someKeys(t)[:10] {
			ranked := ranking(r, key)
			rest := slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.Name == ranked[0] })
			if got := ownerName(mustNew(t, rest), key); got != ranked[1] {
				t.Fatalf("owner of %q without %q = %q; want the successor %q", key, ranked[0], got, ranked[1])
			}
		}
	})
}

func TestMovedProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := mustNew(t, someMembers(t, 0)), mustNew(t, someMembers(t, 0))
		got := Moved(a, b)
		if !(got >= 0 && got <= 1) {
			t.Fatalf("Moved(a, b) = %v; want 0 to 1", got)
		}
		if back := Moved(b, a); back-got > 1e-12 || got-back > 1e-12 {
			t.Fatalf("Moved(a, b) = %v, Moved(b, a) = %v; want the same", got, back)
		}
		if self := Moved(a, a); self != 0 {
			t.Fatalf("Moved(a, a) = %v; want 0", self)
		}
	})
}
