//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"stateproxy/internal/farm"
	"stateproxy/stateserver"
)

// serving returns the process that answers at the admin address, 0 if none does.
func serving(adminAt string) int {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	resp, err := client.Get("http://" + adminAt + "/api/v1/status")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	var p process
	if json.NewDecoder(resp.Body).Decode(&p) != nil {
		return 0
	}
	return p.Build.PID
}

// wantExit waits for the process alone: its successor has the log open, too.
func wantExit(t *testing.T, cmd *exec.Cmd, log *logText) {
	t.Helper()
	if state, err := cmd.Process.Wait(); err != nil || !state.Success() {
		t.Errorf("the process ended with %v, %v; want exit 0\n%s", state, err, log)
	}
}

// killServing ends whatever process serves there.
func killServing(adminAt string) {
	if pid := serving(adminAt); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// TestFarmThroughUpgrades replaces the proxy again and again under page traffic,
// in the middle of a handoff.
func TestFarmThroughUpgrades(t *testing.T) {
	s := newProcesses(t, 3)
	file, adminAt := filepath.Join(t.TempDir(), "config.yaml"), freeAddress(t)
	replaceFile(t, file, s.poolText(adminAt, "s1 1 active", "s2 1 active"))
	first := s.start(s.listen, "run", "-config", file)
	t.Cleanup(func() { killServing(adminAt) })
	r := &running{t: t, log: s.log}
	f, err := farm.New(farm.Config{Targets: []string{s.listen}, Workers: 4, Pages: 6, Sessions: farmSessions(t), PagesPerSecond: 600})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- f.Run(ctx) }()
	part := farmTime(t) / 4
	after(ctx, part/2)
	replaceFile(t, file, s.poolText(adminAt, "s1 1 active", "s2 1 active", "s3 2 active"))
	r.logged("routing changed")
	for range 3 {
		var out, errs bytes.Buffer
		if status := runUpgrade(ctx, stdio{&out, &errs}, []string{"-admin", adminAt}); status != exitOK || !strings.Contains(out.String(), "has taken the place of process") {
			t.Fatalf("upgrade: status %d, %q, %q; want success\n%s", status, &out, &errs, s.log)
		}
		if !strings.Contains(r.windows(adminAt), `"ended"`) {
			t.Errorf("no handoff window after an upgrade; want that of the change before\n%s", s.log)
		}
		after(ctx, part)
	}
	stop()
	if err := <-ran; err != nil {
		t.Errorf("farm: %v", err)
	}
	wantExit(t, first, s.log)
	if err := f.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	report := f.Report()
	t.Log(report.Text())
	if !report.OK() || report.PageErrors() != 0 {
		t.Errorf("%d findings of damage, %d page errors; want none\n%s", report.Damage(), report.PageErrors(), s.log)
	}
	r.eventually("three former processes have ended", func() bool { return strings.Count(s.log.String(), "the former process has ended") == 3 })
	if strings.Contains(s.log.String(), "cut off") {
		t.Errorf("requests were cut off:\n%s", s.log)
	}
}

// windows returns the status of the pools.
func (r *running) windows(adminAt string) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + adminAt + "/api/v1/status")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var s struct {
		Pools json.RawMessage `json:"pools"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		r.t.Fatal(err)
	}
	return string(s.Pools)
}

// TestUpgradeThatFails tries for successors that do not come to serve. The process
// goes on each time.
func TestUpgradeThatFails(t *testing.T) {
	server := stateserver.RunT(t)
	binary := buildBinary(t)
	tests := []struct {
		name, program string
		limit         time.Duration
		bad           bool // the config file, by then
		want          string
	}{
		{"not there", "/nowhere/stateproxy", time.Minute, false, "start /nowhere/stateproxy"},
		{"crashes", "exit 3", time.Minute, false, "ended before it was ready: exit status 3"},
		{"ends well", "exit 0", time.Minute, false, "ended before it was ready: exit status 0"},
		{"hangs", "exec sleep 1000", 300 * time.Millisecond, false, "is not ready: context deadline exceeded"},
		{"refuses its config", binary, time.Minute, true, "ended before it was ready: exit status 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file, program := filepath.Join(t.TempDir(), "config.yaml"), tt.program
			replaceFile(t, file, text(server))
			if !strings.Contains(program, "/") {
				program = filepath.Join(t.TempDir(), "new")
				if err := os.WriteFile(program, []byte("#!/bin/sh\n"+tt.program+"\n"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			r := runAppFile(t, file, func(a *app) {
				a.upgrade.program, a.upgrade.args, a.upgrade.limit = program, []string{"run", "-config", file}, tt.limit
			})
			if tt.bad {
				replaceFile(t, r.file, "listen: nonsense")
				r.logged("config refused")
			}
			var out, errs bytes.Buffer
			status := runUpgrade(t.Context(), stdio{&out, &errs}, []string{"-admin", r.app.adminAddress()})
			if status != exitError || !strings.Contains(errs.String(), tt.want) {
				t.Errorf("upgrade: status %d, %q; want %q", status, &errs, tt.want)
			}
			r.logged("upgrade failed: this process serves on", tt.want)
			if got := r.ask(putOne); got != "200 OK" {
				t.Errorf("PUT after it = %q; want 200 OK", got)
			}
			if _, body := r.get("/api/v1/events"); !strings.Contains(body, `"upgrade_failed"`) {
				t.Errorf("events = %s; want upgrade_failed", body)
			}
		})
	}
}

// TestUpgradeUnderServiceManager holds that the manager hears which process is the
// service now, and that its socket is passed on as its own.
func TestUpgradeUnderServiceManager(t *testing.T) {
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
	listen, adminAt := ln.Addr().String(), freeAddress(t)
	ln.Close()
	file := filepath.Join(folder, "config.yaml")
	replaceFile(t, file, "listen: "+listen+"\nadmin: {listen: '"+adminAt+"'}\nbackends:\n  - {name: s1, address: 127.0.0.1:1}\n")
	log := &logText{}
	cmd := exec.Command("/bin/sh", "-c", `export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$0" run -config "$1"`, binary, file)
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "WATCHDOG_USEC=60000000", "NOTIFY_SOCKET="+filepath.Join(folder, "notify"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	t.Cleanup(func() { killServing(adminAt) })
	r := &running{t: t, log: log}
	r.eventually("the proxy serves", func() bool { return serving(adminAt) != 0 })
	cmd.Process.Signal(syscall.SIGUSR2)
	wantExit(t, cmd, log)
	r.logged("the former process has ended")
	now := serving(adminAt)
	var heard []string
	b := make([]byte, 4096)
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for strings.Count(strings.Join(heard, "\n"), "READY=1") < 3 {
		n, err := conn.Read(b)
		if err != nil {
			t.Fatalf("the manager has heard %q, %v; want READY of the old process, of the new one, and of the new one when it is alone", heard, err)
		}
		heard = append(heard, string(b[:n]))
	}
	all := strings.Join(heard, "\n")
	if want := "MAINPID=" + strings.TrimSpace(jsonText(now)); !strings.Contains(all, want) || strings.Contains(all, "STOPPING=1") {
		t.Errorf("the manager has heard %q; want %s, and no STOPPING", all, want)
	}
	if strings.Contains(log.String(), "does not name") {
		t.Errorf("a socket is taken for unclaimed:\n%s", log)
	}
}

func jsonText(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
