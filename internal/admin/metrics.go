package admin

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Bounds of /metrics.
const (
	maxScrapes    = 4 // at once
	scrapeTimeout = 10 * time.Second
)

// metrics returns the handler of /metrics.
func (a *Admin) metrics() http.Handler {
	return promhttp.HandlerFor(a.registry(), promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError, // some are better than none at night
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
	})
}

func (a *Admin) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	if a.XRay != nil {
		r.MustRegister(newXRayCollector(a.XRay))
	}
	r.MustRegister(
		newCollector(a),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

// collector turns the table of series into metrics.
type collector struct {
	admin *Admin
	descs []*prometheus.Desc // as table
}

func newCollector(a *Admin) *collector {
	c := &collector{admin: a}
	for _, s := range table {
		c.descs = append(c.descs, prometheus.NewDesc("stateproxy_"+s.name, s.help, s.labels, nil))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.admin.collect()
	for i, d := range c.descs {
		table[i].collect(s, &sink{desc: d, kind: table[i].kind, to: ch})
	}
}

// collect returns a snapshot in which names are unique, and forgets the counts
// of backends that are gone.
func (a *Admin) collect() *snapshot {
	before := a.counts.known()
	s := a.snapshot()
	if a.Proxy != nil {
		// A name that was counted before the snapshot was routed to before it.
		// If it is not in the snapshot it has gone since.
		a.counts.forget(s.gone(before))
	}
	s.unify()
	return s
}

// gone returns the names in m that are no backends any more.
func (s *snapshot) gone(m backendMap) []string {
	present := make(map[string]bool, len(s.proxy.Backends))
	for _, b := range s.proxy.Backends {
		present[b.Name] = true
	}
	var names []string
	for name := range m {
		if !present[name] {
			names = append(names, name)
		}
	}
	return names
}

// unify keeps the first of the pools that share a name, and tells backends that
// do apart by address: a former one may have been at two.
func (s *snapshot) unify() {
	pools := map[string]bool{}
	s.proxy.Pools = slices.Clone(s.proxy.Pools)
	s.proxy.Backends = slices.Clone(s.proxy.Backends)
	for i := 0; i < len(s.proxy.Pools); i++ {
		if name := s.proxy.Pools[i].Name; pools[name] {
			s.proxy.Pools = slices.Delete(s.proxy.Pools, i, i+1)
			i--
		} else {
			pools[name] = true
		}
	}
	backends := map[string]bool{}
	for i := range s.proxy.Backends {
		b := &s.proxy.Backends[i]
		if backends[b.Name] {
			b.Name += "@" + b.Address
		}
		backends[b.Name] = true
	}
}

// sink takes the values of one series.
type sink struct {
	desc *prometheus.Desc
	kind kind
	to   chan<- prometheus.Metric
}

// add gives a value, with label values in the order of the series' labels.
func (s *sink) add(value float64, labels ...string) {
	t := prometheus.GaugeValue
	if s.kind == counter {
		t = prometheus.CounterValue
	}
	s.send(prometheus.NewConstMetric(s.desc, t, value, valid(labels)...))
}

// spread gives a histogram.
func (s *sink) spread(d distribution, labels ...string) {
	s.send(prometheus.NewConstHistogram(s.desc, d.count, d.seconds, d.atMost, valid(labels)...))
}

func (s *sink) send(m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(s.desc, err)
	}
	s.to <- m
}

// valid makes label values fit for the exposition, which wants UTF-8.
func valid(labels []string) []string {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "?")
	}
	return labels
}
