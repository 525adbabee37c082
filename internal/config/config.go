// Package config loads, defaults, validates and watches stateproxy's YAML file.
// Typical use:
//
//	c, raw, err := config.Load(file)        // err lists every problem at once
//	w := &config.Watcher{File: file, Loaded: raw, OnChange: func(data []byte) {
//		c, err := config.Parse(file, data)  // on error keep the old one
//	}}
//	err = w.Run(ctx)
//
// All settings, their bounds and their order in print stand in one table
// (schema.go); rules that join several settings are in check.go. What the
// values are used for, and when a new config takes effect, is the caller's.
package config

import (
	"net/netip"
	"time"
)

// OnUnavailable says what a client gets when no backend can answer.
type OnUnavailable string

// The values of OnUnavailable.
const (
	Fail  OnUnavailable = "fail"  // the failure answer
	Close OnUnavailable = "close" // a closed connection
	Wait  OnUnavailable = "wait"  // "locked, try again" for a bounded time
)

// State is what the operator wants of a backend.
type State string

// The values of State.
const (
	Active State = "active" // owns sessions
	Drain  State = "drain"  // owns none, still holds those not yet moved
)

// Config is the whole of the file, defaults filled in. Its zero value is not
// valid: start from Default or Parse. Nothing changes it once it is returned,
// so it may be read from several goroutines.
type Config struct {
	Listen        []Listener // at least one
	BackendTLS    BackendTLS
	Backends      []Backend
	Pools         []Pool        // in file order, in which they are matched; nil: all backends serve everyone
	Applications  []Application // in file order, in which they are matched; nil: requests go on as they came
	Access        []AccessRule  // in file order; the first that matches an application decides
	OnUnavailable OnUnavailable
	WaitLimit     time.Duration // how long one backend's outage is bridged, with Wait
	ASPNetVersion string        // version header of own answers, such as 4.0.30319
	Health        Health
	Timeouts      Timeouts
	Limits        Limits
	Handoff       Handoff
	Log           Log
	Admin         Admin
}

// Listener is where clients connect, and how.
type Listener struct {
	Address string // host:port; an empty host means all interfaces, port 0 a free one
	Networks
	ProxyProtocol []netip.Prefix // peers that must begin with a PROXY header; nil: none
	TLS           *ListenerTLS   // nil: plain
}

// Networks says which addresses may come in. Prefixes are masked, and IPv4 ones
// never in IPv6 form.
type Networks struct {
	Allow []netip.Prefix // nil: everyone
	Deny  []netip.Prefix // wins over Allow
}

// AccessRule says who may use some of the applications.
type AccessRule struct {
	Applications []string // patterns, as in Pool
	Networks
}

// ListenerTLS is the TLS of a listener. Files are as the config names them.
type ListenerTLS struct {
	CertFile     string // PEM, the listener's own certificate first
	KeyFile      string // PEM
	ClientCAFile string // PEM; clients must have a certificate of one of these CAs; empty: they need none
	MinVersion   string // 1.2 or 1.3
}

// BackendTLS is the TLS to those backends that have it. Files are as the config
// names them.
type BackendTLS struct {
	CAFile     string // PEM; backends must have a certificate of one of these CAs; empty: of the system's
	CertFile   string // PEM; shown to backends; empty: none
	KeyFile    string // PEM; given with CertFile, and only then
	MinVersion string // 1.2 or 1.3
}

// Backend is one state server.
type Backend struct {
	Name    string // its identity for ever
	Address string // host:port, port always given
	Weight  int    // share of sessions relative to the others
	State   State

	TLS        bool   // connect as BackendTLS says; else plain
	ServerName string // that its certificate must be for; empty: the host part of Address
}

// Pool gives some applications backends of their own. Applications that match
// no pool belong to the backends that no pool names.
type Pool struct {
	Name         string
	Applications []string // patterns, case-insensitive: * any run of characters, ? exactly one
	Backends     []string // names of backends
}

// Application makes several application parts one. Pools see it under the name To.
type Application struct {
	Alias []string // patterns as in Pool, of the parts that are taken for To
	To    string   // the application part that they become, such as /LM/W3SVC/1/ROOT/shop
}

// Health tells how backends are probed and when they are ejected.
type Health struct {
	Interval    time.Duration // between probes of one backend
	Timeout     time.Duration // of one probe, at most Interval
	Jitter      float64       // share of Interval by which probes are spread, 0..0.5
	Rise        int           // successes in a row that readmit
	Fall        int           // failures in a row that eject
	HoldDown    time.Duration // least time a backend stays ejected
	MaxHoldDown time.Duration // to which HoldDown grows for one that flaps
	MaxEjected  float64       // share of the backends that may be ejected at once, 0..1
}

// Timeouts bound what may take time.
type Timeouts struct {
	Budget      time.Duration // of a whole exchange as the client sees it
	Dial        time.Duration // of one connect to a backend, less than Budget
	ClientIdle  time.Duration // between two requests of a client
	ClientStall time.Duration // without progress inside a request or an answer
	BackendIdle time.Duration // after which an unused backend connection is closed
	Drain       time.Duration // for requests in flight at shutdown
}

// Limits bound what may take memory. Sizes are bytes.
type Limits struct {
	Connections          int           // of clients, in all
	ConnectionsPerClient int           // per client address; 0: no limit
	ConnectionRate       int           // new connections a second per client address; 0: no limit
	RequestRate          int           // requests a second per client address; 0: no limit
	Head                 int64         // request line and headers
	Body                 int64         // of one session
	Buffer               int64         // bodies up to it are held whole, larger ones stream
	BackendConnections   int           // to one backend
	BackendQueue         int           // requests waiting for a connection to one backend; 0: none may wait
	BackendWait          time.Duration // how long they wait
}

// Handoff tells how sessions are brought over when their owner changes.
type Handoff struct {
	Delay     time.Duration // between a new file and the change of owners; 0: at once
	Window    time.Duration // for how long former owners are asked, at least
	StateFile string        // where the windows outlive a restart; empty: beside the config file; off: nowhere
	MaxMove   float64       // share of a pool's sessions that one reload may move, 0..1
	Remember  int           // sessions that the proxy remembers for evacuations; 0: none
	Rate      int           // sessions that an evacuation moves in a second
}

// Log tells what is logged, and how.
type Log struct {
	Level  string        // debug, info, warn or error
	Format string        // auto, json or text
	Slow   time.Duration // from which on a request is logged as slow; 0: none is
	Access float64       // share of the sessions whose requests are all logged, 0..1
}

// Admin is the listener for metrics, status and the dashboard.
type Admin struct {
	Listen    string   // host:port; empty: no listener
	TokenFile string   // holds the token for actions, and for reading from elsewhere; empty: neither
	Hosts     []string // names that requests may be addressed to, beside localhost and IP addresses
	MinUp     float64  // share of the active backends that must be up for the proxy to be ready, 0..1
}

// Default is the config of a file that says nothing. It has no backends, which
// Parse would not accept. Each call returns a new one.
func Default() *Config {
	return &Config{
		Listen:        []Listener{{Address: "127.0.0.1:42424"}},
		BackendTLS:    BackendTLS{MinVersion: "1.2"},
		OnUnavailable: Fail,
		WaitLimit:     30 * time.Second,
		ASPNetVersion: "4.0.30319",
		Health: Health{
			Interval:    2 * time.Second,
			Timeout:     2 * time.Second,
			Jitter:      0.2,
			Rise:        2,
			Fall:        3,
			HoldDown:    5 * time.Second,
			MaxHoldDown: 5 * time.Minute,
			MaxEjected:  0.5,
		},
		Timeouts: Timeouts{
			Budget:      8 * time.Second,
			Dial:        2 * time.Second,
			ClientIdle:  2 * time.Minute,
			ClientStall: 10 * time.Second,
			BackendIdle: 8 * time.Second,
			Drain:       20 * time.Second,
		},
		Limits: Limits{
			Connections:        10000,
			Head:               8 * kib,
			Body:               128 * mib,
			Buffer:             64 * kib,
			BackendConnections: 1000,
			BackendQueue:       1000,
			BackendWait:        time.Second,
		},
		Handoff: Handoff{
			Delay:    30 * time.Second,
			Window:   20 * time.Minute,
			MaxMove:  1,
			Remember: 200000,
			Rate:     500,
		},
		Log:   Log{Level: "info", Format: "auto", Slow: time.Second},
		Admin: Admin{Listen: "127.0.0.1:42480"},
	}
}
