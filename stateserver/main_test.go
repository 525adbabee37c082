package stateserver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"stateproxy/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTarget is what a client sends for testKey.
const (
	testTarget = "%2fLM%2fW3SVC%2f2%2fROOT(oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5%2fHxWS854%3d)%2fbpr4mimb2vjnvtn2jc4yp3uo"
	testKey    = "/LM/W3SVC/2/ROOT(oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5/HxWS854=)/bpr4mimb2vjnvtn2jc4yp3uo"
)

// send is what a request carries; nil and "" are headers left out.
type send struct {
	timeout, cookie, flags any
	exclusive, body        string
}

// text returns the request as bytes on the wire.
func (s send) text(verb, target string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\n", verb, target)
	if s.exclusive != "" {
		fmt.Fprintf(&b, "Exclusive: %s\r\n", s.exclusive)
	}
	if s.timeout != nil {
		fmt.Fprintf(&b, "Timeout:%v\r\n", s.timeout)
	}
	if verb == "PUT" {
		fmt.Fprintf(&b, "Content-Length:%d\r\n", len(s.body))
	}
	if s.flags != nil {
		fmt.Fprintf(&b, "ExtraFlags:%v\r\n", s.flags)
	}
	if s.cookie != nil {
		fmt.Fprintf(&b, "LockCookie:%v\r\n", s.cookie)
	}
	return b.String() + "\r\n" + s.body
}

// client speaks to a server over one connection.
type client struct {
	t  testing.TB
	nc net.Conn
	r  *wire.Reader
}

func newClient(t testing.TB, nc net.Conn) *client {
	t.Cleanup(func() { nc.Close() })
	return &client{t, nc, wire.NewReader(nc, 4096, wire.DefaultMaxHead)}
}

func dialTCP(t testing.TB, s *Server) *client {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, nc)
}

// do sends a request and reads the answer. The head is valid until the next do.
func (c *client) do(verb, target string, s send) (*wire.Response, string) {
	c.t.Helper()
	c.write(s.text(verb, target))
	return c.read(verb)
}

func (c *client) write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.nc, text); err != nil {
		c.t.Fatalf("send request: %v", err)
	}
}

func (c *client) read(verb string) (*wire.Response, string) {
	c.t.Helper()
	var resp wire.Response
	if err := c.r.ReadResponse(&resp); err != nil {
		c.t.Fatalf("read answer to %s: %v", verb, err)
	}
	n := resp.BodyLen(wire.GET)
	if verb == "HEAD" {
		n = resp.BodyLen(wire.HEAD)
	}
	body, err := c.r.ReadBody(nil, n)
	if err != nil {
		c.t.Fatalf("read body of answer to %s: %v", verb, err)
	}
	return &resp, string(body)
}

// wantStatus is do for a test that cares for the status only.
func (c *client) wantStatus(verb, target string, s send, want int) {
	c.t.Helper()
	if resp, _ := c.do(verb, target, s); resp.Status != want {
		c.t.Fatalf("%s: status = %d; want %d", verb, resp.Status, want)
	}
}

// wantEnd checks that the server has nothing more to say and closes.
func (c *client) wantEnd() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); len(rest) > 0 || err != nil {
		c.t.Fatalf("connection: read %q, %v; want its end", rest, err)
	}
}

// pipeListener is a network in memory for bubbles of moved time.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (l *pipeListener) dial(t testing.TB) *client {
	t.Helper()
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
	case <-l.done:
		t.Fatal("dial: listener is closed")
	}
	return newClient(t, ours)
}

// servePiped serves s in memory until the test ends.
func servePiped(t testing.TB, s *Server) *pipeListener {
	ln := newPipeListener()
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v; want nil", err)
		}
		if err := <-served; !errors.Is(err, ErrClosed) {
			t.Errorf("Serve() = %v; want ErrClosed", err)
		}
	})
	return ln
}
