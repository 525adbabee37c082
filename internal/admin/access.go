package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// guardHeaders go out with every answer; the page has its own policy.
var guardHeaders = [...][2]string{
	{"Cache-Control", "no-store"},
	{"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Referrer-Policy", "no-referrer"},
	{"X-Content-Type-Options", "nosniff"},
	{"X-Frame-Options", "DENY"},
}

// guard keeps web pages in an administrator's browser from reading and doing
// through it what is meant for him alone.
func (a *Admin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, h := range guardHeaders {
			w.Header().Set(h[0], h[1])
		}
		if !a.allowedHost(r.Host) {
			refuse(w, http.StatusMisdirectedRequest, "wrong_host", "This host name is not served here. Use localhost, the IP address, or a name in admin.hosts.")
			return
		}
		if isCrossSite(r) {
			refuse(w, http.StatusForbidden, "cross_site", "Requests of other sites' pages are refused.")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allowedHost reports whether a request may be addressed to hostport. A page can
// make its own host name resolve to loopback, but it can't take over an address,
// localhost or the names in Settings.Hosts.
func (a *Admin) allowedHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil { // no port
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	if host == "" { // HTTP/1.0 without a Host header, which no browser speaks
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.TrimSuffix(host, ".")
	same := func(name string) bool { return strings.EqualFold(name, host) }
	return same("localhost") || slices.ContainsFunc(a.config().Hosts, same)
}

// isCrossSite reports whether a browser sends the request for another site's
// page. To follow a link is no harm: that page can't read the answer.
func isCrossSite(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" && !strings.EqualFold(origin, "http://"+r.Host) && !strings.EqualFold(origin, "https://"+r.Host) {
		return true
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	follows := r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	return !follows || r.Method != http.MethodGet && r.Method != http.MethodHead
}

// right is what a request needs.
type right int

const (
	anyone  right = iota // health checks and the page, which tell nothing
	reading              // loopback, or the token
	acting               // the token, always
)

// permit returns next for those who have the right.
func (a *Admin) permit(need right, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if need == anyone || need == reading && isLoopback(r) {
			next(w, r)
			return
		}
		want := a.token()
		if want == "" {
			refuse(w, http.StatusForbidden, "no_token_configured", fmt.Sprintf("%s needs a token, and none is configured: set admin.token_file.", needText[need]))
			return
		}
		got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if ok && sameSecret(got, want) {
			next(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="stateproxy"`)
		if !ok {
			refuse(w, http.StatusUnauthorized, "token_needed", needText[need]+" needs the token: Authorization: Bearer TOKEN.")
			return
		}
		a.noteWrongToken(r)
		refuse(w, http.StatusUnauthorized, "wrong_token", "The token is not the right one.")
	}
}

var needText = map[right]string{
	reading: "Reading from another machine",
	acting:  "Acting",
}

// isLoopback reports whether the connection came in on loopback. What is not
// known to be is not.
func isLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	at, err := netip.ParseAddrPort(local.String())
	return err == nil && at.Addr().IsLoopback()
}

func (a *Admin) token() string {
	if a.Token == nil {
		return ""
	}
	return a.Token()
}

// sameSecret takes the same time wherever the two differ.
func sameSecret(got, want string) bool {
	g, w := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(g[:], w[:]) == 1
}

// wrongTokenEvery is the least time between two events of wrong tokens.
const wrongTokenEvery = time.Minute

// noteWrongToken tells of a wrong token, but not of each one.
func (a *Admin) noteWrongToken(r *http.Request) {
	now := time.Now()
	a.mu.Lock()
	tell := now.Sub(a.wrongToken) >= wrongTokenEvery
	if tell {
		a.wrongToken = now
	}
	a.mu.Unlock()
	if tell {
		a.Note(Event{Time: now, Level: Warn, Kind: TokenRefused, Text: "wrong token from " + clientOf(r)})
	}
}

// clientOf is the address that a request came from, without the port.
func clientOf(r *http.Request) string {
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return at.Addr().Unmap().String()
	}
	return "an unknown address"
}
