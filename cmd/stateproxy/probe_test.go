package main

import (
	"encoding/json"
	"flag"
	"io"
	"strings"
	"testing"

	"stateproxy/internal/probe"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

func TestProbeCommand(t *testing.T) {
	s := stateserver.RunT(t)
	const nobody = "127.0.0.1:1"
	tests := []struct {
		name   string
		args   []string
		status int
		out    string // part of it
		err    string // likewise
	}{
		{"good", []string{s.Addr(), "-idle", "0", "-slow", "1m"}, exitOK, "is good: 0 failures, 0 warnings", ""},
		{"connection string", []string{"-idle", "0", "tcpip=" + s.Addr()}, exitOK, "second lock", ""},
		{"idle", []string{"-idle=1ms", s.Addr()}, exitOK, "still good after 1ms", ""},
		{"nobody", []string{nobody}, exitError, "nothing listens on port", ""},
		{"verdict", []string{nobody}, exitError, nobody + " is NOT GOOD: 1 failure", ""},
		{"no address", nil, exitUsage, "", "want ADDRESS"},
		{"two addresses", []string{nobody, nobody}, exitUsage, "", "unexpected argument"},
		{"bad address", []string{"http://x"}, exitUsage, "", "want host:port"},
		{"bad flag", []string{"-x", nobody}, exitUsage, "", "-x"},
		{"bad timeout", []string{"-timeout", "0s", nobody}, exitUsage, "", "-timeout"},
		{"CA without TLS", []string{nobody, "-ca", "x"}, exitUsage, "", "want -tls beside"},
		{"certificate without key", []string{nobody, "-tls", "-cert", "x"}, exitUsage, "", "-cert and -key together"},
		{"absent CA", []string{nobody, "-tls", "-ca", "absent.pem"}, exitUsage, "", "absent.pem"},
		{"TLS to a state server", []string{s.Addr(), "-tls"}, exitError, "tls", ""},
		{"help", []string{"-h"}, exitOK, "tcpip=host:port", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, out, errText := run(append([]string{"probe"}, tt.args...)...)
			if status != tt.status || !strings.Contains(out, tt.out) || !strings.Contains(errText, tt.err) {
				t.Errorf("probe %v = %d\nstdout: %s\nstderr: %s\nwant %d with %q and %q", tt.args, status, out, errText, tt.status, tt.out, tt.err)
			}
		})
	}
	if n := s.Len(); n != 0 {
		t.Errorf("%d sessions left on the server; want none", n)
	}
}

func TestProbeJSON(t *testing.T) {
	s := stateserver.RunT(t)
	status, out, _ := run("probe", "-json", "-idle", "0", s.Addr())
	var r probe.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("probe -json: %v\n%s", err, out)
	}
	if status != exitOK || !r.OK || r.Address != s.Addr() || len(r.Steps) < 10 {
		t.Errorf("probe -json = %d, %+v; want a good report", status, r)
	}
}

// TestProbeThroughProxy: a proxy passes the probe as a state server does.
func TestProbeThroughProxy(t *testing.T) {
	s1, s2 := stateserver.RunT(t), stateserver.RunT(t)
	r := runApp(t, text(s1, s2))
	if status, out, _ := run("probe", "-idle", "0", "-app", "/LM/W3SVC/2/ROOT", r.app.address()); status != exitOK {
		t.Errorf("probe = %d\n%s", status, out)
	}
	removed := s1.Stats().Requests[wire.OpRemove].OK + s2.Stats().Requests[wire.OpRemove].OK
	if removed != 1 {
		t.Errorf("%d sessions were removed; want the probe's own", removed)
	}
}

func TestParseOne(t *testing.T) {
	tests := []struct {
		name string
		args []string
		arg  string
		ok   bool
	}{
		{"alone", []string{"a"}, "a", true},
		{"first", []string{"a", "-n", "1", "-b"}, "a", true},
		{"last", []string{"-n", "1", "-b", "a"}, "a", true},
		{"between", []string{"-b", "a", "-n=1"}, "a", true},
		{"missing", []string{"-n", "1"}, "", false},
		{"value missing", []string{"a", "-n"}, "a", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fs := flag.NewFlagSet("x", flag.ContinueOnError)
			fs.Int("n", 0, "")
			fs.Bool("b", false, "")
			fs.SetOutput(io.Discard)
			arg, _, ok := parseOne(stdio{io.Discard, io.Discard}, fs, tt.args, "ARG")
			if arg != tt.arg || ok != tt.ok {
				t.Errorf("parseOne(%v) = %q, %v; want %q, %v", tt.args, arg, ok, tt.arg, tt.ok)
			}
		})
	}
}
