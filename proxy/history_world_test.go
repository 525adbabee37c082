package proxy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

const (
	machineCount = 4 // state servers, in use or to spare
	clientCount  = 3
	usualTimeout = 20 // minutes
	otherTimeout = 30
	window       = otherTimeout * time.Minute // where there are several proxies
)

// sessionKeys are the sessions of a history. Two of them share an ID and so an
// owner, unless their applications are in different pools.
var sessionKeys = []string{
	"/LM/W3SVC/2/ROOT(oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5/HxWS854=)/bpr4mimb2vjnvtn2jc4yp3uo",
	"/LM/W3SVC/2/ROOT(oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5/HxWS854=)/q2l5hx0cw4ksbmjzd1vu3eya",
	"/LM/W3SVC/2/ROOT/shop(oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5/HxWS854=)/bpr4mimb2vjnvtn2jc4yp3uo",
}

// world is what a history is played in, all of it in memory and in one bubble.
// Requests of one step run side by side, and so does what the clock brings
// about; all else is done by the goroutine that plays.
type world struct {
	history  *history
	start    time.Time
	machines []*machine
	fronts   []*front
	config   config
	former   config // the one before, for a change to be undone
	changed  time.Time
	away     *machine        // the one that was ejected, if there are several proxies
	died     []string        // bodies that went with their machines, in the present step
	beliefs  []belief        // by key
	turns    []time.Duration // when sessions got other owners
	free     []time.Duration // by key: when the session was last not sure to be locked
	memos    [clientCount][]memo
	bodies   int
	timers   []*time.Timer
	log      []string
	err      error
}

// memo is what a client knows of a session.
type memo struct {
	held wire.Int // cookie of the lock it has
	last wire.Int // of the one it had last
	seen wire.Int // of the last lock of another that it met
}

func newWorld(h *history) *world {
	w := &world{history: h, start: time.Now(), beliefs: make([]belief, len(sessionKeys)), free: make([]time.Duration, len(sessionKeys))}
	for i := range w.beliefs {
		w.beliefs[i].can = []session{{}}
	}
	for i := range w.memos {
		w.memos[i] = make([]memo, len(sessionKeys))
	}
	for i := range machineCount {
		w.machines = append(w.machines, startMachine(i))
	}
	for i := range h.backends {
		w.config.entries = append(w.config.entries, entry{name: fmt.Sprintf("b%d", i), machine: i, weight: 1})
	}
	w.former = w.config
	w.changed = w.start.Add(-time.Hour)
	for range h.proxies {
		f := &front{w: w, told: map[proxy.Target]string{}}
		f.begin(nil)
		f.take(w.config)
		f.open()
		w.fronts = append(w.fronts, f)
	}
	return w
}

func (w *world) stop() {
	for _, t := range w.timers {
		t.Stop()
	}
	for _, f := range w.fronts {
		f.end()
	}
	for _, m := range w.machines {
		m.stop()
	}
}

// machineAt returns the machine that an address leads to.
func (w *world) machineAt(address string) *machine {
	for _, m := range w.machines {
		if address == m.address(false) || address == m.address(true) {
			return m
		}
	}
	panic("nobody has the address " + address)
}

// note adds a line to what is shown of a history that fails.
func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%10v  ", time.Since(w.start))+fmt.Sprintf(format, args...))
}

// violate ends the history.
func (w *world) violate(format string, args ...any) {
	w.note(format, args...)
	if w.err == nil {
		w.err = fmt.Errorf("%s", strings.Join(w.log, "\n"))
	}
}

// config is the settings that decide about routing.
type config struct {
	entries []entry
	split   bool // the shop has the first backend for itself
}

type entry struct {
	name    string
	machine int
	second  bool // at the machine's second address
	weight  int
	drain   bool
}

func (c config) equal(o config) bool {
	return c.split == o.split && slices.Equal(c.entries, o.entries)
}

// owned reports whether every pool has a backend that may own sessions.
func (c config) owned() bool {
	owns := func(e entry) bool { return !e.drain }
	if c.split {
		return slices.ContainsFunc(c.entries[:1], owns) && slices.ContainsFunc(c.entries[1:], owns)
	}
	return slices.ContainsFunc(c.entries, owns)
}

func (c config) names(name string) bool {
	return slices.ContainsFunc(c.entries, func(e entry) bool { return e.name == name })
}

// spare returns the first machine from i on that c has no backend at.
func (c config) spare(i int) int {
	for j := range machineCount {
		n := (i + j) % machineCount
		if !slices.ContainsFunc(c.entries, func(e entry) bool { return e.machine == n }) {
			return n
		}
	}
	return -1
}

func (w *world) settings(c config) proxy.Settings {
	s := proxy.Settings{HandoffDelay: w.history.delay}
	if w.history.proxies > 1 { // each knows only the time-outs that it saw
		s.HandoffWindow = window
	}
	for _, e := range c.entries {
		s.Backends = append(s.Backends, proxy.Backend{
			Name: e.name, Address: w.machines[e.machine].address(e.second), Weight: e.weight, Drain: e.drain,
		})
	}
	if c.split {
		s.Pools = []proxy.Pool{{Name: "shop", Applications: []string{"*/shop"}, Backends: []string{c.entries[0].name}}}
	}
	return s
}

// front is one of the proxies and what its operator does for it.
type front struct {
	w       *world
	streams [clientCount]*stream

	mu     sync.Mutex // guards what follows
	config config     // the settings that it took last
	proxy  *proxy.Proxy
	ln     *memory
	served chan struct{}
	told   map[proxy.Target]string // nonces
}

// begin makes a proxy that goes on from the snapshot, if there is one.
func (f *front) begin(snapshot []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &proxy.Proxy{Dial: f.w.dial}
	p.Changed = func(proxy.Change) { f.observe(p, false) }
	f.proxy, f.ln, f.served = p, newMemory(), make(chan struct{})
	if snapshot == nil {
		return
	}
	var s proxy.Snapshot
	err := json.Unmarshal(snapshot, &s)
	if err == nil {
		err = p.Restore(s)
	}
	if err != nil {
		panic(err)
	}
}

// open has the proxy accept clients.
func (f *front) open() {
	p, ln, served := f.proxy, f.ln, f.served
	go func() {
		_ = p.Serve(ln)
		close(served)
	}()
}

// end kills the proxy and returns what its state file holds.
func (f *front) end() []byte {
	f.mu.Lock()
	p, served := f.proxy, f.served
	f.mu.Unlock()
	snapshot, err := json.Marshal(p.Snapshot())
	if err != nil {
		panic(err)
	}
	p.Close()
	<-served
	return snapshot
}

// restart kills the proxy and, when down is over, starts another one in its place.
func (f *front) restart(down time.Duration) {
	snapshot := f.end()
	f.w.pause(down)
	f.begin(snapshot)
	f.mu.Lock()
	c := f.config
	f.mu.Unlock()
	f.take(c)
	f.open()
}

// take gives the proxy new settings.
func (f *front) take(c config) {
	f.mu.Lock()
	f.config = c
	p := f.proxy
	f.mu.Unlock()
	if _, err := p.Reconfigure(f.w.settings(c)); err != nil {
		panic(err)
	}
	f.observe(p, false)
}

// observe tells the proxy how the backends are, as health checks do. Those of a
// lazy history look which run of a server they meet only at new addresses, or
// if they are told to.
func (f *front) observe(p *proxy.Proxy, look bool) {
	targets := p.Targets()
	for _, t := range targets {
		m := f.w.machineAt(t.Address)
		if m.asked() && (look || !f.w.history.lazy || !f.knows(t)) {
			f.tell(p, targets, m)
		}
		p.SetUp(t.Name, !m.isEjected())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.told, func(t proxy.Target, _ string) bool { return !slices.Contains(targets, t) })
}

func (f *front) knows(t proxy.Target) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.told[t] != ""
}

// tell tells the proxy of the machine's nonce, whatever names it goes by.
func (f *front) tell(p *proxy.Proxy, targets []proxy.Target, m *machine) {
	for _, t := range targets {
		if f.w.machineAt(t.Address) == m {
			p.SetInstance(t.Name, m.nonce())
			f.mu.Lock()
			f.told[t] = m.nonce()
			f.mu.Unlock()
		}
	}
}

// inTheDark reports whether a backend was not looked at since its machine began
// to run.
func (f *front) inTheDark() bool {
	targets := f.current().Targets()
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(targets, func(t proxy.Target) bool {
		return f.told[t] != f.w.machineAt(t.Address).nonce()
	})
}

func (f *front) current() *proxy.Proxy {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.proxy
}
