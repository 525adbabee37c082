package config

import (
	"fmt"
	"net"
	"slices"
	"strings"
)

// check applies the rules that join several settings. A rule is left out where
// a setting that it needs was already refused.
func check(c *Config, d *decoder) {
	checkBackends(c, d)
	checkListeners(c, d)
	checkPools(c, d)
	checkUnclaimed(c, d)
	checkApplications(c, d)
	checkAccess(c, d)

	checkAdmin(c, d)
	checkBackendTLS(c, d)

	h, t, l := &c.Health, &c.Timeouts, &c.Limits
	checkLess(d, "timeouts.dial", t.Dial, "timeouts.budget", t.Budget, formatDuration)
	checkLess(d, "limits.backend_wait", l.BackendWait, "timeouts.budget", t.Budget, formatDuration)
	checkAtMost(d, "health.timeout", h.Timeout, "health.interval", h.Interval, formatDuration)
	checkAtMost(d, "health.hold_down", h.HoldDown, "health.max_hold_down", h.MaxHoldDown, formatDuration)
	checkAtMost(d, "limits.buffer", l.Buffer, "limits.body", l.Body, formatSize)
}

// checkAdmin keeps the admin listener on loopback while it has no token.
func checkAdmin(c *Config, d *decoder) {
	host, _, err := net.SplitHostPort(c.Admin.Listen)
	if err == nil && d.ok("admin.listen") && !loopback(host) && c.Admin.TokenFile == "" {
		d.rejectKey("admin.listen", "want %s, got %q", wantLoopback, c.Admin.Listen)
	}
}

// checkBackendTLS wants what only makes sense together.
func checkBackendTLS(c *Config, d *decoder) {
	t := &c.BackendTLS
	const certKey, keyKey = "backend_tls.cert_file", "backend_tls.key_file"
	if d.ok(certKey, keyKey) && (t.CertFile == "") != (t.KeyFile == "") {
		given, missing := certKey, keyKey
		if t.CertFile == "" {
			given, missing = keyKey, certKey
		}
		d.rejectKey(given, "want %s beside it, got none", missing)
	}
	for i, b := range c.Backends {
		if d.ok(backendKey(i, "tls")) && b.ServerName != "" && !b.TLS {
			d.rejectKey(backendKey(i, "server_name"), "want tls: true beside it, for it is the name in the backend's certificate")
		}
	}
}

const wantActive = "want at least one with state active, got drain for all"

func checkBackends(c *Config, d *decoder) {
	names, addresses := uniques{}, uniques{}
	active := false
	for i, b := range c.Backends {
		names.add(d, b.Name, backendKey(i, "name"))
		addresses.add(d, b.Address, backendKey(i, "address"))
		active = active || b.State == Active
	}
	if len(c.Backends) > 0 && !active {
		d.rejectKey("backends", wantActive)
	}
}

func backendKey(i int, key string) string { return fmt.Sprintf("backends[%d].%s", i, key) }

// uniques maps a value to the key that had it first.
type uniques map[string]string

func (u uniques) add(d *decoder, value, key string) {
	if value == "" { // missing or refused
		return
	}
	if first, ok := u[value]; ok {
		d.rejectKey(key, "want another than %s, got %q", first, value)
		return
	}
	u[value] = key
}

const (
	wantOther  = "want another than %s, which is %s, got %s"
	wantServer = "want a state server, not the proxy itself, whose %s is %s, got %s"
)

func checkListeners(c *Config, d *decoder) {
	for i, l := range c.Listen {
		key := listenKey(d, i)
		if l.Address == "" || !d.ok(key) {
			continue
		}
		for j, other := range c.Listen[:i] {
			if other.Address != "" && d.ok(listenKey(d, j)) && collide(l.Address, other.Address) {
				d.rejectKey(key, wantOther, listenKey(d, j), other.Address, l.Address)
				break
			}
		}
		if d.ok("admin.listen") && c.Admin.Listen != "" && collide(l.Address, c.Admin.Listen) {
			d.rejectPair("admin.listen", key, wantOther, key, l.Address, c.Admin.Listen)
		}
	}
	for i, b := range c.Backends {
		if b.Address != "" {
			checkLoop(c, d, b.Address, backendKey(i, "address"))
		}
	}
}

// listenKey is the key of one listener's address, which may be given with keys
// around it, without, without a list, or not at all.
func listenKey(d *decoder, i int) string {
	item := fmt.Sprintf("listen[%d]", i)
	for _, key := range []string{item + ".address", item} {
		if _, ok := d.at[key]; ok {
			return key
		}
	}
	return "listen"
}

func checkLoop(c *Config, d *decoder, address, key string) {
	for i, l := range c.Listen {
		if l.Address != "" && d.ok(listenKey(d, i)) && reaches(address, l.Address) {
			d.rejectKey(key, wantServer, listenKey(d, i), l.Address, address)
			return
		}
	}
	if d.ok("admin.listen") && c.Admin.Listen != "" && reaches(address, c.Admin.Listen) {
		d.rejectKey(key, wantServer, "admin.listen", c.Admin.Listen, address)
	}
}

func checkPools(c *Config, d *decoder) {
	states := map[string]State{}
	for _, b := range c.Backends {
		states[b.Name] = b.State
	}
	_, unnamed := states[""] // refused, so a pool may well mean it
	names, patterns := uniques{}, uniques{}
	for i, p := range c.Pools {
		key := fmt.Sprintf("pools[%d]", i)
		names.add(d, p.Name, key+".name")
		for j, pattern := range p.Applications {
			patterns.addPattern(d, pattern, fmt.Sprintf("%s.applications[%d]", key, j))
		}
		if d.ok("backends") && !unnamed {
			checkMembers(d, p, states, key+".backends")
		}
	}
}

// addPattern reports a pattern that is never reached, since an earlier one is
// the same or takes everything.
func (u uniques) addPattern(d *decoder, pattern, key string) {
	pattern = strings.ToLower(pattern)
	if takesAll(pattern) {
		pattern = "*"
	}
	first, ok := u[pattern]
	if !ok {
		first, ok = u["*"]
	}
	if ok && pattern != "" {
		d.rejectKey(key, "never reached, since %s comes first and takes the same applications", first)
		return
	}
	u[pattern] = key
}

func takesAll(pattern string) bool {
	return pattern != "" && strings.Trim(pattern, "*") == ""
}

func checkMembers(d *decoder, p Pool, states map[string]State, key string) {
	members := uniques{}
	active := false
	for i, name := range p.Backends {
		memberKey := fmt.Sprintf("%s[%d]", key, i)
		members.add(d, name, memberKey)
		state, known := states[name]
		if name != "" && !known {
			d.rejectKey(memberKey, "want the name of a backend, got %q", name)
		}
		active = active || state != Drain
	}
	if len(p.Backends) > 0 && !active {
		d.rejectKey(key, wantActive)
	}
}

// checkUnclaimed wants some backend for the applications that match no pool.
func checkUnclaimed(c *Config, d *decoder) {
	if len(c.Pools) == 0 || !d.okBelow("pools") || !d.okBelow("backends") {
		return
	}
	named := map[string]bool{}
	for _, p := range c.Pools {
		if slices.ContainsFunc(p.Applications, takesAll) {
			return
		}
		for _, name := range p.Backends {
			named[name] = true
		}
	}
	if !slices.ContainsFunc(c.Backends, func(b Backend) bool { return !named[b.Name] }) {
		d.rejectKey("pools", "want a backend that no pool names, or a last pool with the pattern \"*\", "+
			"got none for applications that match no pool")
	}
}

// number is what durations and sizes have in common.
type number interface{ ~int64 }

func checkLess[T number](d *decoder, key string, v T, limitKey string, limit T, format func(T) string) {
	if d.ok(key, limitKey) && v >= limit {
		d.rejectPair(key, limitKey, "want less than %s, which is %s, got %s", limitKey, format(limit), format(v))
	}
}

func checkAtMost[T number](d *decoder, key string, v T, limitKey string, limit T, format func(T) string) {
	if d.ok(key, limitKey) && v > limit {
		d.rejectPair(key, limitKey, "want at most %s, which is %s, got %s", limitKey, format(limit), format(v))
	}
}
