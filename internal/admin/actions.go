package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"stateproxy/health"
	"stateproxy/proxy"
)

// Actions are what an operator can do. A nil one is not available. They may be
// called at the same time; each returns when it is done, or an error for people
// that says why it was not. An error that is health.ErrUnknown means that there
// is no backend or pool of that name.
type Actions struct {
	// Reload reads the config file now and takes it; what was changed by hand ends.
	Reload func(ctx context.Context) error
	// Drain takes a backend out of the ring and has its sessions brought over;
	// Undrain puts it back. Both until the next change of the config file.
	Drain, Undrain func(ctx context.Context, backend string) error
	// Weight gives a backend another weight, 1 to 1000, until the next change of
	// the config file.
	Weight func(ctx context.Context, backend string, weight int) error
	// Eject takes a backend out of service whatever its health, until Readmit.
	Eject   func(ctx context.Context, backend, reason string) error
	Readmit func(ctx context.Context, backend string) error
	// CloseWindow forgets the former owners of a pool's sessions. Sessions that
	// were not brought over yet are lost.
	CloseWindow func(ctx context.Context, pool string) error
	// LogLevel changes what is logged: one of LogLevels.
	LogLevel func(ctx context.Context, level string) error
	// Lock tells of the lock of a session, which goes by the hash of an Outcome;
	// Unlock releases the one with that cookie. An error that is
	// proxy.ErrUnknownSession means that there is no such session.
	Lock   func(ctx context.Context, session uint64) (proxy.Lock, error)
	Unlock func(ctx context.Context, session uint64, cookie int64) error
}

// LogLevels are what the action log-level takes.
var LogLevels = []string{"debug", "info", "warn", "error"}

// Bounds of actions.
const (
	maxActionBody = 4 << 10
	maxReason     = 200 // bytes
	maxWeight     = 1000
	actionTimeout = 30 * time.Second
)

// order is the body of an action. Each action takes some of the fields, and no
// others.
type order struct {
	Backend *string `json:"backend"`
	Pool    *string `json:"pool"`
	Weight  *int    `json:"weight"`
	Reason  *string `json:"reason"`
	Level   *string `json:"level"`
	Session *string `json:"session"`
	Lock    *int64  `json:"lock"`
}

// action is one of Actions with its name in the API.
type action struct {
	name     string
	needs    []string // fields of the order
	takes    []string // further ones
	possible func(*Actions) bool
	do       func(context.Context, *Actions, order) error
}

var actions = []action{
	{"reload", nil, nil, func(a *Actions) bool { return a.Reload != nil },
		func(ctx context.Context, a *Actions, _ order) error { return a.Reload(ctx) }},
	{"drain", []string{"backend"}, nil, func(a *Actions) bool { return a.Drain != nil },
		func(ctx context.Context, a *Actions, o order) error { return a.Drain(ctx, *o.Backend) }},
	{"undrain", []string{"backend"}, nil, func(a *Actions) bool { return a.Undrain != nil },
		func(ctx context.Context, a *Actions, o order) error { return a.Undrain(ctx, *o.Backend) }},
	{"weight", []string{"backend", "weight"}, nil, func(a *Actions) bool { return a.Weight != nil },
		func(ctx context.Context, a *Actions, o order) error { return a.Weight(ctx, *o.Backend, *o.Weight) }},
	{"eject", []string{"backend"}, []string{"reason"}, func(a *Actions) bool { return a.Eject != nil },
		func(ctx context.Context, a *Actions, o order) error { return a.Eject(ctx, *o.Backend, o.reason()) }},
	{"readmit", []string{"backend"}, nil, func(a *Actions) bool { return a.Readmit != nil },
		func(ctx context.Context, a *Actions, o order) error { return a.Readmit(ctx, *o.Backend) }},
	{"close-window", []string{"pool"}, nil, func(a *Actions) bool { return a.CloseWindow != nil },
		func(ctx context.Context, a *Actions, o order) error { return a.CloseWindow(ctx, *o.Pool) }},
	{"log-level", []string{"level"}, nil, func(a *Actions) bool { return a.LogLevel != nil },
		func(ctx context.Context, a *Actions, o order) error { return a.LogLevel(ctx, *o.Level) }},
	{"unlock", []string{"session", "lock"}, nil, func(a *Actions) bool { return a.Unlock != nil },
		func(ctx context.Context, a *Actions, o order) error { return a.Unlock(ctx, o.session(), *o.Lock) }},
}

// look is no action, but takes the same order: what is known of a lock.
var look = action{name: "lock", needs: []string{"session"}, possible: func(a *Actions) bool { return a.Lock != nil }}

// available returns the names of the actions that are.
func (a *Actions) available() []string {
	names := []string{}
	for _, x := range actions {
		if x.possible(a) {
			names = append(names, x.name)
		}
	}
	return names
}

// done is the answer to an action that was carried out.
type done struct {
	Done string `json:"done"` // what, for people
}

// serveAction returns the handler of one action. Who may act was checked before.
func (a *Admin) serveAction(x action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o, ok := a.takeOrder(w, r, x)
		if !ok {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), actionTimeout)
		defer cancel()
		a.answerAction(w, r, x.name+o.text(), x.do(ctx, &a.Actions, o))
	}
}

// takeOrder reads and checks what a request orders of x. If that won't do, it
// answers and returns false.
func (a *Admin) takeOrder(w http.ResponseWriter, r *http.Request, x action) (o order, ok bool) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "want_json", "Content-Type: want application/json.")
		return o, false
	}
	o, err := readOrder(w, r)
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		refuse(w, http.StatusRequestEntityTooLarge, "body_too_large", fmt.Sprintf("body: want at most %d bytes.", long.Limit))
		return o, false
	}
	if err == nil {
		err = o.check(x)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "bad_body", err.Error())
		return o, false
	}
	if !x.possible(&a.Actions) {
		refuse(w, http.StatusNotImplemented, "not_available", fmt.Sprintf("%s is not available here.", x.name))
		return o, false
	}
	return o, true
}

// answerAction tells the client and the events what became of an action.
func (a *Admin) answerAction(w http.ResponseWriter, r *http.Request, what string, err error) {
	by := ", asked for from " + clientOf(r)
	if a.Acted != nil {
		a.Acted(what, clientOf(r), err)
	}
	if err == nil {
		a.Note(Event{Kind: ActionDone, Text: what + by})
		writeJSON(w, http.StatusOK, done{what})
		return
	}
	a.Note(Event{Level: Warn, Kind: ActionFailed, Text: what + by + ": " + err.Error()})
	refuseAction(w, err)
}

// refuseAction tells the client why something was not done.
func refuseAction(w http.ResponseWriter, err error) {
	if errors.Is(err, health.ErrUnknown) || errors.Is(err, proxy.ErrUnknownSession) {
		refuse(w, http.StatusNotFound, "unknown_name", clip(err.Error()))
		return
	}
	refuse(w, http.StatusConflict, "refused", clip(err.Error()))
}

// readOrder reads the body of an action: one JSON object, or nothing.
func readOrder(w http.ResponseWriter, r *http.Request) (o order, err error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxActionBody))
	if err != nil {
		return o, fmt.Errorf("body: %w", err)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return o, nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return o, fmt.Errorf("body: %w", plain(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return o, errors.New("body: want one JSON object and nothing after it")
	}
	return o, nil
}

// plain says a decoder's error without the names of Go types.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field == "":
		return fmt.Errorf("want a JSON object, got %s", wrong.Value)
	case errors.As(err, &wrong):
		return fmt.Errorf("%s: got %s", wrong.Field, wrong.Value)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON breaks off")
	}
	return err
}

// check reports what the order lacks for x, has too much or out of range.
func (o *order) check(x action) error {
	for _, f := range o.fields() {
		switch needed := slices.Contains(x.needs, f.name); {
		case needed && !f.set:
			return fmt.Errorf("%s: want one", f.name)
		case f.set && !needed && !slices.Contains(x.takes, f.name):
			return fmt.Errorf("%s: %s takes none", f.name, x.name)
		}
	}
	if o.Weight != nil && (*o.Weight < 1 || *o.Weight > maxWeight) {
		return fmt.Errorf("weight: want 1..%d, got %d", maxWeight, *o.Weight)
	}
	if o.Level != nil && !slices.Contains(LogLevels, *o.Level) {
		return fmt.Errorf("level: want one of %q, got %.40q", LogLevels, *o.Level)
	}
	if o.Session != nil && o.session() == 0 {
		return errSession
	}
	if o.Lock != nil && (*o.Lock < 0 || *o.Lock > math.MaxInt32) {
		return fmt.Errorf("lock: want 0..%d, got %d", math.MaxInt32, *o.Lock)
	}
	if len(o.reason()) > maxReason {
		return fmt.Errorf("reason: want at most %d bytes, got %d", maxReason, len(o.reason()))
	}
	return nil
}

// field is one of an order's, as seen from outside.
type field struct {
	name string
	set  bool
}

func (o *order) fields() []field {
	return []field{
		{"backend", o.Backend != nil}, {"pool", o.Pool != nil}, {"weight", o.Weight != nil},
		{"reason", o.Reason != nil}, {"level", o.Level != nil}, {"session", o.Session != nil}, {"lock", o.Lock != nil},
	}
}

// session returns the hash that the order names a session by; 0 if it is none.
func (o *order) session() uint64 { return parseSession(*o.Session) }

func (o *order) reason() string {
	if o.Reason == nil || *o.Reason == "" {
		return "by an operator"
	}
	return *o.Reason
}

// named shows a name from a request: as it is if it may be one, else quoted.
func named(name string) string {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if name == "" || strings.ContainsFunc(name, odd) {
		return fmt.Sprintf("%.64q", name)
	}
	return fmt.Sprintf("%.64s", name)
}

// text tells the order's fields after the name of its action.
func (o *order) text() (s string) {
	for _, p := range []*string{o.Backend, o.Pool, o.Level, o.Session} {
		if p != nil {
			s += " " + named(*p)
		}
	}
	if o.Weight != nil {
		s += fmt.Sprintf(" %d", *o.Weight)
	}
	if o.Lock != nil {
		s += fmt.Sprintf(" (lock %d)", *o.Lock)
	}
	if o.Reason != nil {
		s += fmt.Sprintf(" (%q)", *o.Reason)
	}
	return s
}
