package backend_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/wire"
)

// bad answers every request with what is given and closes.
func bad(answer string) func(c *peer) {
	return func(c *peer) {
		if c.next() {
			c.say(answer)
		}
	}
}

func TestReasonsOfAnswers(t *testing.T) {
	const head = "200 OK\r\nX-AspNet-Version: 4.0.30319\r\nLockCookie: 7\r\n"
	lock := wire.Some(7)
	none := wire.Int{}
	tests := []struct {
		name   string
		op     wire.Op
		answer string
		want   backend.Reason
		status int
		lock   wire.Int
	}{
		{"nothing", wire.OpGetExclusive, "", backend.Closed, 0, none},
		{"part of the status", wire.OpGet, "20", backend.CutAnswer, 0, none},
		{"part of the head", wire.OpGetExclusive, head, backend.CutAnswer, 0, lock},
		{"part of the lock", wire.OpGetExclusive, strings.TrimSuffix(head, "\r\n"), backend.CutAnswer, 0, none},
		{"part of the body", wire.OpGetExclusive, head + "Content-Length: 9\r\n\r\nbody", backend.CutAnswer, 0, lock},
		{"503", wire.OpGet, "503 Server Too Busy\r\nContent-Length: 0\r\n\r\n", backend.OddStatus, 503, none},
		{"503 with a body", wire.OpSet, "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", backend.OddStatus, 503, none},
		{"500", wire.OpRemove, "500 Internal\r\nContent-Length: 0\r\n\r\n", backend.OddStatus, 500, none},
		{"204", wire.OpSet, "204 No Content\r\nContent-Length: 0\r\n\r\n", backend.OddStatus, 204, none},
		{"302", wire.OpGet, "302 Found\r\nContent-Length: 0\r\n\r\n", backend.OddStatus, 302, none},
		{"another protocol", wire.OpGet, "SSH-2.0-OpenSSH_9.6\r\n", backend.BadAnswer, 0, none},
		{"chunked", wire.OpGet, "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", backend.BadAnswer, 0, none},
		{"no length", wire.OpGet, "200 OK\r\n\r\nbody", backend.BadAnswer, 0, none},
		{"two lengths", wire.OpGet, "200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody", backend.BadAnswer, 0, none},
		{"empty item", wire.OpGet, head + "Content-Length: 0\r\n\r\n", backend.EmptyAnswer, 0, none},
		{"empty item locked", wire.OpGetExclusive, head + "Content-Length: 0\r\n\r\n", backend.EmptyAnswer, 0, lock},
		{"more than announced", wire.OpGetExclusive, head + "Content-Length: 4\r\n\r\nbody!", backend.LongAnswer, 0, lock},
		{"two answers", wire.OpSet, done + done, backend.LongAnswer, 0, none},
		{"body on HEAD", wire.OpResetTimeout, found, backend.LongAnswer, 0, none},
		{"too large", wire.OpGetExclusive, head + "Content-Length: 1048577\r\n\r\nb", backend.AnswerTooLarge, 0, lock},
		{"too large for HEAD even so", wire.OpResetTimeout, head + "Content-Length: 1048577\r\n\r\n", backend.AnswerTooLarge, 0, none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := overTCP(t, bad(tt.answer))
			p.Configure(backend.Settings{MaxBody: 1 << 20})
			e := fault(t, p, exchange(tt.op))
			if e.Reason != tt.want || !e.Sent || e.Lock != tt.lock {
				t.Errorf("RoundTrip(%v) = %v, sent %v, lock %v; want %v, sent, lock %v", tt.op, e, e.Sent, e.Lock, tt.want, tt.lock)
			}
			if tt.status != 0 && e.Status != tt.status {
				t.Errorf("Status = %d; want %d", e.Status, tt.status)
			}
			ours := tt.want == backend.EmptyAnswer || tt.want == backend.AnswerTooLarge
			if e.BackendFault() == ours {
				t.Errorf("BackendFault() of %v = %v; want %v", e.Reason, e.BackendFault(), !ours)
			}
			if s := p.Stats(); s.Open != 0 || p.Tracked() != 0 {
				t.Errorf("Stats = %+v; want the connection closed", s)
			}
		})
	}
}

// The lengths and statuses that the protocol allows are no faults.
func TestAnswersThatPass(t *testing.T) {
	tests := []struct {
		name   string
		op     wire.Op
		answer string
		status int
		body   string
	}{
		{"item", wire.OpGet, found, 200, "body"},
		{"item with HTTP version", wire.OpGet, "HTTP/1.1 " + found, 200, "body"},
		{"200 to release", wire.OpRelease, done, 200, ""},
		{"200 to PUT", wire.OpSet, done, 200, ""},
		{"404", wire.OpGetExclusive, absent, 404, ""},
		{"404 with a text", wire.OpGet, "404 Not Found\r\nContent-Length: 3\r\n\r\nno!", 404, "no!"},
		{"400", wire.OpRemove, "400 Bad Request\r\nContent-Length: 0\r\n\r\n", 400, ""},
		{"423", wire.OpGetExclusive, "423 Locked\r\nLockCookie: 3\r\nLockAge: 1\r\nContent-Length: 0\r\n\r\n", 423, ""},
		{"length on HEAD", wire.OpResetTimeout, "200 OK\r\nContent-Length: 30\r\n\r\n", 200, ""},
		{"as large as may be", wire.OpGet, "200 OK\r\nContent-Length: 10\r\n\r\n0123456789", 200, "0123456789"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := overTCP(t, func(c *peer) {
				for c.next() {
					c.say(tt.answer)
				}
			})
			p.Configure(backend.Settings{MaxBody: 30})
			x := exchange(tt.op)
			for range 3 {
				if err := p.RoundTrip(t.Context(), x); err != nil {
					t.Fatalf("RoundTrip = %v; want nil", err)
				}
				if x.Response.Status != tt.status || string(x.Body()) != tt.body || string(x.Answer) != tt.answer {
					t.Errorf("answer = %q, status %d, body %q; want %q, %d, %q",
						x.Answer, x.Response.Status, x.Body(), tt.answer, tt.status, tt.body)
				}
				if x.Ended.IsZero() {
					t.Error("Ended is not set")
				}
				x.Release()
			}
			if s := p.Stats(); s.Dials != 1 || s.Idle != 1 {
				t.Errorf("Stats = %+v; want one connection for all", s)
			}
		})
	}
}

func TestReasonsOfDialing(t *testing.T) {
	noRoute := errors.New("no route to host")
	tests := []struct {
		name string
		pool *backend.Pool
		want backend.Reason
	}{
		{"refused", &backend.Pool{Address: "127.0.0.1:1"}, backend.DialRefused},
		{"timeout", &backend.Pool{Address: "a", Dial: dialError(context.DeadlineExceeded)}, backend.DialTimeout},
		{"timeout of the system", &backend.Pool{Address: "a", Dial: dialError(&net.DNSError{IsTimeout: true})}, backend.DialTimeout},
		{"any other", &backend.Pool{Address: "a", Dial: dialError(noRoute)}, backend.DialError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := fault(t, tt.pool, exchange(wire.OpGet))
			if e.Reason != tt.want || e.Sent || !e.BackendFault() {
				t.Errorf("RoundTrip = %v, sent %v; want %v, not sent, a fault of the backend", e, e.Sent, tt.want)
			}
			if tt.want == backend.DialError && !errors.Is(e, noRoute) {
				t.Errorf("RoundTrip = %v; want %v wrapped", e, noRoute)
			}
			if s := tt.pool.Stats(); s.Open != 0 || s.DialErrors != 1 {
				t.Errorf("Stats = %+v; want none open, 1 dial error", s)
			}
		})
	}
}

func dialError(err error) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) { return nil, err }
}

func TestReasonsOfSending(t *testing.T) {
	closed := &backend.Pool{Address: "closed", Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		theirs.Close()
		return ours, nil
	}}
	if e := fault(t, closed, exchange(wire.OpGet)); e.Reason != backend.SendError || e.Sent || !e.BackendFault() {
		t.Errorf("request to a closed connection = %v, sent %v; want %v, not sent", e, e.Sent, backend.SendError)
	}

	cut := errors.New("client gone")
	tests := []struct {
		name  string
		rest  io.Reader
		cause error
	}{
		{"body ends early", strings.NewReader("short"), io.ErrUnexpectedEOF},
		{"client's error", io.MultiReader(strings.NewReader("short"), readerFunc(func([]byte) (int, error) { return 0, cut })), cut},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, f := overTCP(t, good)
			e := fault(t, p, longSet(tt.rest, 1000))
			if e.Reason != backend.RelayError || !e.Sent || e.BackendFault() || !errors.Is(e, tt.cause) {
				t.Errorf("RoundTrip = %v, sent %v; want %v because of %v, no fault of the backend",
					e, e.Sent, backend.RelayError, tt.cause)
			}
			if s := p.Stats(); s.Open != 0 || len(f.requests()) != 0 {
				t.Errorf("Stats = %+v, backend saw %v; want the connection closed, no whole request", s, f.requests())
			}
		})
	}
}

func TestReasonTimeout(t *testing.T) {
	for _, begin := range []string{"", "200 OK\r\n", "200 OK\r\nContent-Length: 9\r\n\r\nbody"} {
		synctest.Test(t, func(t *testing.T) {
			p, _ := inMemory(t, func(c *peer) {
				c.next()
				c.say(begin)
				c.gone()
			})
			x := exchange(wire.OpGet)
			x.Deadline = time.Now().Add(time.Second)
			if e := fault(t, p, x); e.Reason != backend.Timeout || !e.Sent || !e.BackendFault() {
				t.Errorf("RoundTrip after %q = %v; want %v", begin, e, backend.Timeout)
			}
			if s := p.Stats(); s.Open != 0 {
				t.Errorf("Stats = %+v; want the connection closed", s)
			}
		})
	}
}

// A deadline that is past before anything was written.
func TestDeadlineIsPast(t *testing.T) {
	eachOp(t, func(t *testing.T, op wire.Op) {
		p, f := overTCP(t, good)
		ask(t, p, wire.OpResetTimeout)
		x := exchange(op)
		x.Deadline = time.Unix(1, 0)
		if e := fault(t, p, x); e.Reason != backend.Timeout || e.Sent {
			t.Errorf("RoundTrip = %v, sent %v; want %v, not sent", e, e.Sent, backend.Timeout)
		}
		if s := p.Stats(); s.Open != 0 || p.Tracked() != 0 || len(f.requests()) != 1 {
			t.Errorf("Stats = %+v, %d tracked, backend saw %v; want all closed at once, nothing sent", s, p.Tracked(), f.requests())
		}
		x.Deadline = time.Now().Add(patience) // the exchange can be made again
		if err := p.RoundTrip(t.Context(), x); err != nil {
			t.Errorf("RoundTrip with a new deadline = %v; want nil", err)
		}
		x.Release()
	})
}

func TestErrorText(t *testing.T) {
	cause := errors.New("cause")
	tests := []struct {
		err  *backend.Error
		want string
	}{
		{&backend.Error{Address: "10.0.0.1:42424", Reason: backend.Closed, Err: cause}, "backend 10.0.0.1:42424: closed: cause"},
		{&backend.Error{Address: "10.0.0.1:42424", Reason: backend.EmptyAnswer}, "backend 10.0.0.1:42424: empty_answer"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("Error() = %q; want %q", got, tt.want)
		}
		if got := errors.Unwrap(tt.err); got != tt.err.Err {
			t.Errorf("Unwrap() = %v; want %v", got, tt.err.Err)
		}
	}
}
