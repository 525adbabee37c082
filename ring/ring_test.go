package ring

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

func mustNew(tb rapid.TB, members []Member) *Ring {
	tb.Helper()
	r, err := New(members)
	if err != nil {
		tb.Fatalf("New(%d members) = %v; want no error", len(members), err)
	}
	return r
}

// fleet returns n members s1, s2, …; weighted ones have weights of 1 to 20.
func fleet(n int, weighted bool) []Member {
	members := make([]Member, n)
	for i := range members {
		weight := 1
		if weighted {
			weight = 1 + i*7%20
		}
		members[i] = Member{fmt.Sprintf("s%d", i+1), weight}
	}
	return members
}

// sessionIDs returns n different keys in the form of ASP.NET's session IDs, the
// same ones on each call.
func sessionIDs(n int) [][]byte {
	const alphabet = "abcdefghijklmnopqrstuvwxyz012345"
	random := rand.NewPCG(1, 2)
	keys := make([][]byte, n)
	for i := range keys {
		key := make([]byte, 24)
		for j := range key {
			key[j] = alphabet[random.Uint64()>>59]
		}
		keys[i] = key
	}
	return keys
}

// ownerName returns the name of the owner of key, "" if there is none.
func ownerName(r *Ring, key []byte) string {
	i := r.Owner(key)
	if i < 0 {
		return ""
	}
	return r.Members()[i].Name
}

// ranking returns the names of all members, ranked for key.
func ranking(r *Ring, key []byte) []string {
	names := []string{}
	for _, i := range r.Owners(nil, key, len(r.Members())) {
		names = append(names, r.Members()[i].Name)
	}
	return names
}

func TestNewSortsAndCopies(t *testing.T) {
	in := []Member{{"s10", 1}, {"s2", 5}, {"s1", MaxWeight}}
	r := mustNew(t, in)
	if want := (Member{"s2", 5}); in[1] != want {
		t.Errorf("New changed its argument: in[1] = %v; want %v", in[1], want)
	}
	in[0] = Member{"other", 3}
	want := []Member{{"s1", MaxWeight}, {"s10", 1}, {"s2", 5}}
	if got := r.Members(); !slices.Equal(got, want) {
		t.Errorf("Members() = %v; want %v", got, want)
	}
}

func TestNewErrors(t *testing.T) {
	// Two names with the same xxhash, made by running its last step backwards.
	const twin1, twin2 = "backend-number-1", "backenda\xde\xdd\xe4\x45\x3d\x89\x32\x50"
	tests := []struct {
		name    string
		members []Member
		want    string
	}{
		{"empty name", []Member{{"a", 1}, {"", 4}}, "ring: empty name of a member with weight 4"},
		{"long name", []Member{{strings.Repeat("a", MaxName+1), 1}}, "has 256 bytes, want at most 255"},
		{"duplicate", []Member{{"a", 1}, {"b", 1}, {"a", 2}}, `ring: duplicate name "a"`},
		{"weight zero", []Member{{"a", 1}, {"b", 0}}, `ring: member "b": weight 0, want 1..1000`},
		{"weight negative", []Member{{"b", -7}}, `ring: member "b": weight -7, want 1..1000`},
		{"weight too large", []Member{{"b", 1001}}, `ring: member "b": weight 1001, want 1..1000`},
		{"same hash", []Member{{twin1, 1}, {twin2, 1}}, "have the same hash"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := New(tt.members)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New(%v) error = %v; want %q", tt.members, err, tt.want)
			}
			if r != nil {
				t.Errorf("New(%v) = %v beside an error; want nil", tt.members, r)
			}
		})
	}
}

func TestLongestName(t *testing.T) {
	members := []Member{{strings.Repeat("a", MaxName), MaxWeight}}
	if got := mustNew(t, members).Members(); !slices.Equal(got, members) {
		t.Errorf("Members() = %v; want %v", got, members)
	}
}

func TestNoMembers(t *testing.T) {
	tests := []struct {
		name string
		ring *Ring
	}{
		{"zero value", new(Ring)},
		{"New", mustNew(t, nil)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.ring.Owner([]byte("key")); got != -1 {
				t.Errorf("Owner(key) = %d; want -1", got)
			}
			if got := tt.ring.Owners([]int{7}, []byte("key"), 2); !slices.Equal(got, []int{7}) {
				t.Errorf("Owners([7], key, 2) = %v; want [7]", got)
			}
			if got := tt.ring.Members(); len(got) != 0 {
				t.Errorf("Members() = %v; want none", got)
			}
			if got, want := tt.ring.Fingerprint(), new(Ring).Fingerprint(); got != want {
				t.Errorf("Fingerprint() = %x; want %x", got, want)
			}
		})
	}
}

func TestOwnersAppendsRanks(t *testing.T) {
	r := mustNew(t, fleet(20, true))
	key := []byte("ogpiwfmkhqvw1pqijyhwkbfr")
	all := r.Owners(nil, key, 20)
	tests := []struct {
		name string
		n    int
		want []int
	}{
		{"negative", -1, nil},
		{"none", 0, nil},
		{"owner", 1, all[:1]},
		{"owner and successor", 2, all[:2]},
		{"half", 10, all[:10]},
		{"more than there are", 21, all},
		{"most", math.MaxInt, all},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := append([]int{-5, 99}, tt.want...)
			if got := r.Owners([]int{-5, 99}, key, tt.n); !slices.Equal(got, want) {
				t.Errorf("Owners([-5 99], key, %d) = %v; want %v", tt.n, got, want)
			}
		})
	}
}

// Owner takes other short cuts than Owners. They matter most where few members of
// much weight decide, and those not in the first block.
func TestOwnerIsFirstOfOwners(t *testing.T) {
	heavyLast := append(fleet(block, false), Member{"x", 1000}, Member{"y", 700}, Member{"z", 1000})
	tests := []struct {
		name    string
		members []Member
	}{
		{"heavy block last", heavyLast},
		{"three heavy, one light", lopsided(3)},
		{"two blocks and one", fleet(2*block+1, true)},
		{"hundred", fleet(100, true)},
	}
	keys := sessionIDs(20_000)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := mustNew(t, tt.members)
			dst := make([]int, 0, 1)
			for _, key := range keys {
				dst = r.Owners(dst[:0], key, 1)
				if got := r.Owner(key); got != dst[0] {
					t.Fatalf("Owner(%q) = %d; want %d", key, got, dst[0])
				}
			}
		})
	}
}

// Members that draw the same number at the same weight tie; so they do on every
// key if they have one seed. Its being the key's own hash makes all draws 0.
func TestTiesGoByName(t *testing.T) {
	const n = 3*block + 1
	key := []byte("ogpiwfmkhqvw1pqijyhwkbfr")
	tests := []struct {
		name string
		seed uint64
	}{
		{"some draw", 42},
		{"draw 0", xxhash.Sum64(key)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := new(Ring)
			want := []int{}
			for i := range n {
				r.nodes = append(r.nodes, node{seed: tt.seed, weight: 3})
				want = append(want, i)
			}
			if got := r.Owner(key); got != 0 {
				t.Errorf("Owner(%q) = %d; want 0", key, got)
			}
			if got := r.Owners(nil, key, n); !slices.Equal(got, want) {
				t.Errorf("Owners(%q, %d) = %v; want %v", key, n, got, want)
			}
		})
	}
}

func TestShare(t *testing.T) {
	r := mustNew(t, []Member{{"a", 1}, {"b", 5}, {"c", 2}})
	for i, want := range []float64{0.125, 0.625, 0.25} {
		if got := r.Share(i); got != want {
			t.Errorf("Share(%d) = %v; want %v", i, got, want)
		}
	}
}

func TestFingerprint(t *testing.T) {
	base := []Member{{"a", 1}, {"b", 2}}
	tests := []struct {
		name    string
		members []Member
		same    bool
	}{
		{"same", []Member{{"a", 1}, {"b", 2}}, true},
		{"other order", []Member{{"b", 2}, {"a", 1}}, true},
		{"other weight", []Member{{"a", 1}, {"b", 3}}, false},
		{"weights swapped", []Member{{"a", 2}, {"b", 1}}, false},
		{"other name", []Member{{"a", 1}, {"c", 2}}, false},
		{"one less", []Member{{"a", 1}}, false},
		{"names joined", []Member{{"ab", 1}}, false},
		{"none", nil, false},
	}
	want := mustNew(t, base).Fingerprint()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustNew(t, tt.members).Fingerprint(); (got == want) != tt.same {
				t.Errorf("Fingerprint() of %v = %x, of %v = %x; want same: %t", tt.members, got, base, want, tt.same)
			}
		})
	}
}

func TestMoved(t *testing.T) {
	tests := []struct {
		name string
		a, b []Member
		want float64
	}{
		{"both empty", nil, nil, 0},
		{"one empty", nil, fleet(3, true), 1},
		{"nothing shared", []Member{{"a", 1}, {"b", 2}}, []Member{{"c", 1}, {"d", 2}}, 1},
		{"same", fleet(7, true), fleet(7, true), 0},
		{"common factor", []Member{{"a", 1}, {"b", 3}}, []Member{{"a", 7}, {"b", 21}}, 0},
		{"fourth added", fleet(3, false), fleet(4, false), 1.0 / 4},
		{"heavy one leaves", []Member{{"a", 1}, {"b", 6}, {"c", 1}}, []Member{{"a", 1}, {"c", 1}}, 6.0 / 8},
		{"up from 1/3 to 3/5", []Member{{"a", 1}, {"b", 2}}, []Member{{"a", 3}, {"b", 2}}, 3.0/5 - 1.0/3},
		{"replaced", []Member{{"a", 1}, {"b", 1}}, []Member{{"a", 1}, {"c", 1}}, 2.0 / 3},
		{"weights swapped", []Member{{"a", 1}, {"b", 3}}, []Member{{"a", 3}, {"b", 1}}, 1.0 / 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := mustNew(t, tt.a), mustNew(t, tt.b)
			if got := Moved(a, b); math.Abs(got-tt.want) > 1e-15 {
				t.Errorf("Moved(%v, %v) = %v; want %v", tt.a, tt.b, got, tt.want)
			}
			if got := Moved(b, a); math.Abs(got-tt.want) > 1e-15 {
				t.Errorf("Moved(%v, %v) = %v; want %v", tt.b, tt.a, got, tt.want)
			}
		})
	}
}

func TestConcurrentUse(t *testing.T) {
	r := mustNew(t, fleet(20, true))
	keys := sessionIDs(200)
	want := make([]int, len(keys))
	for i, key := range keys {
		want[i] = r.Owner(key)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i, key := range keys {
				if got := r.Owner(key); got != want[i] {
					t.Errorf("Owner(%q) = %d; want %d", key, got, want[i])
				}
			}
		})
	}
	wg.Wait()
}

func TestAllocations(t *testing.T) {
	key := []byte("ogpiwfmkhqvw1pqijyhwkbfr")
	for _, n := range []int{5, 100} {
		r := mustNew(t, fleet(n, true))
		dst := make([]int, 0, n)
		tests := []struct {
			name string
			call func()
		}{
			{"Owner", func() { r.Owner(key) }},
			{"Owners 2", func() { dst = r.Owners(dst[:0], key, 2) }},
			{"Owners all", func() { dst = r.Owners(dst[:0], key, n) }},
		}
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s of %d", tt.name, n), func(t *testing.T) {
				if got := testing.AllocsPerRun(100, tt.call); got != 0 {
					t.Errorf("AllocsPerRun(%s) = %v; want 0", tt.name, got)
				}
			})
		}
	}
}

// counters returns n keys of 8 bytes that count up.
func counters(n int) [][]byte {
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = binary.BigEndian.AppendUint64(nil, uint64(i))
	}
	return keys
}
