package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"stateproxy/wire"
)

// probeTarget is a key that no application can have, for it has no digest.
const probeTarget = "%2fhealth%2fprobe"

// Probe asks the state server at address for a key that nobody uses and
// returns nil if it gives the one right answer: 404 with a version header
// (protocol.md section 12). The error says in plain words what is wrong. dial
// may be nil.
func Probe(ctx context.Context, dial DialFunc, address string) error {
	c, err := TLSDialer(dial, nil)(ctx, "tcp", address)
	if err != nil {
		return probeDialError(err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req := wire.Request{Verb: wire.HEAD, Target: []byte(probeTarget), Host: []byte("probe")}
	if _, err := c.Write(wire.AppendRequest(nil, &req)); err != nil {
		return fmt.Errorf("send probe: %w", err)
	}
	r := wire.NewReader(c, 512, wire.DefaultMaxHead)
	var resp wire.Response
	if err := r.ReadResponse(&resp); err != nil {
		return probeReadError(err)
	}
	switch {
	case resp.Status != wire.StatusNotFound:
		return fmt.Errorf("answered the probe of an absent key with status %d, want 404", resp.Status)
	case len(resp.AspNetVersion) == 0:
		return errors.New("answers without X-AspNet-Version: clients refuse such a server (is enableVersionHeader off?)")
	case !resp.PassesVersionCheck():
		return errors.New("X-AspNet-Version is below 2: clients refuse such a server")
	case len(r.Buffered()) > 0 || resp.ContentLength.N != 0:
		return errors.New("sent a body in answer to HEAD")
	}
	return nil
}

func probeDialError(err error) error {
	var handshake *TLSError
	switch {
	case errors.As(err, &handshake):
		return err
	case errors.Is(err, errRefused):
		return errors.New("connection refused: no state server listens there")
	case isTimeout(err) || errors.Is(err, context.DeadlineExceeded):
		return errors.New("no connection in time: host down, or a firewall in between")
	}
	return err
}

func probeReadError(err error) error {
	var syntax *wire.SyntaxError
	switch {
	case isAlert(err):
		return &TLSError{TLSRefused, err}
	case errors.As(err, &syntax):
		return fmt.Errorf("what answers is no state server: %w", err)
	case isTimeout(err):
		return errors.New("connected, but no answer in time")
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errReset):
		return errors.New("connection closed without an answer (are remote connections allowed there? does it want TLS?)")
	}
	return fmt.Errorf("read answer to probe: %w", err)
}
