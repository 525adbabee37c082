package stateserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/wire"
)

func TestAnswerBytes(t *testing.T) {
	s := RunT(t)
	c := dialTCP(t, s)
	tests := []struct {
		name string
		verb string
		send send
		want string
	}{
		{"absent", "HEAD", send{}, "404 Not Found\r\nX-AspNet-Version: 4.0.30319\r\nCache-Control: private\r\nContent-Length: 0\r\n\r\n"},
		{"create", "PUT", send{body: "b", flags: 1}, "200 OK\r\nX-AspNet-Version: 4.0.30319\r\nCache-Control: private\r\nContent-Length: 0\r\n\r\n"},
		{"refused", "PUT", send{body: "b", timeout: "x"}, "400 Bad Request\r\nX-AspNet-Version: 4.0.30319\r\nCache-Control: private\r\nContent-Length: 0\r\n\r\n"},
		{"acquire", "GET", send{exclusive: "acquire"}, "200 OK\r\nX-AspNet-Version: 4.0.30319\r\nActionFlags: 1\r\nLockCookie: 2\r\nTimeout: 20\r\nCache-Control: private\r\nContent-Length: 1\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if resp, _ := c.do(tt.verb, testTarget, tt.send); string(resp.Head) != tt.want {
				t.Errorf("%s = %q; want %q", tt.verb, resp.Head, tt.want)
			}
		})
	}
}

// TestLockDate: the date is that of the lock by the server's local clock, and
// stays what it was while the age grows.
func TestLockDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{AspNetVersion: "2.0.50727", IdleTimeout: 2 * time.Hour}
		c := servePiped(t, s).dial(t)
		c.wantStatus("PUT", testTarget, send{body: "b"}, 200)
		<-time.After(time.Hour)
		c.wantStatus("PUT", testTarget, send{body: "b"}, 200)
		locked := time.Now()
		c.wantStatus("GET", testTarget, send{exclusive: "acquire"}, 200)
		<-time.After(2500 * time.Millisecond)
		resp, _ := c.do("GET", testTarget, send{})
		if resp.LockDate != wire.Some(ticks(locked)) || resp.LockAge != wire.Some(2) {
			t.Errorf("LockDate, LockAge = %v, %v; want %d, 2", resp.LockDate, resp.LockAge, ticks(locked))
		}
		if got := string(resp.AspNetVersion); got != "2.0.50727" {
			t.Errorf("X-AspNet-Version = %q; want the one configured", got)
		}
	})
}

func TestBodySizes(t *testing.T) {
	s := RunT(t)
	c := dialTCP(t, s)
	for _, n := range []int{1, smallBody, smallBody + 1, bodyStep - 1, bodyStep, bodyStep + 1, 3*bodyStep + 7, 5 << 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			body := string(bytes.Repeat([]byte("0123456789abcde\n"), n/16+1)[:n])
			done := make(chan struct{})
			go func() { // a body beyond the socket's buffers must be read while it is sent
				defer close(done)
				c.write(send{body: body}.text("PUT", testTarget))
			}()
			if resp, _ := c.read("PUT"); resp.Status != 200 {
				t.Fatalf("PUT = %d; want 200", resp.Status)
			}
			<-done
			if _, got := c.do("GET", testTarget, send{}); got != body {
				t.Errorf("GET returned %d bytes; want the %d sent", len(got), n)
			}
			if item, _ := s.Peek(testKey); len(item.Body) != n || s.Stats().BodyBytes != int64(n) {
				t.Errorf("Peek has %d bytes, Stats %d; want %d", len(item.Body), s.Stats().BodyBytes, n)
			}
		})
	}
}

func TestPipelined(t *testing.T) {
	s := RunT(t)
	c := dialTCP(t, s)
	c.write(send{body: "one"}.text("PUT", testTarget) + send{exclusive: "acquire"}.text("GET", testTarget) +
		send{}.text("HEAD", testTarget+"2") + send{cookie: 2}.text("DELETE", testTarget))
	for _, want := range []struct {
		verb, answer string
	}{{"PUT", "200"}, {"GET", "200 cookie=2 timeout=20 one"}, {"HEAD", "404"}, {"DELETE", "200"}} {
		if got := describe(c.read(want.verb)); got != want.answer {
			t.Errorf("%s = %q; want %q", want.verb, got, want.answer)
		}
	}
}

// TestExpirySweep: sessions nobody asks for are freed soon after they expire.
func TestExpirySweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(Server)
		c := servePiped(t, s).dial(t)
		for i := range 100 {
			c.wantStatus("PUT", fmt.Sprint(testTarget, i), send{body: "b", timeout: 1 + i%2}, 200)
		}
		c.wantStatus("GET", testTarget+"0", send{exclusive: "acquire"}, 200)
		if got := s.Stats(); got.Sessions != 100 || got.Locked != 1 || got.BodyBytes != 100 {
			t.Errorf("Sessions, Locked, BodyBytes = %d, %d, %d; want 100, 1, 100", got.Sessions, got.Locked, got.BodyBytes)
		}
		<-time.After(time.Minute)
		if _, ok := s.Peek(testKey + "0"); ok {
			t.Error("Peek shows a session in the moment it expires")
		}
		<-time.After(2 * wheelTick)
		if got := s.Len(); got != 50 {
			t.Errorf("Len() after a minute and two ticks = %d; want 50", got)
		}
		<-time.After(time.Minute)
		if got := s.Stats(); got.Sessions != 0 || got.Memory != 0 || got.BodyBytes != 0 || got.Locked != 0 || got.Expired != 100 {
			t.Errorf("Sessions, Memory, BodyBytes, Locked, Expired = %d, %d, %d, %d, %d; want 0, 0, 0, 0, 100",
				got.Sessions, got.Memory, got.BodyBytes, got.Locked, got.Expired)
		}
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(Server)
		ln := servePiped(t, s)
		idle, busy := ln.dial(t), ln.dial(t)
		idle.wantStatus("HEAD", testTarget, send{}, 404)
		put := send{body: "saved"}.text("PUT", testTarget)
		busy.write(put[:len(put)-2])
		synctest.Wait() // until the server has seen that a request has begun

		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown() with a request in flight = %v; want DeadlineExceeded", err)
		}
		idle.wantEnd()
		if err := s.Serve(newPipeListener()); !errors.Is(err, ErrClosed) {
			t.Errorf("Serve() after Shutdown = %v; want ErrClosed", err)
		}

		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		synctest.Wait() // from here on the connection has to end by itself
		start := time.Now()
		busy.write(put[len(put)-2:])
		if resp, _ := busy.read("PUT"); resp.Status != 200 {
			t.Errorf("PUT in flight = %d; want 200", resp.Status)
		}
		busy.wantEnd()
		if err := <-done; err != nil {
			t.Errorf("Shutdown() = %v; want nil", err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the connection lived on for %v; want its end with the answer", waited)
		}
		if item, ok := s.Peek(testKey); !ok || string(item.Body) != "saved" {
			t.Errorf("Peek() = %v, %v; want the body saved last", item, ok)
		}
	})
}

func TestCloseCutsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(Server)
		c := servePiped(t, s).dial(t)
		c.write("PUT " + testTarget)
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v; want nil", err)
		}
		c.wantEnd()
		if got := s.Stats().Conns; got != 0 {
			t.Errorf("%d connections after Close; want 0", got)
		}
	})
}

func TestCloseBeforeServe(t *testing.T) {
	s := new(Server)
	if err := s.Close(); err != nil {
		t.Errorf("Close() = %v; want nil", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown() = %v; want nil", err)
	}
	ln := newPipeListener()
	if err := s.Serve(ln); !errors.Is(err, ErrClosed) {
		t.Errorf("Serve() = %v; want ErrClosed", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listener: Accept() = %v; want it closed", err)
	}
}

// failingListener returns its errors one by one, then accepts as usual.
type failingListener struct {
	*pipeListener
	errs []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if len(l.errs) == 0 {
		return l.pipeListener.Accept()
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}

func TestAcceptErrors(t *testing.T) {
	full := &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	broken := errors.New("broken")
	synctest.Test(t, func(t *testing.T) {
		s := new(Server)
		ln := &failingListener{newPipeListener(), []error{full, full, full}}
		served := make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		start := time.Now()
		ln.dial(t).wantStatus("HEAD", testTarget, send{}, 404)
		if got, want := time.Since(start), 7*minAcceptDelay; got != want {
			t.Errorf("three failures held up accepting for %v; want %v", got, want)
		}
		if got := s.Stats().AcceptErrors; got != 3 {
			t.Errorf("AcceptErrors = %d; want 3", got)
		}
		second := &failingListener{newPipeListener(), []error{broken}}
		if err := s.Serve(second); !errors.Is(err, broken) {
			t.Errorf("Serve() = %v; want the listener's error", err)
		}
		ln.dial(t).wantStatus("HEAD", testTarget, send{}, 404)
		if err := s.Close(); err != nil {
			t.Errorf("Close() = %v; want nil", err)
		}
		if err := <-served; !errors.Is(err, ErrClosed) {
			t.Errorf("Serve() = %v; want ErrClosed", err)
		}
	})
}

// TestOneLockHolder: of many who want the lock one gets it, and what each holder
// adds to the body is there at the end.
func TestOneLockHolder(t *testing.T) {
	const workers, rounds = 8, 50
	s := RunT(t)
	dialTCP(t, s).wantStatus("PUT", testTarget, send{body: "."}, 200)
	var wg sync.WaitGroup
	for range workers {
		c := dialTCP(t, s)
		wg.Go(func() {
			for done := 0; done < rounds; {
				resp, body := c.do("GET", testTarget, send{exclusive: "acquire"})
				if resp.Status == 423 {
					continue
				}
				cookie := resp.LockCookie.N
				if resp, _ := c.do("PUT", testTarget, send{body: body + "x", cookie: cookie}); resp.Status != 200 {
					t.Errorf("PUT by the holder = %d; want 200", resp.Status)
				}
				done++
			}
		})
	}
	wg.Wait()
	item, _ := s.Peek(testKey)
	if got := len(item.Body); got != 1+workers*rounds {
		t.Errorf("body has %d bytes; want %d: a save was lost", got, 1+workers*rounds)
	}
	if got := s.Stats().Requests[wire.OpSet].OK; got != 1+workers*rounds {
		t.Errorf("PUTs counted = %d; want %d", got, 1+workers*rounds)
	}
}

// TestReadWhileReplaced: an answer under way keeps the body it began with.
func TestReadWhileReplaced(t *testing.T) {
	s := RunT(t)
	writer, reader := dialTCP(t, s), dialTCP(t, s)
	writer.wantStatus("PUT", testTarget, send{body: strings.Repeat("a", 3*bodyStep)}, 200)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 100 {
			letter := string(rune('a' + i%26))
			writer.wantStatus("PUT", testTarget, send{body: strings.Repeat(letter, 3*bodyStep)}, 200)
		}
	}()
	for range 100 {
		_, body := reader.do("GET", testTarget, send{})
		if strings.Trim(body, body[:1]) != "" || len(body) != 3*bodyStep {
			t.Fatal("a body mixed of two")
		}
	}
	<-done
}

func TestPeekAndReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(Server)
		c := servePiped(t, s).dial(t)
		if _, ok := s.Peek(testKey); ok {
			t.Error("Peek finds a session where none is")
		}
		c.wantStatus("PUT", testTarget, send{body: "b", timeout: 5, flags: 1}, 200)
		<-time.After(time.Minute)
		item, ok := s.Peek(testKey)
		if !ok || !item.Uninitialized || item.TimeLeft != 4*time.Minute || item.Timeout != 5 || item.LockCookie != 1 || item.LockAge != 0 {
			t.Errorf("Peek() = %+v, %v; want an unlocked, uninitialized session with 4 minutes left", item, ok)
		}
		item.Body[0] = '!'
		if resp, body := c.do("GET", testTarget, send{exclusive: "acquire"}); resp.ActionFlags != wire.Some(1) || body != "b" {
			t.Errorf("acquire after Peek = %q; want the flag and body as they were", describe(resp, body))
		}
		<-time.After(time.Minute)
		if item, _ := s.Peek(testKey); !item.Locked || item.LockAge != time.Minute || item.LockCookie != 2 {
			t.Errorf("Peek() = %+v; want it locked for a minute with cookie 2", item)
		}
		c.wantStatus("PUT", testTarget+"2", send{body: "b", timeout: 0}, 200)
		if item, _ := s.Peek(testKey + "2"); item.TimeLeft != 0 || item.Timeout != 0 {
			t.Errorf("Peek() = %+v; want no expiry", item)
		}
		s.Reset()
		if got := s.Stats(); got.Sessions != 0 || got.Memory != 0 || got.Locked != 0 || got.BodyBytes != 0 {
			t.Errorf("after Reset: %+v; want nothing held", got)
		}
		c.wantStatus("GET", testTarget, send{}, 404)
		c.wantStatus("PUT", testTarget, send{body: "b"}, 200)
	})
}

// fakeTB is a test that ends when end is called.
type fakeTB struct {
	cleanups []func()
	failures []string
}

func (f *fakeTB) Helper()           {}
func (f *fakeTB) Cleanup(fn func()) { f.cleanups = append(f.cleanups, fn) }
func (f *fakeTB) Fatalf(format string, args ...any) {
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}

func (f *fakeTB) end() {
	for _, fn := range f.cleanups {
		fn()
	}
}

func TestRunT(t *testing.T) {
	var tb fakeTB
	s := RunT(&tb)
	addr := s.Addr()
	dialTCP(t, s).wantStatus("HEAD", testTarget, send{}, 404)
	tb.end()
	if len(tb.failures) > 0 {
		t.Errorf("RunT failed its test: %q", tb.failures)
	}
	if nc, err := net.Dial("tcp", addr); err == nil {
		nc.Close()
		t.Errorf("%s still accepts connections after the test", addr)
	}
}

func TestStartTClosed(t *testing.T) {
	var tb fakeTB
	s := new(Server)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.StartT(&tb)
	tb.end()
	if len(tb.failures) == 0 {
		t.Error("StartT of a closed server did not fail its test")
	}
}
