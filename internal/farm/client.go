package farm

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"stateproxy/wire"
)

// Cause says why a page failed. The zero value is that it did not.
type Cause uint8

// The causes of page errors.
const (
	CauseNone       Cause = iota
	CauseRefused          // 400: an exception for every verb
	CauseTransport        // connection refused, broken, or an unreadable answer
	CauseTimeout          // no whole answer within NetworkTimeout
	CauseVersion          // the first answer lacks X-AspNet-Version 2 or more
	CauseUnreadable       // a body that does not deserialize
	CauseGaveUp           // the session stayed locked for ExecutionTimeout

	NumCauses = int(CauseGaveUp) + 1

	causeStopped = CauseGaveUp + 1 // the run is over: no error
)

var causeNames = [NumCauses]string{"none", "refused with 400", "transport failure", "network time-out", "version check", "unreadable body", "gave up waiting for the lock"}

// String returns the cause in words.
func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return fmt.Sprintf("Cause(%d)", uint8(c))
}

// app is one application of the farm.
type app struct {
	number  uint16
	run     uint64 // of the farm
	prefix  string // of every key: application ID and its digest, as .NET 4.x sends it
	timeout time.Duration
	expired *atomic.Uint64
}

func appPrefix(n int) string {
	id := "/LM/W3SVC/1/ROOT"
	if n > 0 {
		id += fmt.Sprintf("/shop%d", n)
	}
	digest := sha256.Sum256([]byte(id))
	return id + "(" + base64.StdEncoding.EncodeToString(digest[:]) + ")/"
}

// worker is one worker process: one application domain with its socket pool.
type worker struct {
	app    *app
	host   []byte // for the Host header
	pool   pool
	judged atomic.Bool // the version check was made
}

// hostOf returns the name in a connection string, which is all of it that the
// real client puts into Host.
func hostOf(target string) []byte {
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		host = target
	}
	return []byte(host)
}

// answer is what came back for a request, as System.Web reads it.
type answer struct {
	cause  Cause // CauseNone if there is a whole answer that is no exception
	sent   bool  // bytes may have reached the server
	status int
	effect wire.Effect
	flags  bool  // ActionFlags: 1
	cookie int64 // LockCookie, 0 without
	age    time.Duration
	size   int    // bytes of body
	damage string // what is wrong with the body of an item; "" if nothing is
	stamp  stamp  // of a body without damage
	excess int    // bytes that came behind the answer
	err    error  // what CauseTransport or CauseTimeout was
	hold   *hold  // the lock that was granted
}

// say describes the answer's status for a report.
func (a *answer) say() string {
	if a.status == wire.StatusOK && a.size == 0 {
		return "200 without a body"
	}
	return fmt.Sprintf("%d", a.status)
}

// failed sets the cause for err.
func (a *answer) failed(err error) {
	a.err = err
	a.cause = CauseTransport
	var timeout net.Error
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		a.cause = CauseTimeout
	}
}

// send sends head and body in t.out and reads the answer. As in System.Web the
// network time-out bounds the whole, and a request is never sent twice.
func (t *thread) send(ctx context.Context, op wire.Op, a *answer) {
	deadline := time.Now().Add(t.farm.config.NetworkTimeout)
	c, err := t.socket(ctx, deadline)
	if err != nil {
		a.failed(err)
		return
	}
	a.sent = true
	if err := t.roundTrip(c, op, a); err != nil {
		a.failed(err)
		c.Close()
		return
	}
	if a.excess = len(c.reader.Buffered()); a.excess > 0 {
		c.Close()
	} else {
		t.worker.pool.put(c)
	}
}

// socket returns a pooled socket that is still good, or a new one.
func (t *thread) socket(ctx context.Context, deadline time.Time) (*socket, error) {
	for {
		c := t.worker.pool.get()
		if c == nil {
			break
		}
		good, unread := c.idle(deadline)
		if good {
			return c, nil
		}
		c.Close()
		if unread {
			t.farm.alarm(nil, finding{AlarmBadAnswer, "bytes on a connection on which nothing was asked", false})
		}
	}
	// A page in flight is finished, whatever ends the run: it is bounded by the deadline.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	conn, err := t.farm.config.Dial(ctx, "tcp", t.worker.pool.target)
	if err != nil {
		return nil, err
	}
	t.farm.stats.dials.Add(1)
	if err := conn.SetDeadline(deadline); err != nil {
		conn.Close()
		return nil, err
	}
	return newSocket(conn), nil
}

func (t *thread) roundTrip(c *socket, op wire.Op, a *answer) error {
	if _, err := c.Write(t.out); err != nil {
		return err
	}
	var resp wire.Response
	if err := c.reader.ReadResponse(&resp); err != nil {
		return err
	}
	a.status, a.effect = resp.Status, resp.Effect(op)
	a.flags = resp.ActionFlags.N&1 != 0
	a.cookie = resp.LockCookie.N
	a.age = lockAge(resp.LockAge.N)
	version := resp.PassesVersionCheck()
	a.size = resp.BodyLen(op.Verb())
	if a.size > t.maxAnswer {
		return fmt.Errorf("answer of %d bytes, want at most %d", a.size, t.maxAnswer)
	}
	var err error
	if t.in, err = c.reader.ReadBody(t.in[:0], a.size); err != nil {
		return err
	}
	switch {
	case a.effect == wire.EffectException:
		a.cause = CauseRefused
	case t.worker.judged.CompareAndSwap(false, true) && !version:
		a.cause = CauseVersion
	case a.effect == wire.EffectItem:
		a.stamp, a.damage = parseBody(t.in)
	}
	return nil
}

// lockAge takes ages of a year or more as 0, as System.Web does.
func lockAge(seconds int64) time.Duration {
	if seconds < 0 || seconds >= 365*24*3600 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
