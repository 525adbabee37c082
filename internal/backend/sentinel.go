package backend

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"time"

	"stateproxy/wire"
)

// The sentinel is an item that a proxy keeps on each backend, under a key that
// no application can have. Its body names the run of the server: a server that
// was restarted has lost it with all its sessions, one that was merely cut off
// still has it, and two addresses that show the same one lead to one server.
const (
	sentinelTarget  = "%2fstateproxy%2fsentinel" // Reserved, encoded
	sentinelTimeout = 24 * 60                    // minutes; each look renews it
	sentinelMax     = 256                        // bytes of a body that is read
)

// Instance returns the nonce in the backend's sentinel, which it puts there if
// there is none. Of several proxies that do so at once one wins, and all return
// its nonce.
func Instance(ctx context.Context, dial DialFunc, address string) (string, error) {
	c, err := TLSDialer(dial, nil)(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	r := wire.NewReader(c, 512, wire.DefaultMaxHead)
	get := wire.Request{Verb: wire.GET, Target: []byte(sentinelTarget), Host: []byte("probe")}
	for range 2 {
		status, body, err := ask(c, r, &get, "", sentinelMax)
		switch {
		case err != nil:
			return "", fmt.Errorf("read sentinel: %w", err)
		case status == wire.StatusOK:
			return body, nil
		case status != wire.StatusNotFound:
			return "", fmt.Errorf("read sentinel: status %d", status)
		}
		nonce := rand.Text()
		put := wire.Request{
			Verb: wire.PUT, Target: get.Target, Host: get.Host, Timeout: wire.Some(sentinelTimeout),
			ContentLength: wire.Some(int64(len(nonce))), ExtraFlags: wire.Some(1),
		}
		if status, _, err = ask(c, r, &put, nonce, sentinelMax); err != nil {
			return "", fmt.Errorf("store sentinel: %w", err)
		} else if status != wire.StatusOK {
			return "", fmt.Errorf("store sentinel: status %d", status)
		}
	}
	return "", errors.New("the server does not keep the sentinel")
}

// ask sends a request and reads the answer, whose body must not be longer than
// most.
func ask(c net.Conn, r *wire.Reader, req *wire.Request, body string, most int) (status int, answer string, err error) {
	if _, err := c.Write(append(wire.AppendRequest(nil, req), body...)); err != nil {
		return 0, "", err
	}
	var resp wire.Response
	if err := r.ReadResponse(&resp); err != nil {
		return 0, "", err
	}
	n := resp.BodyLen(req.Verb)
	if n > most {
		return 0, "", fmt.Errorf("a body of %d bytes", n)
	}
	b, err := r.ReadBody(nil, n)
	return resp.Status, string(b), err
}
