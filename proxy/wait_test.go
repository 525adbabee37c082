package proxy_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

func TestOutageIsBridged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		b := newBubble(t, proxy.Settings{OnUnavailable: proxy.Wait, WaitLimit: 30 * time.Second}, func(c *fakeConn) {
			for {
				q, err := c.next()
				if err != nil || down.Load() {
					return
				}
				c.say(good(q.op, q.id))
			}
		})
		defer b.stop()
		c := b.client()
		want := func(op wire.Op, answer string) {
			t.Helper()
			if got, err := c.exchange(op, "a"); got != answer || err != nil {
				t.Errorf("%v at %v = %q, %v; want %q", op, time.Now(), got, err, answer)
			}
		}
		for range 2 { // the second outage is bridged as long as the first
			c.wantGood(wire.OpGet, "a")
			down.Store(true)
			for _, op := range verbs {
				if isRead(op) {
					want(op, hold)
				} else {
					want(op, failure)
				}
			}
			<-time.After(29 * time.Second)
			want(wire.OpGet, hold)
			want(wire.OpGetExclusive, hold)
			<-time.After(time.Second)
			want(wire.OpGet, failure)
			want(wire.OpGetExclusive, failure)
			down.Store(false)
		}
		c.wantGood(wire.OpGetExclusive, "a")
		if s := b.proxy.Status(); !s.Backends[0].FailingSince.IsZero() {
			t.Errorf("failing since %v; want not failing", s.Backends[0].FailingSince)
		}
	})
}

func TestNobodyMayOwnTheSession(t *testing.T) {
	f := startFake(t, goodUntilClosed)
	drained := f.backend("s1")
	drained.Drain = true
	tests := []struct {
		name     string
		settings proxy.Settings
		eject    bool
	}{
		{"no backends", proxy.Settings{}, false},
		{"all draining", proxy.Settings{Backends: []proxy.Backend{drained}}, false},
		{"all ejected", proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}}, true},
		{"no pool takes the application", proxy.Settings{
			Backends: []proxy.Backend{f.backend("s1")},
			Pools:    []proxy.Pool{{Name: "shop", Applications: []string{"/LM/W3SVC/1/*"}, Backends: []string{"s1"}}},
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.settings.OnUnavailable = proxy.Wait
			r := newRig(t, tt.settings)
			if tt.eject {
				r.proxy.SetUp("s1", false)
			}
			c := dial(t, r.addr)
			for i, op := range verbs {
				if got, err := c.exchange(op, "a"); got != failure || err != nil {
					t.Errorf("%v = %q, %v; want F", op, got, err)
				}
				if o := r.lastOutcome(i + 1); o.Reason != proxy.NoBackend || o.Backend != "" || o.Err == nil {
					t.Errorf("outcome = %s, %q, %v; want no_backend, none and an error", o.Reason, o.Backend, o.Err)
				}
			}
		})
	}
	if n := len(f.requests("")); n != 0 {
		t.Errorf("backend got %d requests; want none", n)
	}
}

func TestEvidence(t *testing.T) {
	neutral := map[proxy.Reason]bool{"answer_too_large": true, "empty_answer": true}
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, proxy.Settings{MaxBody: 1 << 20}, faulty)
		defer b.stop()
		var evidence atomic.Pointer[error]
		b.proxy.Evidence = func(name string, err error) {
			if name != "s1" {
				t.Errorf("evidence on %q; want s1", name)
			}
			evidence.Store(&err)
		}
		c := b.client()
		for _, ft := range faults {
			if strings.Contains(ft.name, "reset") { // a pipe can't be
				continue
			}
			evidence.Store(nil)
			if _, err := c.exchange(wire.OpGet, ft.name+".x"); err != nil {
				t.Fatal(err)
			}
			got := evidence.Load()
			if told := got != nil; told == neutral[ft.reason] || told && *got == nil {
				t.Errorf("%s: evidence = %v; want an error: %t", ft.name, got, !neutral[ft.reason])
			}
			c.wantGood(wire.OpGet, "sound")
			if got := evidence.Load(); got == nil || *got != nil {
				t.Errorf("after %s: evidence of a good answer = %v; want nil", ft.name, got)
			}
		}
	})
}
