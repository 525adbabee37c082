package access

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func TestNetworks(t *testing.T) {
	nets := NetworksOf(prefixes("10.0.0.0/8", "10.1.0.0/16", "192.168.1.7/32", "192.168.1.8/32", "10.255.255.9/8",
		"::ffff:172.16.0.0/108", "2001:db8::/32", "fe80::/10", "0.0.0.0/32"))
	tests := []struct {
		addr string
		want bool
	}{
		{"10.0.0.0", true}, {"10.255.255.255", true}, {"10.1.2.3", true}, {"9.255.255.255", false}, {"11.0.0.0", false},
		{"192.168.1.7", true}, {"192.168.1.8", true}, {"192.168.1.6", false}, {"192.168.1.9", false},
		{"::ffff:10.9.9.9", true}, {"::ffff:11.9.9.9", false},
		{"172.16.0.1", true}, {"172.31.255.255", true}, {"172.32.0.0", false},
		{"2001:db8::1", true}, {"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true}, {"2001:db9::", false}, {"2001:db7:ffff::", false},
		{"fe80::1%eth0", true}, {"fec0::1", false}, {"::1", false},
		{"0.0.0.0", true}, {"0.0.0.1", false}, {"::", false}, {"255.255.255.255", false},
	}
	for _, tt := range tests {
		if got := nets.Contains(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("Contains(%s) = %t; want %t", tt.addr, got, tt.want)
		}
	}
	if nets.Contains(netip.Addr{}) {
		t.Error("Contains(no address) = true; want false")
	}
	if (Networks{}).Contains(netip.MustParseAddr("10.0.0.1")) || !NetworksOf([]netip.Prefix{{}}).Empty() {
		t.Error("an empty set, or one of an invalid prefix, holds something")
	}
}

// TestNetworksLikePrefixes compares the set with a look at every prefix.
func TestNetworksLikePrefixes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few values, so that networks meet, overlap and touch.
		octet := rapid.SampledFrom([]byte{0, 1, 2, 127, 128, 254, 255})
		addr := rapid.Custom(func(t *rapid.T) netip.Addr {
			a := [4]byte{octet.Draw(t, "a"), octet.Draw(t, "b"), octet.Draw(t, "c"), octet.Draw(t, "d")}
			if rapid.Bool().Draw(t, "v6") {
				return netip.AddrFrom16([16]byte{0: 0x20, 1: a[0], 14: a[1], 15: a[2]})
			}
			return netip.AddrFrom4(a)
		})
		list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) netip.Prefix {
			a := addr.Draw(t, "addr")
			return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
		}), 0, 12).Draw(t, "list")
		nets := NetworksOf(list)
		for _, a := range rapid.SliceOfN(addr, 1, 20).Draw(t, "looked up") {
			want := false
			for _, p := range list {
				want = want || p.Contains(a)
			}
			if got := nets.Contains(a); got != want {
				t.Fatalf("NetworksOf(%v).Contains(%v) = %t; want %t", list, a, got, want)
			}
		}
	})
}

func TestRule(t *testing.T) {
	tests := []struct {
		name        string
		allow, deny []netip.Prefix
		addr        string
		want        bool
	}{
		{"nothing said", nil, nil, "10.0.0.1", true},
		{"allowed", prefixes("10.0.0.0/8"), nil, "10.0.0.1", true},
		{"not allowed", prefixes("10.0.0.0/8"), nil, "11.0.0.1", false},
		{"denied wins", prefixes("10.0.0.0/8"), prefixes("10.9.0.0/16"), "10.9.0.1", false},
		{"denied alone", nil, prefixes("10.9.0.0/16"), "10.9.0.1", false},
		{"not denied", nil, prefixes("10.9.0.0/16"), "10.8.0.1", true},
		{"everyone denied", nil, prefixes("0.0.0.0/0", "::/0"), "10.8.0.1", false},
		{"everyone of the other family", prefixes("::/0"), nil, "10.8.0.1", false},
		{"no address, nothing said", nil, nil, "", true},
		{"no address, some allowed", prefixes("0.0.0.0/0"), nil, "", false},
		{"no address, some denied", nil, prefixes("0.0.0.0/0"), "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rule := Rule{Allow: NetworksOf(tt.allow), Deny: NetworksOf(tt.deny)}
			var addr netip.Addr
			if tt.addr != "" {
				addr = netip.MustParseAddr(tt.addr)
			}
			if got := rule.Permits(addr); got != tt.want {
				t.Errorf("Permits(%v) = %t; want %t", addr, got, tt.want)
			}
			if got, want := rule.All(), len(tt.allow)+len(tt.deny) == 0; got != want {
				t.Errorf("All() = %t; want %t", got, want)
			}
		})
	}
}

func BenchmarkPermits(b *testing.B) {
	var deny []netip.Prefix
	for i := range 1000 {
		deny = append(deny, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(i / 256), byte(i), 0}), 24))
	}
	rule := Rule{Allow: NetworksOf(prefixes("10.0.0.0/8", "192.168.0.0/16")), Deny: NetworksOf(deny)}
	a := netip.MustParseAddr("10.1.2.3")
	b.ReportAllocs()
	for b.Loop() {
		if !rule.Permits(a) {
			b.Fatal("not let in")
		}
	}
}
