package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"stateproxy/wire"
)

// Bounds of what is taken from a peer.
const (
	maxSeen = 512     // bytes kept of what came first
	maxBody = 1 << 20 // bytes of an answer's body
)

// errTooMuch tells of bytes that no request asked for.
var errTooMuch = errors.New("more bytes came than the answer announced")

// link is a connection that remembers how the peer began.
type link struct {
	net.Conn
	reader *wire.Reader
	seen   []byte
}

func newLink(c net.Conn) *link {
	l := &link{Conn: c}
	l.reader = wire.NewReader(l, 4<<10, wire.DefaultMaxHead)
	return l
}

// Read implements net.Conn.
func (l *link) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.seen = append(l.seen, b[:min(n, maxSeen-len(l.seen))]...)
	return n, err
}

// answer is an answer with its body. Its slices share no buffer with the link.
type answer struct {
	wire.Response
	body []byte
}

// ask sends a request on the connection and reads the answer.
func (r *run) ask(req *wire.Request, body []byte) (*answer, time.Duration, error) {
	began := time.Now()
	a, err := r.conn.exchange(r.ctx, began.Add(r.timeout()), req, body)
	return a, time.Since(began), err
}

func (l *link) exchange(ctx context.Context, deadline time.Time, req *wire.Request, body []byte) (*answer, error) {
	if len(l.reader.Buffered()) > 0 {
		return nil, errTooMuch
	}
	if err := l.SetDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { l.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if body != nil {
		req.ContentLength = wire.Some(int64(len(body)))
	}
	if _, err := l.Write(append(wire.AppendRequest(nil, req), body...)); err != nil {
		return nil, err
	}
	return l.answerTo(req.Verb)
}

func (l *link) answerTo(verb wire.Verb) (*answer, error) {
	var head wire.Response
	if err := l.reader.ReadResponse(&head); err != nil {
		return nil, err
	}
	a := &answer{}
	if _, err := wire.ParseResponse(append([]byte{}, head.Head...), &a.Response); err != nil {
		return nil, err
	}
	n := a.BodyLen(verb)
	if n > maxBody {
		return nil, fmt.Errorf("announces a body of %d bytes", n)
	}
	var err error
	a.body, err = l.reader.ReadBody(nil, n)
	return a, err
}

// watch waits until the deadline whether the peer closes the connection; nil
// means that it does not.
func (l *link) watch(ctx context.Context, deadline time.Time) error {
	if err := l.SetDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { l.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	switch err := l.reader.Fill(); {
	case err == nil:
		return errTooMuch
	case isTimeout(err):
		return ctx.Err()
	default:
		return err
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// isEnd reports whether the peer closed or reset the connection.
func isEnd(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, errReset, errAborted} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}
