package admin

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"stateproxy/health"
	"stateproxy/internal/backend"
	webfarm "stateproxy/internal/farm"
	"stateproxy/internal/xray"
	"stateproxy/proxy"
	"stateproxy/stateserver"
)

const siteToken = "correct horse battery staple"

// site is a proxy before three state servers with all that watches it, and a
// farm that sends it requests. What an operator does to it happens.
type site struct {
	t       *testing.T
	admin   *Admin
	proxy   *proxy.Proxy
	checker *health.Checker
	servers []*stateserver.Server
	url     string // of the dashboard

	mu       sync.Mutex
	settings proxy.Settings
}

// newSite starts a site that ends with the test.
func newSite(t *testing.T) *site {
	s := &site{t: t, admin: &Admin{Version: "1.4.0", Commit: "0123456789abcdef", File: "stateproxy.yaml"}}
	for i := range 3 {
		server := stateserver.RunT(t)
		s.servers = append(s.servers, server)
		s.settings.Backends = append(s.settings.Backends, proxy.Backend{Name: fmt.Sprintf("s%d", i+1), Address: server.Addr(), Weight: 1})
	}
	s.settings.HandoffDelay = -1
	s.checker = &health.Checker{
		Probe:   func(ctx context.Context, at health.Target) error { return backend.Probe(ctx, nil, at.Address) },
		OnEvent: s.healthChanged,
	}
	s.checker.SetParams(health.Params{Interval: 100 * time.Millisecond, HoldDown: -1})
	sessions := &xray.XRay{}
	s.admin.XRay = sessions
	s.proxy = &proxy.Proxy{Evidence: s.checker.Report, Done: func(o *proxy.Outcome) {
		s.admin.Observe(o)
		sessions.Observe(o)
	}}
	s.admin.Proxy, s.admin.Health = s.proxy.Status, s.checker.Status
	s.admin.Token = func() string { return siteToken }
	s.admin.Config = func() string { return "backends: [s1, s2, s3]\n" }
	s.admin.LogLevel = func() string { return "info" }
	s.admin.Actions = Actions{
		Reload: func(context.Context) error { return fmt.Errorf("stateproxy.yaml:3:1: bakends: no such key") },
		Drain: func(_ context.Context, name string) error {
			return s.change(name, func(b *proxy.Backend) { b.Drain = true })
		},
		Undrain: func(_ context.Context, name string) error {
			return s.change(name, func(b *proxy.Backend) { b.Drain = false })
		},
		Weight: func(_ context.Context, name string, n int) error {
			return s.change(name, func(b *proxy.Backend) { b.Weight = n })
		},
		Eject:   func(_ context.Context, name, reason string) error { return s.checker.Eject(name, reason) },
		Readmit: func(_ context.Context, name string) error { return s.checker.Readmit(name) },
	}
	s.start()
	return s
}

// start runs all parts until the test ends.
func (s *site) start() {
	if _, err := s.proxy.Reconfigure(s.settings); err != nil {
		s.t.Fatal(err)
	}
	s.watchTargets()
	s.admin.Loaded(Reload{At: time.Now(), OK: true})
	front, back := s.listen(), s.listen()
	s.url = "http://" + back.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.proxy.Serve(front) })
	wg.Go(func() { s.proxy.Run(ctx) })
	wg.Go(func() { s.checker.Run(ctx) })
	wg.Go(func() { s.admin.Serve(back) })
	wg.Go(func() { s.admin.Run(ctx) })
	wg.Go(func() { s.browse(ctx, front.Addr().String()) })
	s.t.Cleanup(func() {
		cancel()
		s.proxy.Close()
		back.Close()
		wg.Wait()
	})
}

func (s *site) listen() net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	return ln
}

// browse asks for pages until ctx ends. What becomes of them is others' to test.
func (s *site) browse(ctx context.Context, target string) {
	f, err := webfarm.New(webfarm.Config{Targets: []string{target}, Sessions: 300, PagesPerSecond: 60, PollInterval: 100 * time.Millisecond})
	if err != nil {
		s.t.Error(err)
		return
	}
	f.Fill(ctx)
	f.Run(ctx)
}

func (s *site) watchTargets() {
	var list []health.Target
	for _, at := range s.proxy.Targets() {
		list = append(list, health.Target(at))
	}
	s.checker.SetTargets(list)
}

func (s *site) healthChanged(e health.Event) {
	s.proxy.SetUp(e.Name, e.Up)
	kind, level := BackendEjected, Error
	switch {
	case e.Kept:
		kind = BackendKept
	case e.Up:
		kind, level = BackendReadmitted, Info
	}
	s.admin.Note(Event{Time: e.Time, Level: level, Kind: kind, Backend: e.Name, Text: e.Reason})
	s.watchTargets()
}

// change changes a backend's settings.
func (s *site) change(name string, edit func(*proxy.Backend)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.settings
	next.Backends = append([]proxy.Backend{}, s.settings.Backends...)
	for i := range next.Backends {
		if next.Backends[i].Name == name {
			edit(&next.Backends[i])
			if _, err := s.proxy.Reconfigure(next); err != nil {
				return err
			}
			s.settings = next
			s.watchTargets()
			return nil
		}
	}
	return fmt.Errorf("%s: %w", name, health.ErrUnknown)
}

// listenAgain opens an address that was just closed.
func listenAgain(t *testing.T, address string) net.Listener {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		ln, err := net.Listen("tcp", address)
		if err == nil {
			return ln
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			t.Fatal(err)
		}
	}
}

// foreign is a listener whose connections seem to come in on another address.
type foreign struct {
	net.Listener
	at net.Addr
}

type foreignConn struct {
	net.Conn
	at net.Addr
}

func (c foreignConn) LocalAddr() net.Addr { return c.at }

func (f foreign) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return foreignConn{c, f.at}, nil
}

// serveFrom is serve as if from another address.
func serveFrom(t *testing.T, a *Admin, address string) (net.Listener, <-chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Serve(foreign{ln, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))}) }()
	t.Cleanup(func() { ln.Close() })
	return ln, ended
}
