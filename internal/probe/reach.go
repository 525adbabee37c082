package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"stateproxy/wire"
)

// reach resolves the name, connects and shakes hands; the first address that can be connected
// to is the one the rest goes over.
func (r *run) reach() bool {
	addresses, ok := r.resolve()
	return ok && r.connect(addresses) && r.secure()
}

// resolve returns the host's addresses, with port.
func (r *run) resolve() ([]string, bool) {
	if _, err := netip.ParseAddr(r.host); err == nil {
		r.good(StepName, 0, r.host+" is an address")
		return []string{net.JoinHostPort(r.host, r.port)}, true
	}
	lookup := r.Lookup
	if lookup == nil {
		lookup = net.DefaultResolver.LookupHost
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout())
	defer cancel()
	began := time.Now()
	hosts, err := lookup(ctx, r.host)
	took := time.Since(began)
	var dns *net.DNSError
	switch {
	case r.ctx.Err() != nil:
		r.bad(StepName, took, Failed, Cancelled, "broken off")
	case errors.As(err, &dns) && dns.IsNotFound:
		r.bad(StepName, took, Failed, NoName, "no such host: "+r.host)
	case err != nil:
		r.bad(StepName, took, Failed, NoName, err.Error())
	case len(hosts) == 0:
		r.bad(StepName, took, Failed, NoName, r.host+" has no address")
	default:
		r.good(StepName, took, r.host+" is "+strings.Join(hosts, ", "))
		for i, host := range hosts {
			hosts[i] = net.JoinHostPort(host, r.port)
		}
		return hosts, true
	}
	return nil, false
}

// attempt is one connection, made or not.
type attempt struct {
	conn net.Conn
	err  error
	took time.Duration
}

// connect tries all addresses at once. That some can't be connected to is a
// warning: a web server may try these first.
func (r *run) connect(addresses []string) bool {
	attempts := make([]attempt, len(addresses))
	var wg sync.WaitGroup
	for i, address := range addresses {
		wg.Go(func() { attempts[i] = r.dial(address) })
	}
	wg.Wait()
	for i, a := range attempts {
		switch {
		case a.err != nil:
		case r.conn == nil:
			r.conn, r.address = newLink(a.conn), addresses[i]
		default:
			a.conn.Close()
		}
	}
	result := Warning
	if r.conn == nil {
		result = Failed
	}
	for i, a := range attempts {
		if a.err == nil {
			r.good(StepConnect, a.took, addresses[i])
			continue
		}
		if r.conn == nil {
			r.address = addresses[i] // for the advice
		}
		kind, text := r.judgeDial(a.err)
		r.bad(StepConnect, a.took, result, kind, addresses[i]+": "+text)
	}
	return r.conn != nil
}

func (r *run) dial(address string) attempt {
	dial := r.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout())
	defer cancel()
	began := time.Now()
	c, err := dial(ctx, "tcp", address)
	return attempt{c, err, time.Since(began)}
}

func (r *run) judgeDial(err error) (Kind, string) {
	switch {
	case r.ctx.Err() != nil:
		return Cancelled, "broken off"
	case errors.Is(err, errRefused):
		return Refused, "connection refused: nothing listens on port " + r.port + " there, or a firewall refuses"
	case isTimeout(err):
		return NoConnection, fmt.Sprintf("no connection within %v: a firewall in between, or the host is down", r.timeout())
	}
	return ConnectError, err.Error()
}

// firstAnswer asks for a key that nobody has and reports whether it makes sense
// to go on.
func (r *run) firstAnswer() bool {
	req := wire.Request{Verb: wire.HEAD, Target: r.ownTarget()}
	a, took, err := r.ask(&req, nil)
	if err != nil {
		kind, text := r.judgeFirst(err)
		r.bad(StepAnswer, took, Failed, kind, text)
		return false
	}
	version := a.AspNetVersion
	switch {
	case a.Status != wire.StatusNotFound && len(version) == 0 && len(a.Version) > 0:
		r.bad(StepAnswer, took, Failed, HTTP, fmt.Sprintf("a web server answers: %s", firstLine(a.Head)))
	case a.Status == wire.StatusBadRequest && len(version) > 0:
		r.bad(StepAnswer, took, Failed, Unavailable, "400 to a well-formed request")
	case a.Status != wire.StatusNotFound:
		r.bad(StepAnswer, took, Failed, OddStatus, fmt.Sprintf("status %d where a key is absent, want 404", a.Status))
	default:
		r.good(StepAnswer, took, "404 where a key is absent, as it should be")
		r.statusLine(a)
		r.version(a)
		return true
	}
	return false
}

func (r *run) statusLine(a *answer) {
	text := "without HTTP version, as Microsoft's server sends it"
	if len(a.Version) > 0 {
		text = "with " + string(a.Version) + ", unlike Microsoft's server; clients are known to take it"
	}
	r.good(StepStatusLine, 0, text)
}

func (r *run) version(a *answer) {
	text := fmt.Sprintf("X-AspNet-Version: %.40q", a.AspNetVersion)
	switch {
	case len(a.AspNetVersion) == 0:
		r.bad(StepVersion, 0, Failed, NoVersion, "no X-AspNet-Version: clients refuse such a server at first")
	case !a.PassesVersionCheck():
		r.bad(StepVersion, 0, Failed, TooOld, text+", want 2 or more")
	default:
		r.good(StepVersion, 0, text)
	}
}

// judgeFirst says what it means that there was no readable first answer.
func (r *run) judgeFirst(err error) (Kind, string) {
	seen := r.conn.seen
	switch {
	case r.ctx.Err() != nil:
		return Cancelled, "broken off"
	case isAlert(err):
		return TLSRefused, err.Error()
	case isTLS(seen):
		return TLS, "a TLS server answers"
	case bytes.HasPrefix(seen, []byte("HTTP/")):
		return HTTP, "a web server answers: " + firstLine(seen)
	case len(seen) > 0:
		return NoStateServer, "what answers is no state server; it says " + firstLine(seen)
	case r.TLS == nil && r.speaksTLS():
		return TLS, "a TLS server listens there"
	case isTimeout(err):
		return Silent, fmt.Sprintf("connected, but no answer within %v", r.timeout())
	case isEnd(err):
		text := "connected, but the connection is closed without an answer"
		if !r.local() {
			text += ": remote connections are not allowed there, or a firewall cuts them"
		}
		return ClosedUnasked, text
	}
	return Broken, err.Error()
}

// speaksTLS greets as a TLS client does and looks whether the answer is TLS.
func (r *run) speaksTLS() bool {
	const enough = 2 * time.Second
	ctx, cancel := context.WithTimeout(r.ctx, min(enough, r.timeout()))
	defer cancel()
	a := r.dial(r.address)
	if a.err != nil {
		return false
	}
	l := newLink(a.conn)
	defer l.Close()
	// Nothing is sent or believed: what matters is in l.seen.
	_ = tls.Client(l, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
	return isTLS(l.seen)
}

// isTLS reports whether b begins as a TLS record does: an alert or a handshake.
func isTLS(b []byte) bool {
	return len(b) > 1 && (b[0] == 0x15 || b[0] == 0x16) && b[1] == 3
}

// firstLine returns the first line of b, quoted and cut short.
func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return fmt.Sprintf("%.60q", bytes.TrimSpace(line))
}
