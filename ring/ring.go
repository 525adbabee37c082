// Package ring ranks backends for a session ID by weighted rendezvous hashing.
//
// A Ring is built once from names and weights and never changes, so any number
// of goroutines may read it without a lock:
//
//	r, err := ring.New([]ring.Member{{Name: "s1", Weight: 1}, {Name: "s2", Weight: 2}})
//	if err != nil {
//		return err
//	}
//	owner := r.Members()[r.Owner(sessionID)].Name
//
// The ranking is a pure function of the key and of the set of (name, weight).
// The order of the members, the processor and the release play no part: all of
// routing is integer arithmetic, and a test holds it to recorded owners.
//
// # Method
//
// Each member draws, for each key, a number u in (0, 1] from a hash of its name
// and the key, and scores -ln(u)/weight; the lowest score owns the key, the next
// one is the successor, and so on. The scores are independent exponential
// variables with the weights as rates, so a member owns exactly its weight's
// share of the keys, and a score depends on nothing but that member and that
// key: whatever is done to one member, keys move only to it or away from it.
//
// D. G. Thaler and C. V. Ravishankar, "Using name-based mappings to increase hit
// rates", IEEE/ACM Transactions on Networking 6(1), 1998, describe rendezvous
// hashing; C. Schindelhauer and G. Schomaker, "Weighted distributed hash tables",
// SPAA 2005, the logarithmic weights.
//
// Which members are healthy, and where they listen, is the caller's affair: it
// builds another Ring when the set changes, and compares the two by Moved.
package ring

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

const (
	// MaxWeight is the largest weight of a member; the smallest is 1.
	MaxWeight = 1000

	// MaxName is the length of the longest name of a member, in bytes.
	MaxName = 255
)

// scheme names the routing function. Whatever changes an owner changes it too,
// so that proxies of differing releases see that they route differently.
const scheme = "stateproxy ring 1"

// A Member is a backend as the ring sees it.
type Member struct {
	Name   string // identity: 1 to MaxName bytes, unique in its ring
	Weight int    // share of the keys relative to the other members, 1 to MaxWeight
}

// A Ring ranks its members for each key. It is immutable and safe for concurrent
// use. The zero Ring has no members.
type Ring struct {
	members []Member // sorted by name
	nodes   []node   // what routing needs of members, same indexes
	total   uint64   // sum of the weights
}

// node is a member on the routing path.
type node struct {
	seed   uint64 // hash of the name
	weight uint64
}

// New returns the ring of members, whose order does not matter. It keeps no
// reference to the slice, which may be empty. The error names the first member
// whose name is empty, too long or taken, or whose weight is out of range.
func New(members []Member) (*Ring, error) {
	r := &Ring{members: slices.Clone(members)}
	slices.SortFunc(r.members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	r.nodes = make([]node, len(r.members))
	names := make(map[uint64]string, len(r.members))
	for i, m := range r.members {
		if err := m.check(); err != nil {
			return nil, err
		}
		n := node{seed: seedOf(m.Name), weight: uint64(m.Weight)}
		if other, taken := names[n.seed]; taken {
			return nil, clash(other, m.Name)
		}
		names[n.seed] = m.Name
		r.nodes[i] = n
		r.total += n.weight
	}
	return r, nil
}

func (m Member) check() error {
	switch {
	case m.Name == "":
		return fmt.Errorf("ring: empty name of a member with weight %d", m.Weight)
	case len(m.Name) > MaxName:
		return fmt.Errorf("ring: name %.32q… has %d bytes, want at most %d", m.Name, len(m.Name), MaxName)
	case m.Weight < 1 || m.Weight > MaxWeight:
		return fmt.Errorf("ring: member %q: weight %d, want 1..%d", m.Name, m.Weight, MaxWeight)
	}
	return nil
}

// clash explains why two members cannot be told apart. Different names with one
// hash would draw the same numbers, and one of the two would starve; chance
// alone brings that about once in 2^64 pairs.
func clash(a, b string) error {
	if a == b {
		return fmt.Errorf("ring: duplicate name %q", a)
	}
	return fmt.Errorf("ring: names %q and %q have the same hash, rename one", a, b)
}

// seedOf spreads the hash of a name, so that a key that equals the name does
// not meet its own hash.
func seedOf(name string) uint64 {
	return mix(xxhash.Sum64String(name) + 0x9e3779b97f4a7c15)
}

// Members returns the members sorted by name. The caller must not modify it.
func (r *Ring) Members() []Member { return r.members }

// block is how many members Owner looks at in one go.
const block = 16

// Owner returns the index in Members of the owner of key, -1 if there are no
// members. It does not allocate.
func (r *Ring) Owner(key []byte) int {
	h := xxhash.Sum64(key)
	best := last
	for start := 0; start < len(r.nodes); start += block {
		best = r.lowest(h, best, start)
	}
	return best.index
}

// lowest returns the lowest of best and the scores of the block of members at
// start.
//
// A cost is never below its draw, so draws alone rule out most members without a
// logarithm. The member with the lowest ratio of draw to weight nearly always has
// the lowest score too; trying it first makes the rest fail in a loop whose
// branches are easily predicted.
func (r *Ring) lowest(h uint64, best score, start int) score {
	var draws [block]uint64
	nodes := r.nodes[start:min(start+block, len(r.nodes))]
	first, ratio := -1, best // the cost of ratio is a draw
	for i := range nodes {
		u, weight := draw(h, nodes[i].seed), nodes[i].weight
		draws[i%block] = u
		if u*ratio.weight < ratio.cost*weight {
			first, ratio.cost, ratio.weight = i, u, weight
		}
	}
	if first < 0 {
		return best
	}
	best = lower(best, score{cost(ratio.cost), ratio.weight, start + first})
	for i := range nodes {
		u, weight := draws[i%block], nodes[i].weight
		if i != first && u*best.weight <= best.cost*weight {
			best = lower(best, score{cost(u), weight, start + i})
		}
	}
	return best
}

// Owners appends to dst the indexes in Members of the first n members ranked for
// key, the owner first, the successor next; all of them if there are fewer than
// n. It does not allocate if dst has room. Of two members with the same score
// the one earlier in Members comes first.
func (r *Ring) Owners(dst []int, key []byte, n int) []int {
	n = min(n, len(r.nodes))
	if n <= 0 {
		return dst
	}
	h := xxhash.Sum64(key)
	start := len(dst)
	worst := last // the n-th score so far
	for i := range r.nodes {
		node := &r.nodes[i]
		u := draw(h, node.seed)
		if u*worst.weight >= worst.cost*node.weight { // as in lowest
			continue
		}
		s := score{cost(u), node.weight, i}
		if !s.less(worst) {
			continue
		}
		if len(dst)-start < n {
			dst = append(dst, i)
		}
		r.insert(dst[start:], h, s)
		if len(dst)-start == n {
			worst = r.score(h, dst[len(dst)-1])
		}
	}
	return dst
}

// insert puts the member with score s in its place among the ranked, pushing out
// the last one. Scores are computed again rather than stored: few are needed, and
// it saves a buffer of the size of the ring.
func (r *Ring) insert(ranked []int, h uint64, s score) {
	j := len(ranked) - 1
	for j > 0 && s.less(r.score(h, ranked[j-1])) {
		ranked[j] = ranked[j-1]
		j--
	}
	ranked[j] = s.index
}

// score returns the score of member i for a key with hash h.
func (r *Ring) score(h uint64, i int) score {
	n := &r.nodes[i]
	return score{cost(draw(h, n.seed)), n.weight, i}
}

// Share returns the share of all keys, 0 to 1, that member i of Members owns in
// expectation: its weight over the sum of the weights.
func (r *Ring) Share(i int) float64 {
	return float64(r.nodes[i].weight) / float64(r.total)
}

// Fingerprint returns a hash of the routing scheme and of all names and weights.
// Rings with the same fingerprint give every key the same owner. Rings whose
// weights differ by a common factor route alike too, but have fingerprints of
// their own.
func (r *Ring) Fingerprint() uint64 {
	b := []byte(scheme)
	for _, m := range r.members {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(m.Name)))
		b = append(b, m.Name...)
		b = binary.LittleEndian.AppendUint64(b, uint64(m.Weight))
	}
	return xxhash.Sum64(b)
}

// Moved returns the share of all keys, 0 to 1, whose owner in a has another name
// than their owner in b, in expectation. Two rings without members agree; a ring
// without members shares no owner with one that has some.
//
// A member owns a key in both rings if its draw beats each other member's by the
// larger of the two ratios of weights, so with weights a and b (0 if absent) the
// probability is 1 / Σ_j max(a_j/a_i, b_j/b_i); the difference from 1 of the sum
// of these over all i is what moves.
func Moved(a, b *Ring) float64 {
	if slices.Equal(a.members, b.members) {
		return 0
	}
	pairs := join(a.members, b.members)
	kept := 0.0
	for _, i := range pairs {
		if i.a == 0 || i.b == 0 {
			continue
		}
		var sum int64 // only the division below rounds
		for _, j := range pairs {
			sum += max(j.a*i.b, j.b*i.a)
		}
		kept += float64(i.a*i.b) / float64(sum)
	}
	return max(0, 1-kept)
}

// pair holds the weights of one name in two rings, 0 where it is absent.
type pair struct{ a, b int64 }

// join merges two lists sorted by name.
func join(a, b []Member) []pair {
	pairs := make([]pair, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		var p pair
		order := compareHeads(a, b)
		if order <= 0 {
			p.a, a = int64(a[0].Weight), a[1:]
		}
		if order >= 0 {
			p.b, b = int64(b[0].Weight), b[1:]
		}
		pairs = append(pairs, p)
	}
	return pairs
}

// compareHeads compares the first names of two lists, an empty list last.
func compareHeads(a, b []Member) int {
	switch {
	case len(b) == 0:
		return -1
	case len(a) == 0:
		return +1
	}
	return strings.Compare(a[0].Name, b[0].Name)
}
