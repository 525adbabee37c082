package admin

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/health"
	"stateproxy/proxy"
)

// full is an Admin whose status has every field; now is the bubble's time.
func full() *Admin {
	zone := time.FixedZone("", 2*60*60) // not UTC
	now := time.Now().In(zone)
	s := farm()
	s.Conns, s.InFlight, s.Accepted, s.Refused, s.AcceptErrors, s.Requests = 4, 3, 50, 2, 1, 99
	s.Pools[0].Since = now.Add(-time.Hour)
	s.Pools[0].Fingerprint = 1<<64 - 1
	s.Pools[0].Windows = []proxy.WindowStatus{{Ended: now.Add(-time.Hour), Until: now.Add(time.Minute), Moved: .25}}
	s.Pools[0].Next = &proxy.NextStatus{At: now.Add(20 * time.Second), Fingerprint: 0xfed, Moved: .125, Owners: []proxy.OwnerStatus{{Name: "s4", Weight: 3, Share: 1}}}
	s.Evacuations = []proxy.EvacuationStatus{{Backend: "s3", Began: now.Add(-time.Minute), Moved: 31, Left: 32, InUse: 33, Failed: 34,
		Ends: now.Add(time.Minute), BlindUntil: now.Add(time.Hour), Missed: 35, Safe: true}}
	s.Remembered = 36
	s.Backends = s.Backends[1:]
	s.Backends[0].State = proxy.Down
	s.Backends[0].FailingSince = now.Add(-90 * time.Second)
	s.Backends[0].Conns = proxy.ConnStats{Open: 7, Idle: 5, Busy: 3, Waiting: 1, Dials: 11, DialErrors: 12, Reused: 13,
		Repeated: 14, Dropped: 15, Waits: 16, Refused: 17, LateReleased: 18}
	a := showing(s, health.Status{Name: "s2", Address: "s2.test:42424", Kept: true, ByHand: true, Unproven: true,
		Since: now.Add(-time.Minute), Reason: "3 probes failed in a row, the last: refused", Probed: now.Add(-time.Second),
		ProbeTook: 1500 * time.Microsecond, ProbeErr: "refused", ProbesPassed: 21, ProbesFailed: 22, RequestsFailed: 23,
		FailingSince: now.Add(-2 * time.Minute), HoldDownUntil: now.Add(5 * time.Second), Falls: 24, Up: true})
	a.Version, a.Commit, a.File = "1.2.3", "abcdef", "stateproxy.yaml"
	a.Configure(Settings{MinUp: 1})
	a.Certificates = func() []Certificate {
		return []Certificate{{Listener: "0.0.0.0:42425", CA: true, File: "ca.pem", Name: "CN=farm", NotAfter: now.Add(2400 * time.Hour), Trouble: "ca.pem: no certificate in it"}}
	}
	a.Token = func() string { return "secret" }
	a.Actions.Reload = func(context.Context) error { return nil }
	a.LogLevel = func() string { return "warn" }
	a.Observe(&proxy.Outcome{Pool: "shop", Backend: "s2", Status: 400, Reason: "timeout", Moved: true, LockReleased: true})
	a.Loaded(Reload{At: now.Add(-2 * time.Hour), OK: true})
	a.Loaded(Reload{At: now.Add(-time.Hour), OK: true, Changes: []string{"backends: s4 added"}, Moved: .2})
	a.Loaded(Reload{At: now.Add(-time.Minute), Error: "stateproxy.yaml:3:1: no such key\nstateproxy.yaml:4:1: another"})
	return a
}

func TestStatusGolden(t *testing.T) {
	tests := []struct {
		name  string
		admin func() *Admin
	}{
		{"zero", func() *Admin { return &Admin{} }},
		{"full", full},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := ask(t, tt.admin().Handler(), "GET /api/v1/status")
				got := strings.Replace(bodyOf(t, r), runtime.Version(), "GO", 1)
				want, err := os.ReadFile("testdata/status-" + tt.name + ".json")
				if err != nil {
					t.Error(err)
				}
				if got != strings.ReplaceAll(string(want), "\r\n", "\n") {
					t.Errorf("GET /api/v1/status = %s; want %s", got, want)
				}
				if ct := r.Header.Get("Content-Type"); ct != "application/json" {
					t.Errorf("Content-Type = %q; want application/json", ct)
				}
			})
		})
	}
}

func TestStatusKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v any
		if err := json.Unmarshal([]byte(bodyOf(t, ask(t, full().Handler(), "GET /api/status"))), &v); err != nil {
			t.Fatal(err)
		}
		snake := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
		var walk func(any)
		walk = func(v any) {
			switch v := v.(type) {
			case map[string]any:
				for k, item := range v {
					if !snake.MatchString(k) {
						t.Errorf("key %q; want snake_case", k)
					}
					walk(item)
				}
			case []any:
				for _, item := range v {
					walk(item)
				}
			case nil:
				t.Error("a null in the status; want the key left out or an empty list")
			}
		}
		walk(v)
	})
}

func TestLoaded(t *testing.T) {
	at := func(minute int) time.Time { return time.Unix(1700000000+60*int64(minute), 0) }
	tests := []struct {
		name    string
		reloads []Reload
		want    loads // but last
	}{
		{"none", nil, loads{}},
		{"first", []Reload{{At: at(0), OK: true}}, loads{first: at(0), inForce: at(0)}},
		{"again", []Reload{{At: at(0), OK: true}, {At: at(1), OK: true}}, loads{first: at(0), inForce: at(1), ok: 1}},
		{"refused", []Reload{{At: at(0), OK: true}, {At: at(1)}, {At: at(2)}}, loads{first: at(0), inForce: at(0), refused: 2}},
		{"refused, then well", []Reload{{At: at(0)}, {At: at(1), OK: true}}, loads{first: at(1), inForce: at(1), refused: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := &Admin{}
			for _, r := range tt.reloads {
				a.Loaded(r)
			}
			got := a.snapshot().loads
			if got.first != tt.want.first || got.inForce != tt.want.inForce || got.ok != tt.want.ok || got.refused != tt.want.refused {
				t.Errorf("after %d loads: %+v; want %+v", len(tt.reloads), got, tt.want)
			}
			if n := len(tt.reloads); n > 0 && got.last.At != tt.reloads[n-1].At {
				t.Errorf("last load at %v; want %v", got.last.At, tt.reloads[n-1].At)
			}
		})
	}
}

func TestLoadedKeepsNothingOfTheCaller(t *testing.T) {
	a := &Admin{}
	changes := []string{"backends: s4 added"}
	a.Loaded(Reload{At: time.Unix(1700000000, 0), OK: true, Changes: changes})
	changes[0] = "overwritten"
	if got := a.snapshot().loads.last.Changes[0]; got != "backends: s4 added" {
		t.Errorf("changes after the caller reused its slice = %q; want those that were given", got)
	}
}
