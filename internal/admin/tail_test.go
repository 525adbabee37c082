package admin

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// request is the outcome of a request that the tests listen for.
func request() *proxy.Outcome {
	return &proxy.Outcome{
		Client: netip.MustParseAddrPort("10.0.0.21:50123"), Op: wire.OpGetExclusive, App: []byte("/LM/W3SVC/2/ROOT/Shop"), Session: 0xabc,
		Pool: "shop", Backend: "s1", Status: 423, Start: time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC),
		Duration: 1500 * time.Microsecond, Wait: time.Millisecond, RequestBytes: 120, ResponseBytes: 90,
	}
}

// listening returns the lines of /api/v1/tail, and what ends the stream.
func listening(t *testing.T, a *Admin, query string) (next func() string, leave func()) {
	t.Helper()
	s := httptest.NewServer(a.Handler())
	t.Cleanup(s.Close)
	resp, err := s.Client().Get(s.URL + "/api/v1/tail" + query)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "application/x-ndjson" {
		t.Fatalf("GET /api/v1/tail%s = %d, %q; want 200, application/x-ndjson", query, resp.StatusCode, got)
	}
	leave = func() { resp.Body.Close() }
	t.Cleanup(leave)
	lines := bufio.NewScanner(resp.Body)
	next = func() string {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("the stream has ended: %v", lines.Err())
		}
		return lines.Text()
	}
	if got := next(); got != "" {
		t.Fatalf("first line = %q; want an empty one", got)
	}
	return next, leave
}

func TestTail(t *testing.T) {
	a := showing(farm())
	next, _ := listening(t, a, "")
	a.Observe(request())
	want := `{"time":"2026-05-06T07:08:09Z","client":"10.0.0.21:50123","op":"get_exclusive","session":"0000000000000abc","app":"/LM/W3SVC/2/ROOT/Shop",` +
		`"pool":"shop","backend":"s1","status":423,"ms":1.5,"wait_ms":1,"request_bytes":120,"response_bytes":90}`
	if got := next(); got != want {
		t.Errorf("line = %s; want %s", got, want)
	}
	o := request()
	o.Backend, o.Status, o.Reason, o.Err = "", 0, proxy.NoBackend, errors.New("pool shop has\xff none")
	o.Moved, o.LockReleased = true, true
	o.Delay = 6000
	o.Phases = proxy.Phases{Handoff: 1000, Queue: 2000, Connect: 3000, Send: 4000, Body: 5000}
	o.App = []byte(strings.Repeat("<script>\xff", 100))
	a.Observe(o)
	var line tailLine
	if err := json.Unmarshal([]byte(next()), &line); err != nil {
		t.Fatal(err)
	}
	if line.Status != 0 || line.Reason != "no_backend" || line.Error != "pool shop has? none" || !line.Moved || !line.LockReleased || len(line.App) > maxTailText {
		t.Errorf("line = %+v; want status 0, no_backend, the error, moved, lock released, a short app", line)
	}
	if got := []float64{line.HandoffMS, line.QueueMS, line.ConnectMS, line.SendMS, line.BodyMS, line.DelayMS}; !slices.Equal(got, []float64{.001, .002, .003, .004, .005, .006}) {
		t.Errorf("phases = %v; want 1 to 6 µs", got)
	}
}

func TestTailFilters(t *testing.T) {
	a := showing(farm())
	next, _ := listening(t, a, "?op=set,get&backend=s2&status=200&min_ms=5&session=0000000000000abc&app=shop")
	wanted := func() *proxy.Outcome {
		o := request()
		o.Op, o.Backend, o.Status, o.Duration, o.ResponseBytes = wire.OpSet, "s2", 200, 5*time.Millisecond, 4711
		return o
	}
	for _, change := range []func(*proxy.Outcome){
		func(o *proxy.Outcome) { o.Op = wire.OpRemove },
		func(o *proxy.Outcome) { o.Backend = "s1" },
		func(o *proxy.Outcome) { o.Status = 404 },
		func(o *proxy.Outcome) { o.Duration-- },
		func(o *proxy.Outcome) { o.Session++ },
		func(o *proxy.Outcome) { o.App = []byte("/LM/W3SVC/1/ROOT") },
		func(o *proxy.Outcome) {}, // this one passes
	} {
		o := wanted()
		change(o)
		a.Observe(o)
	}
	if got := next(); !strings.Contains(got, `"response_bytes":4711`) || strings.Contains(got, "s1") || !strings.Contains(got, `"ms":5,`) {
		t.Errorf("first line = %s; want the one request that fits all filters", got)
	}
}

func TestParseTailFilter(t *testing.T) {
	tests := []struct {
		query string
		want  tailFilter
		err   string // part of it; "" for none
	}{
		{"", tailFilter{}, ""},
		{"op=get,set&status=closed,423", tailFilter{ops: []string{"get", "set"}, statuses: []int{0, 423}}, ""},
		{"backend=s1&min_ms=0.5&app=/LM", tailFilter{backends: []string{"s1"}, atLeast: 500 * time.Microsecond, app: "/lm"}, ""},
		{"op=put", tailFilter{}, "op: want none, get"},
		{"status=ok", tailFilter{}, "status: want"},
		{"status=-1", tailFilter{}, "status: want"},
		{"min_ms=-1", tailFilter{}, "min_ms: want"},
		{"min_ms=NaN", tailFilter{}, "min_ms: want"},
		{"min_ms=1e300", tailFilter{}, "min_ms: want"},
		{"session=00000000000000ff", tailFilter{session: 255}, ""},
		{"session=0", tailFilter{}, "session: want the hash"},
		{"session=x", tailFilter{}, "session: want the hash"},
		{"client=x", tailFilter{}, `"client": want each of op, backend`},
		{"op=get&op=set", tailFilter{}, `"op": want each of`},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			q, err := url.ParseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			got, err := parseTailFilter(q)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("parseTailFilter(%s) = %v; want an error with %q", tt.query, err, tt.err)
				}
			} else if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("parseTailFilter(%s) = %+v, %v; want %+v", tt.query, got, err, tt.want)
			}
		})
	}
}

func TestTailRefuses(t *testing.T) {
	a := showing(farm())
	h := http.HandlerFunc(a.serveTail)
	if r := ask(t, h, "GET /api/v1/tail?op=put"); r.StatusCode != 400 {
		t.Errorf("a bad filter = %d; want 400", r.StatusCode)
	}
	if r := ask(t, h, "HEAD /api/v1/tail"); r.StatusCode != 200 || a.tails.open.Load() != 0 {
		t.Errorf("HEAD = %d with %d listeners; want 200, none", r.StatusCode, a.tails.open.Load())
	}
	for range maxTails {
		if a.tails.listen(tailFilter{}) == nil {
			t.Fatalf("fewer than %d listeners", maxTails)
		}
	}
	if r := ask(t, h, "GET /api/v1/tail"); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one listener too many = %d; want 503", r.StatusCode)
	}
}

// TestTailDropsForTheSlow: a listener that takes nothing holds nobody up, and
// learns how much it has missed.
func TestTailDropsForTheSlow(t *testing.T) {
	a := showing(farm())
	l := a.tails.listen(tailFilter{})
	const missed = 7
	for range tailQueue + missed {
		a.Observe(request())
	}
	if len(l.lines) != tailQueue || l.dropped.Load() != missed {
		t.Errorf("%d lines wait, %d dropped; want %d, %d", len(l.lines), l.dropped.Load(), tailQueue, missed)
	}
	a.tails.leave(l)
	a.Observe(request())
	if len(a.tails.list) != 0 || a.tails.open.Load() != 0 || l.dropped.Load() != missed {
		t.Errorf("%d listeners after the last has left; want none", len(a.tails.list))
	}
}

func TestTailSaysWhatWasDropped(t *testing.T) {
	a := showing(farm())
	next, leave := listening(t, a, "")
	a.tails.mu.Lock()
	a.tails.list[0].dropped.Store(12)
	a.tails.mu.Unlock()
	a.Observe(request())
	if got := next(); !strings.Contains(got, `"dropped":12`) {
		t.Errorf("line = %s; want 12 dropped", got)
	}
	leave()
	for a.tails.open.Load() != 0 { // ends when the server has seen that the client left
		a.Observe(request())
	}
}

// BenchmarkObserveTailed is BenchmarkObserve with a listener that filters all
// out, and with one that takes nothing.
func BenchmarkObserveTailed(b *testing.B) {
	for name, f := range map[string]tailFilter{"filtered": {atLeast: time.Hour}, "full": {}} {
		b.Run(name, func(b *testing.B) {
			a := &Admin{}
			a.tails.listen(f)
			o := request()
			b.ReportAllocs()
			for b.Loop() {
				a.Observe(o)
			}
		})
	}
}
