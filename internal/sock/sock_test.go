package sock_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
	"stateproxy/internal/sock"
)

// script is what a peer does: it writes the chunks one by one and closes, or
// stays if enough of them are wanted.
type script struct {
	chunks [][]byte
	enough int // bytes that the reader wants; 0: all, to the end
	spaces []int
}

func drawScript(t *rapid.T) script {
	s := script{
		chunks: rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 300), 0, 12).Draw(t, "chunks"),
		spaces: rapid.SliceOfN(rapid.IntRange(1, 400), 1, 8).Draw(t, "spaces"),
	}
	if total := len(s.bytes()); total > 0 && rapid.Bool().Draw(t, "some") {
		s.enough = rapid.IntRange(1, total).Draw(t, "enough")
	}
	return s
}

func (s script) bytes() []byte { return bytes.Join(s.chunks, nil) }

// want returns what a reader must get.
func (s script) want() ([]byte, error) {
	if s.enough > 0 {
		return s.bytes()[:s.enough], nil
	}
	return s.bytes(), io.EOF
}

func (s script) handler() *collector {
	i := -1
	return &collector{enough: s.enough, space: func() int {
		i++
		return s.spaces[i%len(s.spaces)]
	}}
}

func (s script) play(c net.Conn) {
	for _, chunk := range s.chunks {
		c.Write(chunk)
	}
	c.Close()
}

func checkScript(t *rapid.T, s script, h *collector, err error) {
	want, wantErr := s.want()
	if !bytes.Equal(h.got, want) || !errors.Is(err, wantErr) {
		t.Fatalf("loop = %v after %d bytes; want %v after %d", err, len(h.got), wantErr, len(want))
	}
}

func TestReadLoopGetsEveryScript(t *testing.T) {
	for _, link := range links {
		t.Run(link.name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				s := drawScript(rt)
				ours, peer := link.make(t)
				defer ours.Close()
				var wg sync.WaitGroup
				wg.Go(func() { s.play(peer) })
				h := s.handler()
				err := sock.New(ours).ReadLoop(h)
				ours.Close()
				wg.Wait()
				checkScript(rt, s, h, err)
			})
		})
	}
}

func TestExchangeGetsEveryScript(t *testing.T) {
	for _, link := range links {
		t.Run(link.name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				s := drawScript(rt)
				out := rapid.SliceOfN(rapid.Byte(), 1, 3000).Draw(rt, "out")
				ours, peer := link.make(t)
				defer ours.Close()
				var wg sync.WaitGroup
				arrived := make([]byte, len(out))
				wg.Go(func() {
					io.ReadFull(peer, arrived)
					s.play(peer)
				})
				h := s.handler()
				n, err := sock.New(ours).Exchange(out, h)
				ours.Close()
				wg.Wait()
				checkScript(rt, s, h, err)
				if n != len(out) || !bytes.Equal(arrived, out) {
					rt.Fatalf("Exchange wrote %d of %d bytes, or others", n, len(out))
				}
			})
		})
	}
}

// The end of a stream that came together with the last bytes, before either was
// read, must be noticed in the midst of a message.
func TestReadLoopEndWithLastBytes(t *testing.T) {
	for _, size := range []int{1, 4095, 4096, 4097} {
		ours, peer := tcpPair(t)
		want := bytes.Repeat([]byte("x"), size)
		peer.Write(want)
		peer.Close()
		c := sock.New(ours)
		eventually(t, "the bytes are there", func() bool { return !c.Idle() || !looks })
		h := &collector{}
		err := c.ReadLoop(h)
		if err != io.EOF || !bytes.Equal(h.got, want) {
			t.Errorf("ReadLoop over %d bytes and the end = %v after %d; want EOF after all", size, err, len(h.got))
		}
	}
}

func TestReadLoopWithoutMessage(t *testing.T) {
	ours, peer := tcpPair(t)
	h := &collector{on: func(got []byte) {
		if len(got) > 0 {
			peer.Close() // after the read: a sign of its own
		}
	}}
	peer.Write([]byte("all"))
	if err := sock.New(ours).ReadLoop(h); err != io.EOF || string(h.got) != "all" {
		t.Errorf("ReadLoop = %v after %q; want EOF after %q", err, h.got, "all")
	}
}

func TestReset(t *testing.T) {
	ours, peer := tcpPair(t)
	c := sock.New(ours)
	h := &collector{on: func(got []byte) {
		if len(got) > 0 {
			reset(peer)
		}
	}}
	var err error
	var wg sync.WaitGroup
	wg.Go(func() { err = c.ReadLoop(h) })
	peer.Write([]byte("begin"))
	wg.Wait()
	if string(h.got) != "begin" || err == nil || err == io.EOF {
		t.Errorf("ReadLoop at a reset = %v after %q; want an error that is not EOF, after %q", err, h.got, "begin")
	}
}

func TestDeadlines(t *testing.T) {
	for _, link := range links {
		t.Run(link.name, func(t *testing.T) {
			ours, peer := link.make(t)
			c := sock.New(ours)
			var wg sync.WaitGroup
			defer wg.Wait()
			defer peer.Close()

			c.SetDeadline(time.Unix(1, 0))
			n, err := c.Exchange([]byte("late"), &collector{})
			if !errors.Is(err, os.ErrDeadlineExceeded) || n >= len("late") {
				t.Fatalf("Exchange after the deadline = %d, %v; want less than 4 and deadline exceeded", n, err)
			}
			if err := c.ReadLoop(&collector{}); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("ReadLoop after the deadline = %v; want deadline exceeded", err)
			}

			c.SetDeadline(time.Now().Add(patience))
			wg.Go(func() { drain(peer) })
			h := &collector{}
			timer := time.AfterFunc(time.Millisecond, func() { c.SetReadDeadline(time.Unix(1, 0)) })
			defer timer.Stop()
			n, err = c.Exchange([]byte("sent"), h)
			if !errors.Is(err, os.ErrDeadlineExceeded) || len(h.got) > 0 {
				t.Fatalf("Exchange without an answer = %d, %v, %q; want deadline exceeded and nothing", n, err, h.got)
			}

			c.SetDeadline(time.Now().Add(patience)) // it lives on
			wg.Go(func() { peer.Write([]byte("answer")) })
			if h := (&collector{enough: 6}); c.ReadLoop(h) != nil || string(h.got) != "answer" {
				t.Fatalf("ReadLoop with a new deadline got %q; want %q", h.got, "answer")
			}
		})
	}
}

func TestCloseEndsLoop(t *testing.T) {
	for _, link := range links {
		t.Run(link.name, func(t *testing.T) {
			ours, peer := link.make(t)
			c := sock.New(ours)
			begun := make(chan struct{})
			var once sync.Once
			h := &collector{space: func() int { return 1 }, on: func([]byte) { once.Do(func() { close(begun) }) }}
			result := make(chan error, 1)
			go func() { result <- c.ReadLoop(h) }()
			peer.Write([]byte("x"))
			<-begun
			c.Close()
			if err := <-result; err == nil || err == io.EOF {
				t.Errorf("ReadLoop of a closed connection = %v; want an error that is not EOF", err)
			}
			if n, err := c.Exchange([]byte("out"), h); err == nil || n >= 3 {
				t.Errorf("Exchange on a closed connection = %d, %v; want an error of writing", n, err)
			}
			n, err := c.Write([]byte("out"))
			if n != 0 || !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("Write on a closed connection = %d, %v; want 0 and that it is closed", n, err)
			}
		})
	}
}

// A handler that writes more than the socket takes waits for a slow reader, and
// nothing is lost or doubled.
func TestWriteInLoopToSlowReader(t *testing.T) {
	const size = 1 << 20
	for _, link := range links {
		t.Run(link.name, func(t *testing.T) {
			ours, peer := link.make(t)
			if tc, ok := ours.(*net.TCPConn); ok {
				tc.SetWriteBuffer(16 << 10)
				peer.(*net.TCPConn).SetReadBuffer(64 << 10)
			}
			answer := make([]byte, size)
			rand.NewChaCha8([32]byte{1}).Read(answer)
			c := sock.New(ours)
			var wrote int
			var err error
			h := &collector{enough: 1, on: func(got []byte) {
				if len(got) > 0 {
					wrote, err = writeAll(c, answer)
				}
			}}
			var wg sync.WaitGroup
			wg.Go(func() { c.ReadLoop(h) })
			peer.Write([]byte("?"))
			got := make([]byte, 0, size)
			for p := make([]byte, 1000); len(got) < size; {
				n, err := peer.Read(p)
				if err != nil {
					t.Fatalf("read at %d: %v", len(got), err)
				}
				got = append(got, p[:n]...)
			}
			wg.Wait()
			if wrote != size || err != nil || !bytes.Equal(got, answer) {
				t.Errorf("Write in the loop = %d, %v; want %d, and the same bytes at the peer", wrote, err, size)
			}
		})
	}
}

// writeAll writes b in large pieces, so that all but the first meet a socket
// that is full.
func writeAll(c *sock.Conn, b []byte) (wrote int, err error) {
	for piece := range slices.Chunk(b, 300<<10) {
		n, err := c.Write(piece)
		wrote += n
		if err != nil {
			return wrote, err
		}
	}
	return wrote, nil
}

// A peer that goes away while a handler or Exchange writes.
func TestWriteErrors(t *testing.T) {
	big := make([]byte, 8<<20)
	tests := []struct {
		name  string
		write func(c *sock.Conn, peer net.Conn) (int, error)
	}{
		{"exchange", func(c *sock.Conn, peer net.Conn) (int, error) {
			peer.Read(make([]byte, 1))
			return c.Exchange(big, &collector{})
		}},
		{"in the loop", func(c *sock.Conn, peer net.Conn) (n int, err error) {
			c.ReadLoop(&collector{enough: 1, on: func(got []byte) {
				if len(got) > 0 {
					n, err = c.Write(big)
				}
			}})
			return n, err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ours, peer := tcpPair(t)
			ours.Write([]byte("x"))
			peer.Write([]byte("x"))
			var wg sync.WaitGroup
			wg.Go(func() {
				io.ReadFull(peer, make([]byte, 1<<20)) // it has begun
				reset(peer)
			})
			c := sock.New(ours)
			n, err := tt.write(c, ours)
			wg.Wait()
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || n >= len(big) {
				t.Errorf("writing to a peer that resets = %d, %v; want less than %d and the reset", n, err, len(big))
			}
		})
	}
}

func TestWriteOfNothingInLoop(t *testing.T) {
	ours, peer := tcpPair(t)
	c := sock.New(ours)
	n, err := 1, error(nil)
	h := &collector{enough: 1, on: func([]byte) { n, err = c.Write(nil) }}
	peer.Write([]byte("x"))
	if c.ReadLoop(h) != nil || n != 0 || err != nil {
		t.Errorf("Write(nil) in the loop = %d, %v; want 0, nil", n, err)
	}
}

func TestWriteAfterReset(t *testing.T) {
	ours, peer := tcpPair(t)
	c := sock.New(ours)
	reset(peer)
	eventually(t, "the reset is there", c.PeerClosed)
	n, err := c.Exchange([]byte("request"), &collector{})
	if n != 0 || err == nil {
		t.Errorf("Exchange after a reset = %d, %v; want 0 and an error", n, err)
	}
	if runsRaw && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Exchange after a reset = %v; want the system's error", err)
	}
}

func TestIdleAndPeerClosed(t *testing.T) {
	tests := []struct {
		name         string
		do           func(ours, peer net.Conn)
		idle, closed bool
	}{
		{"open", func(_, _ net.Conn) {}, true, false},
		{"bytes unread", func(_, peer net.Conn) { peer.Write([]byte("x")) }, false, false},
		{"peer closed", func(_, peer net.Conn) { peer.Close() }, false, true},
		{"peer closed its side", func(_, peer net.Conn) { peer.(*net.TCPConn).CloseWrite() }, false, true},
		{"peer reset", func(_, peer net.Conn) { reset(peer) }, false, true},
		{"closed here", func(ours, _ net.Conn) { ours.Close() }, false, true},
	}
	if !looks {
		t.Log("this system has no look at a socket: all are taken to be idle")
	}
	for _, tt := range tests {
		for _, ask := range []string{"Idle", "PeerClosed"} {
			t.Run(tt.name+"/"+ask, func(t *testing.T) {
				ours, peer := tcpPair(t)
				c := sock.New(ours)
				tt.do(c, peer)
				got, want := c.Idle, tt.idle || !looks
				if ask == "PeerClosed" {
					got, want = c.PeerClosed, tt.closed && looks
				}
				eventually(t, "the answer is right", func() bool { return got() == want })
				if got() != want && tt.name != "peer reset" { // a reset may be told only once
					t.Errorf("%s() changed; want %v", ask, want)
				}
			})
		}
	}
}

func TestLookInsideLoop(t *testing.T) {
	ours, peer := tcpPair(t)
	c := sock.New(ours)
	peer.Write([]byte("x"))
	var open, ended bool
	h := &collector{enough: 1, on: func(got []byte) {
		if len(got) == 0 {
			return
		}
		open = c.Idle() && !c.PeerClosed()
		peer.Close()
		eventually(t, "the end is seen", func() bool { return !looks || c.PeerClosed() && !c.Idle() })
		ended = true
	}}
	if err := c.ReadLoop(h); err != nil || !open || !ended {
		t.Errorf("in the loop: err %v, open %v, end seen %v; want nil, true, true", err, open, ended)
	}
}

func TestPipeCanNotBeLookedAt(t *testing.T) {
	ours, peer := net.Pipe()
	defer ours.Close()
	peer.Close()
	if c := sock.New(ours); !c.Idle() || c.PeerClosed() {
		t.Errorf("Idle, PeerClosed of a pipe = %v, %v; want true, false", c.Idle(), c.PeerClosed())
	}
}
