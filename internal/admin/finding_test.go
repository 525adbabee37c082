package admin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/health"
	"stateproxy/proxy"
)

func TestFindings(t *testing.T) {
	at := time.Unix(1700000000, 0)
	state := func(i int, s proxy.State) proxy.Status {
		st := farm()
		st.Backends[i].State = s
		return st
	}
	failing := farm()
	failing.Backends[0].FailingSince = at
	former := state(0, proxy.Down)
	former.Backends[0].Weight = 0
	draining := state(0, proxy.Draining)
	draining.Evacuations = []proxy.EvacuationStatus{{Backend: "s1", Moved: 12, Left: 3}}
	empty := state(0, proxy.Draining)
	empty.Evacuations = []proxy.EvacuationStatus{{Backend: "s1", Safe: true}}
	next := farm()
	next.Pools[0].Next = &proxy.NextStatus{At: at}
	h := health.Status{Name: "s1", Since: at, Reason: "3 probes failed", FailingSince: at}
	byHand, keptS1 := h, h
	byHand.ByHand, keptS1.Kept, keptS1.Up = true, true, true

	tests := []struct {
		name  string
		admin *Admin
		level Level
		kind  Kind
		text  string
		since time.Time
	}{
		{"down", showing(state(0, proxy.Down), h), Error, BackendDown, "out of service: 3 probes failed", at},
		{"down by hand", showing(state(0, proxy.Down), byHand), Warn, BackendByHand, "by hand: 3 probes failed", at},
		{"a former one down", showing(former, h), Warn, BackendDown, "former backend out of service", at},
		{"kept", showing(farm(), keptS1), Error, BackendFailing, "kept in service", at},
		{"requests to it fail", showing(failing), Warn, BackendFailing, "answers no requests", at},
		{"draining", showing(draining), Info, BackendDraining, "12 sessions brought over, 3 known to be left", time.Time{}},
		{"emptied", showing(empty), Info, BackendDraining, "may be shut down", time.Time{}},
		{"routing to come", showing(next), Info, RoutingIsToCome, "soon", time.Time{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list := tt.admin.snapshot().findings()
			if len(list) != 1 {
				t.Fatalf("findings() = %+v; want one", list)
			}
			f := list[0]
			if f.Level != tt.level || f.Kind != tt.kind || !strings.Contains(f.Text, tt.text) || !f.Since.Equal(tt.since) {
				t.Errorf("findings() = %+v; want %s %s, %q since %v", f, tt.level, tt.kind, tt.text, tt.since)
			}
		})
	}
}

func TestNoFindingsWhenAllIsWell(t *testing.T) {
	if list := showing(farm()).snapshot().findings(); len(list) != 0 {
		t.Errorf("findings() = %+v; want none", list)
	}
}

func TestFindingsOfOthersAreShownInOrder(t *testing.T) {
	a := showing(down("s1"))
	a.Findings = func() []Finding {
		return []Finding{{Level: Info, Kind: "third", Text: "x"}, {Level: Error, Kind: "first", Text: "x"}, {Level: Warn, Kind: "second", Text: "x"}}
	}
	var kinds []string
	for _, f := range a.snapshot().findings() {
		kinds = append(kinds, string(f.Kind))
	}
	if got := strings.Join(kinds, " "); got != "backend_down first second third" {
		t.Errorf("kinds = %s; want the most pressing first", got)
	}
}

// What fails by a client's doing is no finding; what does not is, for a minute.
func TestTrafficFindings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := farm()
		a := &Admin{Proxy: func() proxy.Status { return state }}
		a.history.begin(a.snapshot())
		levels := func() (kinds string) {
			a.tick()
			<-time.After(time.Second)
			for _, f := range a.snapshot().findings() {
				kinds += string(f.Kind) + " " + f.Text + "; "
			}
			return kinds
		}
		for _, r := range clientReasons {
			a.Observe(&proxy.Outcome{Status: 400, Reason: r})
		}
		if got := levels(); got != "" {
			t.Errorf("after clients' failures: %s; want nothing", got)
		}
		a.Observe(&proxy.Outcome{Pool: "default", Backend: "s1", Reason: "timeout"})
		a.Observe(&proxy.Outcome{Pool: "default", Backend: "s1", Reason: "timeout"})
		a.Observe(&proxy.Outcome{Pool: "default", Backend: "s1", Reason: "dial_refused"})
		state.Refused = 6
		state.Refusals = []proxy.RefusalCount{{Reason: proxy.ClientConnLimit, Count: 4}, {Reason: proxy.NotAllowed, Count: 1}, {Reason: proxy.BadProxyHeader, Count: 1}}
		began := time.Now()
		if got := levels(); !strings.Contains(got, "requests_failing 3 requests failed in the last minute, mostly for timeout") || !strings.Contains(got, "clients_refused 4 client") || !strings.Contains(got, "clients_shut_out 2 client") {
			t.Errorf("after failures: %s; want the three findings", got)
		}
		v := a.snapshot().verdict()
		if v.Level != Error || !v.Since.Equal(began) {
			t.Errorf("verdict() = %s since %v; want error since %v", v.Level, v.Since, began)
		}
		for range 60 {
			levels()
		}
		if got := levels(); got != "" {
			t.Errorf("a minute later: %s; want nothing", got)
		}
		if v := a.snapshot().verdict(); v.Level != Info || v.Since.IsZero() || v.Since.Before(began) {
			t.Errorf("verdict() = %s since %v; want info, since lately", v.Level, v.Since)
		}
		var kinds []string
		for _, e := range a.feed.recent() {
			kinds = append(kinds, string(e.Kind))
		}
		if got := strings.Join(kinds, " "); got != "finding_ended finding_ended finding_ended finding_began finding_began finding_began" {
			t.Errorf("events: %s; want three that began, then ended", got)
		}
	})
}

func TestVerdictGoesBackToTheOldest(t *testing.T) {
	early, late := time.Unix(1700000000, 0), time.Unix(1700000500, 0)
	a := showing(down("s1", "s3"), health.Status{Name: "s1", Since: late}, health.Status{Name: "s3", Since: early})
	if v := a.snapshot().verdict(); v.Level != Error || !v.Since.Equal(early) {
		t.Errorf("verdict() = %s since %v; want error since %v", v.Level, v.Since, early)
	}
}

// Findings that nobody else tells of are told once when they begin and once when
// they are over, each of several of a kind by itself.
func TestFindingsAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var list []Finding
		var told []string
		a := &Admin{Findings: func() []Finding { return list }}
		a.OnFinding = func(f Finding, began bool) {
			told = append(told, fmt.Sprintf("%s of %s%s, %s, %v, %v", f.Kind, f.Backend, f.App, f.Level, began, time.Since(f.Since)))
		}
		second := func() {
			a.follow(a.snapshot(), list)
			time.Sleep(time.Second)
		}
		mismatch := Finding{Level: Error, Kind: "app_mismatch", App: "/a", Text: "differ", Since: time.Now().Add(-time.Minute)}
		list = []Finding{mismatch, {Level: Error, Kind: "app_mismatch", App: "/b"}, {Level: Warn, Kind: "clock_off", Backend: "s1"},
			{Level: Error, Kind: BackendDown, Backend: "s1"}, {Level: Warn, Kind: RefusedConfig}}
		second()
		list[0].Text = "differ even more"
		second()
		list = list[1:2]
		second()
		list = nil
		second()
		second()
		want := []string{
			"app_mismatch of /a, error, true, 1m0s", "app_mismatch of /b, error, true, 0s", "clock_off of s1, warn, true, 0s",
			"app_mismatch of /a, info, false, 1m2s", "clock_off of s1, info, false, 2s", // in any order
			"app_mismatch of /b, info, false, 3s",
		}
		if len(told) == len(want) {
			slices.Sort(told[3:5])
		}
		if !slices.Equal(told, want) {
			t.Errorf("told %q; want %q", told, want)
		}
		var texts []string
		for _, e := range a.feed.recent() {
			if e.Finding == "" {
				t.Errorf("event %+v; want it to say of which finding", e)
			}
			texts = append(texts, e.Text)
		}
		if len(texts) != 6 || texts[0] != "app mismatch of /b; it was there for 3s" || texts[5] != "differ" {
			t.Errorf("events %q; want six, from the first text to the last end", texts)
		}
	})
}

func TestFindingsAreCounted(t *testing.T) {
	a := showing(down("s1", "s2"))
	a.Findings = func() []Finding {
		return []Finding{{Level: Warn, Kind: "clock_off", Backend: "s1"}, {Level: Info, Kind: "made_up"}, {Level: Info, Kind: "made_up, too"}}
	}
	text := scrape(t, a)
	for _, want := range []string{`{kind="backend_down"} 2`, `{kind="clock_off"} 1`, `{kind="lock_held"} 0`, `{kind="other"} 2`, `{kind="not_ready"} 1`} {
		if !strings.Contains(text, "\nstateproxy_findings"+want+"\n") {
			t.Errorf("metrics lack stateproxy_findings%s", want)
		}
	}
	if n := strings.Count(text, "\nstateproxy_findings{"); n != len(kinds)+1 {
		t.Errorf("%d series of findings; want %d", n, len(kinds)+1)
	}
}
