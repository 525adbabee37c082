package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// OnUnavailable says what a client gets when no backend can answer its request
// (protocol.md section 9).
type OnUnavailable uint8

// The choices.
const (
	Fail      OnUnavailable = iota // F, the 400 that every client turns into an exception
	CloseConn                      // the connection is closed without a byte
	Wait                           // a GET gets the 423 that makes the client ask again; all else F
)

// Backend is one state server.
type Backend struct {
	Name    string // its identity for ever
	Address string // host:port
	Weight  int    // share of the sessions; 1 to 1000
	Drain   bool   // owns no sessions any more, but may still hold some

	TLS        bool   `json:",omitempty"` // connect by Settings.BackendTLS
	ServerName string `json:",omitempty"` // that its certificate is for; "" is the host part of Address
}

// routed is b without what does not decide where sessions are.
func (b Backend) routed() Backend {
	b.TLS, b.ServerName = false, ""
	return b
}

// Pool is a group of backends that serves some of the applications.
type Pool struct {
	Name         string
	Applications []string // patterns on the application part; letter case does not matter, * is any run of characters, ? is one
	Backends     []string // names
}

// Routing is the part of the settings that decides where sessions are.
type Routing struct {
	Backends []Backend
	Pools    []Pool
}

// equal reports whether r and o mean the same. The order of backends, in the
// list and in pools, means nothing.
func (r *Routing) equal(o *Routing) bool {
	byName := func(a, b Backend) int { return strings.Compare(a.Name, b.Name) }
	same := func(a, b Pool) bool {
		return a.Name == b.Name && slices.Equal(a.Applications, b.Applications) &&
			slices.Equal(slices.Sorted(slices.Values(a.Backends)), slices.Sorted(slices.Values(b.Backends)))
	}
	alike := func(a, b Backend) bool { return a.routed() == b.routed() }
	sorted := func(list []Backend) []Backend { return slices.SortedFunc(slices.Values(list), byName) }
	return slices.EqualFunc(sorted(r.Backends), sorted(o.Backends), alike) &&
		slices.EqualFunc(r.Pools, o.Pools, same)
}

// Settings is all that Reconfigure can change. In durations and limits zero
// means the default; other values are taken as they are.
type Settings struct {
	Backends []Backend
	// Pools are tried in order; the first with a matching pattern serves the
	// application. What none of them takes goes to the backends that no pool
	// names.
	Pools []Pool
	// Aliases are tried in order, before Pools; the first that takes an application
	// names it. None means that requests go to the backends as they came.
	Aliases []Alias

	// Listeners are the terms of the listeners by the names given to ServeAs. One
	// that is left out keeps the terms that it had, and lets in all if it never had
	// any. A connection whose client may not come in any more is closed as soon as
	// no request is under way on it.
	Listeners map[string]Listener
	// Access is tried in order for each request; the first whose patterns match its
	// application decides. What none matches is open to everyone. Who may not is
	// answered by F, whatever OnUnavailable says.
	Access []AppAccess
	// BackendTLS is how to shake hands with backends that have TLS set; its
	// ServerName is not used. nil means TLS 1.2 or later with the system's CAs.
	// With another value, even an equal one, connections are made anew.
	BackendTLS *tls.Config

	OnUnavailable OnUnavailable
	WaitLimit     time.Duration // with Wait: a longer outage is answered by F
	AspNetVersion string        // X-AspNet-Version of the proxy's own answers

	Budget      time.Duration // from the whole request to the end of its answer
	ClientIdle  time.Duration // a connection without a request is closed after it
	ClientStall time.Duration // so is one that stops within a request or an answer

	MaxConns          int // client connections
	MaxConnsPerClient int // of them from one address; 0 is no limit
	// ConnRatePerClient is how many new connections one address may make in a
	// second, and after a pause ten times as many at once. More are closed. 0 is no
	// limit.
	ConnRatePerClient int
	// RequestRatePerClient is how many requests one address may send in a second.
	// More wait, up to a quarter of Budget; those that would wait longer are answered
	// by F. 0 is no limit.
	RequestRatePerClient int

	MaxHead  int // bytes
	MaxBody  int // bytes
	MaxWhole int // bytes; bodies up to it are held whole, longer ones stream

	DialTimeout  time.Duration
	BackendIdle  time.Duration
	BackendWait  time.Duration // for a connection when BackendConns are busy
	BackendConns int           // per backend
	BackendQueue int           // requests that may wait for one

	// HandoffWindow is for how long former owners are asked after a change.
	HandoffWindow time.Duration
	// HandoffDelay is the time between a change of backends or pools in the
	// settings and the change of routing. Until it is over the proxy knows both
	// rings, so that proxies which take a new file one after the other find each
	// other's sessions. Negative is none. It does not delay the first settings,
	// nor ejections.
	HandoffDelay time.Duration
	// Remember is how many sessions are remembered, so that backends which own
	// none any more can be emptied by Run; 0 is none.
	Remember       int
	EvacuationRate int // sessions that are moved in a second

	// Made by makeReady and, the first, from Aliases.
	renames  []rename
	doors    map[string]*door
	appRules []appRule
	guarded  bool // requests are subject to appRules or a rate
}

// Defaults of Settings.
const (
	DefaultBudget        = 8 * time.Second
	DefaultClientIdle    = 2 * time.Minute
	DefaultClientStall   = 10 * time.Second
	DefaultWaitLimit     = 30 * time.Second
	DefaultMaxConns      = 10000
	DefaultMaxHead       = 8 << 10
	DefaultMaxBody       = 128 << 20
	DefaultMaxWhole      = 64 << 10
	DefaultHandoffWindow = 20 * time.Minute
	DefaultHandoffDelay  = 30 * time.Second
	DefaultAspNetVersion = "4.0.30319"

	DefaultEvacuationRate = 500
)

// setDefaults completes s.
func (s *Settings) setDefaults() {
	def(&s.AspNetVersion, DefaultAspNetVersion)
	def(&s.WaitLimit, DefaultWaitLimit)
	def(&s.Budget, DefaultBudget)
	def(&s.ClientIdle, DefaultClientIdle)
	def(&s.ClientStall, DefaultClientStall)
	def(&s.MaxConns, DefaultMaxConns)
	def(&s.MaxHead, DefaultMaxHead)
	def(&s.MaxBody, DefaultMaxBody)
	def(&s.MaxWhole, DefaultMaxWhole)
	def(&s.HandoffWindow, DefaultHandoffWindow)
	def(&s.HandoffDelay, DefaultHandoffDelay)
	def(&s.EvacuationRate, DefaultEvacuationRate)
	s.renames = renames(s.Aliases)
	s.makeReady()
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// routing returns the part of s that decides where sessions are.
func (s *Settings) routing() *Routing { return &Routing{s.Backends, s.Pools} }

// validate returns all that would make a table impossible. Ranges are the
// business of whoever reads the configuration.
func (s *Settings) validate() error {
	var errs []error
	known := map[string]bool{}
	for _, b := range s.Backends {
		if known[b.Name] {
			errs = append(errs, fmt.Errorf("backend %s: there are two of that name", b.Name))
		}
		known[b.Name] = true
		if b.Name == "" || b.Address == "" {
			errs = append(errs, fmt.Errorf("backend %q at %q: want a name and an address", b.Name, b.Address))
		}
	}
	for _, p := range s.Pools {
		for _, name := range p.Backends {
			if !known[name] {
				errs = append(errs, fmt.Errorf("pool %s: no backend is named %s", p.Name, name))
			}
		}
	}
	for _, a := range s.Aliases {
		errs = append(errs, a.check())
	}
	return errors.Join(errs...)
}
