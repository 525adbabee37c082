package admin

import (
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"stateproxy/health"
	"stateproxy/proxy"
)

// schemaVersion is the version of the status's schema. New fields may come within
// a version; a change of meaning or a removal makes a new one, at a new path.
const schemaVersion = 1

// status is the answer to /api/v1/status. Times are RFC 3339 in UTC, and left
// out where there is none; shares are 0 to 1; counters run since the start.
type status struct {
	Version       int           `json:"version"` // of this schema
	Time          time.Time     `json:"time"`    // of the snapshot
	Build         buildStatus   `json:"build"`
	UptimeSeconds float64       `json:"uptime_seconds"` // since the first config was in force; 0 before
	Ready         bool          `json:"ready"`          // what /readyz says
	Problems      []string      `json:"problems"`       // why not, for people; empty if ready
	Draining      bool          `json:"draining"`       // it is about to stop
	Verdict       verdictStatus `json:"verdict"`
	Acting        actingStatus  `json:"acting"`
	Config        configStatus  `json:"config"`
	Clients       clientStatus  `json:"clients"`
	Requests      requestStatus `json:"requests"`
	Pools         []poolStatus  `json:"pools"`               // in the order in which they are tried
	Backends      []placeStatus `json:"backends"`            // of the config, then former ones
	Evacuations   []emptyStatus `json:"evacuations"`         // backends that are being emptied
	Remembered    int64         `json:"remembered_sessions"` // that passed by within their time-out

	Certificates []certificateStatus `json:"certificates"` // in force
}

// verdictStatus says whether all is well, and if not, what is wrong.
type verdictStatus struct {
	Level    Level           `json:"level"`          // of the most pressing finding: info means that all is well
	Since    time.Time       `json:"since,omitzero"` // all is well, or the oldest finding of that level is there
	Findings []findingStatus `json:"findings"`       // the most pressing first
}

// actingStatus tells what those with the token can do.
type actingStatus struct {
	Enabled  bool     `json:"enabled"`             // a token is configured
	Actions  []string `json:"actions"`             // that are available
	LogLevel string   `json:"log_level,omitempty"` // now
}

// buildStatus tells which program runs.
type buildStatus struct {
	Version   string `json:"version"`
	Commit    string `json:"commit"`
	GoVersion string `json:"go_version"`
	PID       int    `json:"pid,omitempty"` // of the process
}

// configStatus tells of the config.
type configStatus struct {
	File     string        `json:"file"`               // "" if there is none
	LoadedAt time.Time     `json:"loaded_at,omitzero"` // of the one in force
	Reloads  int64         `json:"reloads"`            // accepted, not counting the first load
	Refused  int64         `json:"refused"`            // not accepted; the one before stayed in force
	LastLoad *reloadStatus `json:"last_load,omitempty"`
}

// reloadStatus tells of one load of the config.
type reloadStatus struct {
	At      time.Time `json:"at"`
	OK      bool      `json:"ok"`
	Error   string    `json:"error,omitempty"` // for people; may have several lines
	Changes []string  `json:"changes"`         // lines for people
	Moved   float64   `json:"moved"`           // largest share of a pool's sessions with a new owner
}

// clientStatus tells of client connections.
type clientStatus struct {
	Connections  int   `json:"connections"` // now
	Accepted     int64 `json:"accepted"`
	Refused      int64 `json:"refused"` // closed before their first request
	AcceptErrors int64 `json:"accept_errors"`
}

// requestStatus tells of requests.
type requestStatus struct {
	InFlight      int              `json:"in_flight"` // now
	Total         int64            `json:"total"`
	Moved         int64            `json:"moved"`          // whose session was brought over
	LocksReleased int64            `json:"locks_released"` // taken for a client that was gone
	Failed        map[string]int64 `json:"failed"`         // by reason; what never happened is left out
}

// poolStatus tells of one pool.
type poolStatus struct {
	Name         string         `json:"name"`
	Applications []string       `json:"applications"`   // patterns; empty: all that no other pool takes
	Fingerprint  string         `json:"fingerprint"`    // of the ring, 16 hex digits: proxies with the same route alike
	Since        time.Time      `json:"since,omitzero"` // when this ring came in force
	Owners       []ownerStatus  `json:"owners"`
	Windows      []windowStatus `json:"windows"` // handoffs under way, the latest first
	Next         *nextStatus    `json:"next,omitempty"`
}

// nextStatus is routing that is to come.
type nextStatus struct {
	At          time.Time     `json:"at"`
	Fingerprint string        `json:"fingerprint"` // 0000000000000000 if the pool will be gone
	Moved       float64       `json:"moved"`
	Owners      []ownerStatus `json:"owners"`
}

// ownerStatus tells of a backend's part in a pool.
type ownerStatus struct {
	Backend string  `json:"backend"`
	Weight  int     `json:"weight"`
	Share   float64 `json:"share"` // of the pool's sessions
}

// windowStatus tells of a former ring whose owners are still asked.
type windowStatus struct {
	Ended time.Time `json:"ended"` // when another ring took its place
	Until time.Time `json:"until"` // when it is forgotten
	Moved float64   `json:"moved"` // share of the pool's sessions that had another owner in it
}

// emptyStatus tells how far a backend that owns no sessions any more is emptied.
type emptyStatus struct {
	Backend    string    `json:"backend"`
	Began      time.Time `json:"began"`
	Moved      int       `json:"moved"`                // sessions brought over
	Left       int       `json:"left"`                 // known sessions still to be moved
	InUse      int       `json:"in_use"`               // of them, locked when last tried
	Failed     int       `json:"failed"`               // of them, that could not be moved when last tried
	Ends       time.Time `json:"ends,omitzero"`        // estimate
	BlindUntil time.Time `json:"blind_until,omitzero"` // when the last session expires that may be there unknown
	Missed     int64     `json:"missed"`               // sessions that the memory had no room for
	Safe       bool      `json:"safe"`                 // it may be shut down
}

// placeStatus tells of one backend.
type placeStatus struct {
	Name         string        `json:"name"`
	Address      string        `json:"address"`
	Weight       int           `json:"weight"`                 // 0 for a former one
	State        proxy.State   `json:"state"`                  // up, down, draining, coming or former
	Proxy        bool          `json:"proxy"`                  // it is a proxy itself, with state servers behind it
	FailingSince time.Time     `json:"failing_since,omitzero"` // of requests: since when none was answered
	Connections  connsStatus   `json:"connections"`
	Health       *healthStatus `json:"health,omitempty"` // absent while it is not watched
}

// connsStatus tells of the connections to one backend, and of the requests that
// use them.
type connsStatus struct {
	Open         int   `json:"open"`          // now, those being made included
	Idle         int   `json:"idle"`          // now
	Busy         int   `json:"busy"`          // requests now, waiting ones included
	Waiting      int   `json:"waiting"`       // requests now
	Dials        int64 `json:"dials"`         // connections made
	DialErrors   int64 `json:"dial_errors"`   // and not made
	Reused       int64 `json:"reused"`        // requests that found an idle connection
	Repeated     int64 `json:"repeated"`      // requests sent again on another connection
	Dropped      int64 `json:"dropped"`       // idle connections found dead or closed as idle
	Waits        int64 `json:"waits"`         // requests that had to wait
	Refused      int64 `json:"refused"`       // requests that found the queue full or waited in vain
	LateReleased int64 `json:"late_released"` // locks granted too late, and released
}

// healthStatus tells of the health checks of one backend.
type healthStatus struct {
	Up             bool      `json:"up"`       // in service
	Kept           bool      `json:"kept"`     // in service though it fails: too many others are out
	ByHand         bool      `json:"by_hand"`  // taken out of service by hand
	Loop           bool      `json:"loop"`     // out of service because requests sent there would come back
	Unproven       bool      `json:"unproven"` // in service, and no probe has passed yet
	Since          time.Time `json:"since,omitzero"`
	Reason         string    `json:"reason"` // of the present state, for people
	ProbedAt       time.Time `json:"probed_at,omitzero"`
	ProbeSeconds   float64   `json:"probe_seconds"`
	ProbeError     string    `json:"probe_error,omitempty"`
	ProbesPassed   int       `json:"probes_passed"`   // in a row
	ProbesFailed   int       `json:"probes_failed"`   // in a row
	RequestsFailed int       `json:"requests_failed"` // in a row
	FailingSince   time.Time `json:"failing_since,omitzero"`
	HoldDownUntil  time.Time `json:"hold_down_until,omitzero"`
	Ejections      int       `json:"ejections"` // not counting those by hand
}

// serveStatus answers with the status.
func (a *Admin) serveStatus(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.snapshot().status())
}

func (s *snapshot) status() *status {
	p := &s.proxy
	problems := s.problems()
	st := &status{
		Version:  schemaVersion,
		Time:     s.now.UTC(),
		Build:    buildStatus{s.version(), s.commit(), runtime.Version(), s.PID},
		Ready:    len(problems) == 0,
		Problems: problems,
		Draining: s.draining,
		Config:   s.configStatus(),
		Clients:  clientStatus{p.Conns, p.Accepted, p.Refused, p.AcceptErrors},
		Verdict:  s.verdict(),
		Acting:   s.actingStatus(),
		Requests: s.requestStatus(),
		Pools:    []poolStatus{},
		Backends: []placeStatus{},

		Evacuations: []emptyStatus{},
		Remembered:  p.Remembered,

		Certificates: s.certificateStatuses(),
	}
	if !s.loads.first.IsZero() {
		st.UptimeSeconds = s.now.Sub(s.loads.first).Seconds()
	}
	for _, q := range p.Pools {
		st.Pools = append(st.Pools, poolStatusOf(q))
	}
	for _, b := range p.Backends {
		st.Backends = append(st.Backends, s.placeStatus(b))
	}
	for _, e := range p.Evacuations {
		st.Evacuations = append(st.Evacuations, emptyStatus{e.Backend, e.Began.UTC(), e.Moved, e.Left, e.InUse, e.Failed,
			e.Ends.UTC(), e.BlindUntil.UTC(), e.Missed, e.Safe})
	}
	return st
}

func (s *snapshot) verdict() verdictStatus {
	list := s.findings()
	v := verdictStatus{Level: Info, Since: s.wellSince.UTC(), Findings: findingStatuses(list)}
	if len(list) == 0 || list[0].Level == Info {
		return v
	}
	v.Level, v.Since = list[0].Level, time.Time{}
	for _, f := range list {
		if f.Level == v.Level && !f.Since.IsZero() && (v.Since.IsZero() || f.Since.Before(v.Since)) {
			v.Since = f.Since.UTC()
		}
	}
	return v
}

func (s *snapshot) actingStatus() actingStatus {
	st := actingStatus{Enabled: s.token() != "", Actions: s.Actions.available()}
	if s.LogLevel != nil {
		st.LogLevel = s.LogLevel()
	}
	return st
}

func (s *snapshot) requestStatus() requestStatus {
	st := requestStatus{InFlight: s.proxy.InFlight, Total: s.proxy.Requests, Failed: map[string]int64{}}
	c := &s.counts
	st.Moved = int64(c.total(func(s *shard) *atomic.Int64 { return &s.moved }))
	st.LocksReleased = int64(c.total(func(s *shard) *atomic.Int64 { return &s.released }))
	for i, reason := range reasons {
		if n := int64(c.total(func(s *shard) *atomic.Int64 { return &s.failures[i] })); n > 0 {
			st.Failed[reason] = n
		}
	}
	return st
}

func (s *snapshot) configStatus() configStatus {
	l := &s.loads
	c := configStatus{File: s.File, LoadedAt: l.inForce.UTC(), Reloads: l.ok, Refused: l.refused}
	if r := l.last; !r.At.IsZero() {
		last := reloadStatusOf(r)
		c.LastLoad = &last
	}
	return c
}

func reloadStatusOf(r Reload) reloadStatus {
	return reloadStatus{r.At.UTC(), r.OK, r.Error, append([]string{}, r.Changes...), r.Moved}
}

func poolStatusOf(p proxy.PoolStatus) poolStatus {
	st := poolStatus{
		Name:         p.Name,
		Applications: append([]string{}, p.Applications...),
		Fingerprint:  fingerprint(p.Fingerprint),
		Since:        p.Since.UTC(),
		Owners:       ownerStatuses(p.Owners),
		Windows:      []windowStatus{},
	}
	if n := p.Next; n != nil {
		st.Next = &nextStatus{n.At.UTC(), fingerprint(n.Fingerprint), n.Moved, ownerStatuses(n.Owners)}
	}
	for _, w := range p.Windows {
		st.Windows = append(st.Windows, windowStatus{w.Ended.UTC(), w.Until.UTC(), w.Moved})
	}
	return st
}

func ownerStatuses(list []proxy.OwnerStatus) []ownerStatus {
	all := make([]ownerStatus, 0, len(list))
	for _, o := range list {
		all = append(all, ownerStatus{o.Name, o.Weight, o.Share})
	}
	return all
}

func (s *snapshot) placeStatus(b proxy.BackendStatus) placeStatus {
	st := placeStatus{
		Name: b.Name, Address: b.Address, Weight: b.Weight, State: b.State, Proxy: b.Proxy,
		FailingSince: b.FailingSince.UTC(), Connections: connsStatus(b.Conns),
	}
	if h, ok := s.health[b.Name]; ok {
		st.Health = healthStatusOf(h)
	}
	return st
}

func healthStatusOf(h health.Status) *healthStatus {
	return &healthStatus{
		Up: h.Up, Kept: h.Kept, ByHand: h.ByHand, Loop: h.Unfit, Unproven: h.Unproven,
		Since: h.Since.UTC(), Reason: h.Reason,
		ProbedAt: h.Probed.UTC(), ProbeSeconds: h.ProbeTook.Seconds(), ProbeError: h.ProbeErr,
		ProbesPassed: h.ProbesPassed, ProbesFailed: h.ProbesFailed, RequestsFailed: h.RequestsFailed,
		FailingSince: h.FailingSince.UTC(), HoldDownUntil: h.HoldDownUntil.UTC(), Ejections: h.Falls,
	}
}
