//go:build linux

package systemd

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// listenAs makes the environment name a manager's socket, and returns it.
func listenAs(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return c
}

// hear returns the manager's next message.
func hear(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 4096)
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestMessages(t *testing.T) {
	tests := []struct {
		name string
		tell func(*Supervisor) error
		want string
	}{
		{"ready", func(s *Supervisor) error { return s.Ready("2 of 2 backends") }, "READY=1\nSTATUS=2 of 2 backends"},
		{"main process", func(s *Supervisor) error { return s.MainPID(4711) }, "MAINPID=4711"},
		{"stopping", (*Supervisor).Stopping, "STOPPING=1\nSTATUS=draining"},
	}
	for _, socket := range []string{filepath.Join(t.TempDir(), "notify"), "@stateproxy-test-" + strconv.Itoa(os.Getpid())} {
		manager := listenAs(t, socket)
		s, err := New()
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				if err := tt.tell(s); err != nil {
					t.Fatal(err)
				}
				if got := hear(t, manager); got != tt.want {
					t.Errorf("%s at %s: manager heard %q; want %q", tt.name, socket, got, tt.want)
				}
			})
		}
	}
}

func TestReloadingTellsTheTime(t *testing.T) {
	manager := listenAs(t, filepath.Join(t.TempDir(), "notify"))
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	for range 2 {
		if err := s.Reloading(); err != nil {
			t.Fatal(err)
		}
		var at int64
		got := hear(t, manager)
		if _, err := fmt.Sscanf(got, "RELOADING=1\nMONOTONIC_USEC=%d", &at); err != nil || at <= last {
			t.Errorf("Reloading: manager heard %q after %d (%v); want RELOADING=1 and a later time", got, last, err)
		}
		last = at
	}
}

func TestManagerThatIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(""); err == nil || !strings.Contains(err.Error(), "tell the service manager") {
		t.Errorf("Ready() = %v; want an error that says what was tried", err)
	}
}

func TestWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("LISTEN_FDS", "")
	t.Setenv("WATCHDOG_USEC", "")
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"Ready": s.Ready("x"), "Reloading": s.Reloading(), "Stopping": s.Stopping()} {
		if err != nil {
			t.Errorf("%s() = %v; want nil", name, err)
		}
	}
	s.RunWatchdog(t.Context(), func() { t.Error("RunWatchdog asks whether the process is alive; want it to return at once") })
	ln, err := s.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if got := s.Unclaimed(); got != nil {
		t.Errorf("Unclaimed() = %v; want none", got)
	}
}

// A former process's socket is taken once; the manager's stays.
func TestAdopt(t *testing.T) {
	s := &Supervisor{}
	ours, managers, left := passedFile(t), passedFile(t), passedFile(t)
	for _, p := range []struct {
		f       *os.File
		manager bool
	}{{ours.file, false}, {managers.file, true}, {left.file, false}} {
		if err := s.Adopt(p.f, p.manager); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Adopt(os.Stdin, false); err == nil {
		t.Error("Adopt() of what is no socket = nil; want an error")
	}
	for _, address := range []string{ours.address, managers.address} {
		for range 2 {
			ln, err := s.Listen(address)
			if err != nil {
				t.Fatalf("Listen(%s) = %v", address, err)
			}
			ln.Close()
		}
	}
	if got := s.Sockets(); len(got) != 1 || got[0] != managers.file {
		t.Errorf("Sockets() = %v; want the manager's", got)
	}
	s.Release()
	if _, err := left.file.Write(nil); err == nil {
		t.Error("the socket that nobody took is open after Release; want it closed")
	}
	if got := s.Unclaimed(); got != nil {
		t.Errorf("Unclaimed() = %v; want none of a former process's", got)
	}
}

func TestWatchdog(t *testing.T) {
	manager := listenAs(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "3000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended, stuck := make(chan struct{}), make(chan struct{})
	asked := 0
	go func() {
		defer close(ended)
		s.RunWatchdog(ctx, func() {
			if asked++; asked == 4 {
				<-stuck
			}
		})
	}()
	for range 3 {
		if got := hear(t, manager); got != "WATCHDOG=1" {
			t.Errorf("manager heard %q; want WATCHDOG=1", got)
		}
	}
	manager.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := manager.Read(make([]byte, 100)); err == nil {
		t.Errorf("manager heard %d bytes from a process that is not alive; want nothing", n)
	}
	close(stuck)
	hear(t, manager)
	stop()
	<-ended
}

func TestWatchdogInterval(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	tests := []struct {
		name, usec, pid string
		want            time.Duration
		bad             bool
	}{
		{"for this process", "30000000", self, 30 * time.Second, false},
		{"for any process", "2000000", "", 2 * time.Second, false},
		{"for another process", "30000000", "1", 0, false},
		{"none", "", self, 0, false},
		{"no number", "30s", self, 0, true},
		{"zero", "0", self, 0, true},
		{"more than fits", "9223372036854775807", self, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("WATCHDOG_USEC", tt.usec)
			t.Setenv("WATCHDOG_PID", tt.pid)
			got, err := watchdogInterval()
			if got != tt.want || (err != nil) != tt.bad {
				t.Errorf("watchdogInterval() with %q = %v, %v; want %v, error %v", tt.usec, got, err, tt.want, tt.bad)
			}
		})
	}
}

func TestStands(t *testing.T) {
	tests := []struct {
		socket, wanted string
		want           bool
	}{
		{"127.0.0.1:42424", "127.0.0.1:42424", true},
		{"127.0.0.1:42424", "localhost:42424", true},
		{"127.0.0.1:42424", "127.0.0.2:42424", false},
		{"127.0.0.1:42424", "127.0.0.1:42425", false},
		{"0.0.0.0:42424", ":42424", true},
		{"[::]:42424", ":42424", true},
		{"[::]:42424", "0.0.0.0:42424", true},
		{"127.0.0.1:42424", ":42424", false},
		{"0.0.0.0:42424", "127.0.0.1:42424", false},
		{"[::1]:42424", "[::1]:42424", true},
		{"127.0.0.1:42424", "nonsense", false},
	}
	for _, tt := range tests {
		socket, err := net.ResolveTCPAddr("tcp", tt.socket)
		if err != nil {
			t.Fatal(err)
		}
		if got := stands(socket, tt.wanted); got != tt.want {
			t.Errorf("stands(%s, %q) = %v; want %v", tt.socket, tt.wanted, got, tt.want)
		}
	}
	if stands(&net.UnixAddr{Name: "/run/x"}, ":42424") {
		t.Error("stands(unix socket) = true; want false")
	}
}

// TestPassedSockets starts this test's binary as the manager would, with sockets
// from descriptor 3 on.
func TestPassedSockets(t *testing.T) {
	if os.Getenv("SYSTEMD_TEST_ADDRESS") != "" {
		servePassed(t)
		return
	}
	ours, other := passedFile(t), passedFile(t)
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run '^TestPassedSockets$' -test.v`, os.Args[0])
	cmd.ExtraFiles = []*os.File{ours.file, other.file}
	cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "LISTEN_FDNAMES=sessions:other",
		"SYSTEMD_TEST_ADDRESS="+ours.address, "SYSTEMD_TEST_OTHER="+other.address)
	answers := make(chan string, 1)
	go func() { // twice: the second comes after the listener was closed and opened again
		var all strings.Builder
		for range 2 {
			c, err := net.Dial("tcp", ours.address)
			if err != nil {
				answers <- err.Error()
				return
			}
			b, _ := io.ReadAll(c)
			c.Close()
			all.Write(b)
		}
		answers <- all.String()
	}()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("child: %v\n%s", err, out)
	}
	ours.file.Close() // lets a client that was not served fail
	other.file.Close()
	if got, want := <-answers, "from the child\nfrom the child\n"; got != want {
		t.Errorf("clients got %q; want %q", got, want)
	}
}

// passedSocket is a listening socket to be passed on.
type passedSocket struct {
	file    *os.File
	address string
}

func passedFile(t *testing.T) passedSocket {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return passedSocket{f, ln.Addr().String()}
}

// servePassed is the child of TestPassedSockets.
func servePassed(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	address, other := os.Getenv("SYSTEMD_TEST_ADDRESS"), os.Getenv("SYSTEMD_TEST_OTHER")
	for range 2 {
		ln, err := s.Listen(address)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "from the child\n")
		c.Close()
		ln.Close()
	}
	if got := s.Unclaimed(); len(got) != 1 || got[0] != other {
		t.Errorf("Unclaimed() = %v; want %s", got, other)
	}
}

func TestPassedSocketsOfOthers(t *testing.T) {
	t.Setenv("LISTEN_FDS", "1")
	for _, pid := range []string{"", "1"} {
		t.Setenv("LISTEN_PID", pid)
		if files, err := passed(); files != nil || err != nil {
			t.Errorf("passed() with LISTEN_PID=%q = %v, %v; want none", pid, files, err)
		}
	}
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	for _, n := range []string{"x", "-1", "100000"} {
		t.Setenv("LISTEN_FDS", n)
		if files, err := passed(); files != nil || err == nil {
			t.Errorf("passed() with LISTEN_FDS=%s = %v, %v; want an error", n, files, err)
		}
	}
}
