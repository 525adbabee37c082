package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serviceManager plays systemd for one process: it passes a socket on and hears
// what the process says.
type serviceManager struct {
	t       *testing.T
	folder  string
	conn    *net.UnixConn
	socket  *os.File
	address string // of the socket
	log     *logText
}

func newServiceManager(t *testing.T) *serviceManager {
	t.Helper()
	m := &serviceManager{t: t, folder: t.TempDir(), log: &logText{}}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(m.folder, "notify"), Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.conn.Close() })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // the copy stays open, as systemd's does
	if m.socket, err = ln.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.socket.Close() })
	m.address = ln.Addr().String()
	return m
}

// start has the proxy run by the config file.
func (m *serviceManager) start(file string, watchdog time.Duration, env ...string) *exec.Cmd {
	m.t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$0" run -config "$1"`, buildBinary(m.t), file)
	cmd.ExtraFiles = []*os.File{m.socket}
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds()), "NOTIFY_SOCKET="+filepath.Join(m.folder, "notify"))
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = m.log, m.log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	return cmd
}

// expect waits for a message that begins with start. Signs of life may come in
// between.
func (m *serviceManager) expect(start string) {
	m.t.Helper()
	b := make([]byte, 4096)
	m.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		n, err := m.conn.Read(b)
		if err != nil {
			m.t.Fatalf("manager waits for %q: %v\n%s", start, err, m.log)
		}
		got := string(b[:n])
		if strings.HasPrefix(got, start) {
			return
		}
		if got != "WATCHDOG=1" {
			m.t.Fatalf("manager heard %q; want %q\n%s", got, start, m.log)
		}
	}
}

// TestUnderServiceManager runs the binary as systemd would: with a socket passed
// on, a watchdog, and an ear for what it says.
func TestUnderServiceManager(t *testing.T) {
	m := newServiceManager(t)
	file := filepath.Join(m.folder, "config.yaml")
	text := func(weight int) string {
		return fmt.Sprintf("listen: %s\nadmin:\n  listen: off\nhandoff:\n  delay: 0s\nbackends:\n  - {name: s1, address: 127.0.0.1:1, weight: %d}\n", m.address, weight)
	}
	replaceFile(t, file, text(1))
	state := filepath.Join(m.folder, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := m.start(file, 100*time.Millisecond, "STATE_DIRECTORY="+state)
	defer cmd.Process.Kill()
	m.expect("READY=1\nSTATUS=version ")
	m.expect("WATCHDOG=1")
	c, err := net.Dial("tcp", m.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	replaceFile(t, file, text(2))
	cmd.Process.Signal(syscall.SIGHUP)
	m.expect("RELOADING=1\nMONOTONIC_USEC=")
	m.expect("READY=1\n")
	replaceFile(t, file, "listen: nonsense")
	cmd.Process.Signal(syscall.SIGHUP)
	m.expect("RELOADING=1\n")
	m.expect("READY=1\n")
	cmd.Process.Signal(syscall.SIGTERM)
	m.expect("STOPPING=1\n")
	if err := cmd.Wait(); err != nil {
		t.Errorf("process ended with %v; want exit 0\n%s", err, m.log)
	}
	if _, err := os.Stat(filepath.Join(state, "config.yaml.state")); err != nil {
		t.Errorf("state file: %v; want it in the state directory", err)
	}
	// The next process would find whoever connects meanwhile.
	waiting, err := net.Dial("tcp", m.address)
	if err != nil {
		t.Fatalf("connect while nothing runs: %v; want the socket to outlive the process", err)
	}
	waiting.Close()
}

// TestUpgradeUnderServiceManager holds that the manager hears which process is the
// service now, and that its socket is passed on as its own.
func TestUpgradeUnderServiceManager(t *testing.T) {
	m := newServiceManager(t)
	adminAt := freeAddress(t)
	file := filepath.Join(m.folder, "config.yaml")
	replaceFile(t, file, "listen: "+m.address+"\nadmin: {listen: '"+adminAt+"'}\nbackends:\n  - {name: s1, address: 127.0.0.1:1}\n")
	cmd := m.start(file, time.Minute)
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	t.Cleanup(func() { killServing(adminAt) })
	r := &running{t: t, log: m.log}
	r.eventually("the proxy serves", func() bool { return serving(adminAt) != 0 })
	cmd.Process.Signal(syscall.SIGUSR2)
	wantExit(t, cmd, m.log)
	r.logged("the former process has ended")
	now := serving(adminAt)
	var heard []string
	b := make([]byte, 4096)
	m.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for strings.Count(strings.Join(heard, "\n"), "READY=1") < 3 {
		n, err := m.conn.Read(b)
		if err != nil {
			t.Fatalf("the manager has heard %q, %v; want READY of the old process, of the new one, and of the new one when it is alone", heard, err)
		}
		heard = append(heard, string(b[:n]))
	}
	all := strings.Join(heard, "\n")
	if want := fmt.Sprintf("MAINPID=%d", now); !strings.Contains(all, want) || strings.Contains(all, "STOPPING=1") {
		t.Errorf("the manager has heard %q; want %s, and no STOPPING", all, want)
	}
	if strings.Contains(m.log.String(), "does not name") {
		t.Errorf("a socket is taken for unclaimed:\n%s", m.log)
	}
}
