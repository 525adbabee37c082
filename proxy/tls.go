package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"stateproxy/internal/backend"
)

var (
	errNotTLS = errors.New("the client does not speak TLS, which this listener wants")
	errTLS    = errors.New("the client speaks TLS, which this listener does not")
)

// helloByte is the first one that a TLS client sends.
const helloByte = 0x16

// secure shakes hands with a client that came in at a listener with TLS. It
// returns false if there is nothing to serve.
func (c *conn) secure() bool {
	t, ok := c.nc.Conn.(*tls.Conn)
	if !ok {
		return true
	}
	now := time.Now()
	if c.nc.SetDeadline(now.Add(c.settings().ClientStall)) != nil {
		return false
	}
	if c.isLeaving() { // with time left for a request, and so for what precedes it
		until := time.Unix(0, c.until.Load())
		if !until.After(now) || c.nc.SetReadDeadline(until) != nil {
			return false
		}
	}
	err := t.Handshake()
	if err == nil {
		return true
	}
	if c.isLeaving() || c.nc.Silent() && errors.Is(err, io.EOF) { // a look whether the port is open
		return false
	}
	c.outcome = Outcome{Client: c.client, Start: time.Now(), Reason: ClientTLS, Err: handshakeError(err)}
	c.finish()
	return false
}

// handshakeError says what is wrong with a client's handshake.
func handshakeError(err error) error {
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(err, &record):
		return errNotTLS
	case errors.As(err, &op) && op.Op == "remote error":
		return fmt.Errorf("the client refused the handshake or this listener's certificate: %w", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("TLS handshake not over in time: %w", err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the client broke the TLS handshake off: %w", err)
	}
	return fmt.Errorf("TLS handshake: %w", err)
}

// brokeTLS reports whether err is something wrong that came in over TLS, such as a
// wish for another handshake or bytes that are no record, and not the end of the
// connection.
func (c *conn) brokeTLS(err error) bool {
	if _, ok := c.nc.Conn.(*tls.Conn); !ok {
		return false
	}
	var op *net.OpError
	var network net.Error
	switch {
	case errors.As(err, &op) && op.Op == "local error": // an alert that was sent
		return true
	case errors.As(err, &network), errors.Is(err, net.ErrClosed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return false
	}
	return true
}

// security is how to connect to a place.
type security struct {
	tls        bool
	serverName string      // "" is the host part of the address
	base       *tls.Config // of the settings
	config     *tls.Config // made from all of these; nil: plain
}

// secure brings the place's security up to date: by the settings if they name
// it, else as it was. As long as nothing changes the config stays the same one,
// so that connections are kept. The proxy's mu is held.
func (p *place) secure(s *Settings, named map[string]Backend) {
	want := security{tls: p.security.tls, serverName: p.security.serverName, base: s.BackendTLS}
	if b := named[p.name]; b.Address == p.address {
		want.tls, want.serverName = b.TLS, b.ServerName
	}
	if want.tls {
		want.config = p.security.config
	}
	if want != p.security {
		want.config = nil
		if want.tls {
			want.config = clientConfig(want.base, cmp.Or(want.serverName, hostOf(p.address)))
		}
		p.security = want
	}
}

func clientConfig(base *tls.Config, serverName string) *tls.Config {
	if base == nil {
		base = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	config := base.Clone()
	config.ServerName = serverName
	return config
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// Dialer returns a func that connects to the place whose health goes by the name
// target, as the proxy itself does: see Targets. One for a name that is not known
// connects to nothing.
func (p *Proxy) Dialer(target string) func(ctx context.Context, network, address string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	place := p.table.Load().target(target)
	if place == nil {
		return func(context.Context, string, string) (net.Conn, error) {
			return nil, fmt.Errorf("backend %s: there is none of that name any more", target)
		}
	}
	return backend.TLSDialer(p.Dial, place.security.config)
}
