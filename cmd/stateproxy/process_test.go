//go:build unix

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"stateproxy/internal/farm"
)

// processes is a site of separate processes of the real binary.
type processes struct {
	t       *testing.T
	binary  string
	address map[string]string
	servers map[string]*exec.Cmd
	listen  string
	proxy   *exec.Cmd
	log     *logText
}

func (s *processes) target() string { return s.listen }

// start starts the binary and waits until it listens on address.
func (s *processes) start(address string, args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(s.binary, args...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	limit := time.After(20 * time.Second)
	for {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return cmd
		}
		select {
		case <-limit:
			s.t.Fatalf("%v does not listen on %s: %v\n%s", args, address, err, s.log)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *processes) kill(name string) {
	s.servers[name].Process.Kill()
	s.servers[name].Wait()
}

func (s *processes) restart(name string) {
	s.servers[name] = s.start(s.address[name], "server", "-listen", s.address[name])
}

// buildBinary builds the command that is tested.
func buildBinary(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "stateproxy")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// newProcesses starts servers s1 to sn.
func newProcesses(t *testing.T, n int) *processes {
	t.Helper()
	s := &processes{
		t: t, binary: buildBinary(t), log: &logText{},
		address: map[string]string{}, servers: map[string]*exec.Cmd{}, listen: freeAddress(t),
	}
	for i := range n {
		name := fmt.Sprintf("s%d", i+1)
		s.address[name] = freeAddress(t)
		s.restart(name)
	}
	return s
}

func TestFarmThroughFailureInProcesses(t *testing.T) {
	s := newProcesses(t, 3)
	file, adminAt := filepath.Join(t.TempDir(), "config.yaml"), freeAddress(t)
	replaceFile(t, file, configText(s.listen, adminAt, s.address, 0))
	s.proxy = s.start(s.listen, "run", "-config", file)
	farmThroughFailure(t, s, func(round int) {
		replaceFile(t, file, configText(s.listen, adminAt, s.address, round))
		s.proxy.Process.Signal(syscall.SIGHUP)
	})
	if err := s.proxy.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := s.proxy.Wait(); err != nil {
		t.Errorf("proxy ended with %v; want exit 0\n%s", err, s.log)
	}
	r := &running{t: t, log: s.log}
	r.logged("config reloaded")
	r.logged("reload asked for by signal")
	r.logged("backend readmitted", `"s2"`)
	r.logged("stopped")
}

// poolText is a config whose backends are given as name, weight, state.
func (s *processes) poolText(adminAt string, backends ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "listen: %s\nadmin:\n  listen: %s\n", s.listen, adminAt)
	b.WriteString("health:\n  interval: 200ms\n  timeout: 200ms\nhandoff:\n  delay: 500ms\n  rate: 5000\nbackends:\n")
	for _, backend := range backends {
		var name, weight, state string
		fmt.Sscan(backend, &name, &weight, &state)
		fmt.Fprintf(&b, "  - {name: %s, address: %s, weight: %s, state: %s}\n", name, s.address[name], weight, state)
	}
	return b.String()
}

// farmSessions is how many sessions the farm has while the pool changes.
// STATEPROXY_SESSIONS makes it more, for example 100000.
func farmSessions(t *testing.T) int {
	text := os.Getenv("STATEPROXY_SESSIONS")
	if text == "" {
		return 2000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("STATEPROXY_SESSIONS: %v", err)
	}
	return n
}

// farmRun is a farm whose pages go through the processes' proxy.
type farmRun struct {
	*farm.Farm
	s      *processes
	cancel func()
	ran    chan error
}

// startFarm fills the servers with sessions and begins to ask for pages.
func (s *processes) startFarm() *farmRun {
	s.t.Helper()
	f, err := farm.New(farm.Config{
		Targets: []string{s.listen}, Workers: 4, Pages: 6, Sessions: farmSessions(s.t), PagesPerSecond: 600,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := f.Fill(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	r := &farmRun{f, s, cancel, make(chan error, 1)}
	go func() { r.ran <- f.Run(ctx) }()
	return r
}

// stop ends the page traffic.
func (r *farmRun) stop() {
	r.s.t.Helper()
	r.cancel()
	if err := <-r.ran; err != nil {
		r.s.t.Errorf("farm: %v", err)
	}
}

// wantNoLoss fails the test if a session is not as its last page left it, or if
// a page met an error.
func (r *farmRun) wantNoLoss() {
	r.s.t.Helper()
	if err := r.Verify(r.s.t.Context()); err != nil {
		r.s.t.Fatal(err)
	}
	report := r.Report()
	r.s.t.Log(report.Text())
	if !report.OK() || report.PageErrors() != 0 {
		r.s.t.Errorf("%d findings of damage, %d page errors; want none\n%s", report.Damage(), report.PageErrors(), r.s.log)
	}
}

// TestFarmWhileThePoolChanges has the pool go from three backends to four to
// two, with weights changed on the way, under page traffic. A drained backend is
// killed as soon as all of its known sessions have left.
func TestFarmWhileThePoolChanges(t *testing.T) {
	s := newProcesses(t, 4)
	file, adminAt := filepath.Join(t.TempDir(), "config.yaml"), freeAddress(t)
	replaceFile(t, file, s.poolText(adminAt, "s1 1 active", "s2 1 active", "s3 1 active"))
	s.start(s.listen, "run", "-config", file)
	r := &running{t: t, log: s.log}
	f := s.startFarm()
	ctx := t.Context()
	part := farmTime(t) / 4
	after(ctx, part/4)
	change := func(backends ...string) {
		before := strings.Count(s.log.String(), "routing changed")
		replaceFile(t, file, s.poolText(adminAt, backends...))
		r.eventually("a change of routing", func() bool { return strings.Count(s.log.String(), "routing changed") > before })
		after(ctx, part)
	}
	change("s1 1 active", "s2 1 active", "s3 1 active", "s4 1 active")
	change("s1 1 active", "s2 3 active", "s3 1 active", "s4 2 active")
	change("s1 1 drain", "s2 3 active", "s3 1 active", "s4 2 active")
	r.logged("all known sessions have left the backend", `"s1"`)
	change("s2 1 active", "s4 1 active")
	r.logged("all known sessions have left the backend", `"s3"`)
	f.stop()
	for _, name := range []string{"s1", "s3"} {
		s.kill(name)
		r.logged("backend ejected", `"`+name+`"`)
	}
	f.wantNoLoss()
}
