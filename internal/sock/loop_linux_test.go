package sock_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"stateproxy/internal/sock"
)

// waiting serves a connection by Await and Step, as the package's comment shows.
type waiting struct {
	*sock.Conn
	h      sock.Handler
	detach func() bool // may be nil
	ended  chan error  // has room
}

func (c *waiting) Ready(w *sock.Worker) {
	c.On(w)
	for {
		if c.detach != nil && c.detach() {
			w.Detach()
		}
		if done, err := c.Step(c.h); done || err != nil {
			c.ended <- err
			return
		}
		if c.Await(c) {
			return
		}
	}
}

func startWaiting(nc net.Conn, h sock.Handler) *waiting {
	c := &waiting{Conn: sock.New(nc), h: h, ended: make(chan error, 1)}
	if !c.Waits() {
		panic("a TCP connection that can't wait")
	}
	c.Ready(nil)
	return c
}

// Thousands of exchanges with connections that no goroutine waits for, some of
// which move to another loop or take their worker away: a wake-up that is lost shows
// as a deadline.
func TestAwaitLosesNoWakeUp(t *testing.T) {
	const connections, rounds = 32, 250
	var wg sync.WaitGroup
	for i := range connections {
		ours, peer := tcpPair(t)
		rnd := rand.New(rand.NewPCG(uint64(i), 1))
		h := &echoer{rnd: rnd}
		c := &waiting{Conn: sock.New(peer), h: h, ended: make(chan error, 1)}
		c.detach = func() bool { return i%4 == 0 && rnd.IntN(8) == 0 }
		h.c = c.Conn
		wg.Go(func() {
			c.Ready(nil)
			<-c.ended
			c.Close()
		})
		wg.Go(func() { pingAll(t, i, ours, rounds) })
	}
	wg.Wait()
}

// elsewhere is a waiter that takes a connection along to the worker of another.
type elsewhere struct {
	take  *sock.Conn
	moved chan struct{}
}

func (e *elsewhere) Ready(w *sock.Worker) {
	e.take.On(w)
	close(e.moved)
}

// What came before a connection moves to another loop is told of there.
func TestMoveLosesNothing(t *testing.T) {
	for range 50 { // connections go to the loops by turns
		ours, peer := tcpPair(t)
		other, otherPeer := tcpPair(t)
		c, o := sock.New(ours), sock.New(other)
		peer.Write([]byte("early"))
		eventually(t, "the bytes are there", c.Pending)
		e := &elsewhere{c, make(chan struct{})}
		if o.Await(e) {
			otherPeer.Write([]byte("x"))
			<-e.moved
		} else {
			e.Ready(nil)
		}
		h := &collector{enough: 5}
		w := &waiting{Conn: c, h: h, ended: make(chan error, 1)}
		if !c.Await(w) {
			w.Ready(nil)
		}
		if err := <-w.ended; err != nil || string(h.got) != "early" {
			t.Fatalf("after a move: %v after %q; want nil after %q", err, h.got, "early")
		}
		c.Close()
		o.Close()
	}
}

func TestDeadlineAndCloseEndAwait(t *testing.T) {
	tests := []struct {
		name string
		end  func(c *sock.Conn)
		want error
	}{
		{"deadline", func(c *sock.Conn) { c.SetReadDeadline(time.Now().Add(time.Millisecond)) }, os.ErrDeadlineExceeded},
		{"deadline that was", func(c *sock.Conn) { c.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		{"close", func(c *sock.Conn) { c.Close() }, net.ErrClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ours, _ := tcpPair(t)
			c := startWaiting(ours, &collector{})
			defer c.Close()
			tt.end(c.Conn)
			if err := <-c.ended; !errors.Is(err, tt.want) {
				t.Errorf("Step = %v; want %v", err, tt.want)
			}
		})
	}
}

// A deadline that is moved on ends nothing when its first time has come.
func TestDeadlineMoves(t *testing.T) {
	ours, peer := tcpPair(t)
	h := &collector{enough: 4}
	c := startWaiting(ours, h)
	defer c.Close()
	for range 200 {
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		c.SetReadDeadline(time.Now().Add(patience))
	}
	c.SetReadDeadline(time.Time{})
	peer.Write([]byte("here"))
	if err := <-c.ended; err != nil || string(h.got) != "here" {
		t.Errorf("Step = %v after %q; want nil after %q", err, h.got, "here")
	}
}

// While all the workers there are wait for one thing, others take their places.
func TestDetachedWorkersHoldUpNobody(t *testing.T) {
	const many = 64
	on := make(chan struct{})
	var stuck sync.WaitGroup
	var conns []*waiting
	for range many {
		ours, peer := tcpPair(t)
		h := &collector{enough: 1, on: func(got []byte) {
			if len(got) > 0 {
				stuck.Done()
				<-on
			}
		}}
		c := &waiting{Conn: sock.New(ours), h: h, detach: func() bool { return true }, ended: make(chan error, 1)}
		stuck.Add(1)
		c.Ready(nil)
		peer.Write([]byte("x"))
		conns = append(conns, c)
	}
	stuck.Wait() // all at once
	close(on)
	for _, c := range conns {
		if err := <-c.ended; err != nil {
			t.Error(err)
		}
		c.Close()
	}
}

// What Read has left is found without another event.
func TestReadLeavesTheRestForStep(t *testing.T) {
	ours, peer := tcpPair(t)
	c := sock.New(ours)
	defer c.Close()
	peer.Write([]byte("onetwo"))
	eventually(t, "the bytes are there", c.Pending)
	b := make([]byte, 3)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	h := &collector{enough: 3}
	w := &waiting{Conn: c, h: h, ended: make(chan error, 1)}
	if c.Await(w) {
		t.Fatal("Await waits for an event; want that there is something to read")
	}
	if done, err := c.Step(h); !done || err != nil || string(b)+string(h.got) != "onetwo" {
		t.Errorf("Read %q, Step = %t, %v after %q; want both halves", b, done, err, h.got)
	}
}

// An end that has come with the last bytes has no other sign.
func TestAwaitAtTheEnd(t *testing.T) {
	for range 100 {
		ours, peer := tcpPair(t)
		h := &collector{}
		c := startWaiting(ours, h)
		go func() {
			peer.Write([]byte("all"))
			peer.Close()
		}()
		if err := <-c.ended; err != io.EOF || string(h.got) != "all" {
			t.Fatalf("Step = %v after %q; want EOF after %q", err, h.got, "all")
		}
		if !c.Ending() {
			t.Fatal("Ending() = false after the end")
		}
		c.Close()
	}
}

// Long bodies pass from one socket to another, past slow readers too.
func TestCopyBetweenSockets(t *testing.T) {
	const size = 3 << 20
	fromPeer, from := tcpPair(t)
	to, toPeer := tcpPair(t)
	to.(*net.TCPConn).SetWriteBuffer(8 << 10)
	src, dst := sock.New(from), sock.New(to)
	defer src.Close()
	want := make([]byte, size)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range want {
		want[i] = byte(rnd.Uint32())
	}
	go func() {
		fromPeer.Write(want)
		fromPeer.Close()
	}()
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(dst.Conn, src)
		dst.Close()
		copied <- err
	}()
	got, err := io.ReadAll(toPeer)
	if err := errors.Join(err, <-copied); err != nil || string(got) != string(want) {
		t.Errorf("copied %d bytes, %v; want the %d that were sent", len(got), err, size)
	}
}
