//go:build unix

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
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

// freeAddress returns a loopback address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
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

func TestFarmThroughFailureInProcesses(t *testing.T) {
	s := &processes{
		t: t, binary: buildBinary(t), log: &logText{},
		address: map[string]string{}, servers: map[string]*exec.Cmd{}, listen: freeAddress(t),
	}
	for _, name := range []string{"s1", "s2", "s3"} {
		s.address[name] = freeAddress(t)
		s.restart(name)
	}
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
