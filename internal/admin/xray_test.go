package admin

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"stateproxy/internal/xray"
)

// oneApp is an XRay that knows of one application.
type oneApp struct{}

func (oneApp) Report() xray.Report {
	at := time.Unix(1700000000, 0)
	h := xray.Histogram{AtMost: []float64{1, 2}, Counts: []int64{3, 0, 4}, Sum: 50}
	app := xray.App{
		Name: "/LM/W3SVC/1/ROOT", Ops: []xray.Op{{Op: "get", Count: 5}, {Op: "set", Count: 7}}, Polls: 6, Sizes: h, Waits: h, Holds: h,
		Largest: []xray.Session{{Bytes: 900}, {Bytes: 800}}, Compared: 4, Identical: 3,
		Timeouts: []xray.Timeout{{Minutes: 20, Share: .75}, {Share: .25}},
	}
	return xray.Report{At: at, Sample: 4, Slow: 2, Locks: []xray.Lock{{Since: at.Add(-90 * time.Second)}}, Apps: []xray.App{app, {Name: xray.Other, Sizes: h, Waits: h, Holds: h}}}
}

const oneAppLines = `
# HELP stateproxy_app_largest_session_bytes Size of the largest session of the last ten minutes.
# TYPE stateproxy_app_largest_session_bytes gauge
stateproxy_app_largest_session_bytes{app="/LM/W3SVC/1/ROOT"} 900
stateproxy_app_largest_session_bytes{app="other"} 0
# HELP stateproxy_app_lock_polls_total Reads that met a locked session; the client repeats each of them some 500 ms later.
# TYPE stateproxy_app_lock_polls_total counter
stateproxy_app_lock_polls_total{app="/LM/W3SVC/1/ROOT"} 6
stateproxy_app_lock_polls_total{app="other"} 0
# HELP stateproxy_app_requests_total Requests by application and operation.
# TYPE stateproxy_app_requests_total counter
stateproxy_app_requests_total{app="/LM/W3SVC/1/ROOT",op="get"} 5
stateproxy_app_requests_total{app="/LM/W3SVC/1/ROOT",op="set"} 7
# HELP stateproxy_app_saved_bytes Sizes of sessions as they are saved.
# TYPE stateproxy_app_saved_bytes histogram
stateproxy_app_saved_bytes_bucket{app="/LM/W3SVC/1/ROOT",le="1"} 3
stateproxy_app_saved_bytes_bucket{app="/LM/W3SVC/1/ROOT",le="2"} 3
stateproxy_app_saved_bytes_bucket{app="/LM/W3SVC/1/ROOT",le="+Inf"} 7
stateproxy_app_saved_bytes_sum{app="/LM/W3SVC/1/ROOT"} 50
stateproxy_app_saved_bytes_count{app="/LM/W3SVC/1/ROOT"} 7
stateproxy_app_saved_bytes_bucket{app="other",le="1"} 3
stateproxy_app_saved_bytes_bucket{app="other",le="2"} 3
stateproxy_app_saved_bytes_bucket{app="other",le="+Inf"} 7
stateproxy_app_saved_bytes_sum{app="other"} 50
stateproxy_app_saved_bytes_count{app="other"} 7
# HELP stateproxy_app_timeout_ratio Share of saves by the time-out they set, of the sessions that are followed; 0 stands for rare ones together.
# TYPE stateproxy_app_timeout_ratio gauge
stateproxy_app_timeout_ratio{app="/LM/W3SVC/1/ROOT",minutes="0"} 0.25
stateproxy_app_timeout_ratio{app="/LM/W3SVC/1/ROOT",minutes="20"} 0.75
# HELP stateproxy_oldest_lock_seconds Age of the oldest lock that is known to be held, 0 if there is none.
# TYPE stateproxy_oldest_lock_seconds gauge
stateproxy_oldest_lock_seconds 90
# HELP stateproxy_sessions_followed_ratio Share of sessions that are followed one by one, 0 to 1.
# TYPE stateproxy_sessions_followed_ratio gauge
stateproxy_sessions_followed_ratio 0.25
# HELP stateproxy_slow_requests_total Requests that took 80 % of their budget or longer.
# TYPE stateproxy_slow_requests_total counter
stateproxy_slow_requests_total 2
`

func TestXRayMetrics(t *testing.T) {
	var names []string
	for _, line := range strings.Split(oneAppLines, "\n") {
		if name, ok := strings.CutPrefix(line, "# HELP "); ok {
			names = append(names, name[:strings.IndexByte(name, ' ')])
		}
	}
	if err := testutil.CollectAndCompare(newXRayCollector(oneApp{}), strings.NewReader(oneAppLines), names...); err != nil {
		t.Error(err)
	}
	for name, from := range map[string]XRay{"zero": &xray.XRay{}, "one application": oneApp{}} {
		r := prometheus.NewPedanticRegistry()
		r.MustRegister(newXRayCollector(from))
		problems, err := testutil.GatherAndLint(r)
		if err != nil || len(problems) > 0 {
			t.Errorf("%s: GatherAndLint() = %v, %v; want no problem", name, problems, err)
		}
	}
}

func TestSessionFindings(t *testing.T) {
	got := SessionFindings([]xray.Finding{{Kind: xray.AppMismatch, App: "/a", Text: "differ", Advice: "change it", Since: time.Unix(1, 0)}})
	want := Finding{Level: Error, Kind: "app_mismatch", App: "/a", Text: "differ\nchange it", Since: time.Unix(1, 0)}
	if len(got) != 1 || got[0] != want {
		t.Errorf("SessionFindings() = %v; want %v", got, want)
	}
	for _, kind := range xray.Kinds {
		if sessionLevels[kind] == "" {
			t.Errorf("findings of kind %s have no level", kind)
		}
	}
}
