package admin

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"stateproxy/internal/xray"
)

// XRay is where an Admin learns of sessions and applications. Report is called at
// each collection of metrics, and each second while someone watches.
type XRay interface{ Report() xray.Report }

// sessionLevels says how much the findings about sessions matter.
var sessionLevels = map[xray.Kind]Level{
	xray.AppMismatch:    Error,
	xray.AppPathDiffers: Info,
	xray.KeyMismatch:    Error,
	xray.LargeSession:   Info,
	xray.LockHeld:       Warn,
	xray.NearTimeout:    Warn,
	xray.BadVersion:     Warn,
	xray.ClockOff:       Warn,
}

// SessionFindings returns what an XRay has found as findings of an Admin, for its
// field Findings.
func SessionFindings(list []xray.Finding) []Finding {
	all := make([]Finding, 0, len(list))
	for _, f := range list {
		all = append(all, Finding{
			Level: sessionLevels[f.Kind], Kind: Kind(f.Kind), Backend: f.Backend, App: f.App, Since: f.Since, Text: f.Text + "\n" + f.Advice,
		})
	}
	return all
}

// appSeries is one metric of each application. Its name goes without the prefix
// stateproxy_; its first label is app, the application part as people see it.
type appSeries struct {
	name    string
	kind    kind
	labels  []string
	help    string
	collect func(*xray.App, *sink)
}

// appTable lists the series of applications, of which there are at most 100, by
// application part; other stands for all beyond.
var appTable = []appSeries{
	{"app_requests_total", counter, []string{"op"}, "Requests by application and operation.", appRequests},
	{"app_lock_polls_total", counter, nil, "Reads that met a locked session; the client repeats each of them some 500 ms later.", ofApp(func(a *xray.App) float64 { return float64(a.Polls) })},
	{"app_saved_bytes", spread, nil, "Sizes of sessions as they are saved.", spreadOf(func(a *xray.App) xray.Histogram { return a.Sizes })},
	{"app_largest_session_bytes", gauge, nil, "Size of the largest session of the last ten minutes.", largestSession},
	{"app_saves_compared_total", counter, nil, "Saves, of the sessions that are followed, that were compared with the save before.", ofApp(func(a *xray.App) float64 { return float64(a.Compared) })},
	{"app_saves_identical_total", counter, nil, "Of the saves that were compared, those with the same content as the one before.", ofApp(func(a *xray.App) float64 { return float64(a.Identical) })},
	{"app_lock_wait_seconds", spread, nil, "Time from the first refusal to the next grant of a lock, of the sessions that are followed.", spreadOf(func(a *xray.App) xray.Histogram { return a.Waits })},
	{"app_lock_hold_seconds", spread, nil, "Time that locks were held, of the sessions that are followed.", spreadOf(func(a *xray.App) xray.Histogram { return a.Holds })},
	{"app_timeout_ratio", gauge, []string{"minutes"}, "Share of saves by the time-out they set, of the sessions that are followed; 0 stands for rare ones together.", timeoutRatios},
}

// ofApp collects a single value of an application.
func ofApp(value func(*xray.App) float64) func(*xray.App, *sink) {
	return func(a *xray.App, to *sink) { to.add(value(a), a.Name) }
}

// spreadOf collects a histogram of an application.
func spreadOf(pick func(*xray.App) xray.Histogram) func(*xray.App, *sink) {
	return func(a *xray.App, to *sink) {
		h := pick(a)
		d := distribution{count: uint64(h.Count()), seconds: h.Sum, atMost: make(map[float64]uint64, len(h.AtMost))}
		sum := uint64(0)
		for i, end := range h.AtMost {
			sum += uint64(h.Counts[i])
			d.atMost[end] = sum
		}
		to.spread(d, a.Name)
	}
}

func appRequests(a *xray.App, to *sink) {
	for _, op := range a.Ops {
		to.add(float64(op.Count), a.Name, op.Op)
	}
}

func largestSession(a *xray.App, to *sink) {
	largest := int64(0)
	if len(a.Largest) > 0 {
		largest = a.Largest[0].Bytes
	}
	to.add(float64(largest), a.Name)
}

func timeoutRatios(a *xray.App, to *sink) {
	for _, t := range a.Timeouts {
		to.add(t.Share, a.Name, strconv.FormatInt(t.Minutes, 10))
	}
}

// xraySeries is one metric of all applications together.
type xraySeries struct {
	name    string
	kind    kind
	labels  []string
	help    string
	collect func(*xray.Report, *sink)
}

var xrayTable = []xraySeries{
	{"sessions_followed_ratio", gauge, nil, "Share of sessions that are followed one by one, 0 to 1.", func(r *xray.Report, to *sink) {
		to.add(1 / float64(r.Sample))
	}},
	{"slow_requests_total", counter, nil, "Requests that took 80 % of their budget or longer.", func(r *xray.Report, to *sink) {
		to.add(float64(r.Slow))
	}},
	{"oldest_lock_seconds", gauge, nil, "Age of the oldest lock that is known to be held, 0 if there is none.", oldestLock},
}

func oldestLock(r *xray.Report, to *sink) {
	age := 0.0
	if len(r.Locks) > 0 {
		age = max(r.At.Sub(r.Locks[0].Since).Seconds(), 0)
	}
	to.add(age)
}

// xrayCollector turns the two tables into metrics.
type xrayCollector struct {
	from     XRay
	apps     []*prometheus.Desc // as appTable
	together []*prometheus.Desc // as xrayTable
}

func newXRayCollector(from XRay) *xrayCollector {
	c := &xrayCollector{from: from}
	for _, s := range appTable {
		labels := append([]string{"app"}, s.labels...)
		c.apps = append(c.apps, prometheus.NewDesc("stateproxy_"+s.name, s.help, labels, nil))
	}
	for _, s := range xrayTable {
		c.together = append(c.together, prometheus.NewDesc("stateproxy_"+s.name, s.help, s.labels, nil))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *xrayCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.apps {
		ch <- d
	}
	for _, d := range c.together {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *xrayCollector) Collect(ch chan<- prometheus.Metric) {
	r := c.from.Report()
	for i, s := range xrayTable {
		s.collect(&r, &sink{desc: c.together[i], kind: s.kind, to: ch})
	}
	for i, s := range appTable {
		to := &sink{desc: c.apps[i], kind: s.kind, to: ch}
		for j := range r.Apps {
			s.collect(&r.Apps[j], to)
		}
	}
}
