package sock_test

import (
	"io"
	"net"
	"testing"

	"stateproxy/internal/sock"
)

// What is told of the last message on a connection on which others went to and
// fro before.
func TestUnacknowledged(t *testing.T) {
	const message = "message"
	// answer reads a message and sends it back.
	answer := func(peer net.Conn) {
		io.ReadFull(peer, make([]byte, len(message)))
		peer.Write([]byte(message))
	}
	tests := []struct {
		name    string
		between func(c *sock.Conn, peer net.Conn) // before the last message
		after   func(peer net.Conn)               // once it was sent
		want    bool                              // where it can be told
	}{
		{"closed before", func(c *sock.Conn, peer net.Conn) { peer.Close() }, func(net.Conn) {}, true},
		{"closed after reading", nil, func(peer net.Conn) {
			io.ReadFull(peer, make([]byte, len(message)))
			peer.Close()
		}, false},
		{"reset after reading", nil, func(peer net.Conn) {
			io.ReadFull(peer, make([]byte, len(message)))
			reset(peer)
		}, false},
		{"answered", nil, func(peer net.Conn) { answer(peer); peer.Close() }, false},
		{"closed before, other bytes past the Conn", func(c *sock.Conn, peer net.Conn) {
			c.Conn.Write([]byte(message))
			c.Sent(int64(len(message)))
			answer(peer)
			io.ReadFull(c, make([]byte, len(message)))
			peer.Close()
		}, func(net.Conn) {}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ours, peer := tcpPair(t)
			c := sock.New(ours)
			for range 5 { // after these, acknowledgements wait for answers
				done := make(chan struct{})
				go func() { defer close(done); answer(peer) }()
				if _, err := c.Exchange([]byte(message), &collector{enough: len(message)}); err != nil {
					t.Fatal(err)
				}
				<-done
			}
			if c.Unacknowledged(len(message)) {
				t.Error("Unacknowledged of an answered message = true; want false")
			}
			if tt.between != nil {
				tt.between(c, peer)
				eventually(t, "the end is there", func() bool { return !looks || c.PeerClosed() })
			}
			done := make(chan struct{})
			go func() { defer close(done); tt.after(peer) }()
			c.Exchange([]byte(message), &collector{})
			<-done
			want := tt.want && sock.TellsDelivery
			if got := c.Unacknowledged(len(message)); got != want {
				t.Errorf("Unacknowledged of the last message = %v; want %v", got, want)
			}
			for _, n := range []int{0, 1, 2 * len(message)} { // none, too few to tell, and one that was answered
				if c.Unacknowledged(n) {
					t.Errorf("Unacknowledged(%d) = true; want false", n)
				}
			}
			c.Close()
			if c.Unacknowledged(len(message)) {
				t.Error("Unacknowledged of a closed connection = true; want false")
			}
		})
	}
}

func TestUnacknowledgedOnPipe(t *testing.T) {
	ours, peer := pipePair(t)
	peer.Close()
	c := sock.New(ours)
	c.Exchange([]byte("message"), &collector{})
	if c.Unacknowledged(len("message")) {
		t.Error("Unacknowledged on a pipe = true; want false, as nothing can be told")
	}
}
