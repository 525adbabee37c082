// Package access tells who may come in and how often: sets of networks, the
// header by which a load balancer names its client, and what each client address
// has used of its limits.
//
//	rule := access.Rule{Allow: access.NetworksOf(allow), Deny: access.NetworksOf(deny)}
//	client, known, err := access.ReadHeader(nc) // of a peer that must send one
//	if rule.Permits(client.Addr()) {
//		c, verdict := clients.Enter(client.Addr(), limits, time.Now())
//		defer clients.Leave(c, time.Now())
//	}
//
// What becomes of those who may not, and which settings are in force, is the
// caller's.
package access

import (
	"net/netip"
	"slices"
)

// Networks is a set of IP addresses. The zero value is empty. It does not change
// once it is made, so it is safe for concurrent use.
type Networks struct {
	ranges []span // sorted, none touching another
}

// span is the addresses from first to last, both of one family.
type span struct{ first, last netip.Addr }

// NetworksOf returns the set of all addresses in list. IPv4 networks that are
// written as IPv6 ones (::ffff:10.0.0.0/104) are taken as IPv4; prefixes that are
// not valid hold nothing.
func NetworksOf(list []netip.Prefix) Networks {
	var all []span
	for _, p := range list {
		if p = Unmap(p); p.IsValid() {
			all = append(all, span{p.Addr(), lastOf(p)})
		}
	}
	slices.SortFunc(all, func(a, b span) int { return a.first.Compare(b.first) })
	var merged []span
	for _, s := range all {
		if n := len(merged); n > 0 && s.first.Compare(merged[n-1].last) <= 0 {
			if s.last.Compare(merged[n-1].last) > 0 {
				merged[n-1].last = s.last
			}
			continue
		}
		merged = append(merged, s)
	}
	return Networks{merged}
}

// Unmap returns p with no bit set behind its prefix, and as an IPv4 network if
// it is one in IPv6 form. A prefix that holds more than IPv4 stays IPv6.
func Unmap(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// lastOf returns the last address of a masked prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(b); bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// Empty reports whether no address is in the set.
func (n Networks) Empty() bool { return len(n.ranges) == 0 }

// Contains reports whether a is in the set. An IPv4 address in IPv6 form is
// looked up as IPv4, and zones do not matter. An address that is not valid is in
// no set.
func (n Networks) Contains(a netip.Addr) bool {
	if len(n.ranges) == 0 || !a.IsValid() {
		return false
	}
	a = a.Unmap().WithZone("")
	i, exact := slices.BinarySearchFunc(n.ranges, a, func(s span, a netip.Addr) int { return s.first.Compare(a) })
	return exact || i > 0 && a.Compare(n.ranges[i-1].last) <= 0
}

// Rule says which addresses are let in. The zero value lets in all.
type Rule struct {
	Allow Networks // empty: everyone
	Deny  Networks // wins over Allow
}

// Permits reports whether a is let in. An address that is not valid, of a client
// that has none, is let in only where everyone is allowed.
func (r *Rule) Permits(a netip.Addr) bool {
	return (r.Allow.Empty() || r.Allow.Contains(a)) && !r.Deny.Contains(a)
}

// All reports whether everyone is let in.
func (r *Rule) All() bool { return r.Allow.Empty() && r.Deny.Empty() }
