package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"

	"stateproxy/internal/sock"
)

// DialFunc connects to an address.
type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// TLSDialer returns a func that connects by dial, nil for a net.Dialer, and then
// shakes hands by config. Both end with the context. If the handshake fails the
// error is a *TLSError. A nil config means no TLS.
func TLSDialer(dial DialFunc, config *tls.Config) DialFunc {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if config == nil {
		return dial
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := sock.TLSClient(nc, config)
		if err := c.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, &TLSError{Reason: tlsReason(err), Err: err}
		}
		return c, nil
	}
}

// TLSError says why a handshake with a backend failed.
type TLSError struct {
	Reason Reason // one of those that begin with tls_
	Err    error
}

// Error tells in plain words what is wrong, and the cause.
func (e *TLSError) Error() string {
	words := tlsWords[e.Reason]
	switch {
	case e.Reason != TLSHandshake:
	case isTimeout(e.Err):
		words += " not over in time"
	case errors.Is(e.Err, io.EOF) || errors.Is(e.Err, io.ErrUnexpectedEOF) || errors.Is(e.Err, errReset):
		words += " broken off by the other side"
	}
	return words + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *TLSError) Unwrap() error { return e.Err }

var tlsWords = map[Reason]string{
	TLSName:      "its certificate is for another name",
	TLSUntrusted: "its certificate is of no CA that is trusted here",
	TLSExpired:   "its certificate is not valid at this time",
	TLSPlain:     "it does not speak TLS",
	TLSRefused:   "it refused the handshake or the certificate shown to it",
	TLSHandshake: "TLS handshake",
}

func tlsReason(err error) Reason {
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &name):
		return TLSName
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return TLSExpired
	case errors.As(err, &authority) || errors.As(err, &invalid):
		return TLSUntrusted
	case errors.As(err, &record):
		return TLSPlain
	case isAlert(err):
		return TLSRefused
	}
	return TLSHandshake
}

// isAlert reports whether err is an alert that the other side sent. With TLS 1.3
// that is how one hears, after the handshake, that one's certificate is refused.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}
