package admin

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"stateproxy/health"
	"stateproxy/proxy"
	"stateproxy/wire"
)

// busy is an Admin with something in every series.
func busy() *Admin {
	at := time.Unix(1700000000, 0)
	s := farm()
	s.Conns, s.InFlight, s.Accepted, s.Refused, s.AcceptErrors, s.Requests = 4, 3, 50, 2, 1, 99
	s.MaxConns = 70
	s.Refusals = []proxy.RefusalCount{{Reason: proxy.ConnLimit, Count: 2}, {Reason: proxy.NotAllowed}}
	s.Delayed = 8
	s.Pools[0].Windows = []proxy.WindowStatus{{Ended: at, Until: at.Add(time.Hour), Moved: .25}}
	s.Backends[0].Conns = proxy.ConnStats{Open: 7, Idle: 5, Busy: 3, Waiting: 1, Dials: 11, DialErrors: 12, Reused: 13,
		Repeated: 14, Dropped: 15, Waits: 16, Refused: 17, LateReleased: 18}
	s.Backends[1].State = proxy.Down
	s.Backends = append(s.Backends, proxy.BackendStatus{Name: "s0", Address: "s0.test:42424", State: proxy.Former})
	a := showing(s,
		health.Status{Name: "s1", Address: "s1.test:42424", Up: true, Probed: at, ProbeTook: 2 * time.Millisecond},
		health.Status{Name: "s2", Address: "s2.test:42424", Probed: at, ProbeErr: "refused", Falls: 2},
		health.Status{Name: "s3", Address: "s3.test:42424", Up: true, Kept: true, Probed: at, ProbeErr: "refused"},
	)
	a.Version, a.Commit, a.File = "1.2.3", "abcdef", "stateproxy.yaml"
	a.Loaded(Reload{At: at, OK: true})
	a.Loaded(Reload{At: at.Add(time.Minute), OK: true, Changes: []string{"s4 added"}, Moved: .25})
	a.Loaded(Reload{At: at.Add(2 * time.Minute), Error: "stateproxy.yaml:3:1: no such key"})
	a.Observe(sample(0))
	failed := sample(1)
	failed.Status, failed.Reason, failed.Moved, failed.LockReleased = 0, proxy.ClientGone, true, true
	a.Observe(failed)
	a.Observe(&proxy.Outcome{Status: wire.StatusBadRequest, Reason: proxy.Malformed})
	a.Certificates = func() []Certificate { return []Certificate{{Listener: ":1", File: "a.pem", NotAfter: at}} }
	return a
}

func TestMetricsLint(t *testing.T) {
	for name, a := range map[string]*Admin{"zero": {}, "busy": busy()} {
		t.Run(name, func(t *testing.T) {
			problems, err := testutil.GatherAndLint(a.registry())
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range problems {
				t.Errorf("lint: %s: %s", p.Metric, p.Text)
			}
		})
	}
}

func TestTable(t *testing.T) {
	text := scrape(t, busy())
	for _, s := range table {
		name := "stateproxy_" + s.name
		want := fmt.Sprintf("# TYPE %s %s\n", name, []string{"counter", "gauge", "histogram"}[s.kind])
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %q", want)
		}
		if (s.kind == counter) != strings.HasSuffix(s.name, "_total") {
			t.Errorf("%s: counters, and they alone, are named _total", name)
		}
		if !strings.HasSuffix(s.help, ".") {
			t.Errorf("%s: help %q; want a sentence", name, s.help)
		}
	}
}

func scrape(t *testing.T, a *Admin) string {
	t.Helper()
	r := ask(t, a.Handler(), "GET /metrics")
	text := bodyOf(t, r)
	if r.StatusCode != 200 {
		t.Fatalf("GET /metrics = %d, %s; want 200", r.StatusCode, text)
	}
	return text
}

// busyLines are of the metrics of busy, without the prefix.
var busyLines = []string{
	`requests_total{backend="s1",op="get_exclusive",status="200"} 1`,
	`requests_total{backend="s1",op="get_exclusive",status="closed"} 1`,
	`requests_total{backend="",op="none",status="400"} 1`,
	`request_failures_total{reason="client_gone"} 1`,
	`request_failures_total{reason="malformed"} 1`,
	`request_failures_total{reason="dial_refused"} 0`,
	`request_failures_total{reason="other"} 0`,
	`request_duration_seconds_bucket{op="get_exclusive",le="0.0005"} 0`,
	`request_duration_seconds_bucket{op="get_exclusive",le="0.001"} 2`,
	`request_duration_seconds_bucket{op="get_exclusive",le="+Inf"} 2`,
	`request_duration_seconds_sum{op="get_exclusive"} 0.0014`,
	`request_duration_seconds_count{op="get_exclusive"} 2`,
	`request_duration_seconds_count{op="remove"} 0`,
	`backend_wait_seconds_sum{backend="s1"} 0.0012`,
	`request_bytes_total 600`,
	`response_bytes_total 8600`,
	`handoffs_total 1`,
	`locks_released_total 1`,
	`client_connections 4`,
	`client_connections_limit 70`,
	`client_connections_total 50`,
	`client_connections_refused_total{reason="connections"} 2`,
	`client_connections_refused_total{reason="access"} 0`,
	`client_accept_errors_total 1`,
	`requests_in_flight 3`,
	`requests_delayed_total 8`,
	`backend_up{backend="s1"} 1`,
	`backend_up{backend="s2"} 0`,
	`backend_state{backend="s2",state="down"} 1`,
	`backend_state{backend="s2",state="up"} 0`,
	`backend_state{backend="s0",state="former"} 1`,
	`backend_kept{backend="s1"} 0`,
	`backend_kept{backend="s3"} 1`,
	`backend_ejections_total{backend="s2"} 2`,
	`backend_probe_duration_seconds{backend="s1"} 0.002`,
	`backend_probe_success{backend="s1"} 1`,
	`backend_probe_success{backend="s2"} 0`,
	`backend_weight{backend="s1"} 1`,
	`backend_weight{backend="s0"} 0`,
	`backend_connections{backend="s1",state="idle"} 5`,
	`backend_connections{backend="s1",state="busy"} 2`,
	`backend_requests_in_flight{backend="s1"} 3`,
	`backend_requests_waiting{backend="s1"} 1`,
	`backend_dials_total{backend="s1"} 11`,
	`backend_dial_errors_total{backend="s1"} 12`,
	`backend_connections_reused_total{backend="s1"} 13`,
	`backend_requests_repeated_total{backend="s1"} 14`,
	`backend_connections_dropped_total{backend="s1"} 15`,
	`backend_waits_total{backend="s1"} 16`,
	`backend_waits_refused_total{backend="s1"} 17`,
	`backend_late_locks_released_total{backend="s1"} 18`,
	`certificate_expiry_timestamp_seconds{listener=":1",use="listener"} 1.7e+09`,
	`pool_share{backend="s1",pool="default"} 0.5`,
	`ring_info{fingerprint="0000000000000abc",pool="shop"} 1`,
	`handoff_windows{pool="shop"} 1`,
	`handoff_windows{pool="default"} 0`,
	`reloads_total{result="ok"} 1`,
	`reloads_total{result="refused"} 1`,
	`last_reload_success 0`,
	`last_reload_timestamp_seconds 1.70000012e+09`,
	`last_reload_moved 0`,
	`config_info{file="stateproxy.yaml"} 1`,
	`config_loaded_timestamp_seconds 1.70000006e+09`,
	`ready 0`,
	`build_info{commit="abcdef",goversion="` + runtime.Version() + `",version="1.2.3"} 1`,
}

func TestMetrics(t *testing.T) {
	text := "\n" + scrape(t, busy())
	for _, want := range busyLines {
		if !strings.Contains(text, "\nstateproxy_"+want+"\n") {
			t.Errorf("metrics lack stateproxy_%s", want)
		}
	}
	for _, never := range []string{`status="404"`, `op="none",status="200"`, `backend="other"`} {
		if strings.Contains(text, never) {
			t.Errorf("metrics have %s; want no series for what never happened", never)
		}
	}
	for _, name := range []string{"go_goroutines", "process_start_time_seconds"} {
		if !strings.Contains(text, "\n"+name+" ") {
			t.Errorf("metrics lack %s", name)
		}
	}
}

// Names that can't stand beside each other must not cost the whole page.
func TestMetricsOddNames(t *testing.T) {
	s := farm()
	s.Pools = append(s.Pools, s.Pools[0])
	for _, address := range []string{"a:1", "b:1", "c:1"} {
		s.Backends = append(s.Backends, proxy.BackendStatus{Name: "s0", Address: address, State: proxy.Former})
	}
	s.Backends = append(s.Backends, proxy.BackendStatus{Name: "\xff\"\n", Address: "d:1", State: proxy.Up})
	a := showing(s)
	if _, err := a.registry().Gather(); err != nil {
		t.Errorf("Gather() = %v; want no error", err)
	}
	text := scrape(t, a)
	for _, want := range []string{`{backend="s0"} 1`, `{backend="s0@b:1"} 1`, `{backend="s0@c:1"} 1`, `{backend="?\"\n"} 1`} {
		if !strings.Contains(text, "\nstateproxy_backend_up"+want+"\n") {
			t.Errorf("metrics lack stateproxy_backend_up%s", want)
		}
	}
}

func TestNothingOfTheClientIsShown(t *testing.T) {
	const secret = "oXvpnxcuEWqKAgOETha32Jav"
	a := busy()
	for op := range 256 {
		o := sample(op)
		o.Op = wire.Op(op)
		o.App = []byte("/LM/" + secret + "\n{}\"\\\xff\x00# TYPE evil gauge\nevil 1\n")
		o.Err = fmt.Errorf("at %s: %w", secret, io.ErrUnexpectedEOF)
		o.Status, o.Reason = op, proxy.CutTail
		a.Observe(o)
	}
	h := a.Handler()
	for _, page := range []string{"GET /metrics", "GET /api/status", "GET /readyz", "GET /healthz"} {
		text := bodyOf(t, ask(t, h, page))
		for _, word := range []string{secret, "evil", "/LM/W3SVC/2/ROOT", "10.1.2.3"} {
			if strings.Contains(text, word) {
				t.Errorf("%s shows %q", page, word)
			}
		}
	}
}

func BenchmarkScrape(b *testing.B) {
	s := farm()
	for i := range 97 {
		s.Backends = append(s.Backends, proxy.BackendStatus{Name: fmt.Sprintf("b%d", i), Weight: 1, State: proxy.Up})
	}
	a := showing(s)
	o := sample(0)
	for _, p := range s.Backends {
		o.Backend = p.Name
		a.Observe(o)
	}
	r := a.registry()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
