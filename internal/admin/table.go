package admin

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"stateproxy/health"
	"stateproxy/proxy"
	"stateproxy/wire"
)

// kind is what a series' values are.
type kind uint8

const (
	counter kind = iota
	gauge
	spread // a histogram
)

// series is one metric. Its name goes without the prefix stateproxy_.
type series struct {
	name    string
	kind    kind
	labels  []string
	help    string
	collect func(*snapshot, *sink)
}

// Label names.
var (
	byBackend = []string{"backend"}
	byPool    = []string{"pool"}
)

// table lists all series of the proxy. Names, labels and meanings are a promise:
// alerts and dashboards are built on them.
var table = []series{
	{"requests_total", counter, []string{"op", "status", "backend"}, "Requests by operation, status sent to the client (closed: none, the connection was closed) and backend (empty: none was asked).", requests},
	{"request_failures_total", counter, []string{"reason"}, "Requests that got no backend's answer, by reason.", failures},
	{"request_duration_seconds", spread, []string{"op"}, "Time from the whole request to the end of its answer, of requests that a pool takes.", durations},
	{"backend_wait_seconds", spread, byBackend, "Part of a request's time that it waited for the backend, connecting and repeating included.", waits},
	{"request_bytes_total", counter, nil, "Bytes of requests received from clients.", total(func(s *shard) *atomic.Int64 { return &s.requestBytes })},
	{"response_bytes_total", counter, nil, "Bytes of answers sent to clients.", total(func(s *shard) *atomic.Int64 { return &s.answerBytes })},
	{"handoffs_total", counter, nil, "Requests whose session was brought over from a former owner.", total(func(s *shard) *atomic.Int64 { return &s.moved })},
	{"locks_released_total", counter, nil, "Locks given back that were taken for a client that was gone.", total(func(s *shard) *atomic.Int64 { return &s.released })},

	{"client_connections", gauge, nil, "Open client connections.", one(func(s *snapshot) float64 { return float64(s.proxy.Conns) })},
	{"client_connections_limit", gauge, nil, "Client connections that the config allows.", one(func(s *snapshot) float64 { return float64(s.proxy.MaxConns) })},
	{"client_connections_total", counter, nil, "Client connections accepted.", one(func(s *snapshot) float64 { return float64(s.proxy.Accepted) })},
	{"client_connections_refused_total", counter, []string{"reason"}, "Client connections closed before their first request, by reason.", refusals},
	{"client_accept_errors_total", counter, nil, "Failures to accept a client connection, such as a lack of descriptors.", one(func(s *snapshot) float64 { return float64(s.proxy.AcceptErrors) })},
	{"requests_in_flight", gauge, nil, "Requests being routed.", one(func(s *snapshot) float64 { return float64(s.proxy.InFlight) })},
	{"requests_delayed_total", counter, nil, "Requests that waited because their client's address was over limits.request_rate_per_client.", one(func(s *snapshot) float64 { return float64(s.proxy.Delayed) })},

	{"backend_up", gauge, byBackend, "1 if health checks leave the backend in service, else 0.", each(func(b *proxy.BackendStatus) float64 { return truth(b.State != proxy.Down) })},
	{"backend_state", gauge, []string{"backend", "state"}, "1 for the state that the backend is in, 0 for the others.", states},
	{"backend_kept", gauge, byBackend, "1 if the backend fails but is kept in service because too many others are out.", watched(func(h *health.Status) float64 { return truth(h.Kept) })},
	{"backend_loop", gauge, byBackend, "1 if the backend is a proxy that leads back to this one and therefore is not used, else 0.", watched(func(h *health.Status) float64 { return truth(h.Unfit) })},
	{"backend_ejections_total", counter, byBackend, "Times that health checks took the backend out of service.", watched(func(h *health.Status) float64 { return float64(h.Falls) })},
	{"backend_probe_duration_seconds", gauge, byBackend, "Duration of the backend's last probe.", watched(func(h *health.Status) float64 { return h.ProbeTook.Seconds() })},
	{"backend_probe_success", gauge, byBackend, "1 if the backend's last probe passed, else 0.", watched(func(h *health.Status) float64 { return truth(!h.Probed.IsZero() && h.ProbeErr == "") })},
	{"backend_weight", gauge, byBackend, "Weight of the backend in the config, 0 if it is not in it any more.", each(func(b *proxy.BackendStatus) float64 { return float64(b.Weight) })},

	{"backend_connections", gauge, []string{"backend", "state"}, "Open connections to the backend; busy ones carry a request or are being made.", connections},
	{"backend_requests_in_flight", gauge, byBackend, "Requests at the backend or waiting for a connection to it.", each(func(b *proxy.BackendStatus) float64 { return float64(b.Conns.Busy) })},
	{"backend_requests_waiting", gauge, byBackend, "Requests waiting for a connection to the backend.", each(func(b *proxy.BackendStatus) float64 { return float64(b.Conns.Waiting) })},
	{"backend_dials_total", counter, byBackend, "Connections made to the backend.", each(func(b *proxy.BackendStatus) float64 { return float64(b.Conns.Dials) })},
	{"backend_dial_errors_total", counter, byBackend, "Connections to the backend that could not be made.", each(func(b *proxy.BackendStatus) float64 { return float64(b.Conns.DialErrors) })},
	{"backend_connections_reused_total", counter, byBackend, "Requests that found an idle connection to the backend.", each(func(b *proxy.BackendStatus) float64 { return float64(b.Conns.Reused) })},
	{"backend_connections_dropped_total", counter, byBackend, "Idle connections to the backend that were found dead or closed as idle.", each(func(b *proxy.BackendStatus) float64 { return float64(b.Conns.Dropped) })},
	{"backend_requests_repeated_total", counter, byBackend, "Requests sent to the backend again on another connection.", each(func(b *proxy.BackendStatus) float64 { return float64(b.Conns.Repeated) })},
	{"backend_waits_total", counter, byBackend, "Requests that had to wait for a connection to the backend.", each(func(b *proxy.BackendStatus) float64 { return float64(b.Conns.Waits) })},
	{"backend_waits_refused_total", counter, byBackend, "Requests that found the queue for the backend full or waited in it in vain.", each(func(b *proxy.BackendStatus) float64 { return float64(b.Conns.Refused) })},
	{"backend_late_locks_released_total", counter, byBackend, "Locks that the backend granted after their request had failed, and that were released.", each(func(b *proxy.BackendStatus) float64 { return float64(b.Conns.LateReleased) })},

	{"pool_share", gauge, []string{"pool", "backend"}, "Share of the pool's sessions that the backend owns, 0 to 1.", shares},
	{"ring_info", gauge, []string{"pool", "fingerprint"}, "1 for the fingerprint of the pool's ring; proxies that show the same route alike.", rings},
	{"handoff_windows", gauge, byPool, "Former rings of the pool whose owners are still asked.", windows},

	{"reloads_total", counter, []string{"result"}, "Reloads of the config, by result: ok or refused.", reloads},
	{"last_reload_success", gauge, nil, "1 if the last load of the config was accepted, 0 if it was refused and an older config is in force.", loaded(func(s *snapshot) float64 { return truth(s.loads.last.OK) })},
	{"last_reload_timestamp_seconds", gauge, nil, "When the config was last loaded or refused, in Unix time.", loaded(func(s *snapshot) float64 { return unix(s.loads.last.At) })},
	{"last_reload_moved", gauge, nil, "Largest share of a pool's sessions that the last load of the config gave another owner, 0 to 1.", loaded(func(s *snapshot) float64 { return s.loads.last.Moved })},
	{"config_info", gauge, []string{"file"}, "1 for the file of the config.", configFile},
	{"config_loaded_timestamp_seconds", gauge, nil, "When the config in force was loaded, in Unix time.", configLoaded},

	{"findings", gauge, []string{"kind"}, "Findings that there are now, by kind.", findingsByKind},
	{"certificate_expiry_timestamp_seconds", gauge, []string{"use", "listener"}, "When the first certificate of that use expires, in Unix time. Uses are listener and backend for own certificates, listener_ca and backend_ca for those that are trusted; listener is its address in the config.", expiries},

	{"ready", gauge, nil, "1 if /readyz agrees, else 0.", one(func(s *snapshot) float64 { return truth(len(s.problems()) == 0) })},
	{"build_info", gauge, []string{"version", "commit", "goversion"}, "1 for the program's version, commit and Go version.", build},
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// one collects a single value.
func one(value func(*snapshot) float64) func(*snapshot, *sink) {
	return func(s *snapshot, to *sink) { to.add(value(s)) }
}

// loaded collects a single value once a config was loaded or refused.
func loaded(value func(*snapshot) float64) func(*snapshot, *sink) {
	return func(s *snapshot, to *sink) {
		if !s.loads.last.At.IsZero() {
			to.add(value(s))
		}
	}
}

// total collects a counter of requests.
func total(pick func(*shard) *atomic.Int64) func(*snapshot, *sink) {
	return func(s *snapshot, to *sink) { to.add(s.counts.total(pick)) }
}

// each collects a value of each backend.
func each(value func(*proxy.BackendStatus) float64) func(*snapshot, *sink) {
	return func(s *snapshot, to *sink) {
		for i := range s.proxy.Backends {
			b := &s.proxy.Backends[i]
			to.add(value(b), b.Name)
		}
	}
}

// watched collects a value of each backend whose health is watched.
func watched(value func(*health.Status) float64) func(*snapshot, *sink) {
	return func(s *snapshot, to *sink) {
		for name, h := range s.health {
			to.add(value(&h), name)
		}
	}
}

// requests leaves out what never happened, since few of the combinations do.
func requests(s *snapshot, to *sink) {
	for _, b := range s.counts.named() {
		for op := range numOps {
			for i, status := range statuses {
				if n := b.requests(op, i); n > 0 {
					to.add(n, opName(op), status, b.name)
				}
			}
		}
	}
}

func failures(s *snapshot, to *sink) {
	for i, reason := range reasons {
		to.add(s.counts.total(func(s *shard) *atomic.Int64 { return &s.failures[i] }), reason)
	}
}

func refusals(s *snapshot, to *sink) {
	for _, r := range s.proxy.Refusals {
		to.add(float64(r.Count), string(r.Reason))
	}
}

func durations(s *snapshot, to *sink) {
	for op := range numOps {
		d := s.counts.durations(op)
		if named := op != int(wire.OpNone) && op < wire.NumOps; named || d.count > 0 {
			to.spread(d, opName(op))
		}
	}
}

func waits(s *snapshot, to *sink) {
	for _, b := range s.counts.named() {
		if d := b.wait(); d.count > 0 {
			to.spread(d, b.name)
		}
	}
}

func states(s *snapshot, to *sink) {
	for _, b := range s.proxy.Backends {
		for _, state := range []proxy.State{proxy.Up, proxy.Down, proxy.Draining, proxy.Former} {
			to.add(truth(b.State == state), b.Name, string(state))
		}
	}
}

func connections(s *snapshot, to *sink) {
	for _, b := range s.proxy.Backends {
		to.add(float64(b.Conns.Idle), b.Name, "idle")
		to.add(float64(b.Conns.Open-b.Conns.Idle), b.Name, "busy")
	}
}

func shares(s *snapshot, to *sink) {
	for _, p := range s.proxy.Pools {
		for _, o := range p.Owners {
			to.add(o.Share, p.Name, o.Name)
		}
	}
}

func rings(s *snapshot, to *sink) {
	for _, p := range s.proxy.Pools {
		to.add(1, p.Name, fingerprint(p.Fingerprint))
	}
}

// fingerprint is a ring's fingerprint as people and JSON see it.
func fingerprint(f uint64) string { return fmt.Sprintf("%016x", f) }

func windows(s *snapshot, to *sink) {
	for _, p := range s.proxy.Pools {
		to.add(float64(len(p.Windows)), p.Name)
	}
}

func reloads(s *snapshot, to *sink) {
	to.add(float64(s.loads.ok), "ok")
	to.add(float64(s.loads.refused), "refused")
}

func configFile(s *snapshot, to *sink) { to.add(1, s.File) }

func configLoaded(s *snapshot, to *sink) {
	if !s.loads.inForce.IsZero() {
		to.add(unix(s.loads.inForce))
	}
}

func findingsByKind(s *snapshot, to *sink) {
	present := map[Kind]int{}
	for _, f := range s.findings() {
		if slices.Contains(kinds, f.Kind) {
			present[f.Kind]++
		} else {
			present[other]++
		}
	}
	for _, k := range kinds {
		to.add(float64(present[k]), string(k))
	}
	to.add(float64(present[other]), other)
}

func build(s *snapshot, to *sink) {
	to.add(1, s.version(), s.commit(), runtime.Version())
}

func (a *Admin) version() string { return cmp.Or(a.Version, "unknown") }
func (a *Admin) commit() string  { return cmp.Or(a.Commit, "unknown") }
