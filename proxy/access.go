package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"stateproxy/internal/access"
	"stateproxy/internal/sock"
	"stateproxy/wire"
)

// Access says which client addresses are let in. The zero value lets in all.
// IPv4 addresses in IPv6 form are taken as IPv4.
type Access struct {
	Allow []netip.Prefix // empty: everyone
	Deny  []netip.Prefix // wins over Allow
}

func (a *Access) rule() access.Rule {
	return access.Rule{Allow: access.NetworksOf(a.Allow), Deny: access.NetworksOf(a.Deny)}
}

// Listener says on which terms clients come in by a listener. The zero value lets
// in all.
type Listener struct {
	Access // those who may connect; others are cut off before a byte is read
	// ProxyProtocol is the peers, such as load balancers, that must begin each
	// connection with a header of the PROXY protocol, version 1 or 2. The client
	// that it names is the one that access and limits go by. If it names none, that
	// is the peer itself.
	ProxyProtocol []netip.Prefix
	TLS           *tls.Config // that clients must speak, behind the PROXY header; nil: plain
}

// AppAccess says who may use some of the applications.
type AppAccess struct {
	Applications []string // patterns, as in Pool
	Access                // those who may; others get F for each request
}

// Reasons why a client's connection is closed before its first request.
const (
	ConnLimit       Reason = "connections"                // Settings.MaxConns
	ClientConnLimit Reason = "connections_per_client"     // Settings.MaxConnsPerClient
	ClientConnRate  Reason = "connection_rate_per_client" // Settings.ConnRatePerClient
	NotAllowed      Reason = "access"                     // Listener.Access
	BadProxyHeader  Reason = "proxy_header"               // none in time from a peer that must send one, or a wrong one
)

// refusals are all of them, in the order in which they are counted.
var refusals = [...]Reason{ConnLimit, ClientConnLimit, ClientConnRate, NotAllowed, BadProxyHeader}

// Refusal tells of a client's connection that was closed before its first request.
type Refusal struct {
	Listener string         // that it came in by
	Client   netip.AddrPort // the peer, unless a PROXY header names another one
	Peer     netip.AddrPort // at the other end of the connection
	Reason   Reason
	Err      error // the cause, may be nil; holds nothing that the client sent as a request
}

// RefusalCount is the number of refusals for one reason.
type RefusalCount struct {
	Reason Reason
	Count  int64
}

// refusalCounts returns the numbers since the start, for every reason that there
// is, and their sum.
func (c *counters) refusalCounts() (list []RefusalCount, sum int64) {
	for i, reason := range refusals {
		n := c.refused[i].Load()
		list = append(list, RefusalCount{reason, n})
		sum += n
	}
	return list, sum
}

// door is a Listener made ready.
type door struct {
	rule    access.Rule
	proxied access.Networks
	tls     *tls.Config
}

// appRule is an AppAccess made ready.
type appRule struct {
	patterns []string
	rule     access.Rule
}

// makeReady turns what says who may come in into what can be asked quickly.
func (s *Settings) makeReady() {
	s.doors = map[string]*door{}
	for name, l := range s.Listeners {
		s.doors[name] = &door{l.rule(), access.NetworksOf(l.ProxyProtocol), l.TLS}
	}
	s.appRules = nil
	for _, a := range s.Access {
		s.appRules = append(s.appRules, appRule{a.Applications, a.rule()})
	}
	s.guarded = len(s.appRules) > 0 || s.RequestRatePerClient > 0
}

// keepDoors takes over the doors of listeners that s does not name: they may
// still be open, and their connections are.
func (s *Settings) keepDoors(old *Settings) {
	for name, d := range old.doors {
		if s.doors[name] == nil {
			s.doors[name] = d
		}
	}
}

// everyone is the door of a listener that the settings do not name.
var everyone = &door{}

func (s *Settings) door(name string) *door {
	if d := s.doors[name]; d != nil {
		return d
	}
	return everyone
}

// accept starts serving nc, or closes it if the client may not come in.
func (p *Proxy) accept(listener string, nc net.Conn) {
	client := addrPort(nc.RemoteAddr())
	if config := p.table.Load().settings.door(listener).tls; config != nil {
		nc = sock.TLSServer(nc, config)
	}
	c := newConn(p, nc, client)
	c.listener = listener
	switch reason := p.enter(c); reason {
	case "":
		p.running.Add(1)
		go c.serve()
	case stopping:
		c.nc.Cut()
	default:
		p.refused(c, reason, nil)
		c.nc.Cut()
	}
}

// stopping is not counted: the listener is closed at that moment.
const stopping Reason = "stopping"

// enter counts a new connection. It returns why it may not be had, "" if it may.
// One that must begin with a header is judged by admit when that was read.
func (p *Proxy) enter(c *conn) Reason {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.table.Load().settings // under the lock: a reload that denies the client finds it, or comes before
	d, addr := s.door(c.listener), c.client.Addr()
	c.proxied = d.proxied.Contains(addr)
	switch {
	case p.aborted:
		return stopping
	case !c.proxied && !d.rule.Permits(addr):
		return NotAllowed // even if a limit is reached: that is not what keeps it out
	case len(p.conns) >= s.MaxConns:
		return ConnLimit
	}
	if !c.proxied {
		if reason := p.admit(s, c); reason != "" {
			return reason
		}
	}
	p.conns[c] = struct{}{}
	if p.closed { // while this one came in
		c.leave(p.leaveBy)
	}
	return ""
}

// admit lets the client in if it may, and returns why it may not. p.mu is held.
func (p *Proxy) admit(s *Settings, c *conn) Reason {
	if !s.door(c.listener).rule.Permits(c.client.Addr()) {
		return NotAllowed
	}
	limits := access.Limits{Conns: s.MaxConnsPerClient, ConnRate: s.ConnRatePerClient}
	k, verdict := p.clients.Enter(c.client.Addr(), limits, time.Now())
	switch verdict {
	case access.TooManyConns:
		return ClientConnLimit
	case access.TooFast:
		return ClientConnRate
	}
	c.counted = k
	p.counts.accepted.Add(1)
	return ""
}

// remove counts the end of a connection that had entered.
func (p *Proxy) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	if c.counted != nil {
		p.clients.Leave(c.counted, time.Now())
	}
}

// refused counts a connection that is not served, and tells of it.
func (p *Proxy) refused(c *conn, reason Reason, err error) {
	for i := range refusals {
		if refusals[i] == reason {
			p.counts.refused[i].Add(1)
		}
	}
	if p.Refused != nil {
		p.Refused(Refusal{Listener: c.listener, Client: c.client, Peer: addrPort(c.nc.RemoteAddr()), Reason: reason, Err: err})
	}
}

// dismiss has connections whose clients may not come in any more close as soon as
// no request is under way on them. p.mu is held.
func (p *Proxy) dismiss(s *Settings) {
	for c := range p.conns {
		if c.counted != nil && !s.door(c.listener).rule.Permits(c.client.Addr()) {
			c.leave(time.Now())
		}
	}
}

// arrive does what comes before the first request: the balancer's header, then
// the TLS handshake. It returns false if the connection is to be closed.
func (c *conn) arrive() bool {
	return (!c.proxied || c.arriveProxied()) && c.secure()
}

// arriveProxied reads the header that says who the client is.
func (c *conn) arriveProxied() bool {
	stall := c.settings().ClientStall
	if c.nc.SetReadDeadline(time.Now().Add(stall)) != nil {
		return false
	}
	client, known, err := access.ReadHeader(c.nc.Beneath())
	switch {
	case err == io.EOF || err != nil && c.isLeaving(): // a balancer that looks whether somebody listens
		return false
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("no whole PROXY header within %v", stall)
	}
	if err != nil {
		c.p.refused(c, BadProxyHeader, err)
		return false
	}
	c.p.mu.Lock()
	if known {
		c.client = client
	}
	reason := c.p.admit(c.settings(), c)
	c.p.mu.Unlock()
	if reason != "" {
		c.p.refused(c, reason, nil)
	}
	return reason == ""
}

var (
	errAccess = errors.New("the client's address is not allowed to use this application")
	errRate   = errors.New("the client's address sends more requests than it may")
)

// permit asks whether the client may have its request done. It waits while the
// client is over its rate, up to a quarter of the budget, and returns when the
// request may go on.
func (c *conn) permit(s *Settings, now time.Time) (time.Time, error) {
	if !s.guarded {
		return now, nil
	}
	if !s.mayUse(&c.x.key, c.client.Addr()) {
		return now, errAccess
	}
	wait, ok := c.counted.Ask(now, s.RequestRatePerClient, s.Budget/4)
	if !ok {
		return now, errRate
	}
	if wait == 0 {
		return now, nil
	}
	c.p.counts.delayed.Add(1)
	c.x.Worker.Detach()
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.p.stopped.Done():
	}
	now = time.Now()
	c.x.Started = now
	return now, nil
}

// mayUse reports whether the client may use the application of the key. A key
// that would name another one if a server decoded it once more, as some do, must
// be allowed under that name, too.
func (s *Settings) mayUse(key *wire.Key, client netip.Addr) bool {
	if len(s.appRules) == 0 {
		return true
	}
	if !s.appPermits(key.App, client) {
		return false
	}
	part := key.App
	if key.Digest == nil {
		part = key.Full
	}
	if !bytes.ContainsAny(part, "%+") && !bytes.HasPrefix(part, []byte("//")) {
		return true
	}
	if key.Digest != nil {
		return s.appPermits(wire.AppendDecoded(nil, part), client)
	}
	again := wire.ParseTarget(nil, part)
	return again.Digest == nil || s.appPermits(again.App, client)
}

func (s *Settings) appPermits(app []byte, client netip.Addr) bool {
	for i := range s.appRules {
		if r := &s.appRules[i]; matchAny(r.patterns, app) {
			return r.rule.Permits(client)
		}
	}
	return true
}
