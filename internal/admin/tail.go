package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/proxy"
)

// Bounds of the live request log.
const (
	maxTails    = 8                // listeners at once
	tailQueue   = 1024             // requests that a listener may lag behind
	tailBeat    = 10 * time.Second // between two empty lines while nothing happens
	tailStall   = 10 * time.Second // for a listener to take what is sent
	maxTailText = 256              // bytes of text that a client has chosen
)

// tailLine is a line of /api/v1/tail: a request that is over, or the number of
// those left out before.
type tailLine struct {
	Time          time.Time `json:"time,omitzero"` // when it was read whole, in UTC
	Client        string    `json:"client,omitempty"`
	Op            string    `json:"op,omitempty"`
	Session       string    `json:"session,omitempty"` // a keyed hash, 16 hex digits: the same for a session while the proxy runs
	App           string    `json:"app,omitempty"`     // application part, as the client sent it
	Pool          string    `json:"pool,omitempty"`    // absent if it was refused before it was routed
	Backend       string    `json:"backend,omitempty"` // absent if none was asked
	Status        int       `json:"status"`            // 0: the connection was closed instead
	Reason        string    `json:"reason,omitempty"`  // why it failed
	Error         string    `json:"error,omitempty"`   // the cause, for people
	Milliseconds  float64   `json:"ms"`
	DelayMS       float64   `json:"delay_ms,omitempty"`   // of it, before all else, for a client over its rate
	WaitMS        float64   `json:"wait_ms"`              // of it, for the backend
	HandoffMS     float64   `json:"handoff_ms,omitempty"` // of the wait, as is what follows; absent if it did not happen
	QueueMS       float64   `json:"queue_ms,omitempty"`
	ConnectMS     float64   `json:"connect_ms,omitempty"`
	SendMS        float64   `json:"send_ms,omitempty"`
	BodyMS        float64   `json:"body_ms,omitempty"`
	RequestBytes  int64     `json:"request_bytes"`
	ResponseBytes int64     `json:"response_bytes"`
	Moved         bool      `json:"moved,omitempty"`         // the session was brought over from a former owner
	LockReleased  bool      `json:"lock_released,omitempty"` // for a client that was gone
	Dropped       int64     `json:"dropped,omitempty"`       // requests left out before this one: the listener was too slow
}

// tails are the listeners to the live request log. The zero value has none; it
// is safe for concurrent use.
type tails struct {
	open atomic.Int32 // listeners, looked at for each request
	mu   sync.RWMutex // guards list
	list []*tail
}

// tail is one listener.
type tail struct {
	filter  tailFilter
	lines   chan tailLine
	dropped atomic.Int64 // since the last line
}

// tap gives a request that is over to those who listen. It never waits: who is
// too slow misses some, and is told how many.
func (a *Admin) tap(o *proxy.Outcome) {
	a.tails.mu.RLock()
	defer a.tails.mu.RUnlock()
	var line tailLine // made for the first who wants it
	for _, t := range a.tails.list {
		if !t.filter.wants(o) {
			continue
		}
		if line.Op == "" {
			line = tailLineOf(o)
		}
		select {
		case t.lines <- line:
		default:
			t.dropped.Add(1)
		}
	}
}

func tailLineOf(o *proxy.Outcome) tailLine {
	l := tailLine{
		Time: o.Start.UTC(), Client: o.Client.String(), Op: opName(opIndex(o.Op)),
		App: shortText(string(o.App[:min(len(o.App), maxTailText)])), Pool: o.Pool, Backend: o.Backend,
		Status: o.Status, Reason: string(o.Reason), Milliseconds: milliseconds(o.Duration), DelayMS: milliseconds(o.Delay), WaitMS: milliseconds(o.Wait),
		RequestBytes: o.RequestBytes, ResponseBytes: o.ResponseBytes, Moved: o.Moved, LockReleased: o.LockReleased,
	}
	p := &o.Phases
	l.HandoffMS, l.QueueMS, l.ConnectMS = milliseconds(p.Handoff), milliseconds(p.Queue), milliseconds(p.Connect)
	l.SendMS, l.BodyMS = milliseconds(p.Send), milliseconds(p.Body)
	if o.Session != 0 {
		l.Session = sessionHash(o.Session)
	}
	if o.Err != nil {
		l.Error = shortText(o.Err.Error())
	}
	return l
}

// sessionHash is what stands for a session to people and in JSON.
func sessionHash(session uint64) string { return fmt.Sprintf("%016x", session) }

// errSession does not tell what was given: it may have been a session ID.
var errSession = errors.New("session: want the hash of one, up to 16 hex digits as the live request log shows them")

// parseSession reads what sessionHash writes; 0 if it is something else.
func parseSession(text string) uint64 {
	session, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return 0
	}
	return session
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// shortText cuts text that may have come from a peer and makes it valid UTF-8.
func shortText(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxTailText)], "?")
}

// tailFilter says which requests a listener wants. A zero field lets all pass.
type tailFilter struct {
	ops      []string
	backends []string
	statuses []int
	atLeast  time.Duration
	session  uint64
	app      string // part of the application part, in lower case
}

func (f *tailFilter) wants(o *proxy.Outcome) bool {
	return o.Duration >= f.atLeast &&
		(f.ops == nil || slices.Contains(f.ops, opName(opIndex(o.Op)))) &&
		(f.backends == nil || slices.Contains(f.backends, o.Backend)) &&
		(f.statuses == nil || slices.Contains(f.statuses, o.Status)) &&
		(f.session == 0 || f.session == o.Session) &&
		(f.app == "" || strings.Contains(strings.ToLower(string(o.App)), f.app))
}

// tailParameters are the names that a query may have.
var tailParameters = []string{"op", "backend", "status", "min_ms", "session", "app"}

// parseTailFilter reads the query of /api/v1/tail. Values of op, backend and
// status are lists with commas between; closed is the status 0.
func parseTailFilter(q url.Values) (f tailFilter, err error) {
	for name, values := range q {
		if !slices.Contains(tailParameters, name) || len(values) != 1 {
			return f, fmt.Errorf("%.40q: want each of %s once at most", name, strings.Join(tailParameters, ", "))
		}
	}
	f.app = strings.ToLower(q.Get("app"))
	f.backends = listOf(q.Get("backend"))
	f.ops = listOf(q.Get("op"))
	for _, op := range f.ops {
		if !isOp(op) {
			return f, fmt.Errorf("op: want %s, got %.40q", strings.Join(opNames(), ", "), op)
		}
	}
	for _, text := range listOf(q.Get("status")) {
		n, err := strconv.Atoi(text)
		if text != "closed" && (err != nil || n < 0 || n > 999) {
			return f, fmt.Errorf("status: want a number such as 423, or closed, got %.40q", text)
		}
		f.statuses = append(f.statuses, n)
	}
	if text := q.Get("session"); text != "" {
		if f.session = parseSession(text); f.session == 0 {
			return f, errSession
		}
	}
	if text := q.Get("min_ms"); text != "" {
		ms, err := strconv.ParseFloat(text, 64)
		if err != nil || !(ms >= 0 && ms <= 1e9) {
			return f, fmt.Errorf("min_ms: want milliseconds such as 100, got %.40q", text)
		}
		f.atLeast = time.Duration(ms * float64(time.Millisecond))
	}
	return f, nil
}

func listOf(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func opNames() (names []string) {
	for i := range numOps {
		names = append(names, opName(i))
	}
	return names
}

func isOp(name string) bool { return slices.Contains(opNames(), name) }

// listen adds a listener; nil if there are too many.
func (t *tails) listen(f tailFilter) *tail {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.list) >= maxTails {
		return nil
	}
	l := &tail{filter: f, lines: make(chan tailLine, tailQueue)}
	t.list = append(t.list, l)
	t.open.Add(1)
	return l
}

func (t *tails) leave(l *tail) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = slices.DeleteFunc(t.list, func(x *tail) bool { return x == l })
	t.open.Add(-1)
}

const tailType = "application/x-ndjson"

// serveTail streams requests as they end, one JSON object on each line, until
// the client leaves. Empty lines tell that the stream lives.
func (a *Admin) serveTail(w http.ResponseWriter, r *http.Request) {
	filter, err := parseTailFilter(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, "bad_filter", err.Error())
		return
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", tailType)
		return
	}
	l := a.tails.listen(filter)
	if l == nil {
		w.Header().Set("Retry-After", "10")
		refuse(w, http.StatusServiceUnavailable, "too_many_streams", fmt.Sprintf("%d listeners are there already.", maxTails))
		return
	}
	defer a.tails.leave(l)
	w.Header().Set("Content-Type", tailType)
	l.stream(w, r)
}

// stream sends lines until the client leaves or does not take them in time, or
// the server closes.
func (l *tail) stream(w http.ResponseWriter, r *http.Request) {
	c, closed := http.NewResponseController(w), closing(r)
	if c.SetReadDeadline(time.Time{}) != nil { // the server's would end the request
		return
	}
	beat := time.NewTicker(tailBeat)
	defer beat.Stop()
	send := func(b []byte) bool {
		if c.SetWriteDeadline(time.Now().Add(tailStall)) != nil {
			return false
		}
		_, err := w.Write(b)
		return err == nil && (len(l.lines) > 0 || c.Flush() == nil)
	}
	ok := send([]byte("\n"))
	for ok {
		select {
		case line := <-l.lines:
			line.Dropped = l.dropped.Swap(0)
			b, err := json.Marshal(line)
			ok = err == nil && send(append(b, '\n'))
		case <-beat.C:
			ok = send([]byte("\n"))
		case <-closed:
			ok = false
		case <-r.Context().Done():
			ok = false
		}
	}
}
