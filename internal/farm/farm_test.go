package farm

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/wire"
)

// small is a farm whose pages meet each other often.
func small(s *fakeServer) Config {
	mix := DefaultMix()
	mix.Parallel, mix.Slow = 0.3, 0.05
	return Config{
		Targets: []string{"state:42424"}, Dial: s.dial, Apps: 2, Workers: 4, Pages: 3, Sessions: 12,
		PagesPerSecond: 60, Duration: 30 * time.Second, ExecutionTimeout: 6 * time.Second, Mix: mix, Seed: 1,
		Sizes: Sizes{Min: minBody, Max: 2 << 10, Large: 100 << 10, LargeShare: 0.01},
	}
}

// play fills, runs and verifies a farm in a bubble.
func play(t *testing.T, s *fakeServer, c Config, with func(f *Farm)) (r Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		defer s.close()
		f, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		if with != nil {
			with(f)
		}
		for _, phase := range []func(context.Context) error{f.Fill, f.Run, f.Verify} {
			if err := phase(t.Context()); err != nil {
				t.Log(err) // a faulty server may well refuse
			}
		}
		r = f.Report()
	})
	return r
}

// before and after wrap a fault that acts on requests of some kind, before or
// after the server did.
func before(ops []wire.Op, do func(s *fakeServer, call *fakeCall)) func(*fakeServer, *fakeCall) {
	return at(false, ops, do)
}

func after(ops []wire.Op, do func(s *fakeServer, call *fakeCall)) func(*fakeServer, *fakeCall) {
	return at(true, ops, do)
}

func at(acted bool, ops []wire.Op, do func(s *fakeServer, call *fakeCall)) func(*fakeServer, *fakeCall) {
	return func(s *fakeServer, call *fakeCall) {
		for _, op := range ops {
			if call.acted == acted && call.op == op && call.item != nil {
				do(s, call)
			}
		}
	}
}

var reads = []wire.Op{wire.OpGet, wire.OpGetExclusive}

// instead answers in place of acting.
func instead(status, oneIn int) func(s *fakeServer, call *fakeCall) {
	return func(s *fakeServer, call *fakeCall) {
		if s.oneIn(oneIn) {
			call.skip, call.resp.Status = true, status
		}
	}
}

func TestFaults(t *testing.T) {
	tests := []struct {
		name   string
		fault  func(s *fakeServer, call *fakeCall)
		change func(call *fakeCall, out []byte) []byte
		mix    func(m *Mix)
		want   Alarm
		also   Alarm // may be found too, for sessions that may be absent; AlarmLost for none
	}{
		{name: "not found", fault: before(reads, instead(404, 40)), want: AlarmLost},
		{name: "not found for a HEAD", fault: before([]wire.Op{wire.OpResetTimeout}, instead(404, 10)), want: AlarmLost},
		{name: "empty", fault: before(reads, instead(200, 40)), want: AlarmLost, also: AlarmBadAnswer},
		{name: "unavailable", fault: before(reads, instead(503, 40)), want: AlarmLost, also: AlarmBadAnswer},
		{name: "forgets the session", want: AlarmLost,
			fault: after([]wire.Op{wire.OpSet}, func(s *fakeServer, call *fakeCall) {
				if s.oneIn(30) {
					delete(s.items, call.key)
				}
			})},
		{name: "drops updates", want: AlarmLostUpdate, mix: func(m *Mix) { m.ReadOnly = 0 },
			fault: after([]wire.Op{wire.OpSet}, func(s *fakeServer, call *fakeCall) {
				if call.item.before != nil && call.resp.Status == 200 && s.oneIn(20) {
					call.item.body = call.item.before
				}
			})},
		{name: "refuses updates", want: AlarmLostUpdate,
			fault: before([]wire.Op{wire.OpSet}, func(s *fakeServer, call *fakeCall) {
				if call.item.locked && call.req.LockCookie.N == call.item.cookie && s.oneIn(20) {
					call.skip = true
					s.refuse(call)
				}
			})},
		{name: "serves old copies", want: AlarmStale,
			fault: after([]wire.Op{wire.OpGet}, func(s *fakeServer, call *fakeCall) {
				// Not while the farm verifies: an old copy is then as good as a lost update.
				if time.Since(s.began) < 29*time.Second && call.item.before != nil && len(call.body) > 0 && s.oneIn(4) {
					call.body = call.item.before
				}
			})},
		{name: "swaps bodies", want: AlarmForeign,
			fault: after(reads, func(s *fakeServer, call *fakeCall) {
				if len(call.body) > 0 && s.oneIn(20) {
					call.body = s.other(call.key)
				}
			})},
		{name: "flips a bit", want: AlarmDamaged,
			fault: after(reads, func(s *fakeServer, call *fakeCall) {
				if len(call.body) > 0 && s.oneIn(20) {
					call.body[s.random.IntN(len(call.body)-offMagic)+offMagic] ^= 1 << s.random.IntN(8)
				}
			})},
		{name: "cuts the body", want: AlarmDamaged,
			fault: after(reads, func(s *fakeServer, call *fakeCall) {
				if len(call.body) > 0 && s.oneIn(20) {
					call.body = call.body[:1+s.random.IntN(len(call.body)-1)]
				}
			})},
		{name: "forgets locks", want: AlarmTwoHolders,
			fault: before([]wire.Op{wire.OpGetExclusive}, func(s *fakeServer, call *fakeCall) {
				if s.oneIn(4) {
					call.item.locked = false
				}
			})},
		{name: "gives the lock twice", want: AlarmTwoHolders,
			fault: before([]wire.Op{wire.OpGetExclusive}, func(s *fakeServer, call *fakeCall) {
				if call.item.locked && s.oneIn(4) {
					call.item.locked = false
					call.item.cookie--
				}
			})},
		{name: "removes nothing", want: AlarmPhantom,
			fault: after([]wire.Op{wire.OpRemove}, func(s *fakeServer, call *fakeCall) {
				call.item.locked = false
				s.items[call.key] = call.item
			})},
		{name: "invents a save", want: AlarmPhantom,
			fault: after(reads, func(s *fakeServer, call *fakeCall) {
				if len(call.body) > 0 && s.oneIn(20) {
					st, _ := parseBody(call.body)
					st.save += 1000
					call.body = appendBody(nil, &st, 20, 200)
				}
			})},
		{name: "repeats the action flag", want: AlarmFlags, mix: func(m *Mix) { m.Abandon, m.Leave = 20, 0 },
			fault: after(reads, func(s *fakeServer, call *fakeCall) {
				if call.resp.ActionFlags.Set {
					call.item.flag = true
				}
			})},
		{name: "drops a save with 503", want: AlarmBadAnswer, fault: before([]wire.Op{wire.OpSet}, instead(503, 20))},
		{name: "drops a removal with 500", want: AlarmBadAnswer, fault: before([]wire.Op{wire.OpRemove}, instead(500, 2))},
		{name: "says more than asked", want: AlarmBadAnswer,
			change: func(call *fakeCall, out []byte) []byte {
				if call.op == wire.OpGet {
					return append(out, "200 OK\r\n"...)
				}
				return out
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newFakeServer(20 * time.Millisecond)
			s.fault, s.change = tt.fault, tt.change
			c := small(s)
			if tt.mix != nil {
				tt.mix(&c.Mix)
			}
			r := play(t, s, c, nil)
			if r.Alarms[tt.want] == 0 {
				t.Errorf("no %v found", tt.want)
			}
			for kind, n := range r.Alarms {
				if k := Alarm(kind); k != tt.want && n > 0 && (k != tt.also || k == AlarmLost) {
					t.Errorf("%d %v found beside %v", n, Alarm(kind), tt.want)
				}
			}
			if r.OK() {
				t.Error("OK() = true; want false")
			}
			if t.Failed() {
				t.Log(r.Text())
			}
		})
	}
}

// TestNoFalseAlarm runs the farm against servers that do what they may: fail,
// break off before or after acting, act late, lose locks' answers.
func TestNoFalseAlarm(t *testing.T) {
	all := []wire.Op{wire.OpGet, wire.OpGetExclusive, wire.OpSet, wire.OpSetUninitialized, wire.OpRelease, wire.OpRemove, wire.OpResetTimeout}
	breakOff := func(oneIn int) func(call *fakeCall, out []byte) []byte {
		var n atomic.Int64
		return func(call *fakeCall, out []byte) []byte {
			if n.Add(1)%int64(oneIn) == 0 {
				return nil
			}
			return out
		}
	}
	tests := []struct {
		name      string
		fault     func(s *fakeServer, call *fakeCall)
		change    func(call *fakeCall, out []byte) []byte
		config    func(c *Config)
		cause     Cause // of page errors that must be seen, CauseNone for none at all
		takeovers bool
	}{
		{name: "sound"},
		{name: "refuses", fault: before(all, instead(400, 15)), cause: CauseRefused, takeovers: true},
		{name: "breaks off after acting", change: breakOff(15), cause: CauseTransport, takeovers: true},
		{name: "acts late", cause: CauseTransport, takeovers: true,
			fault: before([]wire.Op{wire.OpSet, wire.OpRemove, wire.OpRelease, wire.OpGetExclusive}, func(s *fakeServer, call *fakeCall) {
				if s.oneIn(10) {
					late := *call
					late.req.Head, late.req.Target, late.req.Host = nil, nil, nil
					s.wg.Go(func() {
						<-time.After(9 * time.Second)
						s.mu.Lock()
						defer s.mu.Unlock()
						late.item = s.items[late.key]
						s.do(&late)
					})
					call.skip = true
				}
			}),
			change: func(call *fakeCall, out []byte) []byte {
				if call.skip {
					return nil
				}
				return out
			}},
		{name: "tells no version", cause: CauseVersion,
			fault: after(all, func(s *fakeServer, call *fakeCall) { call.resp.AspNetVersion = nil })},
		{name: "too slow", cause: CauseTimeout, takeovers: true, config: func(c *Config) { c.NetworkTimeout = 35 * time.Millisecond }},
		{name: "slow pages", takeovers: true, config: func(c *Config) {
			c.ExecutionTimeout, c.Mix.Slow, c.Mix.SlowTime = 2*time.Second, 0.2, 3*time.Second
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newFakeServer(20 * time.Millisecond)
			s.fault, s.change = tt.fault, tt.change
			c := small(s)
			c.Duration = time.Minute
			if tt.config != nil {
				tt.config(&c)
			}
			r := play(t, s, c, nil)
			if !r.OK() {
				t.Error("OK() = false; want true")
			}
			if tt.cause != CauseNone && r.Errors[tt.cause] == 0 {
				t.Errorf("no page error of %v", tt.cause)
			}
			for cause, n := range r.Errors {
				if c := Cause(cause); n > 0 && c != tt.cause && c != CauseGaveUp {
					t.Errorf("%d page errors of %v; want none", n, c)
				}
			}
			if tt.takeovers != (r.Takeovers > 0) {
				t.Errorf("%d takeovers; want some: %v", r.Takeovers, tt.takeovers)
			}
			if t.Failed() {
				t.Log(r.Text())
			}
		})
	}
}

func TestExcuse(t *testing.T) {
	for _, tt := range []struct {
		name   string
		excuse func(id string) bool
		ok     bool
	}{
		{"excused", func(id string) bool { return len(id) == idLen }, true},
		{"not excused", func(string) bool { return false }, false},
		{"no excuse", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newFakeServer(20 * time.Millisecond)
			deaths := 0
			s.fault = func(s *fakeServer, call *fakeCall) {
				if !call.acted && s.oneIn(200) {
					clear(s.items)
					call.item = nil
					deaths++
				}
			}
			r := play(t, s, small(s), func(f *Farm) {
				if tt.excuse != nil {
					f.Excuse(tt.excuse)
				}
			})
			if deaths == 0 || r.OK() != tt.ok || tt.ok != (r.Excused[AlarmLost] > 0) {
				t.Errorf("after %d deaths OK() = %v, %d excused; want OK %v\n%s", deaths, r.OK(), r.Excused[AlarmLost], tt.ok, r.Text())
			}
			if !tt.ok && r.Alarms[AlarmLost] == 0 {
				t.Errorf("none lost; want some\n%s", r.Text())
			}
			for _, alarm := range []Alarm{AlarmStale, AlarmForeign, AlarmDamaged, AlarmPhantom, AlarmBadAnswer} {
				if n := r.Alarms[alarm]; n > 0 {
					t.Errorf("%d %v, which no death explains\n%s", n, alarm, r.Text())
				}
			}
		})
	}
}

func TestExpiry(t *testing.T) {
	s := newFakeServer(0)
	c := small(s)
	c.Timeout, c.PagesPerSecond, c.Duration = 1, 0.1, time.Hour
	r := play(t, s, c, nil)
	if !r.OK() || r.Expired == 0 {
		t.Errorf("OK() = %v, %d expired; want OK and some\n%s", r.OK(), r.Expired, r.Text())
	}
}

func TestPages(t *testing.T) {
	s := newFakeServer(0)
	ops := map[wire.Op]int{}
	s.fault = func(_ *fakeServer, call *fakeCall) {
		if call.acted {
			return
		}
		ops[call.op]++
		if call.op == wire.OpSet && !call.req.LockCookie.Set {
			t.Error("PUT without LockCookie")
		}
		if k := wire.ParseTarget(nil, call.req.Target); len(k.SessionID) != idLen || len(k.Digest) != 44 {
			t.Error("target without a digest of 44 characters and a session ID of 24")
		}
	}
	r := play(t, s, small(s), nil)
	for kind, l := range r.Pages {
		if l.Count == 0 {
			t.Errorf("no page of kind %v", Page(kind))
		}
	}
	for op := wire.OpGet; int(op) < wire.NumOps; op++ {
		if ops[op] == 0 || r.Ops[op].Count != uint64(ops[op]) {
			t.Errorf("%d exchanges of %v reported, server saw %d; want some", r.Ops[op].Count, op, ops[op])
		}
	}
	if n := r.PagesServed(); n < 60*29 || n > 60*31+12 {
		t.Errorf("%d pages in 30 s at 60/s; want about 1800", n)
	}
	if r.Polls == 0 || r.Abandoned == 0 || r.Created <= 12 {
		t.Errorf("%d polls, %d abandoned, %d created; want some", r.Polls, r.Abandoned, r.Created)
	}
	if r.PagesPerSecond < 50 || r.PagesPerSecond > 70 {
		t.Errorf("PagesPerSecond = %v; want about 60", r.PagesPerSecond)
	}
	if r.Verified+r.VerifiedLocked != uint64(r.Sessions) {
		t.Errorf("%d verified, %d locked; want %d", r.Verified, r.VerifiedLocked, r.Sessions)
	}
}

func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeServer(20 * time.Millisecond)
		defer s.close()
		s.fault = before([]wire.Op{wire.OpGetExclusive}, func(s *fakeServer, call *fakeCall) {
			call.item.locked, call.item.since = true, time.Now() // for ever
		})
		f, err := New(small(s))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		<-time.After(time.Second)
		if err := f.Run(ctx); !errors.Is(err, errBusy) {
			t.Errorf("second Run = %v; want %v", err, errBusy)
		}
		cancel()
		began := time.Now()
		if err := <-done; err != nil {
			t.Errorf("Run = %v; want nil", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("Run took %v to end while pages waited for locks; want no waiting", took)
		}
		if r := f.Report(); r.PageErrors() != 0 {
			t.Errorf("%d page errors; want none for pages that were cut short\n%s", r.PageErrors(), r.Text())
		}
	})
}

func TestNoServer(t *testing.T) {
	refused := errors.New("connection refused")
	f, err := New(Config{
		Targets: []string{"state:42424"}, Sessions: 3, Duration: time.Hour, PagesPerSecond: 1,
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, refused },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Fill(t.Context()); err == nil || !strings.Contains(err.Error(), "transport failure") {
		t.Errorf("Fill = %v; want a transport failure", err)
	}
	r := f.Report()
	if !r.OK() || r.Sessions != 0 || !strings.Contains(r.Text(), "set: connection refused") {
		t.Errorf("Report = %s; want no sessions, no damage, and the error", r.Text())
	}
}

func TestConfigErrors(t *testing.T) {
	_, err := New(Config{
		Targets: []string{"state"}, Apps: 3, Workers: 2, Sessions: 2, Pages: -1, PagesPerSecond: -1, Timeout: -1, Duration: -1,
		ExecutionTimeout: -1, NetworkTimeout: -1, PollInterval: -1,
		Mix:   Mix{ReadWrite: -1, Changed: 2, Parallel: -1, SlowTime: -1},
		Sizes: Sizes{Min: 1, Max: 2, LargeShare: 3, Large: 1},
	})
	if err == nil {
		t.Fatal("New = nil; want an error")
	}
	for _, want := range []string{
		`targets[0]: want host:port, got "state"`, "workers: want at least one for each of 3 apps, got 2", "sessions: want 3..",
		"pages: ", "pages per second: ", "timeout: want 1..525600 minutes, got -1", "duration: ", "execution timeout: ", "network timeout: ",
		"poll interval: ", "mix: weight of read-write", "share changed: want 0..1, got 2", "share parallel", "slow time", "sizes: want ", "large share", "large: want",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v; want %q in it", err, want)
		}
	}
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "targets: want at least one") {
		t.Errorf("New(Config{}) = %v; want targets to be missed", err)
	}
}

func TestReportHidesSessionIDs(t *testing.T) {
	s := newFakeServer(20 * time.Millisecond)
	s.fault = before(reads, instead(404, 10))
	var ids []string
	r := play(t, s, small(s), func(f *Farm) {
		f.Excuse(func(id string) bool {
			f.stats.mu.Lock()
			defer f.stats.mu.Unlock()
			ids = append(ids, id)
			return false
		})
	})
	text := r.Text()
	if len(ids) == 0 || !strings.Contains(text, "damage: session ") {
		t.Fatalf("%d findings; want some, and examples in\n%s", len(ids), text)
	}
	for _, id := range ids {
		if strings.Contains(text, id) {
			t.Error("Text() shows a session ID")
		}
	}
}
