package sock_test

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
	"stateproxy/internal/sock"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("stateproxy/internal/sock.(*Worker).run"))
}

// patience is after how long a test that hangs is failed.
const patience = 30 * time.Second

// links are the kinds of connection, each with a function that makes a pair of
// ends. Over TCP the raw path runs where the system has one, over a pipe and over
// TLS the plain one.
var links = []struct {
	name string
	make func(t testing.TB) (ours, peer net.Conn)
}{
	{"tcp", tcpPair},
	{"pipe", pipePair},
	{"tls", tlsPair},
}

func tcpPair(t testing.TB) (ours, peer net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if ours, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if peer, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	guard(t, ours, peer)
	return ours, peer
}

func pipePair(t testing.TB) (ours, peer net.Conn) {
	ours, peer = net.Pipe()
	guard(t, ours, peer)
	return ours, peer
}

// guard closes the ends with the test, and fails a test that nothing but a
// deadline ended.
func guard(t testing.TB, ends ...net.Conn) {
	end := time.Now().Add(patience)
	for _, c := range ends {
		c.SetDeadline(end)
		t.Cleanup(func() { c.Close() })
	}
	t.Cleanup(func() {
		if time.Now().After(end) {
			t.Error("something was waited for that did not come")
		}
	})
}

// reset closes a TCP connection by an RST.
func reset(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// eventually waits until what the network does has come about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

// collector is a Handler that gathers bytes until it has enough of them.
type collector struct {
	enough int              // 0: read to the end
	space  func() int       // size of the next Space; nil: 4 KiB
	on     func(got []byte) // called for what each read brought; may be nil

	buf []byte
	got []byte
}

func (h *collector) Space() []byte {
	n := 4 << 10
	if h.space != nil {
		n = h.space()
	}
	if h.enough > 0 {
		n = min(n, h.enough-len(h.got))
	}
	h.buf = make([]byte, n)
	return h.buf
}

func (h *collector) Received(n int) bool {
	h.got = append(h.got, h.buf[:n]...)
	if h.on != nil {
		h.on(h.buf[:n])
	}
	return h.enough > 0 && len(h.got) >= h.enough
}

var _ sock.Handler = (*collector)(nil)

// drain reads all that comes to c.
func drain(c net.Conn) { io.Copy(io.Discard, c) }
