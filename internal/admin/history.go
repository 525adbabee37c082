package admin

import (
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"stateproxy/proxy"
)

// What the history keeps: two minutes by the second, an hour by ten seconds.
const (
	fineStep       = time.Second
	finePoints     = 120
	coarseStep     = 10 * time.Second
	coarsePoints   = 360
	maxHistoryOf   = 256 // backends; more are in the sums only
	ticksPerCoarse = int(coarseStep / fineStep)
)

// point is what happened in one interval.
type point struct {
	at                               time.Time // end of the interval
	requests, locked, moved, refused int64
	shut                             int64 // of refused, those that no limit is the reason for
	failures                         [len(reasons)]uint32
	p50, p99                         float32 // seconds
	conns, inFlight                  int     // at its end
}

// cell is a backend's part in a point.
type cell struct {
	requests, failed uint32
	p50, p99         float32 // seconds of waiting for the backend
}

// failed counts the requests that got no backend's answer.
func (p *point) failed() (n int64) {
	for _, f := range p.failures {
		n += int64(f)
	}
	return n
}

// failedHere counts those of them that are not their client's doing.
func (p *point) failedHere() (n int64) {
	for i, f := range p.failures {
		if !slices.Contains(clientReasons, proxy.Reason(reasons[i])) {
			n += int64(f)
		}
	}
	return n
}

// clientReasons are those of requests that failed by their client's doing.
var clientReasons = []proxy.Reason{proxy.Malformed, proxy.TooLarge, proxy.ClientStalled, proxy.ClientGone, proxy.ClientTLS}

// track is the points at one step. Those of backends end with the same point,
// and may begin later.
type track struct {
	limit    int
	before   *totals // at the last point's end
	points   []point
	backends map[string][]cell
}

// add appends what happened since the last point.
func (k *track) add(now *totals, s *snapshot) {
	p := now.since(k.before)
	p.conns, p.inFlight = s.proxy.Conns, s.proxy.InFlight
	k.points = push(k.points, p, k.limit)
	present := make(map[string]bool, len(s.proxy.Backends))
	for _, b := range s.proxy.Backends {
		present[b.Name] = true
		cells, known := k.backends[b.Name]
		if known || len(k.backends) < maxHistoryOf {
			k.backends[b.Name] = push(cells, now.cellSince(k.before, b.Name), k.limit)
		}
	}
	for name := range k.backends {
		if !present[name] {
			delete(k.backends, name)
		}
	}
	k.before = now
}

// history is what happened in the last hour. The zero value is empty; it is safe
// for concurrent use.
type history struct {
	mu           sync.Mutex
	fine, coarse track
	ticks        int
}

// begin makes s the moment that the next point is counted from.
func (h *history) begin(s *snapshot) {
	t := s.totals()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fine.backends == nil {
		h.fine = track{limit: finePoints, backends: map[string][]cell{}}
		h.coarse = track{limit: coarsePoints, backends: map[string][]cell{}}
	}
	h.fine.before, h.coarse.before, h.ticks = t, t, 0
}

// add takes the counters of s, a second after those before, and returns what
// happened between.
func (h *history) add(s *snapshot) sampleStatus {
	t := s.totals()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fine.add(t, s)
	if h.ticks++; h.ticks%ticksPerCoarse == 0 {
		h.coarse.add(t, s)
	}
	return h.fine.last()
}

// lately adds up the last minute.
func (h *history) lately() (failed [len(reasons)]uint32, refused, shut int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	points := h.fine.points
	for _, p := range points[max(0, len(points)-60):] {
		refused += p.refused
		shut += p.shut
		for i, n := range p.failures {
			failed[i] += n
		}
	}
	return failed, refused, shut
}

// historyStatus is the answer to /api/v1/history.
type historyStatus struct {
	Version int         `json:"version"`
	Fine    trackStatus `json:"fine"`   // two minutes by the second
	Coarse  trackStatus `json:"coarse"` // an hour by ten seconds
}

// trackStatus is a table by columns, all of the same length, the oldest first.
// Counts are of an interval, the rest is as at its end.
type trackStatus struct {
	StepSeconds float64                `json:"step_seconds"` // between two points, about
	At          []float64              `json:"at"`           // end of each interval in Unix seconds
	Requests    []int64                `json:"requests"`     // that a pool took
	Failed      []int64                `json:"failed"`       // that got no backend's answer
	FailedHere  []int64                `json:"failed_here"`  // of them, not by their client's doing
	Locked      []int64                `json:"locked"`       // answers that the session is locked, which clients poll for
	Moved       []int64                `json:"moved"`        // sessions brought over
	P50         []float64              `json:"p50_seconds"`  // median duration, estimated; 0 without requests
	P99         []float64              `json:"p99_seconds"`  // that 99 of 100 requests stay below, estimated
	Connections []int                  `json:"connections"`  // of clients
	InFlight    []int                  `json:"in_flight"`    // requests
	Backends    map[string]cellsStatus `json:"backends"`     // by name, up to 256
}

// cellsStatus is a backend's columns. Before it was there they hold zeros.
type cellsStatus struct {
	Requests []uint32  `json:"requests"`
	Failed   []uint32  `json:"failed"`      // answered with 400, or not at all
	P50      []float64 `json:"p50_seconds"` // of waiting for the backend
	P99      []float64 `json:"p99_seconds"`
}

// sampleStatus is one point of the history.
type sampleStatus struct {
	At          float64               `json:"at"`
	Requests    int64                 `json:"requests"`
	Failed      int64                 `json:"failed"`
	FailedHere  int64                 `json:"failed_here"`
	Locked      int64                 `json:"locked"`
	Moved       int64                 `json:"moved"`
	P50         float64               `json:"p50_seconds"`
	P99         float64               `json:"p99_seconds"`
	Connections int                   `json:"connections"`
	InFlight    int                   `json:"in_flight"`
	Backends    map[string]cellStatus `json:"backends"`
}

// cellStatus is a backend's part of a sample.
type cellStatus struct {
	Requests uint32  `json:"requests"`
	Failed   uint32  `json:"failed"`
	P50      float64 `json:"p50_seconds"`
	P99      float64 `json:"p99_seconds"`
}

// last returns the latest point.
func (k *track) last() sampleStatus {
	p := &k.points[len(k.points)-1]
	st := sampleStatus{
		At: unix(p.at), Requests: p.requests, Failed: p.failed(), FailedHere: p.failedHere(), Locked: p.locked, Moved: p.moved,
		P50: seconds(p.p50), P99: seconds(p.p99), Connections: p.conns, InFlight: p.inFlight,
		Backends: make(map[string]cellStatus, len(k.backends)),
	}
	for name, cells := range k.backends {
		c := cells[len(cells)-1]
		st.Backends[name] = cellStatus{c.requests, c.failed, seconds(c.p50), seconds(c.p99)}
	}
	return st
}

// seconds rounds to microseconds.
func seconds(f float32) float64 { return math.Round(float64(f)*1e6) / 1e6 }

func (h *history) status() historyStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return historyStatus{schemaVersion, h.fine.status(fineStep), h.coarse.status(coarseStep)}
}

func (k *track) status(step time.Duration) trackStatus {
	st := trackStatus{
		StepSeconds: step.Seconds(), At: []float64{}, Requests: []int64{}, Failed: []int64{}, FailedHere: []int64{},
		Locked: []int64{}, Moved: []int64{}, P50: []float64{}, P99: []float64{}, Connections: []int{}, InFlight: []int{},
		Backends: make(map[string]cellsStatus, len(k.backends)),
	}
	for i := range k.points {
		p := &k.points[i]
		st.At = append(st.At, unix(p.at))
		st.Requests = append(st.Requests, p.requests)
		st.Failed = append(st.Failed, p.failed())
		st.FailedHere = append(st.FailedHere, p.failedHere())
		st.Locked = append(st.Locked, p.locked)
		st.Moved = append(st.Moved, p.moved)
		st.P50 = append(st.P50, seconds(p.p50))
		st.P99 = append(st.P99, seconds(p.p99))
		st.Connections = append(st.Connections, p.conns)
		st.InFlight = append(st.InFlight, p.inFlight)
	}
	for name, cells := range k.backends {
		st.Backends[name] = columns(cells, len(k.points))
	}
	return st
}

// columns turns the last cells into n rows.
func columns(cells []cell, n int) cellsStatus {
	st := cellsStatus{make([]uint32, n), make([]uint32, n), make([]float64, n), make([]float64, n)}
	for i, c := range cells {
		row := n - len(cells) + i
		st.Requests[row], st.Failed[row], st.P50[row], st.P99[row] = c.requests, c.failed, seconds(c.p50), seconds(c.p99)
	}
	return st
}

func (a *Admin) serveHistory(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.history.status())
}
