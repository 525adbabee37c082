package health_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"stateproxy/health"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errRefused = errors.New("connection refused")
	errReset   = errors.New("connection reset")
	errLoop    = fmt.Errorf("loop: %w", health.ErrUnfit)
)

// steady are settings without chance: no jitter, and time steps easy to add.
var steady = health.Params{Interval: 2 * time.Second, Timeout: time.Second, Jitter: -1, Rise: 2, Fall: 3, HoldDown: -1}

// farm is a set of pretended backends and what was seen of them. It belongs in
// a bubble of synctest.
type farm struct {
	*health.Checker
	began time.Time

	mu     sync.Mutex
	fails  map[string]error           // by name: what its probes return
	script map[string]string          // by name: P or F per probe, the last one repeated
	hangs  map[string]bool            // by name: its probes end with their context only
	probes map[string][]time.Duration // by name: start of each probe
	ended  map[string]error           // by name: why a hanging probe ended
	events []health.Event
}

func newFarm(p health.Params, names ...string) *farm {
	f := &farm{
		began:  time.Now(),
		fails:  map[string]error{},
		script: map[string]string{},
		hangs:  map[string]bool{},
		probes: map[string][]time.Duration{},
		ended:  map[string]error{},
	}
	f.Checker = &health.Checker{Probe: f.probe, OnEvent: f.onEvent}
	f.SetParams(p)
	f.SetTargets(targets(names...))
	return f
}

// targets gives each name an address of its own.
func targets(names ...string) []health.Target {
	var list []health.Target
	for _, name := range names {
		list = append(list, health.Target{Name: name, Address: name + ".test:42424"})
	}
	return list
}

// run starts Run; when the test ends, Run must return without error.
func (f *farm) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v; want nil", err)
		}
	})
	synctest.Wait()
}

// pass lets the bubble's time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (f *farm) probe(ctx context.Context, t health.Target) error {
	f.mu.Lock()
	n := len(f.probes[t.Name])
	f.probes[t.Name] = append(f.probes[t.Name], time.Since(f.began))
	err, hangs := f.fails[t.Name], f.hangs[t.Name]
	if s := f.script[t.Name]; s != "" && s[min(n, len(s)-1)] == 'F' {
		err = errRefused
	}
	f.mu.Unlock()
	if !hangs {
		return err
	}
	<-ctx.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended[t.Name] = ctx.Err()
	return ctx.Err()
}

func (f *farm) onEvent(e health.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
}

// set makes the probes of the names return err from now on.
func (f *farm) set(err error, names ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range names {
		f.fails[name] = err
	}
}

func (f *farm) hang(name string, yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hangs[name] = yes
}

// probed returns the starts of a target's probes.
func (f *farm) probed(name string) []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.probes[name])
}

// log returns the events so far, one a line: "6s s1 down".
func (f *farm) log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	lines := []string{}
	for _, e := range f.events {
		lines = append(lines, fmt.Sprintf("%v %s %s", e.Time.Sub(f.began), e.Name, word(e.Up, e.Kept)))
	}
	return lines
}

// last returns the newest event.
func (f *farm) last(t *testing.T) health.Event {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.events) == 0 {
		t.Fatal("no event was delivered")
	}
	return f.events[len(f.events)-1]
}

// states returns the state of all targets: "s1 up, s2 down".
func (f *farm) states() string {
	var words []string
	for _, s := range f.Status() {
		words = append(words, s.Name+" "+word(s.Up, s.Kept))
	}
	return strings.Join(words, ", ")
}

// status returns the state of one target.
func (f *farm) status(t *testing.T, name string) health.Status {
	t.Helper()
	for _, s := range f.Status() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("Status() names no %s", name)
	return health.Status{}
}

func (f *farm) wantLog(t *testing.T, want ...string) {
	t.Helper()
	if got := f.log(); !slices.Equal(got, want) {
		t.Errorf("events = %q; want %q", got, want)
	}
}

func (f *farm) wantStates(t *testing.T, want string) {
	t.Helper()
	if got := f.states(); got != want {
		t.Errorf("Status() = %q; want %q", got, want)
	}
}

func word(up, kept bool) string {
	switch {
	case kept:
		return "kept"
	case up:
		return "up"
	}
	return "down"
}
