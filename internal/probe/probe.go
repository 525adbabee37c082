// Package probe tries the way from this machine to one state server or proxy,
// step by step, and says in plain words what is wrong with it:
//
//	p := &probe.Probe{Idle: 10 * time.Second, OnStep: func(s probe.Step) { fmt.Println(s.Name, s.Result) }}
//	report, err := p.Run(ctx, "state1:42424")
//	if err == nil && !report.OK { … }
//
// It resolves the name, connects to each address, shakes hands if TLS is wanted,
// looks at the first answer,
// and does what a page does with a session: store, read, lock, release, remove.
// That session has a random key that no application can have, and is removed at
// the end. Printing the report is left to the caller.
package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// DefaultPort is that of the Microsoft server (protocol.md section 2).
const DefaultPort = "42424"

// Values that stand in for the zero ones of Probe's fields.
const (
	// DefaultTimeout is the client's stateNetworkTimeout (protocol.md section 8.4).
	DefaultTimeout = 10 * time.Second
	DefaultSlow    = 100 * time.Millisecond
	// DefaultApp does not begin as the keys that a proxy keeps for itself.
	DefaultApp = "/stateproxy-probe"
)

// Probe says how to probe. The zero value is ready for use. Fields are not
// changed while Run runs; it may run several times at once.
type Probe struct {
	// App is the application part of the own key, for proxies that route by it;
	// "" is DefaultApp.
	App string
	// Timeout bounds each step; 0 is DefaultTimeout.
	Timeout time.Duration
	// Slow is what a step may take without a warning; 0 is DefaultSlow.
	Slow time.Duration
	// Idle is how long the connection must bear to lie unused; 0 leaves that
	// step out. Clients keep theirs up to ten seconds (protocol.md section 2).
	Idle time.Duration
	// TLS is how to shake hands with another stateproxy; nil means a plain
	// connection, as all state servers have. Without a ServerName the certificate
	// must be for the host of the address.
	TLS *tls.Config
	// OnStep hears of each step when it is done, in order, before Run returns.
	// Nil drops them.
	OnStep func(Step)

	// Lookup resolves a host name; nil means the system's resolver.
	Lookup func(ctx context.Context, host string) ([]string, error)
	// Dial connects; nil means a plain net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Result is how a step ended.
type Result string

// The results.
const (
	Good    Result = "ok"
	Warning Result = "warning" // it works, but not as it should
	Failed  Result = "failed"
)

// Names of the steps, in their order. StepConnect comes once for each address;
// after a failure most of the later ones are left out.
const (
	StepName       = "name"
	StepConnect    = "connect"
	StepTLS        = "tls"
	StepAnswer     = "first answer"
	StepStatusLine = "status line"
	StepVersion    = "version"
	StepStore      = "store"
	StepRead       = "read"
	StepLock       = "lock"
	StepSecondLock = "second lock"
	StepRelease    = "release"
	StepReadAgain  = "read again"
	StepRemove     = "remove"
	StepGone       = "read removed"
	StepIdle       = "idle"
)

// Step is one step of the way.
type Step struct {
	Name    string  `json:"name"`
	Result  Result  `json:"result"`
	Kind    Kind    `json:"kind,omitempty"`   // of what is wrong; "" if nothing is
	Text    string  `json:"text"`             // what was seen, for people
	Advice  string  `json:"advice,omitempty"` // what to do, for people
	Seconds float64 `json:"seconds"`
}

// Report is what Run found.
type Report struct {
	Address string `json:"address"` // host:port
	OK      bool   `json:"ok"`      // no step failed; there may be warnings
	Steps   []Step `json:"steps"`
}

// run is one probe under way.
type run struct {
	*Probe
	ctx        context.Context
	report     *Report
	host, port string
	address    string // ip:port in use
	conn       *link  // nil before a connection is made
}

// Run probes address, which is host, host:port or what a connection string
// says, tcpip=host:port. The error tells that it is none of them. When ctx ends
// the step under way fails.
func (p *Probe) Run(ctx context.Context, address string) (*Report, error) {
	host, port, err := splitAddress(address)
	if err != nil {
		return nil, err
	}
	r := &run{Probe: p, ctx: ctx, host: host, port: port}
	r.report = &Report{Address: net.JoinHostPort(host, port), OK: true, Steps: []Step{}}
	if r.reach() {
		defer r.hangUp()
		if r.firstAnswer() && r.round() && p.Idle > 0 {
			r.idle()
		}
	}
	return r.report, nil
}

// splitAddress adds the port if it is left out.
func splitAddress(address string) (host, port string, err error) {
	text := strings.TrimPrefix(address, "tcpip=")
	host, port, err = net.SplitHostPort(text)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), DefaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("%q: want host:port with a port of 1..65535", address)
	}
	_, noIP := netip.ParseAddr(host)
	if host == "" || noIP != nil && strings.ContainsAny(host, ":[]/@ \t=") {
		return "", "", fmt.Errorf("%q: want host:port such as state1:%s", address, DefaultPort)
	}
	return host, port, nil
}

func (p *Probe) timeout() time.Duration { return cmp.Or(p.Timeout, DefaultTimeout) }
func (p *Probe) slow() time.Duration    { return cmp.Or(p.Slow, DefaultSlow) }

// add notes a step.
func (r *run) add(s Step) {
	r.report.Steps = append(r.report.Steps, s)
	if s.Result == Failed {
		r.report.OK = false
	}
	if r.OnStep != nil {
		r.OnStep(s)
	}
}

// good notes a step that went as it should, with a warning if it was slow.
func (r *run) good(name string, took time.Duration, text string) {
	s := Step{Name: name, Result: Good, Text: text, Seconds: took.Seconds()}
	if took > r.slow() {
		s.Result, s.Kind, s.Advice = Warning, Slow, Slow.advice(r)
		s.Text += fmt.Sprintf("; slow: %v, want at most %v", took.Round(time.Millisecond), r.slow())
	}
	r.add(s)
}

// bad notes a step that went wrong.
func (r *run) bad(name string, took time.Duration, result Result, kind Kind, text string) {
	r.add(Step{Name: name, Result: result, Kind: kind, Text: text, Advice: kind.advice(r), Seconds: took.Seconds()})
}

// hangUp closes the connection, if there is one still.
func (r *run) hangUp() {
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
}

// local reports whether the way never leaves this machine.
func (r *run) local() bool {
	host, _, _ := net.SplitHostPort(r.address)
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
