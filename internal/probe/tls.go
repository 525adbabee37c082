package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// secure shakes hands over the connection, if TLS is wanted.
func (r *run) secure() bool {
	if r.TLS == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout())
	defer cancel()
	c := tls.Client(r.conn, r.tlsConfig())
	began := time.Now()
	err := c.HandshakeContext(ctx)
	took := time.Since(began)
	if err != nil {
		kind, text := r.judgeHandshake(err)
		r.bad(StepTLS, took, Failed, kind, text)
		return false
	}
	state := c.ConnectionState()
	leaf := state.PeerCertificates[0]
	r.good(StepTLS, took, fmt.Sprintf("%s; its certificate %q is for %s and valid until %s",
		tls.VersionName(state.Version), leaf.Subject, r.serverName(), leaf.NotAfter.UTC().Format(time.RFC3339)))
	r.conn = newLink(c)
	return true
}

func (r *run) serverName() string { return cmp.Or(r.TLS.ServerName, r.host) }

func (r *run) tlsConfig() *tls.Config {
	config := r.TLS.Clone()
	config.ServerName = r.serverName()
	return config
}

// judgeHandshake says what it means that a handshake failed.
func (r *run) judgeHandshake(err error) (Kind, string) {
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case r.ctx.Err() != nil:
		return Cancelled, "broken off"
	case errors.As(err, &name):
		return TLSName, err.Error()
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return TLSExpired, err.Error()
	case errors.As(err, &authority) || errors.As(err, &invalid):
		return TLSUntrusted, err.Error()
	case errors.As(err, &record):
		return TLSPlain, "what answers does not speak TLS; it says " + firstLine(r.conn.seen)
	case isAlert(err):
		return TLSRefused, err.Error()
	case isTimeout(err):
		return TLSBroken, fmt.Sprintf("no answer to the handshake within %v", r.timeout())
	case isEnd(err):
		return TLSBroken, "the connection is closed in the handshake"
	}
	return TLSBroken, err.Error()
}

// isAlert reports whether err is an alert that the other side sent. With TLS 1.3
// it comes behind the handshake if a certificate is missing or refused.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}
