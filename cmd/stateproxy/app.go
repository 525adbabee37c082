package main

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"stateproxy/health"
	"stateproxy/internal/admin"
	"stateproxy/internal/backend"
	"stateproxy/internal/config"
	"stateproxy/internal/systemd"
	"stateproxy/internal/xray"
	"stateproxy/proxy"
)

// app is a running proxy with all that belongs to it. It is made by newApp and
// run once.
type app struct {
	file     string // of the config; "" if there is none to watch
	log      zerolog.Logger
	level    *levelHook
	proxy    *proxy.Proxy
	checker  *health.Checker
	admin    *admin.Admin
	requests *requestLog
	xray     *xray.XRay

	supervisor *systemd.Supervisor // set before run; the zero value is none
	hup        chan os.Signal      // asks for a look at the config file
	upgrade    upgrade

	mu        sync.Mutex // guards what follows; held during a reload
	config    *config.Config
	raw       []byte
	listeners map[string]net.Listener // by address in the config
	adminLn   net.Listener
	draining  bool
	certs     certState

	stateMu    sync.Mutex // guards what follows; held during a write
	stateFile  string
	saved      []byte // what the state file holds
	saveFailed error

	tokenTrouble atomic.Pointer[string] // what is wrong with the token file, as logged

	stages map[string]int // of evacuations, as logged; keepState's own

	serving sync.WaitGroup
	started chan struct{} // closed when all listeners are open
	fatal   chan error    // holds the first error that ends the program
}

// levelHook drops what is below a level that can change while the program runs.
type levelHook struct {
	mu    sync.Mutex
	level zerolog.Level
}

func (h *levelHook) set(l zerolog.Level) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.level = l
}

func (h *levelHook) name() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.level.String()
}

// Run implements zerolog.Hook.
func (h *levelHook) Run(e *zerolog.Event, l zerolog.Level, _ string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l < h.level {
		e.Discard()
	}
}

// newApp makes an app for the config, which came from file as raw.
func newApp(c *config.Config, file string, raw []byte, log zerolog.Logger) *app {
	a := &app{
		file: file, raw: raw, level: &levelHook{level: logLevel(c.Log.Level)},
		listeners: map[string]net.Listener{}, started: make(chan struct{}), fatal: make(chan error, 1), config: c,
		supervisor: &systemd.Supervisor{}, hup: make(chan os.Signal, 1), upgrade: newUpgrade(),
	}
	a.log = log.Level(zerolog.TraceLevel).Hook(a.level)
	failed := &failures{log: a.log}
	a.requests = &requestLog{log: a.log}
	a.checker = &health.Checker{Probe: a.probe}
	a.checker.OnEvent = a.healthChanged
	a.admin = &admin.Admin{Version: version, Commit: buildCommit(), File: file, Health: a.checker.Status}
	a.admin.ErrorLog = stdlog.New(a.log.Level(zerolog.DebugLevel), "admin: ", 0)
	a.proxy = &proxy.Proxy{Evidence: a.checker.Report, Serves: a.serves}
	a.proxy.Changed = a.routingChanged
	a.proxy.Refused = (&refusals{log: a.log}).note
	sessions := &xray.XRay{}
	a.xray, a.admin.XRay, a.admin.OnFinding = sessions, sessions, a.findingChanged
	a.admin.Findings = func() []admin.Finding { return admin.SessionFindings(sessions.Findings()) }
	a.proxy.Done = a.observing(sessions, failed)
	a.admin.Proxy, a.admin.PID = a.proxy.Status, os.Getpid()
	a.admin.Actions, a.admin.Token, a.admin.Config = a.actions(), a.token, a.effectiveConfig
	a.admin.Acted, a.admin.LogLevel, a.admin.Certificates = a.acted, a.level.name, a.shownCertificates
	return a
}

// run serves until ctx ends, then drains. It returns nil after an orderly end.
func (a *app) run(ctx context.Context) error {
	notifyReload(a.hup)
	defer signal.Stop(a.hup)
	notifyUpgrade(a.upgrade.asked)
	defer signal.Stop(a.upgrade.asked)
	if err := a.start(); err != nil {
		a.closeAll()
		return err
	}
	bg, stop := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() {
		if err := a.checker.Run(bg); err != nil {
			a.die(err)
		}
	})
	background.Go(func() { a.keepState(bg) })
	background.Go(func() { a.watchCertificates(bg) })
	background.Go(func() { a.supervisor.RunWatchdog(bg, a.alive) })
	background.Go(func() {
		if err := a.proxy.Run(bg); err != nil {
			a.die(err)
		}
	})
	background.Go(func() {
		if err := a.admin.Run(bg); err != nil {
			a.die(err)
		}
	})
	if a.file != "" {
		w := &config.Watcher{File: a.file, Loaded: a.raw, OnChange: a.reload, OnError: func(err error) {
			a.log.Warn().Err(err).Msg("watching the config file")
		}}
		background.Go(func() {
			if err := w.Run(bg); err != nil {
				a.die(err)
			}
		})
		background.Go(func() { a.forwardReloads(bg, w) })
	}
	background.Go(a.hearFormer)
	err := a.await(ctx)
	if a.upgrade.successor != nil {
		a.handOver()
	} else {
		a.drain()
	}
	stop()
	a.upgrade.leave()
	background.Wait()
	a.tellSuccessor()
	a.saveState()
	a.closeAll()
	a.serving.Wait()
	a.log.Info().Msg("stopped")
	return err
}

// forwardReloads has the watcher look at the file when a signal asks for it.
func (a *app) forwardReloads(ctx context.Context, w *config.Watcher) {
	for {
		select {
		case <-a.hup:
			a.log.Info().Msg("reload asked for by signal")
			w.Poke()
			a.renewCertificates()
		case <-ctx.Done():
			return
		}
	}
}

// die ends the program with err.
func (a *app) die(err error) {
	select {
	case a.fatal <- err:
	default: // it is ending already
	}
}

// start applies the first config.
func (a *app) start() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.inherit(); err != nil {
		return err
	}
	change, err := a.apply(a.config)
	if err != nil {
		return err
	}
	a.log.Info().Str("version", version).Int("backends", len(a.config.Backends)).Msg("stateproxy runs")
	a.admin.Loaded(admin.Reload{At: time.Now(), OK: true})
	a.supervisor.Release()
	a.logKept(change)
	a.tellReady()
	close(a.started)
	return a.serveInstead()
}

// address returns where the proxy listens first.
func (a *app) address() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.listeners[a.config.Listen[0].Address].Addr().String()
}

// adminAddress returns where the admin listener is, "" if there is none.
func (a *app) adminAddress() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.adminLn == nil {
		return ""
	}
	return a.adminLn.Addr().String()
}

// apply makes c the config in force, or returns an error and leaves all as it
// was. Whatever can fail comes first. a.mu is held.
func (a *app) apply(c *config.Config) (proxy.Change, error) {
	certs, troubles, err := loadCertificates(c, a.file, a.certs.inForce)
	if err != nil {
		return proxy.Change{}, err
	}
	opened, err := a.openListeners(c)
	if err != nil {
		return proxy.Change{}, err
	}
	var change proxy.Change
	adminLn, err := a.openAdmin(c)
	if err == nil {
		s := proxySettings(c)
		certs.into(&s)
		change, err = a.proxy.Reconfigure(s)
	}
	if err != nil {
		for _, ln := range opened {
			ln.Close()
		}
		if adminLn != nil {
			adminLn.Close()
		}
		return proxy.Change{}, err
	}
	// Nothing below can fail.
	a.checker.SetParams(healthParams(c.Health))
	a.checker.SetTargets(healthTargets(a.proxy.Targets()))
	a.level.set(logLevel(c.Log.Level))
	a.requests.set(c.Log)
	a.xray.SetBudget(c.Timeouts.Budget)
	a.admin.Configure(admin.Settings{MinUp: c.Admin.MinUp, Hosts: c.Admin.Hosts})
	a.useCertificates(certs, troubles)
	a.swapListeners(c, opened)
	a.swapAdmin(c, adminLn)
	a.config = c
	a.stateMu.Lock()
	a.stateFile = stateFile(c, a.file)
	a.stateMu.Unlock()
	a.saveState()
	return change, nil
}

// openListeners opens what c wants and is not open yet.
func (a *app) openListeners(c *config.Config) (map[string]net.Listener, error) {
	opened := map[string]net.Listener{}
	for _, address := range c.Addresses() {
		if a.listeners[address] != nil {
			continue
		}
		ln, err := a.supervisor.Listen(address)
		if err != nil {
			for _, ln := range opened {
				ln.Close()
			}
			return nil, err
		}
		opened[address] = ln
	}
	return opened, nil
}

// swapListeners serves the new listeners and closes those that c does not name.
func (a *app) swapListeners(c *config.Config, opened map[string]net.Listener) {
	for address, ln := range opened {
		a.listeners[address] = ln
		a.log.Info().Str("listen", ln.Addr().String()).Msg("proxy listens")
		a.serving.Go(func() { a.serve(address, ln) })
	}
	wanted := c.Addresses()
	for address, ln := range a.listeners {
		if !slices.Contains(wanted, address) {
			delete(a.listeners, address)
			ln.Close()
			a.log.Info().Str("listen", address).Msg("proxy listens there no more")
		}
	}
}

func (a *app) serve(address string, ln net.Listener) {
	if err := a.proxy.ServeAs(address, ln); !errors.Is(err, proxy.ErrClosed) && !errors.Is(err, net.ErrClosed) {
		a.die(err)
	}
}

// openAdmin opens the admin listener if c wants another one than is open.
func (a *app) openAdmin(c *config.Config) (net.Listener, error) {
	if c.Admin.Listen == "" || a.adminLn != nil && c.Admin.Listen == a.config.Admin.Listen {
		return nil, nil
	}
	ln, err := a.supervisor.Listen(c.Admin.Listen)
	if err != nil {
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	return ln, nil
}

func (a *app) swapAdmin(c *config.Config, ln net.Listener) {
	if a.adminLn != nil && (ln != nil || c.Admin.Listen == "") {
		a.adminLn.Close()
		a.adminLn = nil
	}
	if ln == nil {
		return
	}
	a.adminLn = ln
	a.log.Info().Str("admin", "http://"+ln.Addr().String()+"/").Msg("admin listens")
	a.serving.Go(func() {
		if err := a.admin.Serve(ln); err != nil && !errors.Is(err, net.ErrClosed) {
			a.log.Error().Err(err).Msg("admin listener has ended")
		}
	})
}

// reload takes the changed bytes of the config file. What became of it is
// logged.
func (a *app) reload(data []byte) { _ = a.take(data) }

// take makes data the config in force, or returns why it does not, and logs it.
func (a *app) take(data []byte) error {
	defer a.reloading()()
	c, err := config.Parse(a.file, data)
	if err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if err = a.checkMove(c); err == nil {
			return a.change(c)
		}
	}
	a.refused(err)
	return err
}

// change makes c the config in force, or returns why it does not, and logs it.
// a.mu is held.
func (a *app) change(c *config.Config) error {
	if a.draining {
		return errors.New("the proxy is about to stop")
	}
	changes := config.Diff(a.config, c)
	change, err := a.apply(c)
	if err != nil {
		a.refused(err)
		return err
	}
	moved := a.logReload(changes, change)
	a.admin.Loaded(admin.Reload{At: time.Now(), OK: true, Changes: changes, Moved: moved})
	a.logKept(change)
	return nil
}

// logReload tells what a reload changed and what share of sessions it moves. It
// returns the largest share of a pool.
func (a *app) logReload(changes []string, c proxy.Change) float64 {
	shares, most := movedShares(c)
	e := a.log.Info().Strs("changes", changes).Dict("moved_share", shares)
	if !c.At.IsZero() {
		e.Time("routing_changes_at", c.At)
	}
	e.Msg("config reloaded")
	return most
}

// refused tells that a new config is not taken; the old one stays in force.
func (a *app) refused(err error) {
	a.log.Error().Err(err).Msg("config refused; the old one stays in force")
	a.admin.Loaded(admin.Reload{At: time.Now(), Error: err.Error()})
}

// probe asks a backend whether it is well, and which run of its server it is, or
// which proxy.
func (a *app) probe(ctx context.Context, t health.Target) error {
	dial := a.proxy.Dialer(t.Name)
	d, err := backend.Look(ctx, dial, t.Address)
	if d != nil {
		return a.peerSeen(t, d, err)
	}
	if err != nil {
		return err
	}
	nonce, err := backend.Instance(ctx, dial, t.Address)
	if err != nil { // it answers, which is what counts here
		a.log.Debug().Str("backend", t.Name).Err(err).Msg("no sentinel on the backend")
		return nil
	}
	restarted, twin := a.proxy.SetInstance(t.Name, nonce)
	if restarted {
		a.log.Warn().Str("backend", t.Name).Str("address", t.Address).Msg("backend was restarted: the sessions it held are gone")
		a.admin.Note(admin.Event{Level: admin.Warn, Kind: admin.BackendRestarted, Backend: t.Name, Text: "it was restarted: the sessions it held are gone"})
	}
	a.twinSeen(t, twin)
	return nil
}

// routingChanged is called when time alone has changed the table.
func (a *app) routingChanged(c proxy.Change) {
	a.checker.SetTargets(healthTargets(a.proxy.Targets()))
	shares, most := movedShares(c)
	if most > 0 {
		a.log.Info().Dict("moved_share", shares).Msg("routing changed")
		a.admin.Note(admin.Event{Kind: admin.RoutingChanged, Text: fmt.Sprintf("%.1f%% of sessions have another owner now", 100*most)})
	}
}

// movedShares returns the share of sessions that change owner by pool, and the
// largest.
func movedShares(c proxy.Change) (shares *zerolog.Event, most float64) {
	shares = zerolog.Dict()
	for _, p := range c.Pools {
		shares.Float64(p.Name, p.Moved)
		most = max(most, p.Moved)
	}
	return shares, most
}

// healthChanged takes an event of the checker.
func (a *app) healthChanged(e health.Event) {
	change, changed := a.proxy.SetUp(e.Name, e.Up)
	l, level, kind := a.log.Warn(), admin.Error, admin.BackendEjected
	msg := "backend ejected"
	switch {
	case e.Unfit:
		l, kind, msg = a.log.Error(), admin.BackendLoop, "backend leads back to this proxy: it is not used"
	case e.Up && e.Kept:
		kind, msg = admin.BackendKept, "backend fails, but so many do that it is kept"
	case e.Up && !changed:
		l, level, kind, msg = a.log.Info(), admin.Info, admin.BackendWell, "backend is well again"
	case e.Up:
		l, level, kind, msg = a.log.Info(), admin.Info, admin.BackendReadmitted, "backend readmitted"
	}
	a.admin.Note(admin.Event{Time: e.Time, Level: level, Kind: kind, Backend: e.Name, Text: e.Reason})
	l.Str("backend", e.Name).Str("address", e.Address).Str("reason", e.Reason)
	if e.HoldDown > 0 {
		l.Dur("hold_down_ms", e.HoldDown)
	}
	for _, p := range change.Pools {
		if p.Moved > 0 {
			l.Float64("moved_share_"+p.Name, p.Moved)
		}
	}
	l.Msg(msg)
	if changed {
		a.checker.SetTargets(healthTargets(a.proxy.Targets()))
		a.saveState()
	}
}
