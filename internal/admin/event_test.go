package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func TestNoteKeepsTheLast(t *testing.T) {
	a := &Admin{}
	for i := range maxEvents + 7 {
		a.Note(Event{Kind: ActionDone, Text: fmt.Sprint(i)})
	}
	list := a.feed.recent()
	if len(list) != maxEvents || list[0].Text != fmt.Sprint(maxEvents+6) || list[maxEvents-1].Text != "7" || list[0].ID != maxEvents+7 {
		t.Errorf("%d events from %q back to %q; want %d, the latest first", len(list), list[0].Text, list[len(list)-1].Text, maxEvents)
	}
}

func TestNoteDefaultsAndBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &Admin{}
		a.Note(Event{Kind: ActionDone, Text: strings.Repeat("ü\xff", maxEventText)})
		e := a.feed.recent()[0]
		if e.Level != Info || !e.Time.Equal(time.Now()) {
			t.Errorf("event at %v of level %q; want now, info", e.Time, e.Level)
		}
		if len(e.Text) > 2*maxEventText || !utf8.ValidString(e.Text) {
			t.Errorf("text of %d bytes, valid UTF-8: %v; want a bounded, valid one", len(e.Text), utf8.ValidString(e.Text))
		}
	})
}

func TestLoadsBecomeEventsAndReloads(t *testing.T) {
	at := func(i int) time.Time { return time.Unix(1700000000+int64(i), 0) }
	a := &Admin{}
	a.Loaded(Reload{At: at(0), OK: true})
	a.Loaded(Reload{At: at(1), Error: "stateproxy.yaml:3:1: bakends: no such key"})
	a.Loaded(Reload{At: at(2), OK: true, Changes: []string{"s4 added"}, Moved: .25})
	a.Drain()
	a.Drain()
	want := []struct {
		kind  Kind
		level Level
		text  string
	}{
		{Draining, Warn, "about to stop"},
		{ConfigReloaded, Info, "s4 added\n25.0% of sessions get another owner"},
		{ConfigRefused, Error, "stateproxy.yaml:3:1: bakends: no such key"},
		{ConfigLoaded, Info, "first config"},
	}
	list := a.feed.recent()
	if len(list) != len(want) {
		t.Fatalf("events = %+v; want %d", list, len(want))
	}
	for i, w := range want {
		if e := list[i]; e.Kind != w.kind || e.Level != w.level || !strings.Contains(e.Text, w.text) {
			t.Errorf("event %d = %+v; want %+v", i, e, w)
		}
	}

	var reloads reloadList
	if err := json.Unmarshal([]byte(bodyOf(t, ask(t, a.Handler(), "GET /api/v1/reloads"))), &reloads); err != nil {
		t.Fatal(err)
	}
	if r := reloads.Reloads; len(r) != 3 || !r[0].At.Equal(at(2)) || r[1].OK || r[1].Error == "" || r[0].Changes[0] != "s4 added" {
		t.Errorf("reloads = %+v; want three, the latest first", r)
	}
}

func TestReloadsAreBounded(t *testing.T) {
	a := &Admin{}
	many := make([]string, 10*maxChanges)
	for range 3 * maxLoads {
		a.Loaded(Reload{OK: true, Changes: many})
	}
	if n := len(a.loads.recent); n != maxLoads {
		t.Errorf("%d loads kept; want %d", n, maxLoads)
	}
	if n := len(a.loads.last.Changes); n != maxChanges {
		t.Errorf("%d lines of changes kept; want %d", n, maxChanges)
	}
}

func TestConfigInForce(t *testing.T) {
	a := &Admin{}
	if r := ask(t, a.Handler(), "GET /api/v1/config"); r.StatusCode != 501 {
		t.Errorf("GET /api/v1/config without a func = %d; want 501", r.StatusCode)
	}
	a.Config = func() string { return "listen: :42424\n" }
	r := ask(t, a.Handler(), "GET /api/v1/config")
	if got := bodyOf(t, r); r.StatusCode != 200 || got != "listen: :42424\n" || r.Header.Get("Content-Type") != "application/yaml" {
		t.Errorf("GET /api/v1/config = %d %q as %s", r.StatusCode, got, r.Header.Get("Content-Type"))
	}
}
