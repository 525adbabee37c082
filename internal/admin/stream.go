package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Bounds of the live stream.
const (
	maxStreams     = 16
	streamBacklog  = 64 // updates: a burst of events, or a minute of a reader that is slow
	streamDeadline = 10 * time.Second
	streamBeat     = 15 * time.Second // between two signs of life when there is no news
)

// stream is one who watches.
type stream struct {
	updates chan update // closed when it is too slow
}

// update is what there is to tell: an event, or what a second has brought.
type update struct {
	event  *eventStatus
	sample *sampleStatus
	status []member

	sessions json.RawMessage // nil if nothing is known of them
}

// member is a member of the status: its name and its JSON.
type member struct {
	name string
	json json.RawMessage
}

// Run keeps the history, follows the findings and feeds the live streams until
// ctx ends; then it returns nil. Without it those stay empty. It runs once at a
// time.
func (a *Admin) Run(ctx context.Context) error {
	a.history.begin(a.snapshot())
	tick := time.NewTicker(fineStep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.tick()
		case <-ctx.Done():
			return nil
		}
	}
}

// tick does what is to be done each second.
func (a *Admin) tick() {
	s := a.snapshot()
	sample := a.history.add(s)
	a.follow(s, s.findings())
	if !a.feed.watched() {
		return
	}
	members, err := membersOf(s.status())
	if err != nil { // a value that JSON can't say; /api/v1/status tells
		return
	}
	a.feed.tell(update{sample: &sample, status: members, sessions: a.sessions()})
}

// membersOf takes the status apart.
func membersOf(st *status) ([]member, error) {
	b, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	var byName map[string]json.RawMessage
	if err := json.Unmarshal(b, &byName); err != nil {
		return nil, err
	}
	list := make([]member, 0, len(byName))
	for name, value := range byName {
		list = append(list, member{name, value})
	}
	return list, nil
}

func (f *feed) watched() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.streams) > 0
}

func (f *feed) tell(u update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.streams {
		f.give(s, u)
	}
}

// give hands an update to a stream, or ends the stream if it lags too far
// behind. f.mu is held.
func (f *feed) give(s *stream, u update) {
	select {
	case s.updates <- u:
	default:
		delete(f.streams, s)
		close(s.updates)
	}
}

// join adds a stream and returns the events before its first update; nil if
// there are too many streams.
func (f *feed) join() (*stream, []eventStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.streams) >= maxStreams {
		return nil, nil
	}
	s := &stream{updates: make(chan update, streamBacklog)}
	if f.streams == nil {
		f.streams = map[*stream]struct{}{}
	}
	f.streams[s] = struct{}{}
	return s, f.recentLocked()
}

func (f *feed) leave(s *stream) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.streams, s)
}

// serveStream tells what happens as server-sent events, until the client leaves,
// is too slow, or the server closes.
//
// First come status, history, sessions and events, each as its own endpoint
// answers, but sessions of the busiest applications only; then, each second, a
// sample, sessions, and a change, which holds the members of the status that are
// not as they were; and each event at once.
func (a *Admin) serveStream(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		return
	}
	s, events := a.feed.join()
	if s == nil {
		w.Header().Set("Retry-After", "10")
		refuse(w, http.StatusServiceUnavailable, "too_many_streams", fmt.Sprintf("%d streams are open already.", maxStreams))
		return
	}
	defer a.feed.leave(s)
	out := &sender{w: w, ctl: http.NewResponseController(w), told: map[string]json.RawMessage{}}
	w.Header().Set("Content-Type", "text/event-stream")
	members, err := membersOf(a.snapshot().status())
	if err != nil {
		return
	}
	out.change("status", members)
	out.send("history", a.history.status())
	out.sessions(a.sessions())
	out.send("events", eventList{schemaVersion, events})
	out.flush()
	a.watch(r.Context(), closing(r), s, out)
}

// watch sends updates until something ends the stream.
func (a *Admin) watch(ctx context.Context, closed <-chan struct{}, s *stream, out *sender) {
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	for out.err == nil {
		select {
		case u, ok := <-s.updates:
			if !ok {
				return
			}
			out.update(u)
		case <-beat.C:
			out.buf.WriteString(":\n\n")
		case <-ctx.Done():
			return
		case <-closed:
			return
		}
		out.flush()
	}
}

// sender writes server-sent events.
type sender struct {
	w    http.ResponseWriter
	ctl  *http.ResponseController
	buf  bytes.Buffer               // not sent yet
	told map[string]json.RawMessage // members of the status as the client knows them
	err  error                      // the first that came up
}

func (o *sender) update(u update) {
	if u.event != nil {
		o.send("event", u.event)
		return
	}
	o.send("sample", u.sample)
	o.sessions(u.sessions)
	o.change("change", u.status)
}

// sessions sends what is known of sessions, if anything is.
func (o *sender) sessions(known json.RawMessage) {
	if known != nil {
		o.send("sessions", known)
	}
}

// change sends the members that the client does not know, always with the time.
func (o *sender) change(name string, members []member) {
	news := map[string]json.RawMessage{}
	for _, m := range members {
		if !bytes.Equal(o.told[m.name], m.json) {
			news[m.name], o.told[m.name] = m.json, m.json
		}
	}
	o.send(name, news)
}

func (o *sender) send(name string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		o.err = err
		return
	}
	fmt.Fprintf(&o.buf, "event: %s\ndata: %s\n\n", name, b)
}

// flush sends what is to be sent.
func (o *sender) flush() {
	if o.err == nil {
		o.err = o.ctl.SetWriteDeadline(time.Now().Add(streamDeadline))
	}
	if o.err == nil {
		_, o.err = o.w.Write(o.buf.Bytes())
	}
	if o.err == nil {
		o.err = o.ctl.Flush()
	}
	o.buf.Reset()
}
