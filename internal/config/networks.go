package config

import (
	"fmt"
	"net/netip"

	"gopkg.in/yaml.v3"
)

const (
	wantNetwork = "a network or an address such as 10.0.0.0/8 or 192.168.1.7"
	wantAllowed = "at least one network or address; without the key everyone may come in"
	// maxNetworks bounds each list.
	maxNetworks = 10000
)

// networkKeys are the keys of Networks.
func networkKeys(n *Networks) section {
	return section{
		{key: "allow", setting: networks(&n.Allow, wantAllowed)},
		{key: "deny", setting: networks(&n.Deny, "")},
	}
}

func networks(to *[]netip.Prefix, want string) setting {
	return optionalList[netip.Prefix]{list[netip.Prefix]{to: to, item: network, want: want, most: maxNetworks}}
}

func network(to *netip.Prefix) setting {
	return scalar[netip.Prefix]{
		to: to, want: wantNetwork, tag: "!!str", format: formatNetwork,
		parse: func(n *yaml.Node) (netip.Prefix, string) { return parseNetwork(n.Value) },
	}
}

// parseNetwork takes an address as the network of it alone. IPv4 in IPv6 form
// becomes IPv4.
func parseNetwork(text string) (p netip.Prefix, want string) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), ""
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, wantNetwork
	}
	if p.Masked() != p {
		return netip.Prefix{}, fmt.Sprintf("%s, or an address without /%d", p.Masked(), p.Bits())
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, ""
}

// formatNetwork prints the network of a single address as that.
func formatNetwork(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func accessSchema(r *AccessRule) setting {
	const patterns = "at least one pattern such as /LM/W3SVC/2/*"
	return append(section{
		{key: "applications", need: patterns, setting: list[string]{to: &r.Applications, item: pattern, want: patterns}},
	}, networkKeys(&r.Networks)...)
}

// checkAccess reports patterns that are never reached.
func checkAccess(c *Config, d *decoder) {
	patterns := uniques{}
	for i, r := range c.Access {
		for j, p := range r.Applications {
			patterns.addPattern(d, p, fmt.Sprintf("access[%d].applications[%d]", i, j))
		}
	}
}
