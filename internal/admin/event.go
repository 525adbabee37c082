package admin

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// Level says how much something matters.
type Level string

// The levels.
const (
	Info  Level = "info"  // as it should be
	Warn  Level = "warn"  // someone should look at it in the daytime
	Error Level = "error" // someone should look at it now
)

// Kind says what sort of event or finding it is. Its text is stable.
type Kind string

// Kinds of events. Those of the config, the end, actions and findings an Admin
// notes by itself; the others are for its caller.
const (
	ConfigLoaded      Kind = "config_loaded"      // the first
	ConfigReloaded    Kind = "config_reloaded"    // another one is in force
	ConfigRefused     Kind = "config_refused"     // the old one stays in force
	BackendEjected    Kind = "backend_ejected"    // by its health or by hand
	BackendReadmitted Kind = "backend_readmitted" // in service again
	BackendKept       Kind = "backend_kept"       // fails, but too many others are out
	BackendWell       Kind = "backend_well"       // one that was kept answers again
	BackendRestarted  Kind = "backend_restarted"  // and holds no sessions
	RoutingChanged    Kind = "routing_changed"    // some sessions have another owner now
	BackendTwin       Kind = "backend_twin"       // leads to the same server as another
	BackendLoop       Kind = "backend_loop"       // a proxy that leads back to this one: not used
	BackendFormer     Kind = "backend_former"     // in the config no more, but it may still hold sessions
	BackendEmptied    Kind = "backend_emptied"    // nothing is left on it: it may be shut down
	CertRenewed       Kind = "cert_renewed"       // other certificates are in force
	Draining          Kind = "draining"           // the proxy is about to stop
	Upgraded          Kind = "upgraded"           // this process has taken the place of another
	UpgradeFailed     Kind = "upgrade_failed"     // a new process did not take the place of this one
	ActionDone        Kind = "action_done"        // what an operator asked for
	ActionFailed      Kind = "action_failed"      // the same, in vain
	TokenRefused      Kind = "token_refused"      // someone acts or reads with a wrong token
	FindingBegan      Kind = "finding_began"      // a finding that no event above tells of
	FindingEnded      Kind = "finding_ended"
)

// Event is something that happened and that people should hear of.
type Event struct {
	Time    time.Time // the zero value stands for now
	Level   Level     // "" stands for Info
	Kind    Kind
	Finding Kind   // of a finding that began or ended; else ""
	Backend string // "" if it is of none in particular
	Text    string // for people, may have several lines; never a session ID
}

// Bounds of what is kept for people.
const (
	maxEvents    = 500
	maxEventText = 16 << 10 // bytes
	maxLoads     = 20
	maxChanges   = 200 // lines of one reload
)

// eventStatus is an event as JSON shows it.
type eventStatus struct {
	ID      int64     `json:"id"` // grows with each event; starts again with the program
	Time    time.Time `json:"time"`
	Level   Level     `json:"level"`
	Kind    Kind      `json:"kind"`
	Finding Kind      `json:"finding,omitempty"` // that began or ended
	Backend string    `json:"backend,omitempty"`
	Text    string    `json:"text"`
}

// feed keeps the last events and knows who listens. The zero value is ready for
// use; it is safe for concurrent use.
type feed struct {
	mu      sync.Mutex
	events  []eventStatus // the oldest first
	lastID  int64
	streams map[*stream]struct{}
}

// Note keeps an event among the last 500 and shows it to those who watch. It
// never blocks for long.
func (a *Admin) Note(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.Level == "" {
		e.Level = Info
	}
	f := &a.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastID++
	st := eventStatus{f.lastID, e.Time.UTC(), e.Level, e.Kind, e.Finding, e.Backend, clip(e.Text)}
	f.events = push(f.events, st, maxEvents)
	for s := range f.streams {
		f.give(s, update{event: &st})
	}
}

// recent returns the last events, the latest first.
func (f *feed) recent() []eventStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.recentLocked()
}

func (f *feed) recentLocked() []eventStatus {
	list := make([]eventStatus, 0, len(f.events))
	for i := len(f.events) - 1; i >= 0; i-- {
		list = append(list, f.events[i])
	}
	return list
}

// push appends to a list that holds at most limit of the latest.
func push[T any](list []T, item T, limit int) []T {
	if len(list) >= limit {
		copy(list, list[len(list)-limit+1:])
		list = list[:limit-1]
	}
	return append(list, item)
}

// clip bounds a text for people and makes it valid UTF-8.
func clip(text string) string {
	if len(text) > maxEventText {
		text = text[:maxEventText] + " …"
	}
	return strings.ToValidUTF8(text, "?")
}

// eventList is the answer to /api/v1/events.
type eventList struct {
	Version int           `json:"version"`
	Events  []eventStatus `json:"events"` // the latest first
}

func (a *Admin) serveEvents(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, eventList{schemaVersion, a.feed.recent()})
}

// reloadList is the answer to /api/v1/reloads.
type reloadList struct {
	Version int            `json:"version"`
	Reloads []reloadStatus `json:"reloads"` // the latest first; the first load is one of them
}

func (a *Admin) serveReloads(w http.ResponseWriter, _ *http.Request) {
	list := reloadList{schemaVersion, []reloadStatus{}}
	a.mu.Lock()
	for i := len(a.loads.recent) - 1; i >= 0; i-- {
		list.Reloads = append(list.Reloads, reloadStatusOf(a.loads.recent[i]))
	}
	a.mu.Unlock()
	writeJSON(w, http.StatusOK, list)
}
