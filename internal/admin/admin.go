// Package admin shows what the proxy does: metrics for Prometheus, health
// endpoints for load balancers and the status as JSON.
//
//	a := &admin.Admin{Version: "1.2.0", Proxy: p.Status, Health: checker.Status}
//	p.Done = a.Observe                              // counts every request
//	a.Loaded(admin.Reload{At: time.Now(), OK: true}) // after each load of the config
//	go a.Serve(ln)
//	a.Drain()                                       // /readyz says no from here on
//
// It reads snapshots and counts outcomes, and changes nothing. Which address to
// listen on is left to the caller; there is no password, so it should be loopback.
//
// Of an Outcome it keeps numbers only, by operation, status, reason and backend,
// so that nothing a client has chosen, such as an application's name, is shown.
package admin

import (
	"context"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/health"
	"stateproxy/proxy"
)

// Admin counts requests and serves the endpoints. Its fields are set before
// first use; the zero value works and shows an empty proxy that is not ready.
// All methods are safe for concurrent use. An Admin must not be copied.
type Admin struct {
	Version string // of the program; "" is shown as unknown
	Commit  string // that it was built from; "" is shown as unknown
	File    string // of the config; "" if there is none

	// Proxy and Health return the present state; nil means that there is none.
	// They are called for each request to /metrics, /readyz and the status.
	Proxy  func() proxy.Status
	Health func() []health.Status

	// MinUp is the share, 0 to 1, of the configured backends that must be up for
	// /readyz to agree, besides one in each pool. Draining ones do not count.
	MinUp float64

	// Hosts are the names, without port, that requests may be addressed to.
	// Always allowed are localhost and IP addresses.
	Hosts []string

	// ErrorLog is told of broken connections and panics; nil means the standard
	// logger, as in http.Server.
	ErrorLog *log.Logger

	counts   counts
	draining atomic.Bool

	mu    sync.Mutex
	loads loads // guarded by mu
}

// Reload is the outcome of loading the config.
type Reload struct {
	At      time.Time
	OK      bool     // it is in force now
	Error   string   // why it was refused, for people, may have several lines; "" if OK
	Changes []string // lines for people; none on the first load
	Moved   float64  // largest share of a pool's sessions whose owner is another now, 0 to 1
}

// loads is what is known of the config.
type loads struct {
	first, inForce time.Time // first load that was OK; the last one
	ok, refused    int64     // after the first
	last           Reload    // zero before the first
}

// Loaded takes the outcome of a load of the config: the first one, and each
// reload. The first that is OK does not count as a reload; the uptime begins
// with it.
func (a *Admin) Loaded(r Reload) {
	r.Changes = slices.Clone(r.Changes)
	a.mu.Lock()
	defer a.mu.Unlock()
	l := &a.loads
	l.last = r
	switch {
	case !r.OK:
		l.refused++
		return
	case l.first.IsZero():
		l.first = r.At
	default:
		l.ok++
	}
	l.inForce = r.At
}

// Drain makes /readyz say no for good, so that load balancers send no more.
func (a *Admin) Drain() { a.draining.Store(true) }

// Handler returns the endpoints: /healthz, /readyz, /metrics, /api/v1/status
// and, the same, /api/status. They answer GET and HEAD only.
func (a *Admin) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", serveHealth)
	mux.HandleFunc("GET /readyz", a.serveReady)
	mux.Handle("GET /metrics", a.metrics())
	mux.HandleFunc("GET /api/status", a.serveStatus)
	mux.HandleFunc("GET /api/v1/status", a.serveStatus)
	return a.guard(mux)
}

// Bounds of the HTTP server.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = time.Minute
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	closeTimeout      = 2 * time.Second // for requests under way when the listener closes
)

// Serve answers requests on ln until that is closed, by whoever has opened it,
// and returns the listener's error: one that is net.ErrClosed. Requests under
// way get two seconds to finish, then their connections are closed. It may run
// for several listeners at once.
func (a *Admin) Serve(ln net.Listener) error {
	s := &http.Server{
		Handler:           a.Handler(),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          a.ErrorLog,
	}
	err := s.Serve(ln)
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.Shutdown(ctx) != nil {
		s.Close()
	}
	return err
}

// guardHeaders go out with every answer.
var guardHeaders = [...][2]string{
	{"Cache-Control", "no-store"},
	{"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Referrer-Policy", "no-referrer"},
	{"X-Content-Type-Options", "nosniff"},
	{"X-Frame-Options", "DENY"},
}

// guard keeps web pages in an administrator's browser from reading through it
// what is meant for him alone.
func (a *Admin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, h := range guardHeaders {
			w.Header().Set(h[0], h[1])
		}
		if !a.allowedHost(r.Host) {
			http.Error(w, "This host name is not served here. Use localhost or the IP address.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allowedHost reports whether a request may be addressed to hostport. A page can
// make its own host name resolve to loopback, but it can't take over an address,
// localhost or the names in Hosts.
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
	return same("localhost") || slices.ContainsFunc(a.Hosts, same)
}

// serveHealth says that the process lives.
func serveHealth(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "ok\n")
}

// writeText sends a plain answer. An error would be the client's, who is gone.
func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}
