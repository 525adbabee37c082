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

// serviceManager plays systemd for one process.
type serviceManager struct {
	t    *testing.T
	conn *net.UnixConn
	log  *logText
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
	binary, folder := buildBinary(t), t.TempDir()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(folder, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	address := ln.Addr().String()
	ln.Close() // the copy stays open, as systemd's does

	file := filepath.Join(folder, "config.yaml")
	text := func(weight int) string {
		return fmt.Sprintf("listen: %s\nadmin:\n  listen: off\nhandoff:\n  delay: 0s\nbackends:\n  - {name: s1, address: 127.0.0.1:1, weight: %d}\n", address, weight)
	}
	replaceFile(t, file, text(1))
	state := filepath.Join(folder, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	m := &serviceManager{t, conn, &logText{}}
	cmd := exec.Command("/bin/sh", "-c", `export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$0" run -config "$1"`, binary, file)
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "WATCHDOG_USEC=100000", "NOTIFY_SOCKET="+filepath.Join(folder, "notify"), "STATE_DIRECTORY="+state)
	cmd.Stdout, cmd.Stderr = m.log, m.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	m.expect("READY=1\nSTATUS=version ")
	m.expect("WATCHDOG=1")
	c, err := net.Dial("tcp", address)
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
	waiting, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatalf("connect while nothing runs: %v; want the socket to outlive the process", err)
	}
	waiting.Close()
}
