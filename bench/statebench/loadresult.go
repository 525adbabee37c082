package main

import (
	"os"
	"strconv"
	"time"
)

type watchResult struct {
	CPU       float64 `json:"cpu_us"`
	User      float64 `json:"user_us"`
	Sys       float64 `json:"sys_us"`
	RSS       int64   `json:"rss_kib"`
	Peak      int64   `json:"peak_kib"`
	Voluntary int64   `json:"voluntary_switches"`
	Preempted int64   `json:"preemptions"`
}

type loadResult struct {
	Contender  string                 `json:"contender,omitempty"`
	Round      int                    `json:"round,omitempty"`
	Mix        string                 `json:"mix"`
	Body       int                    `json:"body"`
	Conns      int                    `json:"conns"`
	Sessions   int                    `json:"sessions"`
	Seconds    float64                `json:"seconds"`
	Requests   uint64                 `json:"requests"`
	RPS        float64                `json:"rps"`
	P50        float64                `json:"p50_us"`
	P90        float64                `json:"p90_us"`
	P99        float64                `json:"p99_us"`
	P999       float64                `json:"p999_us"`
	Max        float64                `json:"max_us"`
	Errors     int                    `json:"errors"`
	Mismatches int                    `json:"mismatches"`
	Bytes      uint64                 `json:"bytes"`
	Statuses   map[string]int         `json:"statuses"`
	Notes      []string               `json:"notes,omitempty"`
	LoadCPU    float64                `json:"load_cpu_us"`
	Busy       float64                `json:"machine_busy_us"`
	Stolen     float64                `json:"machine_stolen_us"`
	Watch      map[string]watchResult `json:"watch,omitempty"`

	began   time.Time // the measured time
	seconds []*hist   // latencies by second of it
}

// meter takes the time that the load, the watched processes and the machine
// spend while it runs. The process watched last, the contender in compare, is
// read last before the measured time and first after it.
type meter struct {
	watch        []watched
	trees        [][]int
	before       []usage
	self         usage
	busy, stolen int64
	start        time.Time
}

func newMeter(watch []watched) *meter {
	m := &meter{watch: watch}
	for _, w := range watch {
		m.trees = append(m.trees, processTree(w.pid))
	}
	m.busy, m.stolen = machineBusy()
	m.self = readUsage([]int{os.Getpid()})
	for _, t := range m.trees {
		m.before = append(m.before, readUsage(t))
	}
	m.start = time.Now()
	return m
}

// result returns what was spent since newMeter.
func (m *meter) result() *loadResult {
	res := &loadResult{began: m.start, Seconds: time.Since(m.start).Seconds(), Statuses: map[string]int{}, Watch: map[string]watchResult{}}
	for i := len(m.watch) - 1; i >= 0; i-- {
		d := readUsage(m.trees[i]).since(m.before[i])
		res.Watch[m.watch[i].name] = watchResult{
			CPU: float64(d.total) / 1e3, User: float64(d.user) / 1e3, Sys: float64(d.sys) / 1e3,
			RSS: d.rss, Peak: d.peak, Voluntary: d.voluntary, Preempted: d.preemption,
		}
	}
	res.LoadCPU = float64(readUsage([]int{os.Getpid()}).since(m.self).total) / 1e3
	busy, stolen := machineBusy()
	res.Busy, res.Stolen = float64(busy-m.busy)/1e3, float64(stolen-m.stolen)/1e3
	return res
}

// add takes in what a loop counted.
func (res *loadResult) add(l *loadLoop) {
	for i, h := range l.seconds {
		if i == len(res.seconds) {
			res.seconds = append(res.seconds, &hist{})
		}
		res.seconds[i].merge(h)
	}
	res.Requests += l.requests
	res.Bytes += l.bytes
	res.Errors += l.errors
	res.Mismatches += l.mismatches
	res.Notes = append(res.Notes, l.notes...)
	if l.lateFill.Load() {
		res.Errors++
		res.Notes = append(res.Notes, "not all sessions were stored within -fill")
	}
	for s, n := range l.statuses {
		res.Statuses[strconv.Itoa(s)] += n
	}
}

// finish computes rates and latencies from the counts.
func (res *loadResult) finish() {
	var h hist
	for _, s := range res.seconds {
		h.merge(s)
	}
	res.P50, res.P90, res.P99, res.P999 = h.us(.5), h.us(.9), h.us(.99), h.us(.999)
	res.Max = float64(h.max) / 1e3
	res.RPS = float64(res.Requests) / res.Seconds
}
