package backend_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/wire"
)

// item returns an answer with a body of n bytes that no other size has, and
// that body.
func item(n int) (answer, body string) {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return "200 OK\r\nX-AspNet-Version: 4.0.30319\r\nLockCookie: 5\r\nContent-Length: " +
		strconv.Itoa(n) + "\r\n\r\n" + string(b), string(b)
}

// itemOf returns an answer that is n bytes long with its head.
func itemOf(n int) (answer, body string) {
	for size := n; ; size-- {
		if answer, body = item(size); len(answer) == n {
			return answer, body
		}
	}
}

// checkItem checks an answer that came whole.
func checkItem(t *testing.T, x *backend.Exchange, answer, body string) {
	t.Helper()
	r := &x.Response
	if string(x.Answer) != answer || string(x.Body()) != body || x.Tail != 0 {
		t.Fatalf("answer of %d bytes, body of %d, tail %d; want %d, %d, none, and the bytes that were sent",
			len(x.Answer), len(x.Body()), x.Tail, len(answer), len(body))
	}
	if string(r.AspNetVersion) != "4.0.30319" || string(r.Reason) != "OK" || r.LockCookie != wire.Some(5) {
		t.Fatalf("Response = %q %q %v; want the fields as sent", r.AspNetVersion, r.Reason, r.LockCookie)
	}
	if &r.Head[0] != &x.Answer[0] || len(r.Head) != len(answer)-len(body) {
		t.Fatal("Response.Head is no slice of Answer")
	}
}

// However an answer is cut into pieces, and whatever its size, it is the same.
func TestAnswerInPieces(t *testing.T) {
	tests := []struct{ body, piece int }{
		{1, 1}, {500, 1}, {500, 7}, {4096, 1000}, {20_000, 16 << 10}, {40_000, 999}, {64 << 10, 5000}, {64 << 10, 1 << 20},
	}
	for _, tt := range tests {
		for _, link := range []struct {
			name string
			make func(testing.TB, func(c *peer)) (*backend.Pool, *farm)
		}{{"tcp", overTCP}, {"pipe", inMemory}} {
			t.Run(fmt.Sprintf("%d in pieces of %d/%s", tt.body, tt.piece, link.name), func(t *testing.T) {
				answer, body := item(tt.body)
				p, _ := link.make(t, func(c *peer) {
					for c.next() {
						for rest := answer; rest != ""; {
							n := min(tt.piece, len(rest))
							c.say(rest[:n])
							rest = rest[n:]
						}
					}
				})
				x := exchange(wire.OpGet)
				for range 3 {
					if err := p.RoundTrip(t.Context(), x); err != nil {
						t.Fatal(err)
					}
					checkItem(t, x, answer, body)
					x.Release()
				}
				if s := p.Stats(); s.Dials != 1 || s.Idle != 1 {
					t.Errorf("Stats = %+v; want one connection for all", s)
				}
			})
		}
	}
}

// One exchange is used for answers of all sizes, one after the other.
func TestExchangeIsUsedAgain(t *testing.T) {
	sizes := []int{10, 60_000, 9000, 64 << 10, 1, 16 << 10, 30_000, 30_000, 5}
	for n := 16_300; n < 16_400; n += 9 { // about as long as the first buffer
		sizes = append(sizes, n)
	}
	p, _ := overTCP(t, func(c *peer) {
		for _, size := range sizes {
			answer, _ := item(size)
			c.next()
			c.say(answer)
		}
		c.next()
	})
	x := exchange(wire.OpGet)
	for _, size := range sizes {
		if err := p.RoundTrip(t.Context(), x); err != nil {
			t.Fatalf("body of %d bytes: %v", size, err)
		}
		answer, body := item(size)
		checkItem(t, x, answer, body)
		x.Release()
		x.Release() // more than once is fine
	}
	if s := p.Stats(); s.Dials != 1 {
		t.Errorf("Stats = %+v; want one connection", s)
	}
}

// A head may be as long as wire.DefaultMaxHead and no longer, however it comes.
func TestHeadLimit(t *testing.T) {
	headOf := func(n int) string {
		const begin, end = "200 OK\r\nX-Pad: ", "\r\nContent-Length: 4\r\n\r\n"
		return begin + strings.Repeat("x", n-len(begin)-len(end)) + end
	}
	for _, over := range []int{-1, 0, 1, 100, 5000} {
		for _, piece := range []int{1, 1000, 4096, 1 << 20} {
			t.Run(fmt.Sprintf("%+d in pieces of %d", over, piece), func(t *testing.T) {
				answer := headOf(wire.DefaultMaxHead+over) + "body"
				p, _ := overTCP(t, func(c *peer) {
					c.next()
					for rest := answer; rest != ""; {
						n := min(piece, len(rest))
						c.say(rest[:n])
						rest = rest[n:]
					}
					c.next()
				})
				x := exchange(wire.OpGet)
				if over <= 0 {
					if err := p.RoundTrip(t.Context(), x); err != nil || string(x.Answer) != answer {
						t.Fatalf("RoundTrip = %v, answer of %d bytes; want nil, %d", err, len(x.Answer), len(answer))
					}
					x.Release()
					return
				}
				e := fault(t, p, x)
				var syntax *wire.SyntaxError
				if e.Reason != backend.BadAnswer || !errors.As(e, &syntax) || syntax.Reason != wire.HeadTooLong {
					t.Errorf("RoundTrip = %v; want %v because of %v", e, backend.BadAnswer, wire.HeadTooLong)
				}
			})
		}
	}
}

// A backend that stops where the limit is, is not waited for.
func TestHeadLimitWithoutMore(t *testing.T) {
	p, _ := overTCP(t, func(c *peer) {
		c.next()
		c.say("200 OK\r\nX-Pad: " + strings.Repeat("x", wire.DefaultMaxHead-len("200 OK\r\nX-Pad: ")))
		c.gone()
	})
	if e := fault(t, p, exchange(wire.OpGet)); e.Reason != backend.BadAnswer {
		t.Errorf("RoundTrip = %v; want %v", e, backend.BadAnswer)
	}
}

// Bytes behind an answer that fills its buffer, or whose tail was fetched, are
// not seen with it. The connection is closed all the same, so that they can't be
// taken for the next answer.
func TestBytesBehindTheAnswer(t *testing.T) {
	t.Run("full buffer", func(t *testing.T) {
		for _, n := range []int{backend.FirstRead, 72 << 10, 100 << 10} {
			answer, body := itemOf(n)
			p, f := overTCP(t, func(c *peer) {
				if c.next() && c.n == 0 {
					c.say(answer + found)
					c.gone()
				}
				c.say(absent)
			})
			p.Configure(backend.Settings{MaxWhole: 1 << 20})
			x := exchange(wire.OpGet)
			err := p.RoundTrip(t.Context(), x)
			var e *backend.Error
			if err == nil {
				checkItem(t, x, answer, body)
			} else if !errors.As(err, &e) || e.Reason != backend.LongAnswer {
				t.Fatalf("answer of %d bytes and more: %v; want nil or %v", n, err, backend.LongAnswer)
			}
			x.Release()
			if err := p.RoundTrip(t.Context(), x); err != nil || x.Response.Status != 404 {
				t.Errorf("after %d bytes: %v, status %d from %v; want 404, from a new connection",
					n, err, x.Response.Status, f.requests())
			}
			x.Release()
		}
	})
	t.Run("tail", func(t *testing.T) {
		answer, body := item(200 << 10)
		p, f := overTCP(t, func(c *peer) {
			if c.next() && c.n == 0 {
				c.say(answer + found)
				c.gone()
			}
			c.say(absent)
		})
		x := exchange(wire.OpGet)
		if err := p.RoundTrip(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		got := bytes.NewBuffer(bytes.Clone(x.Body()))
		if err := x.CopyTail(got); err != nil || got.String() != body {
			t.Fatalf("CopyTail = %v after %d bytes; want the body of %d", err, got.Len(), len(body))
		}
		eventually(t, "the bytes behind are there", func() bool { return !x.Quiet() })
		x.Release()
		if err := p.RoundTrip(t.Context(), x); err != nil || x.Response.Status != 404 {
			t.Errorf("after a tail: %v, status %d from %v; want 404, from a new connection", err, x.Response.Status, f.requests())
		}
		x.Release()
	})
}

// What is longer than MaxWhole has a tail, unless all of it came at once.
func TestMaxWhole(t *testing.T) {
	const whole = 20 << 10
	for _, tt := range []struct {
		body int
		tail bool
	}{{whole, false}, {whole + 1, true}, {1 << 20, true}} {
		answer, body := item(tt.body)
		p, _ := overTCP(t, func(c *peer) {
			for c.next() {
				c.say(answer)
			}
		})
		p.Configure(backend.Settings{MaxWhole: whole})
		x := exchange(wire.OpGet)
		if err := p.RoundTrip(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		if got := x.Tail > 0; got != tt.tail || int64(len(x.Body()))+x.Tail != int64(tt.body) {
			t.Errorf("body of %d bytes: %d in Answer, tail of %d; want a tail %v", tt.body, len(x.Body()), x.Tail, tt.tail)
		}
		if !bytes.HasPrefix([]byte(body), x.Body()) {
			t.Errorf("body of %d bytes: Answer holds another beginning", tt.body)
		}
		x.Release()
	}

	small, body := item(3000) // in one piece, and below the first buffer
	p, _ := overTCP(t, func(c *peer) {
		for c.next() {
			c.say(small)
		}
	})
	p.Configure(backend.Settings{MaxWhole: 1000})
	x := exchange(wire.OpGet)
	if err := p.RoundTrip(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	if got := string(x.Body()); !strings.HasPrefix(body, got) || int64(len(got))+x.Tail != 3000 {
		t.Errorf("%d bytes in Answer and a tail of %d; want 3000", len(got), x.Tail)
	}
	x.Release()
}

func TestTail(t *testing.T) {
	const size = 300 << 10
	answer, body := item(size)
	fetches := []struct {
		name string
		tail func(x *backend.Exchange) ([]byte, error)
	}{
		{"CopyTail", func(x *backend.Exchange) ([]byte, error) {
			var b bytes.Buffer
			err := x.CopyTail(&b)
			return b.Bytes(), err
		}},
		{"TailReader", func(x *backend.Exchange) ([]byte, error) { return io.ReadAll(x.TailReader()) }},
	}
	ends := []struct {
		name string
		sent int // bytes of the answer
		want error
	}{
		{"whole", len(answer), nil},
		{"cut", len(answer) - 1, io.ErrUnexpectedEOF},
	}
	for _, fetch := range fetches {
		for _, end := range ends {
			t.Run(fetch.name+"/"+end.name, func(t *testing.T) {
				p, f := overTCP(t, func(c *peer) {
					for c.next() {
						c.say(answer[:end.sent])
						if end.sent < len(answer) {
							return
						}
					}
				})
				x := exchange(wire.OpGet)
				for range 2 {
					if err := p.RoundTrip(t.Context(), x); err != nil {
						t.Fatal(err)
					}
					if x.Tail == 0 {
						t.Fatal("the answer has no tail")
					}
					got := bytes.Clone(x.Body())
					tail, err := fetch.tail(x)
					got = append(got, tail...)
					if err != end.want || !strings.HasPrefix(body, string(got)) || len(got) != size-(len(answer)-end.sent) {
						t.Errorf("%s = %v, %d bytes in all; want %v, %d", fetch.name, err, len(got), end.want, size-(len(answer)-end.sent))
					}
					if end.want == nil && (x.CopyTail(nil) != nil || x.Tail != 0) {
						t.Errorf("after it a tail of %d is left; want none", x.Tail)
					}
					x.Release()
				}
				want := 2 // connections
				if end.want == nil {
					want = 1
				}
				if s := p.Stats(); s.Dials != int64(want) || s.Open != 2-want {
					t.Errorf("Stats = %+v after %v; want %d dials, %d open", s, f.requests(), want, 2-want)
				}
			})
		}
	}
}

// A tail that nobody wanted, or that its reader did not take, costs the
// connection.
func TestTailLeft(t *testing.T) {
	answer, _ := item(300 << 10)
	full := errors.New("disk full")
	tests := []struct {
		name string
		take func(t *testing.T, x *backend.Exchange)
	}{
		{"all of it", func(*testing.T, *backend.Exchange) {}},
		{"its end", func(t *testing.T, x *backend.Exchange) {
			io.CopyN(io.Discard, x.TailReader(), x.Tail-1)
			if x.Tail != 1 {
				t.Errorf("Tail = %d; want 1", x.Tail)
			}
		}},
		{"by an error", func(t *testing.T, x *backend.Exchange) {
			err := x.CopyTail(writerFunc(func(p []byte) (int, error) { return len(p) / 2, full }))
			if err != full || x.Tail == 0 {
				t.Errorf("CopyTail = %v, tail of %d left; want %v and some", err, x.Tail, full)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := overTCP(t, func(c *peer) {
				c.next()
				c.say(answer)
				c.gone()
			})
			x := exchange(wire.OpGet)
			if err := p.RoundTrip(t.Context(), x); err != nil {
				t.Fatal(err)
			}
			if s := p.Stats(); s.Busy != 1 || s.Idle != 0 {
				t.Errorf("Stats with a tail to come = %+v; want 1 busy", s)
			}
			tt.take(t, x)
			x.Release()
			x.Release()
			if s := p.Stats(); s.Open != 0 || p.Tracked() != 0 {
				t.Errorf("Stats = %+v; want the connection closed", s)
			}
		})
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A backend that stalls within a tail is given up at the deadline.
func TestTailStalls(t *testing.T) {
	answer, _ := item(300 << 10)
	synctest.Test(t, func(t *testing.T) {
		p, _ := inMemory(t, func(c *peer) {
			c.next()
			c.say(answer[:len(answer)-1])
			c.gone()
		})
		x := exchange(wire.OpGet)
		x.Deadline = time.Now().Add(8 * time.Second)
		start := time.Now()
		if err := p.RoundTrip(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		var ne interface{ Timeout() bool }
		if err := x.CopyTail(io.Discard); !errors.As(err, &ne) || !ne.Timeout() || x.Tail != 1 {
			t.Errorf("CopyTail = %v, tail of %d; want a timeout, 1", err, x.Tail)
		}
		if took := time.Since(start); took != 8*time.Second {
			t.Errorf("it took %v; want 8s", took)
		}
		x.Release()
	})
}

// A long body goes out in two parts, and arrives as one.
func TestLongRequest(t *testing.T) {
	const size = 1 << 20
	body := make([]byte, size)
	rand.NewChaCha8([32]byte{3}).Read(body)
	same := make(chan bool, 2)
	p, _ := overTCP(t, func(c *peer) {
		for c.next() {
			same <- string(c.body) == "begin"+string(body)
			c.say(done)
		}
	})
	for range 2 {
		x := longSet(bytes.NewReader(append(body, "of the next request"...)), size)
		if err := p.RoundTrip(t.Context(), x); err != nil || x.Response.Status != 200 {
			t.Fatalf("RoundTrip = %v, status %d; want nil, 200", err, x.Response.Status)
		}
		x.Release()
		if !<-same {
			t.Error("another body arrived")
		}
	}
	if s := p.Stats(); s.Dials != 1 || s.Idle != 1 {
		t.Errorf("Stats = %+v; want one connection", s)
	}
}
