package stateserver

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/wire"
)

// TestRefusedThenClosed: what can't be framed, or should not be read, is
// answered 400, and nothing behind it is taken for a request.
func TestRefusedThenClosed(t *testing.T) {
	follow := send{body: "smuggled"}.text("PUT", testTarget+"2")
	tests := []struct {
		name string
		text string
		want int
		stat func(Stats) uint64
	}{
		{"unknown verb", "POST " + testTarget + " HTTP/1.1\r\n\r\n", 400, func(s Stats) uint64 { return s.Malformed }},
		{"line ends", "GET " + testTarget + " HTTP/1.1\n\n", 400, func(s Stats) uint64 { return s.Malformed }},
		{"chunked", "PUT " + testTarget + " HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, func(s Stats) uint64 { return s.Malformed }},
		{"two lengths", "PUT " + testTarget + " HTTP/1.1\r\nContent-Length:1\r\nContent-Length:2\r\n\r\n", 400, func(s Stats) uint64 { return s.Malformed }},
		{"TLS hello", "\x16\x03\x01\x00\xa5\x01", 400, func(s Stats) uint64 { return s.Malformed }},
		{"long head", "GET " + strings.Repeat("a", 600) + " HTTP/1.1\r\n\r\n", 400, func(s Stats) uint64 { return s.Malformed }},
		{"long body", "PUT " + testTarget + " HTTP/1.1\r\nContent-Length:2147483647\r\n\r\n", 400, func(s Stats) uint64 { return s.Oversized }},
		{"one byte too many", "PUT " + testTarget + " HTTP/1.1\r\nContent-Length:1001\r\n\r\n", 400, func(s Stats) uint64 { return s.Requests[wire.OpSet].BadRequest }},
		{"length on a GET", "GET " + testTarget + " HTTP/1.1\r\nContent-Length:500\r\n\r\n", 404, func(s Stats) uint64 { return s.Requests[wire.OpGet].NotFound }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &Server{MaxHead: 512, MaxBody: 1000}
			s.StartT(t)
			c := dialTCP(t, s)
			c.write(tt.text + follow)
			if resp, _ := c.read("PUT"); resp.Status != tt.want {
				t.Errorf("status = %d; want %d", resp.Status, tt.want)
			}
			c.wantEnd()
			if got := s.Len(); got != 0 {
				t.Errorf("%d sessions; want none", got)
			}
			if got := tt.stat(s.Stats()); got != 1 {
				t.Errorf("its counter = %d; want 1", got)
			}
		})
	}
}

// TestSlowClients moves time over clients that stop in the middle.
func TestSlowClients(t *testing.T) {
	const idle, stall = 90 * time.Second, 10 * time.Second
	half := send{body: strings.Repeat("x", 100)}.text("PUT", testTarget)
	half = half[:len(half)-50]
	tests := []struct {
		name        string
		text        string
		lives, dies time.Duration
		wantStalled uint64
	}{
		{"silent", "", idle - 1, idle, 0},
		{"silent after a request", send{}.text("HEAD", testTarget), idle - 1, idle, 0},
		{"half a head", "GET " + testTarget, stall - 1, stall, 1},
		{"half a body", half, stall - 1, stall, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{IdleTimeout: idle, StallTimeout: stall}
				c := servePiped(t, s).dial(t)
				c.write(tt.text)
				if strings.HasPrefix(tt.text, "HEAD") {
					c.read("HEAD")
				}
				<-time.After(tt.lives)
				synctest.Wait()
				if got := s.Stats().Conns; got != 1 {
					t.Errorf("after %v: %d connections; want 1", tt.lives, got)
				}
				<-time.After(tt.dies - tt.lives)
				synctest.Wait()
				if got := s.Stats().Conns; got != 0 {
					t.Errorf("after %v: %d connections; want 0", tt.dies, got)
				}
				c.wantEnd()
				if got := s.Stats().Stalled; got != tt.wantStalled {
					t.Errorf("Stalled = %d; want %d", got, tt.wantStalled)
				}
			})
		})
	}
}

// TestSlowButSteady: a body may take long, either way, as long as it goes on.
func TestSlowButSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{StallTimeout: 10 * time.Second}
		c := servePiped(t, s).dial(t)
		body := strings.Repeat("x", 10*bodyStep)
		text := send{body: body}.text("PUT", testTarget)
		for len(text) > 0 {
			n := min(len(text), bodyStep)
			c.write(text[:n])
			text = text[n:]
			<-time.After(9 * time.Second)
		}
		if resp, _ := c.read("PUT"); resp.Status != 200 {
			t.Errorf("PUT = %d; want 200", resp.Status)
		}
		c.write(send{}.text("GET", testTarget))
		var resp wire.Response
		if err := c.r.ReadResponse(&resp); err != nil {
			t.Fatal(err)
		}
		got := ""
		for range 10 {
			<-time.After(9 * time.Second)
			step, err := c.r.ReadBody(nil, bodyStep)
			if err != nil {
				t.Fatalf("after %d bytes: %v", len(got), err)
			}
			got += string(step)
		}
		if got != body {
			t.Error("GET returned another body than was sent")
		}
	})
}

// TestUnreadAnswer: a client that does not take its answer is cut.
func TestUnreadAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{StallTimeout: 10 * time.Second}
		ln := servePiped(t, s)
		for _, n := range []int{1, 3 * bodyStep} {
			c := ln.dial(t)
			c.wantStatus("PUT", testTarget, send{body: strings.Repeat("x", n)}, 200)
			c.write(send{}.text("GET", testTarget))
			<-time.After(10 * time.Second)
			synctest.Wait()
			if got := s.Stats().Conns; got != 0 {
				t.Errorf("body of %d: %d connections; want 0", n, got)
			}
		}
		if got := s.Stats().Stalled; got != 2 {
			t.Errorf("Stalled = %d; want 2", got)
		}
	})
}

func TestClientGoneInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(Server)
		c := servePiped(t, s).dial(t)
		c.write("PUT " + testTarget + " HTTP/1.1\r\nContent-Length:100\r\n\r\nhalf")
		c.nc.Close()
		synctest.Wait()
		if got := s.Stats(); got.Conns != 0 || got.Broken != 1 || got.Sessions != 0 {
			t.Errorf("Conns, Broken, Sessions = %d, %d, %d; want 0, 1, 0", got.Conns, got.Broken, got.Sessions)
		}
	})
}

func TestMaxConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{MaxConns: 2}
		ln := servePiped(t, s)
		first := ln.dial(t)
		ln.dial(t)
		ln.dial(t).wantEnd()
		if got := s.Stats(); got.Conns != 2 || got.ConnsRefused != 1 || got.ConnsTotal != 2 {
			t.Errorf("Conns, ConnsRefused, ConnsTotal = %d, %d, %d; want 2, 1, 2", got.Conns, got.ConnsRefused, got.ConnsTotal)
		}
		first.nc.Close()
		synctest.Wait()
		ln.dial(t).wantStatus("HEAD", testTarget, send{}, 404)
	})
}
