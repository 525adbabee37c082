//go:build !race

package sock_test

import (
	"testing"

	"stateproxy/internal/sock"
)

func TestBufferAllocs(t *testing.T) {
	for _, n := range []int{1, 10 << 10, 70 << 10} {
		if got := testing.AllocsPerRun(200, func() { sock.Recycle(sock.Buffer(n)) }); got != 0 {
			t.Errorf("Buffer(%d) and Recycle = %v allocations; want 0", n, got)
		}
	}
}

func TestExchangeAllocs(t *testing.T) {
	ours, peer := tcpPair(t)
	served := make(chan struct{})
	go func() {
		defer close(served)
		one := make([]byte, 64)
		for {
			n, err := peer.Read(one)
			if err != nil {
				return
			}
			peer.Write(one[:n])
		}
	}()
	c, h := sock.New(ours), &fixed{}
	out := []byte("ping")
	got := testing.AllocsPerRun(500, func() {
		h.n = 0
		if _, err := c.Exchange(out, h); err != nil {
			t.Fatal(err)
		}
		c.Idle()
	})
	if got != 0 {
		t.Errorf("Exchange and Idle = %v allocations; want 0", got)
	}
	c.Close()
	<-served
}

// fixed is done after four bytes.
type fixed struct {
	buf [64]byte
	n   int
}

func (h *fixed) Space() []byte       { return h.buf[h.n:] }
func (h *fixed) Received(n int) bool { h.n += n; return h.n >= 4 }
