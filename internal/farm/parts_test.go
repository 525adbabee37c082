package farm

import (
	"context"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/wire"
)

func TestBody(t *testing.T) {
	st := stamp{run: 1, session: 2, app: 3, id: sessionID(1, 2, 3), generation: 4, save: 5, page: 6}
	for _, size := range []int{minBody, minBody + 1, 200, 64 << 10, 200 << 10} {
		b := appendBody([]byte("before"), &st, 20, size)[len("before"):]
		if len(b) != size {
			t.Errorf("appendBody of %d bytes has %d", size, len(b))
		}
		if got, why := parseBody(b); why != "" || got != st {
			t.Errorf("parseBody(%d bytes) = %+v, %q; want %+v", size, got, why, st)
		}
		for i := range min(len(b), 400) {
			if i < offMagic {
				continue // as System.Web wants it; the checksum covers it all the same
			}
			bad := slices.Clone(b)
			bad[i] ^= 1
			if _, why := parseBody(bad); why == "" {
				t.Errorf("parseBody(%d bytes, byte %d flipped) sees no damage", size, i)
			}
			if _, why := parseBody(b[:i]); why == "" {
				t.Errorf("parseBody(%d bytes cut to %d) sees no damage", size, i)
			}
		}
	}
}

func FuzzParseBody(f *testing.F) {
	st := stamp{run: 1, session: 2, id: sessionID(1, 2, 3), save: 5}
	f.Add(appendBody(nil, &st, 20, minBody))
	f.Add(appendBody(nil, &st, 20, 300))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		st, why := parseBody(b)
		if why != "" {
			if st != (stamp{}) {
				t.Errorf("parseBody = %+v beside %q; want nothing", st, why)
			}
			return
		}
		again := appendBody(nil, &st, 20, len(b))
		if got, why := parseBody(again); why != "" || got != st {
			t.Errorf("parseBody(appendBody(%+v)) = %+v, %q", st, got, why)
		}
	})
}

func TestHistogram(t *testing.T) {
	for _, v := range []uint64{0, 1, 15, 16, 17, 31, 32, 33, 1000, 1 << 20, 1<<63 - 1} {
		i := bucket(v)
		if end := bucketEnd(i); end < v || float64(end) > float64(v)*1.0626 {
			t.Errorf("bucketEnd(bucket(%d)) = %d; want it and at most 6.25 %% above", v, end)
		}
		if i > 0 && bucketEnd(i-1) >= v {
			t.Errorf("bucket before that of %d ends at %d; want below", v, bucketEnd(i-1))
		}
	}
	var h histogram
	if l := h.latency(); l != (Latency{}) {
		t.Errorf("latency of nothing = %+v; want zero", l)
	}
	for i := range 100 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	h.add(-1)
	l := h.latency()
	within := func(d, want time.Duration) bool { return d >= want && d <= want+want/15 }
	if l.Count != 101 || l.Max != 100*time.Millisecond || !within(l.P50, 50*time.Millisecond) || !within(l.P99, 99*time.Millisecond) {
		t.Errorf("latency of 0 to 100 ms = %+v", l)
	}
}

func TestPoolSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pool{}
		pipe := func() *socket {
			near, far := net.Pipe()
			t.Cleanup(func() { near.Close(); far.Close() })
			return newSocket(near)
		}
		a, b := pipe(), pipe()
		p.put(a)
		p.put(b)
		if got := p.get(); got != b {
			t.Error("get() took the first in; want the last")
		}
		p.sweep()
		p.put(b)
		p.sweep()
		if _, err := a.Write([]byte("x")); err != io.ErrClosedPipe {
			t.Errorf("write to a socket unused since the sweep before = %v; want %v", err, io.ErrClosedPipe)
		}
		if got := p.get(); got != b {
			t.Error("socket used since the sweep before is gone")
		}
		if p.get() != nil {
			t.Error("swept socket is still in the pool")
		}
	})
}

// TestPooledSocket looks at idle connections of both kinds: such as the system
// can look at, and others.
func TestPooledSocket(t *testing.T) {
	tests := []struct {
		name         string
		do           func(c net.Conn)
		good, unread bool
	}{
		{"quiet", func(net.Conn) {}, true, false},
		{"closed", func(c net.Conn) { c.Close() }, false, false},
		{"bytes", func(c net.Conn) { c.Write([]byte("x")) }, false, true},
	}
	for _, tt := range tests {
		for _, plain := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				near, far := tcpPair(t)
				if plain {
					near = struct{ net.Conn }{near}
				}
				s := newSocket(near)
				tt.do(far)
				deadline := time.Now().Add(time.Minute)
				good, unread := s.idle(deadline)
				for range 1000 { // the bytes are on their way
					if good == tt.good {
						break
					}
					good, unread = s.idle(deadline)
				}
				if good != tt.good || unread != tt.unread {
					t.Errorf("idle() = %v, %v; want %v, %v", good, unread, tt.good, tt.unread)
				}
			})
		}
	}
}

func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// TestDeadSocket: a connection that the server closed between two requests is
// replaced unnoticed; one that breaks in use fails its page.
func TestDeadSocket(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*fakeServer) func(call *fakeCall, out []byte) []byte
		want   uint64
	}{
		{"between", nil, 0},
		{"in use", func(s *fakeServer) func(*fakeCall, []byte) []byte {
			return func(call *fakeCall, out []byte) []byte {
				if call.op == wire.OpGet {
					return nil
				}
				return out
			}
		}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeServer(0)
				defer s.close()
				if tt.change != nil {
					s.change = tt.change(s)
				}
				f, err := New(Config{Targets: []string{"state:1"}, Dial: s.dial, Apps: 1, Workers: 1, Pages: 1, Sessions: 1})
				if err != nil {
					t.Fatal(err)
				}
				err = f.drive(t.Context(), func(ctx context.Context, th *thread) {
					th.serve(ctx, PageVisitor, f.takeEmpty(th.worker.app), nil)
					if tt.change == nil {
						s.mu.Lock()
						s.ends[0].Close()
						s.mu.Unlock()
					}
					<-time.After(2 * time.Second)
					th.serve(ctx, PageReadOnly, 0, f.slots[0].Load())
				})
				if err != nil {
					t.Fatal(err)
				}
				if r := f.Report(); r.Errors[CauseTransport] != tt.want || !r.OK() || r.Connections != 2-tt.want {
					t.Errorf("%d transport failures, %d connections; want %d, %d\n%s", r.Errors[CauseTransport], r.Connections, tt.want, 2-tt.want, r.Text())
				}
			})
		})
	}
}

func TestPacer(t *testing.T) {
	now := time.Unix(1000, 0)
	p := pacer{rate: 10}
	for i := range 3 {
		if got, want := p.next(now), time.Duration(i)*100*time.Millisecond; got != want {
			t.Errorf("next() number %d = %v; want %v", i, got, want)
		}
	}
	now = now.Add(time.Hour)
	late := 0
	for p.next(now) <= 0 {
		late++
	}
	if late != 11 {
		t.Errorf("%d pages at once after a long pause; want a second's worth, 11", late)
	}
}

func TestTargetIsWhatIISSends(t *testing.T) {
	s := newSession(1, &app{prefix: appPrefix(0)}, sessionID(1, 0, 1))
	k := wire.ParseTarget(nil, s.target)
	if string(k.App) != "/LM/W3SVC/1/ROOT" || string(k.SessionID) != string(s.id[:]) {
		t.Errorf("target decodes to app %q; want /LM/W3SVC/1/ROOT, and the session's ID", k.App)
	}
	// The digest of protocol.md section 4: SHA-256 of the application ID.
	if got, want := len(k.Digest), 44; got != want {
		t.Errorf("digest has %d characters; want %d", got, want)
	}
}
