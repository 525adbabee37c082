package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stateproxy/internal/farm"
	"stateproxy/ring"
	"stateproxy/stateserver"
)

// farmTime is how long the end-to-end tests run the farm. STATEPROXY_E2E makes
// it longer, for example 60s.
func farmTime(t *testing.T) time.Duration {
	text := os.Getenv("STATEPROXY_E2E")
	if text == "" {
		return 8 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("STATEPROXY_E2E: %v", err)
	}
	return d
}

// site is a proxy before three state servers, in whatever form a test runs it.
type site interface {
	target() string
	kill(name string)    // the server and all it holds are gone
	restart(name string) // empty, at the same address
}

// configText is a config for three servers. round makes each one different, in
// ways that move no session.
func configText(listen, adminAt string, servers map[string]string, round int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "listen: %s\nadmin:\n  listen: %s\n", listen, adminAt)
	fmt.Fprintf(&b, "health:\n  interval: 200ms\n  timeout: 200ms\n  hold_down: 200ms\n")
	fmt.Fprintf(&b, "timeouts:\n  budget: %dms\n", 7000+round%7)
	fmt.Fprintf(&b, "backends:\n")
	for i := range 3 {
		name := fmt.Sprintf("s%d", 1+(i+round)%3) // their order means nothing
		fmt.Fprintf(&b, "  - name: %s\n    address: %s\n", name, servers[name])
	}
	return b.String()
}

// freeAddress returns a loopback address that nobody listens on. The system gives
// its port to no connection that goes out, so that it stays free until somebody
// listens on it, also between the death of a server and its next life.
func freeAddress(t *testing.T) string {
	t.Helper()
	var err error
	for range 100 {
		var ln net.Listener
		if ln, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(10000))); err == nil {
			defer ln.Close()
			return ln.Addr().String()
		}
	}
	t.Fatalf("no port is free: %v", err)
	return ""
}

// replaceFile writes a file as editors do: beside it, then renamed over it.
func replaceFile(t *testing.T, file, text string) {
	t.Helper()
	next := filepath.Join(filepath.Dir(file), "next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		t.Fatal(err)
	}
}

// excuse tells the farm which sessions the killed server took with it: those it
// owned, once each.
func excuse(t *testing.T, f *farm.Farm, killed string, since func() bool) {
	t.Helper()
	r, err := ring.New([]ring.Member{{Name: "s1", Weight: 1}, {Name: "s2", Weight: 1}, {Name: "s3", Weight: 1}})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	excused := map[string]int{}
	f.Excuse(func(id string) bool {
		if !since() || r.Members()[r.Owner([]byte(id))].Name != killed {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		excused[id]++
		return excused[id] <= 2 // one for each of the farm's two applications
	})
}

// farmThroughFailure runs a farm against s, kills one server in the middle and
// brings it back, while reload is called every second.
func farmThroughFailure(t *testing.T, s site, reload func(round int)) {
	t.Helper()
	total := farmTime(t)
	f, err := farm.New(farm.Config{
		Targets: []string{s.target()}, Workers: 4, Pages: 6, Sessions: 600, PagesPerSecond: 400, Duration: total,
	})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	killed := false
	excuse(t, f, "s2", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return killed
	})
	ctx := t.Context()
	if err := f.Fill(ctx); err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- f.Run(ctx) }()
	stop := repeat(time.Second, reload)
	after(ctx, total/4)
	if n := f.Report().PageErrors(); n != 0 {
		t.Errorf("%d page errors before any server was killed:\n%s", n, f.Report().Text())
	}
	mu.Lock()
	killed = true
	mu.Unlock()
	s.kill("s2")
	after(ctx, total/4)
	duringOutage := f.Report().PageErrors()
	s.restart("s2")
	if err := <-ran; err != nil {
		t.Errorf("farm: %v", err)
	}
	stop()
	if err := f.Verify(ctx); err != nil {
		t.Fatal(err)
	}
	r := f.Report()
	t.Log(r.Text())
	if !r.OK() {
		t.Error("the farm found damage")
	}
	if n := r.PageErrors(); n != duringOutage {
		t.Errorf("%d page errors after the killed server was ejected; want none", n-duringOutage)
	}
}

// repeat calls do every so often until stop is called.
func repeat(every time.Duration, do func(round int)) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for round := 1; ; round++ {
			select {
			case <-tick.C:
				do(round)
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// after waits for d.
func after(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// oneProcess is a site whose parts all run in the test.
type oneProcess struct {
	t       *testing.T
	servers map[string]*stateserver.Server
	address map[string]string
	proxy   *running
}

func (s *oneProcess) target() string   { return s.proxy.app.address() }
func (s *oneProcess) kill(name string) { s.servers[name].Close() }

func (s *oneProcess) restart(name string) {
	ln, err := net.Listen("tcp", s.address[name])
	if err != nil {
		s.t.Error(err)
		return
	}
	again := &stateserver.Server{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		again.Serve(ln)
	}()
	s.t.Cleanup(func() {
		again.Close()
		<-done
	})
}

func TestFarmThroughFailureInOneProcess(t *testing.T) {
	s := &oneProcess{t: t, servers: map[string]*stateserver.Server{}, address: map[string]string{}}
	for _, name := range []string{"s1", "s2", "s3"} {
		s.servers[name] = stateserver.RunT(t)
		s.address[name] = s.servers[name].Addr()
	}
	s.proxy = runApp(t, configText("127.0.0.1:0", "127.0.0.1:0", s.address, 0))
	farmThroughFailure(t, s, func(round int) {
		replaceFile(t, s.proxy.file, configText("127.0.0.1:0", "127.0.0.1:0", s.address, round))
	})
	s.proxy.logged("config reloaded")
	s.proxy.logged("backend ejected", `"s2"`)
	s.proxy.logged("backend readmitted", `"s2"`)
}
