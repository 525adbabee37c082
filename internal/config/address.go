package config

import (
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

const (
	// defaultPort is that of the Microsoft server (protocol.md section 2).
	defaultPort = "42424"

	wantAddress  = "host:port such as 10.0.0.11:42424"
	wantListen   = "host:port such as 127.0.0.1:42424"
	wantBrackets = "an IPv6 address in brackets such as [::1]:42424"
	wantAdmin    = "an address such as 127.0.0.1:42480, or off"
	wantLoopback = "a loopback address such as 127.0.0.1:42480, or admin.token_file"
	wantHostName = "a host name without port such as proxy.example.com, and no IP address"
	wantPeer     = "a host name or an IP address such as central.example.com"
	wantHost     = "the host that the state server runs on such as 10.0.0.11:42424"
)

var (
	// hostLabel allows the underscore, which some Windows hosts have.
	hostLabel = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)
	zone      = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)
)

func address(to *string, want string, parse func(text string) (string, string)) setting {
	return scalar[string]{
		to: to, want: want, tag: "!!str", format: asIs,
		parse: func(n *yaml.Node) (string, string) { return parse(n.Value) },
	}
}

func listenAddress(to *string) setting {
	return address(to, wantListen, func(text string) (string, string) {
		host, port, want := splitAddress(text, wantListen)
		return net.JoinHostPort(host, port), want
	})
}

func backendAddress(to *string) setting {
	return address(to, wantAddress, func(text string) (string, string) {
		if _, _, err := net.SplitHostPort(text); err != nil {
			if _, _, err := net.SplitHostPort(text + ":" + defaultPort); err == nil {
				text += ":" + defaultPort
			}
		}
		host, port, want := splitAddress(text, wantAddress)
		if want == "" && port == "0" {
			want = wantAddress
		}
		if want == "" && anyHost(host) {
			want = wantHost
		}
		return net.JoinHostPort(host, port), want
	})
}

// serverName is a host name or an address without a port, or empty.
func serverName(to *string) setting {
	return address(to, wantPeer, func(text string) (string, string) {
		host, ok := parseHost(text)
		if !ok {
			return "", wantPeer
		}
		return host, ""
	})
}

func adminAddress(to *string) setting {
	s := address(to, wantAdmin, func(text string) (string, string) {
		if text == "" || text == "off" {
			return "", ""
		}
		host, port, want := splitAddress(text, wantAdmin)
		return net.JoinHostPort(host, port), want
	}).(scalar[string])
	s.format = func(a string) string {
		if a == "" {
			return "off"
		}
		return a
	}
	return s
}

func hostName(to *string) setting {
	return address(to, wantHostName, func(text string) (string, string) {
		host, ok := parseHost(text)
		if _, err := netip.ParseAddr(host); !ok || host == "" || err == nil {
			return "", wantHostName
		}
		return host, ""
	})
}

// splitAddress brings host:port to the one form in which two addresses can be
// compared. If it can't, it returns what it wants instead.
func splitAddress(text, want string) (host, port, wanted string) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		if strings.Count(text, ":") > 1 && !strings.HasPrefix(text, "[") {
			return "", "", wantBrackets
		}
		return "", "", want
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "", "", want + " with a port of 1..65535"
	}
	host, ok := parseHost(host)
	if !ok || strings.HasPrefix(text, "[") != strings.Contains(host, ":") {
		return "", "", want
	}
	return host, port, ""
}

// parseHost checks an IP address or a host name and brings it to one form. The
// empty host, which means any, is fine.
func parseHost(host string) (string, bool) {
	if host == "" {
		return "", true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String(), zone.MatchString(ip.Zone()) && !ip.Is4In6()
	}
	host = strings.ToLower(host)
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if !hostLabel.MatchString(label) {
			return "", false
		}
	}
	// A name that ends in a number is a mistyped IPv4 address such as 10.0.0.300.
	_, err := strconv.Atoi(labels[len(labels)-1])
	return host, err != nil && len(host) <= 253
}

// anyHost tells whether a listener on host takes every address of the machine.
func anyHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// sameHost takes localhost for both addresses that it usually stands for.
func sameHost(a, b string) bool {
	isLocal := func(host string) bool { return host == "127.0.0.1" || host == "::1" }
	return a == b || a == "localhost" && isLocal(b) || b == "localhost" && isLocal(a)
}

// collide tells whether two listeners can't both be had.
func collide(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	return portA == portB && portA != "0" && (sameHost(hostA, hostB) || anyHost(hostA) || anyHost(hostB))
}

// reaches tells whether a connection to the address to would arrive at the
// listener, as far as can be said without asking the network.
func reaches(to, listener string) bool {
	toHost, toPort, _ := net.SplitHostPort(to)
	host, port, _ := net.SplitHostPort(listener)
	return toPort == port && (sameHost(toHost, host) || anyHost(host) && loopback(toHost))
}
