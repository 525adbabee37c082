package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"stateproxy/stateserver"
	"stateproxy/wire"
)

// network is an in-memory network: what listens at each address.
type network struct {
	mu      sync.Mutex
	servers map[string]func(net.Conn) // nil: no answer at all
	dials   map[string]int
	wg      sync.WaitGroup
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	serve, known := n.servers[address]
	n.dials[address]++
	n.mu.Unlock()
	switch {
	case !known:
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errRefused)}
	case serve == nil:
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
	}
	client, server := net.Pipe()
	n.wg.Go(func() {
		defer server.Close()
		serve(server)
	})
	return client, nil
}

// listener hands connections of a network to a server.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 42424} }

// stateServer runs the embedded state server for a test.
func stateServer(t *testing.T, s *stateserver.Server) (serve func(net.Conn)) {
	ln := newListener()
	var wg sync.WaitGroup
	wg.Go(func() { s.Serve(ln) })
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { s.Close() })
	return func(c net.Conn) {
		ended := make(chan struct{})
		ln.conns <- &watched{Conn: c, ended: ended}
		<-ended
	}
}

// watched tells when it is closed.
type watched struct {
	net.Conn
	ended chan struct{}
	once  sync.Once
}

func (w *watched) Close() error {
	w.once.Do(func() { close(w.ended) })
	return w.Conn.Close()
}

// scripted answers each operation by its text: BODY stands for the length, and
// on reads the body, of what was stored; "" closes the connection; "silence"
// answers nothing any more. Without a text everything succeeds: it locks nothing.
type scripted map[string]string

func (script scripted) serve(c net.Conn) {
	r := wire.NewReader(c, 4<<10, wire.DefaultMaxHead)
	var stored []byte
	for {
		var req wire.Request
		if r.ReadRequest(&req) != nil {
			return
		}
		name := req.Op().String()
		body, err := r.ReadBody(nil, req.BodyLen())
		if err != nil {
			return
		}
		if req.Op() == wire.OpSet {
			stored = body
		}
		text, ok := script[name]
		switch {
		case !ok:
			text = "200 OK\r\nX-AspNet-Version: 4.0.30319\r\nLockCookie: 7\r\nContent-Length: BODY\r\n\r\n"
			if name == "reset_timeout" {
				text = notFound
			}
		case text == "":
			return
		case text == "silence":
			io.Copy(io.Discard, c)
			return
		}
		if b := stored; name == "get" || name == "get_exclusive" {
			text = strings.Replace(text, "BODY\r\n\r\n", fmt.Sprintf("%d\r\n\r\n%s", len(b), b), 1)
		}
		text = strings.Replace(text, "BODY", "0", 1)
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
	}
}

const (
	notFound = "404 Not Found\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 0\r\n\r\n"
	locked   = "423 Locked\r\nX-AspNet-Version: 4.0.30319\r\nLockAge: 0\r\nLockCookie: 7\r\nContent-Length: 0\r\n\r\n"
)

// says sends text when the client has sent something, and closes after.
func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := c.Read(make([]byte, 4096)); err == nil {
			io.WriteString(c, text)
		}
	}
}

// hangsUp closes at once.
func hangsUp(net.Conn) {}

// silent reads and never answers.
func silent(c net.Conn) { io.Copy(io.Discard, c) }

// tlsServer answers a TLS greeting with an alert and closes on anything else.
func tlsServer(c net.Conn) {
	b := make([]byte, 4096)
	if n, err := c.Read(b); err == nil && n > 0 && b[0] == 0x16 {
		c.Write([]byte{0x15, 3, 1, 0, 2, 2, 40})
	}
}

// probed runs p over the network that servers make up.
func probed(t *testing.T, p Probe, address string, servers map[string]func(net.Conn)) (*Report, *network) {
	t.Helper()
	n := &network{servers: servers, dials: map[string]int{}}
	p.Dial = n.dial
	if p.Lookup == nil {
		p.Lookup = func(context.Context, string) ([]string, error) { return []string{"10.0.0.1"}, nil }
	}
	var heard []Step
	p.OnStep = func(s Step) { heard = append(heard, s) }
	report, err := p.Run(t.Context(), address)
	if err != nil {
		t.Fatalf("Run(%q) = %v", address, err)
	}
	if !slices.Equal(heard, report.Steps) {
		t.Errorf("OnStep heard %v; want %v", heard, report.Steps)
	}
	n.wg.Wait()
	return report, n
}
