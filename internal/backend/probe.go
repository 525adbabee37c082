package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"stateproxy/wire"
)

// Probe is Look without a description.
func Probe(ctx context.Context, dial DialFunc, address string) error {
	_, err := Look(ctx, dial, address)
	return err
}

// Look asks whoever answers at address for a key that no session has. A state
// server is well if it gives the one right answer: 404 with a version header
// (protocol.md section 12). A stateproxy describes itself, and is well if it
// reaches a server. The error says in plain words what is wrong; the description
// is nil unless a stateproxy gave one. dial may be nil.
func Look(ctx context.Context, dial DialFunc, address string) (*Description, error) {
	c, err := TLSDialer(dial, nil)(ctx, "tcp", address)
	if err != nil {
		return nil, probeDialError(err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req := wire.Request{Verb: wire.HEAD, Target: wire.AppendEncoded(nil, []byte(DescriptionKey)), Host: []byte("probe")}
	if _, err := c.Write(wire.AppendRequest(nil, &req)); err != nil {
		return nil, fmt.Errorf("send probe: %w", err)
	}
	r := wire.NewReader(c, 512, wire.DefaultMaxHead)
	var resp wire.Response
	if err := r.ReadResponse(&resp); err != nil {
		return nil, probeReadError(err)
	}
	if resp.Status == wire.StatusOK && resp.ContentLength.N == 0 {
		if d := describe(c, r, req.Target); d != nil {
			return d, d.trouble()
		}
	}
	return nil, probeVerdict(&resp, r)
}

// probeVerdict says what is wrong with a server's answer, nil if nothing.
func probeVerdict(resp *wire.Response, r *wire.Reader) error {
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
