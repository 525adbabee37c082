package ring

import (
	"slices"
	"strings"
)

// A Flow is the share of all keys, 0 to 1, that From owns in one ring and To in
// another. An empty name stands for a ring without members.
type Flow struct {
	From, To string
	Share    float64
}

// Flows returns what moves if b takes the place of a, in expectation: one Flow
// for each pair of members that keys pass between, sorted by From, then by To.
// Their shares add up to Moved(a, b). Rings that agree give nil.
//
// Let member k draw the cost E_k, so that it scores E_k/a_k in a and E_k/b_k in b
// (infinite where its weight is 0, which is where it is absent), and let i own a
// key in a by the score x and j in b by the score t·x. The two facts agree if t is
// between a_j/b_j and a_i/b_i, and any other member then has E_k above both a_k·x
// and b_k·t·x. Integrating the costs' density over x leaves
//
//	P(i to j) = a_i·b_j · ∫ dt / S(t)², S(t) = Σ_k max(a_k, b_k·t),
//
// and as S is linear between two ratios a_k/b_k, a piece of the integral is its
// length over the product of S at both of its ends.
func Flows(a, b *Ring) []Flow {
	switch {
	case slices.Equal(a.members, b.members):
		return nil
	case len(a.members) == 0:
		return allOf(b, func(name string) Flow { return Flow{To: name} })
	case len(b.members) == 0:
		return allOf(a, func(name string) Flow { return Flow{From: name} })
	}
	var flows []Flow
	exchanges := exchangesOf(a, b)
	for _, i := range exchanges {
		for _, j := range exchanges {
			if i.a*j.b > j.a*i.b { // i loses weight against j
				share := float64(i.a*j.b) * (i.integral - j.integral)
				flows = append(flows, Flow{i.name, j.name, max(0, share)})
			}
		}
	}
	return flows
}

// allOf returns a flow of each member's share of r.
func allOf(r *Ring, of func(name string) Flow) (flows []Flow) {
	for i, m := range r.members {
		f := of(m.Name)
		f.Share = r.Share(i)
		flows = append(flows, f)
	}
	return flows
}

// exchange is a name in two rings, as Flows sees it.
type exchange struct {
	pair
	name     string
	integral float64 // of 1/S² from 0 to a/b
}

// exchangesOf returns the exchanges of two rings that have members, sorted by
// name.
func exchangesOf(a, b *Ring) []exchange {
	names := make([]string, 0, len(a.members)+len(b.members))
	for _, m := range slices.Concat(a.members, b.members) {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	list := make([]exchange, len(names))
	for i, p := range join(a.members, b.members) {
		list[i] = exchange{pair: p, name: names[i]}
	}
	slices.SortFunc(list, func(i, j exchange) int { // by a/b, infinity last
		return int(min(1, max(-1, i.a*j.b-j.a*i.b)))
	})
	integrate(list, float64(a.total), float64(b.total))
	slices.SortFunc(list, func(i, j exchange) int { return strings.Compare(i.name, j.name) })
	return list
}

// integrate sets the integrals of a list sorted by a/b, of rings with the given
// sums of weights.
func integrate(list []exchange, a, b float64) {
	at, sum, total := 0.0, a, 0.0 // t, S(t) and the integral up to t
	constant, slope := a, 0.0     // of S beyond t
	for i := range list {
		e := &list[i]
		if e.b == 0 { // from here on S has all of b as its slope
			e.integral = total + 1/(b*sum)
			continue
		}
		t := float64(e.a) / float64(e.b)
		next := constant + slope*t
		total += (t - at) / (sum * next)
		at, sum = t, next
		e.integral = total
		constant -= float64(e.a)
		slope += float64(e.b)
	}
}
