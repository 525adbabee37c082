package sock_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"

	"stateproxy/internal/sock"
)

// Thousands of exchanges in random small pieces on many connections at once: a
// wake-up that is lost shows as a deadline.
func TestPingPongLosesNoWakeUp(t *testing.T) {
	const connections, rounds = 32, 250
	for _, link := range links {
		t.Run(link.name, func(t *testing.T) {
			var wg sync.WaitGroup
			for i := range connections {
				ours, peer := link.make(t)
				wg.Go(func() { echo(sock.New(peer), rand.New(rand.NewPCG(uint64(i), 1))) })
				wg.Go(func() { pingAll(t, i, ours, rounds) })
			}
			wg.Wait()
		})
	}
}

// pingAll pings over connection i to its end.
func pingAll(t *testing.T, i int, nc net.Conn, rounds int) {
	c := sock.New(nc)
	defer c.Close()
	if round, err := ping(c, rounds, rand.New(rand.NewPCG(uint64(i), 2))); err != nil {
		t.Errorf("connection %d, round %d: %v", i, round, err)
	}
}

// ping sends messages, each a byte of length and that many bytes, and wants
// them back.
func ping(c *sock.Conn, rounds int, rnd *rand.Rand) (round int, err error) {
	for round = range rounds {
		out := make([]byte, 1+rnd.IntN(60))
		for i := range out {
			out[i] = byte(rnd.Uint32())
		}
		out[0] = byte(len(out))
		h := &collector{enough: len(out), space: func() int { return 1 + rnd.IntN(70) }}
		if cut := rnd.IntN(len(out)); cut > 0 && rnd.IntN(2) == 0 {
			if _, err := c.Write(out[:cut]); err != nil {
				return round, err
			}
			_, err = c.Exchange(out[cut:], h)
		} else {
			_, err = c.Exchange(out, h)
		}
		if err != nil {
			return round, err
		}
		if !bytes.Equal(h.got, out) {
			return round, errors.New("another message came back")
		}
	}
	return round, nil
}

// echo answers every message from within its loop, in two pieces.
func echo(c *sock.Conn, rnd *rand.Rand) {
	h := &echoer{c: c, rnd: rnd}
	c.ReadLoop(h)
	c.Close()
}

type echoer struct {
	c   *sock.Conn
	rnd *rand.Rand
	buf [128]byte
	msg []byte
}

func (h *echoer) Space() []byte { return h.buf[:1+h.rnd.IntN(len(h.buf)-1)] }

func (h *echoer) Received(n int) bool {
	h.msg = append(h.msg, h.buf[:n]...)
	for len(h.msg) > 0 && len(h.msg) >= int(h.msg[0]) {
		size := int(h.msg[0])
		cut := h.rnd.IntN(size)
		for _, part := range [][]byte{h.msg[:cut], h.msg[cut:size]} {
			if _, err := h.c.Write(part); err != nil {
				return true
			}
		}
		h.msg = slices.Delete(h.msg, 0, size)
	}
	return false
}
