package main

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"stateproxy/internal/config"
	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// slowOutcome is a request that took its time in every phase.
func slowOutcome() *proxy.Outcome {
	const ms = time.Millisecond
	return &proxy.Outcome{
		Client: netip.MustParseAddrPort("10.0.0.21:50123"), Op: wire.OpGetExclusive, App: []byte("/LM/W3SVC/2/ROOT/Shop"), Session: 0xabc,
		Pool: "shop", Backend: "s1", Status: 400, Reason: "timeout", Err: errors.New("no answer"), Duration: 1107 * ms, Delay: 7 * ms, Wait: 1000 * ms,
		Phases:       proxy.Phases{Handoff: 100 * ms, Queue: 50 * ms, Connect: 20 * ms, Send: 10 * ms, Body: 5 * ms},
		RequestBytes: 120, ResponseBytes: 90, Moved: true, LockReleased: true,
	}
}

// newRequestLog returns a log that wants what c says, and where it writes.
func newRequestLog(c config.Log) (*requestLog, *logText) {
	out := &logText{}
	r := &requestLog{log: zerolog.New(out)}
	r.set(c)
	return r, out
}

func TestRequestLogChooses(t *testing.T) {
	fast := slowOutcome()
	fast.Duration = time.Second - 1
	refused := &proxy.Outcome{Status: 400, Reason: proxy.Malformed}
	const half = uint64(1) << 63
	above := &proxy.Outcome{Session: half + 1}
	tests := []struct {
		name string
		c    config.Log
		o    *proxy.Outcome
		want string // message, "" for no line
	}{
		{"nothing wanted", config.Log{}, slowOutcome(), ""},
		{"slow", config.Log{Slow: time.Second}, slowOutcome(), "slow request"},
		{"not slow", config.Log{Slow: time.Second}, fast, ""},
		{"slow, one line for it", config.Log{Slow: time.Second, Access: 1}, slowOutcome(), "slow request"},
		{"all", config.Log{Access: 1}, fast, "request"},
		{"the last of all", config.Log{Access: 1}, &proxy.Outcome{Session: 1<<64 - 1}, "request"},
		{"in the share", config.Log{Access: 0.5}, &proxy.Outcome{Session: half}, "request"},
		{"not in the share", config.Log{Access: 0.5}, above, ""},
		{"without a session", config.Log{Access: 0.01}, refused, "request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, out := newRequestLog(tt.c)
			r.note(tt.o)
			var line struct{ Message string }
			if err := json.Unmarshal([]byte(out.String()), &line); err != nil && out.String() != "" {
				t.Fatal(err)
			}
			if line.Message != tt.want || strings.Count(out.String(), "\n") > 1 {
				t.Errorf("note wrote %q; want %q", out, tt.want)
			}
		})
	}
}

// A line tells all that is known, under names that docs/logs.md has.
func TestRequestLogFields(t *testing.T) {
	r, out := newRequestLog(config.Log{Slow: time.Second})
	r.note(slowOutcome())
	const want = `{"level":"info","op":"get_exclusive","client":"10.0.0.21:50123","status":400,"session":"0000000000000abc",` +
		`"application":"/LM/W3SVC/2/ROOT/Shop","pool":"shop","backend":"s1","reason":"timeout","error":"no answer",` +
		`"duration_ms":1107,"wait_ms":1000,"delay_ms":7,"handoff_ms":100,"queue_ms":50,"connect_ms":20,"send_ms":10,"answer_ms":815,"body_ms":5,"reply_ms":100,` +
		`"request_bytes":120,"response_bytes":90,"moved":true,"lock_released":true,"message":"slow request"}` + "\n"
	if out.String() != want {
		t.Errorf("note wrote %s; want %s", out, want)
	}
	doc, err := os.ReadFile("../../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(out.String()), &line); err != nil {
		t.Fatal(err)
	}
	for name := range line {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/logs.md has no field %q", name)
		}
	}
	r, out = newRequestLog(config.Log{Access: 1})
	r.note(&proxy.Outcome{App: []byte(strings.Repeat("<\x1b\n", 1000))})
	if got := out.String(); len(got) > 3000 || strings.Count(got, "\n") != 1 || strings.Contains(got, "\x1b") {
		t.Errorf("note wrote %q; want one short line that steers no terminal", got)
	}
}

func TestRequestLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, out := newRequestLog(config.Log{Slow: time.Second})
		for range 100 {
			r.note(slowOutcome())
		}
		if got := strings.Count(out.String(), "\n"); got != slowLines {
			t.Errorf("%d lines on 100 slow requests at once; want %d", got, slowLines)
		}
		<-time.After(time.Second)
		r.note(slowOutcome())
		r.note(slowOutcome())
		if got := out.String(); strings.Count(got, "\n") != slowLines+2 || strings.Count(got, `"also_slow":90,`) != 1 || strings.Count(got, "also_slow") != 1 {
			t.Errorf("the next second wrote\n%s; want two lines, the first with the 90 left out", got[strings.Index(got, "also_slow"):])
		}
	})
}

func TestRequestLogAllocatesNothing(t *testing.T) {
	r, _ := newRequestLog(config.Log{Slow: 2 * time.Second, Access: 0.5})
	o := slowOutcome()
	o.Session = 1<<64 - 1
	if n := testing.AllocsPerRun(1000, func() { r.note(o) }); n != 0 {
		t.Errorf("note of a request that is not logged allocates %v times; want 0", n)
	}
}

// Both kinds of lines, through a reload and a change of the level while the
// proxy runs, with the hash that tail shows.
func TestAppLogsRequests(t *testing.T) {
	s1 := stateserver.RunT(t)
	r := runApp(t, text(s1)+"log: {slow: 1ns}\n")
	tail, _, stop := tailed(t, r)
	r.eventually("a request in tail", func() bool {
		r.ask(putOne)
		return strings.Contains(tail.String(), " set  ")
	})
	stop()
	lines := strings.Split(strings.TrimSpace(tail.String()), "\n")
	session := strings.Fields(lines[len(lines)-1])[3]
	r.logged("slow request", `"op":"set"`, `"session":"`+session+`"`, `"backend":"s1"`, `"answer_ms":`)
	replaceFile(t, r.file, text(s1)+"log: {slow: 0s, access: 100%}\n")
	r.logged("config reloaded", "log.slow 1ns -> 0s", "log.access 0% -> 100%")
	r.ask(getOne)
	r.logged(`"message":"request"`, `"op":"get"`, `"session":"`+session+`"`, `"status":200`)
	replaceFile(t, r.file, text(s1)+"log: {level: warn, slow: 0s, access: 100%}\n")
	r.eventually("the level", func() bool { return r.app.level.name() == "warn" })
	before := strings.Count(r.log.String(), `"message":"request"`)
	r.ask(getOne)
	r.ask("nonsense\r\n\r\n")
	r.logged("request failed", "malformed")
	if n := strings.Count(r.log.String(), `"message":"request"`); n != before {
		t.Errorf("%d lines at the level info were written at the level warn; want none", n-before)
	}
	if strings.Contains(r.log.String(), "bpr4mimb2vjnvtn2jc4yp3uo") {
		t.Error("the log holds a session ID")
	}
}
