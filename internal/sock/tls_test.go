package sock_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"stateproxy/internal/certtest"
	"stateproxy/internal/sock"
)

var testCA = sync.OnceValue(func() *certtest.CA { return certtest.NewCA("test") })

var serverConfig = sync.OnceValue(func() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{testCA().Issue(certtest.Leaf{Hosts: []string{"peer"}}).TLS()}}
})

func clientConfig() *tls.Config { return &tls.Config{RootCAs: testCA().Pool(), ServerName: "peer"} }

// tlsPair returns both ends of a TLS connection over TCP, shaken hands.
func tlsPair(t testing.TB) (ours, peer net.Conn) {
	t.Helper()
	a, b := tcpPair(t)
	client, server := sock.TLSClient(a, clientConfig()), sock.TLSServer(b, serverConfig())
	guard(t, client, server)
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// What a server sends behind its handshake is read with its first answer.
	go server.Write([]byte("x"))
	io.ReadFull(client, make([]byte, 1))
	return client, server
}

func TestTLSIdleAndPeerClosed(t *testing.T) {
	tests := []struct {
		name         string
		do           func(c *sock.Conn, peer net.Conn)
		idle, closed bool
	}{
		{"open", func(*sock.Conn, net.Conn) {}, true, false},
		{"bytes unread", func(_ *sock.Conn, peer net.Conn) { peer.Write([]byte("x")) }, false, false},
		{"peer said farewell", func(_ *sock.Conn, peer net.Conn) { peer.(*tls.Conn).CloseWrite() }, false, false},
		{"peer closed", func(_ *sock.Conn, peer net.Conn) { peer.Close() }, false, true},
		{"peer cut", func(_ *sock.Conn, peer net.Conn) { peer.(*tls.Conn).NetConn().Close() }, false, true},
		{"closed here", func(c *sock.Conn, _ net.Conn) { c.Close() }, false, true},
		{"cut here", func(c *sock.Conn, _ net.Conn) { c.Cut() }, false, true},
	}
	if !looks {
		t.Log("this system has no look at a socket: all are taken to be idle")
	}
	for _, tt := range tests {
		for _, ask := range []string{"Idle", "PeerClosed"} {
			t.Run(tt.name+"/"+ask, func(t *testing.T) {
				ours, peer := tlsPair(t)
				c := sock.New(ours)
				tt.do(c, peer)
				got, want := c.Idle, tt.idle
				if ask == "PeerClosed" {
					got, want = c.PeerClosed, tt.closed
				}
				if !looks {
					want = got()
				}
				eventually(t, "the answer is right", func() bool { return got() == want })
			})
		}
	}
}

// Bytes that TLS holds back have left the socket, and must be seen all the same:
// they would be taken for the answer to the next request.
func TestTLSIdleSeesWhatIsHeldBack(t *testing.T) {
	tests := []struct {
		name  string
		write func(peer net.Conn)
		read  int
		want  bool
	}{
		{"all was read", func(peer net.Conn) { peer.Write([]byte("answer")) }, 6, true},
		{"more in the same record", func(peer net.Conn) { peer.Write([]byte("answer, more")) }, 6, false},
		{"more in the next record", func(peer net.Conn) {
			peer.Write([]byte("answer"))
			peer.Write([]byte("more"))
		}, 6, false},
		{"farewell behind it", func(peer net.Conn) { peer.Write([]byte("answer")); peer.(*tls.Conn).CloseWrite() }, 6, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ours, peer := tlsPair(t)
			tt.write(peer)
			c := sock.New(ours)
			if !c.HoldsBack() {
				t.Error("HoldsBack of a TLS connection = false; want true")
			}
			if err := c.ReadLoop(&collector{enough: tt.read}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got := c.Idle(); got != tt.want && (looks || tt.name != "more in the next record") {
					t.Fatalf("Idle = %v; want %v", got, tt.want)
				}
			}
		})
	}
}

// A look at what is held back must leave the connection as it was.
func TestTLSLookHarmsNothing(t *testing.T) {
	ours, peer := tlsPair(t)
	c := sock.New(ours)
	for i := range 3 {
		if !c.Idle() {
			t.Fatalf("Idle before exchange %d = false; want true", i)
		}
		go func() { io.ReadFull(peer, make([]byte, 4)); peer.Write([]byte("pong")) }()
		h := &collector{enough: 4}
		if _, err := c.Exchange([]byte("ping"), h); err != nil || string(h.got) != "pong" {
			t.Fatalf("Exchange %d = %v, %q; want pong", i, err, h.got)
		}
	}
}

func TestTLSSilent(t *testing.T) {
	a, b := tcpPair(t)
	c := sock.New(sock.TLSServer(b, serverConfig()))
	if !c.Silent() {
		t.Error("Silent before the handshake = false; want true")
	}
	a.Write([]byte("GET / HTTP/1.1\r\n"))
	if err := c.Conn.(*tls.Conn).Handshake(); err == nil || c.Silent() {
		t.Errorf("Handshake with plain bytes = %v, Silent %v; want an error, false", err, c.Silent())
	}
	if sock.New(a).Silent() || sock.New(a).HoldsBack() {
		t.Error("Silent or HoldsBack of a plain connection = true; want false")
	}
}

func TestTLSUnacknowledged(t *testing.T) {
	const message = "message"
	tests := []struct {
		name   string
		before func(peer net.Conn)
		after  func(peer net.Conn)
		want   bool // where it can be told
	}{
		{"closed before", func(peer net.Conn) { peer.Close() }, func(net.Conn) {}, true},
		{"farewell only, and read", func(peer net.Conn) { peer.(*tls.Conn).CloseWrite() }, func(peer net.Conn) {
			io.ReadFull(peer, make([]byte, len(message)))
		}, false},
		{"closed after reading", func(net.Conn) {}, func(peer net.Conn) {
			io.ReadFull(peer, make([]byte, len(message)))
			peer.Close()
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ours, peer := tlsPair(t)
			c := sock.New(ours)
			tt.before(peer)
			if tt.want {
				eventually(t, "the end is there", func() bool { return !sock.TellsDelivery || c.PeerClosed() })
			}
			done := make(chan struct{})
			go func() { defer close(done); tt.after(peer) }()
			c.Exchange([]byte(message), &collector{})
			<-done
			if got, want := c.Unacknowledged(len(message)), tt.want && sock.TellsDelivery; got != want {
				t.Errorf("Unacknowledged of the last message = %v; want %v", got, want)
			}
			if c.Unacknowledged(len(message)-1) || c.Unacknowledged(0) {
				t.Error("Unacknowledged of another number of bytes = true; want false")
			}
		})
	}
}

// Whatever became of a write, the peer sees an end, and nothing that looks like an
// attack.
func TestTLSCloseBehindAFailedWrite(t *testing.T) {
	ours, peer := tlsPair(t)
	ours.SetWriteDeadline(time.Unix(1, 0))
	if _, err := ours.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Write after its deadline = %v; want that it is exceeded", err)
	}
	ours.Close()
	if n, err := peer.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the peer reads %d bytes, %v; want the end", n, err)
	}
}

// Close waits for a peer that takes nothing; Cut does not.
func TestTLSCutDoesNotWait(t *testing.T) {
	ours, _ := tlsPair(t)
	c := sock.New(ours)
	c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := c.Write(make([]byte, 32<<20)); err == nil {
		t.Fatal("Write to a peer that reads nothing = nil; want an error")
	}
	if err := c.Cut(); err != nil {
		t.Errorf("Cut = %v; want nil", err)
	}
	if _, err := ours.(*tls.Conn).NetConn().Write([]byte("x")); err == nil {
		t.Error("Write after Cut = nil; want that it is closed")
	}
}
