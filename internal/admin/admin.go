// Package admin shows what the proxy does and lets operators act: metrics for
// Prometheus, health endpoints for load balancers, an API in JSON and a dashboard.
//
//	a := &admin.Admin{Version: "1.2.0", Proxy: p.Status, Health: checker.Status}
//	p.Done = a.Observe                               // counts every request
//	a.Loaded(admin.Reload{At: time.Now(), OK: true}) // after each load of the config
//	go a.Run(ctx)                                    // history, findings, live stream
//	go a.Serve(ln)
//	a.Note(admin.Event{Kind: admin.BackendEjected, Backend: "s1", Text: "refused"})
//	a.Drain()                                        // /readyz says no from here on
//
// It reads snapshots and counts outcomes, and changes nothing but by the funcs in
// Actions. To act takes the token; to read takes it, too, for requests that do
// not come in on loopback. Which address to listen on is left to the caller.
//
// Of an Outcome it keeps numbers only, by operation, status, reason and backend,
// so that nothing a client has chosen, such as an application's name, is shown,
// but for the live request log, which is kept nowhere.
package admin

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
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
	PID     int    // of the process; 0 is not shown
	File    string // of the config; "" if there is none

	// Proxy and Health return the present state; nil means that there is none.
	// They are called for each request to /metrics, /readyz and the status.
	Proxy  func() proxy.Status
	Health func() []health.Status

	// Token returns what those who act must know; "" or a nil func turns acting
	// off, and reading from other machines. It is called for each such request.
	Token func() string
	// Actions are what they can do.
	Actions Actions
	// Acted is told of each action that was asked for, from which address, and why
	// it was not done if it was not; nil is fine. Its texts hold no session ID.
	Acted func(what, from string, err error)
	// Config returns the config in force as YAML, without secrets; nil means that
	// it is not shown.
	Config func() string
	// LogLevel returns the present one of LogLevels; nil means that it is unknown.
	LogLevel func() string
	// Findings returns what others have found, to be shown with an Admin's own; nil
	// means nothing. It is called as Proxy is.
	Findings func() []Finding

	// OnFinding, which may be nil, is told when a finding begins and when it is
	// over, of which there is no text any more; within about a second, one at a
	// time. It is not told of findings that the caller itself is the first to know
	// of: backends that go out of service or drain, a refused config, routing to
	// come.
	OnFinding func(f Finding, began bool)

	// Certificates returns those in force, by listener; nil means that there are
	// none. It is called as Proxy is.
	Certificates func() []Certificate

	// XRay tells of sessions; nil means that nothing is known of them.
	XRay XRay

	// ErrorLog is told of broken connections and panics; nil means the standard
	// logger, as in http.Server.
	ErrorLog *log.Logger

	settings atomic.Pointer[Settings] // nil: the zero value
	counts   counts
	tails    tails
	feed     feed
	history  history
	draining atomic.Bool

	mu         sync.Mutex // guards what follows
	loads      loads
	firstSeen  map[findingKey]time.Time // of the findings that there are; replaced, never changed
	wellSince  time.Time                // zero while there is a finding that matters
	wrongToken time.Time                // of the last event that told of one
}

// Settings is what Configure can change.
type Settings struct {
	// MinUp is the share, 0 to 1, of the configured backends that must be up for
	// /readyz to agree, besides one in each pool. Draining ones do not count.
	MinUp float64
	// Hosts are the names, without port, that requests may be addressed to.
	// Always allowed are localhost and IP addresses.
	Hosts []string
}

// Configure makes s the settings in force; without it they are the zero value.
func (a *Admin) Configure(s Settings) { a.settings.Store(&s) }

func (a *Admin) config() Settings {
	if s := a.settings.Load(); s != nil {
		return *s
	}
	return Settings{}
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
	refusedSince   time.Time // first refusal since a load was OK
	recent         []Reload  // up to maxLoads, the oldest first
}

// Loaded takes the outcome of a load of the config: the first one, and each
// reload. The first that is OK does not count as a reload; the uptime begins
// with it.
func (a *Admin) Loaded(r Reload) {
	r.Changes = slices.Clone(r.Changes[:min(len(r.Changes), maxChanges)])
	r.Error = clip(r.Error)
	a.Note(a.take(r))
}

// take keeps the outcome of a load and returns what there is to note.
func (a *Admin) take(r Reload) Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := &a.loads
	l.last = r
	l.recent = push(l.recent, r, maxLoads)
	if !r.OK {
		if l.refused++; l.refusedSince.IsZero() {
			l.refusedSince = r.At
		}
		return Event{Time: r.At, Level: Error, Kind: ConfigRefused, Text: "the old one stays in force:\n" + r.Error}
	}
	l.inForce, l.refusedSince = r.At, time.Time{}
	if l.first.IsZero() {
		l.first = r.At
		return Event{Time: r.At, Kind: ConfigLoaded, Text: "the first config is in force"}
	}
	l.ok++
	text := strings.Join(r.Changes, "\n")
	if r.Moved > 0 {
		text += fmt.Sprintf("\n%.1f%% of sessions get another owner", r.Moved*100)
	}
	return Event{Time: r.At, Kind: ConfigReloaded, Text: strings.TrimSpace(text)}
}

// Drain makes /readyz say no for good, so that load balancers send no more.
func (a *Admin) Drain() {
	if !a.draining.Swap(true) {
		a.Note(Event{Level: Warn, Kind: Draining, Text: "the proxy is about to stop"})
	}
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
// and returns the listener's error: one that is net.ErrClosed. Streams end at
// once; other requests under way get two seconds to finish, then their
// connections are closed. It may run for several listeners at once.
func (a *Admin) Serve(ln net.Listener) error {
	closed := make(chan struct{})
	s := &http.Server{
		Handler: a.Handler(),
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), closedKey{}, closed)
		},
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          a.ErrorLog,
	}
	err := s.Serve(ln)
	close(closed)
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.Shutdown(ctx) != nil {
		s.Close()
	}
	return err
}

// closedKey is the context key for a channel that is closed when the listener
// of a request is.
type closedKey struct{}

// closing returns that channel; nil, which never closes, if there is none.
func closing(r *http.Request) <-chan struct{} {
	closed, _ := r.Context().Value(closedKey{}).(chan struct{})
	return closed
}
