package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"stateproxy/internal/sock"
	"stateproxy/wire"
)

// Exchange is one request and its answer. The caller sets the request's fields,
// calls RoundTrip and, if that returned nil, uses the answer and then calls
// Release. It may be used again after that. The zero value is ready for use; it
// must not be copied once used, and belongs to one goroutine.
type Exchange struct {
	Op       wire.Op
	Request  []byte    // head and body as they go out, or their first part
	Rest     io.Reader // the rest of the body; nil if Request is all
	RestLen  int64     // bytes of it
	Sent     func()    // called when all has been sent, and nothing is needed for another time; may be nil
	Started  time.Time // the present, for it saves looking at the clock; zero after each use
	Deadline time.Time // when all must be over
	Told     bool      // Deadline is what a proxy before this one has asked for

	Worker *sock.Worker // that runs RoundTrip or Resume; nil: a goroutine that may wait
	Async  bool         // RoundTrip may return ErrPending instead of waiting for the answer

	Response wire.Response // slices into Answer
	Answer   []byte        // head and body as they came, or their first part
	Tail     int64         // bytes of the body that CopyTail still has to fetch
	Ended    time.Time     // when Answer was there
	Spent    Spent         // grows with each use, failed ones too; the caller sets it back

	in   answer
	told []byte // the request as it went to a proxy
	conn *conn  // of an answer with a tail, or that is still to come
	pool *Pool
	try  try
}

// ErrPending is what RoundTrip returns when the request has been sent and the answer
// is still to come: see Exchange.Async.
var ErrPending = errors.New("the answer is still to come")

// Await has w be told when Resume is to be called, after RoundTrip or Resume has
// returned ErrPending: the exchange is w's then. It returns false if Resume is to be
// called now, and w is not told.
func (x *Exchange) Await(w sock.Waiter) bool { return x.conn.Await(w) }

// Resume goes on with an exchange of which RoundTrip has returned ErrPending. It
// returns what RoundTrip would have, ErrPending again if the answer is not whole yet.
func (x *Exchange) Resume(ctx context.Context) error {
	c, p := x.conn, x.pool
	c.On(x.Worker)
	done, err := c.Step(&x.in)
	if !done && err == nil {
		return ErrPending
	}
	x.conn, x.pool = nil, nil
	if e := p.finish(c, x, err); e != nil {
		return p.again(ctx, x, e)
	}
	return nil
}

// once reports whether the request can't be sent a second time.
func (x *Exchange) once() bool { return x.Rest != nil || x.Sent != nil }

// Spent is where the time of an exchange went, but for that between the request
// and the first bytes of its answer.
type Spent struct {
	Queue   time.Duration // until one of the connections, all busy, was free
	Connect time.Duration // making connections
	Send    time.Duration // of a request that was not taken at once, or that streams
	Body    time.Duration // from the first bytes of Answer to its last; 0 if they came together
}

// Body returns the answer's body, or as much of it as Answer holds.
func (x *Exchange) Body() []byte { return x.Answer[len(x.Response.Head):] }

// CopyTail sends the rest of a long answer to dst. After an error, be it the
// backend's or dst's, Release closes the connection to the backend.
func (x *Exchange) CopyTail(dst io.Writer) error {
	if x.Tail == 0 {
		return nil
	}
	src := &io.LimitedReader{R: x.conn.Conn.Conn, N: x.Tail}
	n, err := io.Copy(dst, src)
	x.Tail -= n
	if err == nil && x.Tail > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// TailReader returns a reader of the rest of a long answer. An answer that ends
// early gives io.ErrUnexpectedEOF.
func (x *Exchange) TailReader() io.Reader { return tailReader{x} }

type tailReader struct{ x *Exchange }

func (r tailReader) Read(p []byte) (int, error) {
	if r.x.Tail == 0 {
		return 0, io.EOF
	}
	n, err := r.x.conn.Conn.Conn.Read(p[:min(int64(len(p)), r.x.Tail)])
	r.x.Tail -= int64(n)
	if err == io.EOF && r.x.Tail > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Release gives back what the answer holds: its buffer and, if a tail was not
// fetched, the connection, which is then closed. More than once is fine.
func (x *Exchange) Release() {
	if x.conn != nil {
		x.pool.done(x.conn, x.Tail == 0 && x.conn.Idle(), time.Now())
		x.conn = nil
	}
	sock.Recycle(x.in.buf)
	x.forgetTold()
	x.in = answer{size: x.in.size}
	x.Response, x.Answer, x.Tail = wire.Response{}, nil, 0
}

// answer collects one answer from a connection and judges it.
type answer struct {
	x       *Exchange
	buf     []byte
	n       int
	need    int       // bytes of head and body; 0 while the head is incomplete
	size    int       // to expect of the next answer
	first   time.Time // when its first bytes came; zero if all came with them
	maxBody int
	whole   int // longest body that is taken whole
	reason  Reason
	err     error
}

// Space implements sock.Handler.
func (a *answer) Space() []byte {
	if a.buf == nil {
		a.buf = sock.BufferFor(a.size)
	}
	if a.n == len(a.buf) {
		a.buf = sock.Grow(a.buf, a.n, max(a.need, 2*a.n))
	}
	return a.buf[a.n:]
}

// Received implements sock.Handler.
func (a *answer) Received(n int) bool {
	a.n += n
	if a.n == 0 {
		return false
	}
	if a.need == 0 && !a.head() {
		a.goesOn()
		return a.reason != ""
	}
	if a.x.Tail > 0 {
		return true
	}
	if a.n < a.need {
		a.goesOn()
		a.buf = sock.Grow(a.buf, a.n, a.need)
		a.reparse()
		return false
	}
	a.x.Answer = a.buf[:a.need]
	if a.n > a.need {
		a.reason = LongAnswer
	}
	return true
}

// goesOn notes when the first bytes came of an answer that comes in parts.
func (a *answer) goesOn() {
	if a.first.IsZero() {
		a.first = time.Now()
	}
}

// took returns for how long the answer came in, until now.
func (a *answer) took(now time.Time) time.Duration {
	if a.first.IsZero() {
		return 0
	}
	return now.Sub(a.first)
}

// head parses and judges the head. It returns false while there is none, and
// if it is refused.
func (a *answer) head() bool {
	r := &a.x.Response
	n, err := wire.ParseResponse(a.buf[:a.n], r)
	switch {
	case err == wire.ErrIncomplete && a.n < wire.DefaultMaxHead:
		return false
	case err == wire.ErrIncomplete || n > wire.DefaultMaxHead:
		err = &wire.SyntaxError{Reason: wire.HeadTooLong, Offset: wire.DefaultMaxHead}
		fallthrough
	case err != nil:
		a.reason, a.err = BadAnswer, err
		return false
	}
	if a.reason = judge(r, a.x.Op, a.maxBody); a.reason != "" {
		return false
	}
	length := r.BodyLen(a.x.Op.Verb())
	a.need = n + length
	if length > a.whole && a.n < a.need {
		a.x.Answer = a.buf[:a.n]
		a.x.Tail = int64(a.need - a.n)
	}
	a.size = sock.Expect(a.size, min(a.need, a.whole+wire.DefaultMaxHead))
	return true
}

// reparse points the response's slices into a buffer that has grown.
func (a *answer) reparse() { _, _ = wire.ParseResponse(a.buf[:a.n], &a.x.Response) }

// judge says what is wrong with an answer that is well formed, "" if nothing
// (protocol.md section 9).
func judge(r *wire.Response, op wire.Op, maxBody int) Reason {
	switch r.Status {
	case wire.StatusOK, wire.StatusBadRequest, wire.StatusNotFound, wire.StatusLocked:
	default:
		return OddStatus
	}
	if r.ContentLength.N > int64(maxBody) {
		return AnswerTooLarge
	}
	if r.Status == wire.StatusOK && r.ContentLength.N == 0 && (op == wire.OpGet || op == wire.OpGetExclusive) {
		return EmptyAnswer
	}
	return ""
}

// conn is a connection to the backend.
type conn struct {
	*sock.Conn
	tls      *tls.Config // that it was made by; nil: plain
	deadline time.Time   // last one set
	used     time.Time   // when it became idle
}

// deadlineSlack is how much earlier than asked for a deadline may be left, so
// that a busy connection's timer is set a few times a second, not each request.
// One that is near is set as it is.
const deadlineSlack = 250 * time.Millisecond

func (c *conn) setDeadline(t, now time.Time) error {
	if d := t.Sub(c.deadline); d >= 0 && d < deadlineSlack && c.deadline.Sub(now) > 4*deadlineSlack {
		return nil
	}
	c.deadline = t
	return c.Conn.SetDeadline(t)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
