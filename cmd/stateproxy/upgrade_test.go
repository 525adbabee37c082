//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"stateproxy/internal/certtest"
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
	f := s.startFarm()
	ctx := t.Context()
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
	f.stop()
	wantExit(t, first, s.log)
	f.wantNoLoss()
	r.eventually("three former processes have ended", func() bool { return strings.Count(s.log.String(), "the former process has ended") == 3 })
	if strings.Contains(s.log.String(), "cut off") {
		t.Errorf("requests were cut off:\n%s", s.log)
	}
}

// TestFarmThroughUpgradesOverTLS replaces a proxy beside the web servers and a
// central one, which speak mutual TLS, in turn, each time with a new certificate,
// under page traffic.
func TestFarmThroughUpgradesOverTLS(t *testing.T) {
	s := newProcesses(t, 2)
	folder, ca := t.TempDir(), certtest.NewCA("farm")
	at := func(name string) string { return filepath.Join(folder, name) }
	issue := func() {
		p := ca.Issue(certtest.Leaf{Hosts: []string{"127.0.0.1"}})
		replaceFile(t, at("own.pem"), string(p.CertPEM()))
		replaceFile(t, at("own.key"), string(p.KeyPEM()))
	}
	issue()
	replaceFile(t, at("ca.pem"), string(ca.PEM()))
	central, edge, adminAt := s.listen, freeAddress(t), [2]string{freeAddress(t), freeAddress(t)}
	replaceFile(t, at("central.yaml"), strings.Replace(s.poolText(adminAt[0], "s1 1 active", "s2 1 active"), "listen: "+central,
		"listen: [{address: \""+central+"\", tls: {cert_file: own.pem, key_file: own.key, client_ca_file: ca.pem}}]", 1))
	s.address["c1"], s.listen = central, edge
	replaceFile(t, at("edge.yaml"), "backend_tls: {cert_file: own.pem, key_file: own.key, ca_file: ca.pem}\n"+
		strings.Replace(s.poolText(adminAt[1], "c1 1 active"), "{name: c1,", "{name: c1, tls: true,", 1))
	var first [2]*exec.Cmd
	for i, listen := range []string{central, edge} {
		first[i] = s.start(listen, "run", "-config", at([]string{"central.yaml", "edge.yaml"}[i]))
		t.Cleanup(func() { killServing(adminAt[i]) })
	}
	f := s.startFarm()
	for round := range 6 {
		after(t.Context(), farmTime(t)/8)
		issue()
		var out, errs bytes.Buffer
		if status := runUpgrade(t.Context(), stdio{&out, &errs}, []string{"-admin", adminAt[round%2]}); status != exitOK {
			t.Fatalf("upgrade: status %d, %q, %q; want success\n%s", status, &out, &errs, s.log)
		}
	}
	after(t.Context(), farmTime(t)/8)
	f.stop()
	for _, cmd := range first {
		wantExit(t, cmd, s.log)
	}
	f.wantNoLoss()
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
