package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
)

// pipes is a listener in memory, on what passes for loopback.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.close()
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// pipeConn is an end of a pipe with an address.
type pipeConn struct{ net.Conn }

func (pipeConn) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- pipeConn{server}
	return client
}

// watching runs a in a bubble, with its listener, until the returned func is
// called.
func watching(a *Admin) (ln *pipes, stop func()) {
	ln = newPipes()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { a.Run(ctx) })
	wg.Go(func() { a.Serve(ln) })
	synctest.Wait() // what comes now is counted from the first second on
	return ln, func() {
		cancel()
		ln.Close()
		wg.Wait()
	}
}

// reader reads server-sent events of one stream.
type reader struct {
	net.Conn
	r *bufio.Reader
}

// openStream asks for the stream. It returns the status of the answer.
func openStream(t *testing.T, ln *pipes) (*reader, int) {
	t.Helper()
	c := ln.dial()
	if _, err := io.WriteString(c, "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &reader{c, bufio.NewReader(resp.Body)}, resp.StatusCode
}

// next returns the next event's name and content; io.EOF at the end.
func (r *reader) next() (name string, data map[string]json.RawMessage, err error) {
	for {
		line, err := r.r.ReadString('\n')
		if err != nil {
			return "", nil, err
		}
		if text, ok := strings.CutPrefix(line, "event: "); ok {
			name = strings.TrimSpace(text)
		}
		if text, ok := strings.CutPrefix(line, "data: "); ok {
			return name, data, json.Unmarshal([]byte(text), &data)
		}
	}
}

// find reads on to the next event of that name.
func (r *reader) find(t *testing.T, name string) map[string]json.RawMessage {
	t.Helper()
	for {
		got, data, err := r.next()
		if err != nil {
			t.Fatalf("waiting for %s: %v", name, err)
		}
		if got == name {
			return data
		}
	}
}

func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := farm()
		var mu sync.Mutex
		a := &Admin{Proxy: func() proxy.Status {
			mu.Lock()
			defer mu.Unlock()
			return state
		}}
		a.Note(Event{Kind: BackendReadmitted, Backend: "s1", Text: "before"})
		ln, stop := watching(a)
		defer stop()
		s, code := openStream(t, ln)
		defer s.Close()
		if code != 200 {
			t.Fatalf("GET /api/v1/stream = %d; want 200", code)
		}
		var names []string
		for range 3 {
			name, data, err := s.next()
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
			if name == "events" && !strings.Contains(string(data["events"]), "before") {
				t.Errorf("events = %s; want the one before", data["events"])
			}
		}
		if want := []string{"status", "history", "events"}; !slices.Equal(names, want) {
			t.Fatalf("first come %q; want %q", names, want)
		}

		a.Observe(sample(0))
		if got := string(s.find(t, "sample")["requests"]); got != "1" {
			t.Errorf("sample.requests = %s; want 1", got)
		}
		s.find(t, "change")
		if change := s.find(t, "change"); len(change["time"]) == 0 || len(change["backends"]) != 0 || len(change["build"]) != 0 {
			t.Errorf("change of nothing = %v; want the time and no backends or build", change)
		}
		mu.Lock()
		state = down("s1")
		mu.Unlock()
		if change := s.find(t, "change"); !strings.Contains(string(change["backends"]), `"state":"down"`) || len(change["build"]) != 0 {
			t.Errorf("change = %v; want backends with one down, and no build", change)
		}
		a.Note(Event{Kind: BackendEjected, Backend: "s1", Text: "now"})
		if e := s.find(t, "event"); string(e["text"]) != `"now"` || string(e["kind"]) != `"backend_ejected"` || string(e["id"]) == "1" {
			t.Errorf("event = %v; want the one noted now", e)
		}
	})
}

func TestStreamEndsWithTheListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := showing(farm())
		ln, stop := watching(a)
		defer stop()
		s, _ := openStream(t, ln)
		defer s.Close()
		s.find(t, "events")
		start := time.Now()
		ln.Close()
		_, err := io.Copy(io.Discard, s.r)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the stream ended with %v", err)
		}
		synctest.Wait()
		if n := len(a.feed.streams); n != 0 {
			t.Errorf("%d streams after the listener closed; want 0", n)
		}
		if took := time.Since(start); took >= closeTimeout { // of the bubble's time
			t.Errorf("the stream held up the end for %v", took)
		}
	})
}

func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := showing(farm())
		ln, stop := watching(a)
		defer stop()
		var open []*reader
		for range maxStreams {
			s, code := openStream(t, ln)
			if code != 200 {
				t.Fatalf("stream %d = %d; want 200", len(open), code)
			}
			go io.Copy(io.Discard, s.r)
			open = append(open, s)
		}
		s, code := openStream(t, ln)
		s.Close()
		if code != http.StatusServiceUnavailable {
			t.Errorf("stream %d = %d; want 503", maxStreams, code)
		}
		open[0].Close()
		<-time.After(2 * time.Second) // until it is found out
		s, code = openStream(t, ln)
		if code != 200 {
			t.Errorf("after one left = %d; want 200", code)
		}
		for _, s := range append(open, s) {
			s.Close()
		}
	})
}

func TestSlowReaderIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := showing(farm())
		ln, stop := watching(a)
		defer stop()
		slow, _ := openStream(t, ln) // and reads no more
		defer slow.Close()
		quick, _ := openStream(t, ln)
		defer quick.Close()
		quick.find(t, "events")
		for range 2 * int(streamDeadline/time.Second) {
			quick.find(t, "change")
		}
		synctest.Wait()
		if n := len(a.feed.streams); n != 1 {
			t.Errorf("%d streams; want the quick one", n)
		}
	})
}

func TestFloodOfEventsDropsWhoLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := showing(farm())
		ln, stop := watching(a)
		defer stop()
		slow, _ := openStream(t, ln)
		defer slow.Close()
		synctest.Wait()
		for i := range 10 * streamBacklog {
			a.Note(Event{Kind: ActionDone, Text: fmt.Sprint(i)})
		}
		if n := len(a.feed.streams); n != 0 {
			t.Errorf("%d streams after a flood that none of them read; want 0", n)
		}
		if n := len(a.feed.recent()); n != maxEvents {
			t.Errorf("%d events kept of a flood; want %d", n, maxEvents)
		}
	})
}

// A stream that has no news is kept alive.
func TestStreamBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := showing(farm())
		ln := newPipes()
		var wg sync.WaitGroup
		wg.Go(func() { a.Serve(ln) }) // without Run
		defer wg.Wait()
		defer ln.Close()
		s, _ := openStream(t, ln)
		defer s.Close()
		s.find(t, "events")
		for {
			line, err := s.r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, ":") {
				return
			}
		}
	})
}

func TestChangeSendsWhatIsNew(t *testing.T) {
	m := func(name, value string) member { return member{name, json.RawMessage(value)} }
	tests := []struct {
		name string
		then []member
		want string
	}{
		{"nothing", []member{m("a", "1"), m("b", "[2]")}, `{}`},
		{"one", []member{m("a", "1"), m("b", "[3]")}, `{"b":[3]}`},
		{"another", []member{m("a", "1"), m("b", "[2]"), m("c", "null")}, `{"c":null}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := &sender{told: map[string]json.RawMessage{}}
			o.change("status", []member{m("a", "1"), m("b", "[2]")})
			o.buf.Reset()
			o.change("change", tt.then)
			if got, want := o.buf.String(), "event: change\ndata: "+tt.want+"\n\n"; got != want {
				t.Errorf("change() = %q; want %q", got, want)
			}
		})
	}
}
