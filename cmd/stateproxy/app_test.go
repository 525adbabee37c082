package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"stateproxy/internal/config"
	"stateproxy/stateserver"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("stateproxy/internal/sock.(*Worker).run"))
}

// logText is a log that can be read while it is written.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// running is an app that a test runs.
type running struct {
	t    *testing.T
	app  *app
	file string
	log  *logText
	stop func() // ends it in order and waits
}

// runApp runs an app with the config text in a file of its own.
func runApp(t *testing.T, text string, prepare ...func(*app)) *running {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	replaceFile(t, file, text)
	return runAppFile(t, file, prepare...)
}

// runAppFile runs an app with the config file, and what is to be done to it first.
func runAppFile(t *testing.T, file string, prepare ...func(*app)) *running {
	t.Helper()
	r := &running{t: t, file: file, log: &logText{}}
	c, raw, err := config.Load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.app = newApp(c, r.file, raw, zerolog.New(zerolog.SyncWriter(r.log)))
	for _, p := range prepare {
		p(r.app)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.app.run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run() = %v", err)
		}
	})
	t.Cleanup(r.stop)
	select {
	case <-r.app.started:
	case err := <-ended:
		t.Fatalf("run() = %v", err)
	}
	return r
}

// logged waits for a log line that holds all of the texts.
func (r *running) logged(texts ...string) {
	r.t.Helper()
	r.eventually("a log line with "+strings.Join(texts, ", "), func() bool { return r.hasLogged(texts...) })
}

// hasLogged reports whether a log line holds all of the texts.
func (r *running) hasLogged(texts ...string) bool {
	for line := range strings.Lines(r.log.String()) {
		all := true
		for _, text := range texts {
			all = all && strings.Contains(line, text)
		}
		if all {
			return true
		}
	}
	return false
}

func (r *running) eventually(what string, ok func() bool) {
	r.t.Helper()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-limit:
			r.t.Fatalf("did not see %s; log:\n%s", what, r.log)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// get asks the admin listener.
func (r *running) get(path string) (status int, body string) {
	r.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + r.app.adminAddress() + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// ask sends a request to the proxy and returns the answer's first line.
func (r *running) ask(request string) string {
	r.t.Helper()
	c, err := net.Dial("tcp", r.app.address())
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, request)
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil {
		r.t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b[:n]), "\r\n")
	return line
}

const (
	aSession = "%2fLM%2fW3SVC%2f2%2fROOT(oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5%2fHxWS854%3d)%2fbpr4mimb2vjnvtn2jc4yp3uo"
	putOne   = "PUT " + aSession + " HTTP/1.1\r\nHost: localhost\r\nTimeout:20\r\nContent-Length:7\r\nExtraFlags:0\r\n\r\n\x14\x00\x00\x00\x00\x00\xff"
	getOne   = "GET " + aSession + " HTTP/1.1\r\nHost: localhost\r\n\r\n"
)

func text(servers ...*stateserver.Server) string {
	var b strings.Builder
	b.WriteString("listen: 127.0.0.1:0\nadmin:\n  listen: 127.0.0.1:0\nhandoff:\n  delay: 0s\nhealth:\n  interval: 100ms\n  timeout: 100ms\n  hold_down: 0s\nbackends:\n")
	for i, s := range servers {
		fmt.Fprintf(&b, "  - name: s%d\n    address: %s\n", i+1, s.Addr())
	}
	return b.String()
}

func TestAppRoutesAndReloads(t *testing.T) {
	s1, s2 := stateserver.RunT(t), stateserver.RunT(t)
	r := runApp(t, text(s1))
	if got := r.ask(putOne); got != "200 OK" {
		t.Fatalf("PUT = %q; want 200 OK", got)
	}
	replaceFile(t, r.file, text(s1, s2))
	r.logged("config reloaded", "s2 added", `"moved_share":{"default":0.5}`)
	if got := r.ask(getOne); got != "200 OK" {
		t.Errorf("GET after the reload = %q; want 200 OK", got)
	}
	if status, body := r.get("/readyz"); status != 200 {
		t.Errorf("/readyz = %d %s", status, body)
	}
	if _, body := r.get("/metrics"); !strings.Contains(body, "stateproxy_requests_total") {
		t.Errorf("/metrics has no stateproxy_requests_total")
	}
	if strings.Contains(r.log.String(), "bpr4mimb2vjnvtn2jc4yp3uo") {
		t.Error("the log holds a session ID")
	}
	r.stop()
	r.logged("draining")
	r.logged("stopped")
}

func TestAppTellsOfRemovedBackendsThatItKeeps(t *testing.T) {
	s1, s2 := stateserver.RunT(t), stateserver.RunT(t)
	r := runApp(t, text(s1, s2))
	replaceFile(t, r.file, text(s1))
	r.logged("backend removed, but kept as former owner", `"backend":"s2"`, `"address":"`+s2.Addr()+`"`, `"until":"20`)
	if _, body := r.get("/api/v1/events"); strings.Count(body, "it may still hold sessions, until 20") != 1 {
		t.Errorf("events = %s; want one that tells of s2", body)
	}
	replaceFile(t, r.file, text(s1)+"log:\n  level: debug\n")
	r.logged("config reloaded", "debug")
	if got := strings.Count(r.log.String(), "kept as former owner"); got != 1 {
		t.Errorf("told of it %d times; want once", got)
	}
}

func TestAppKeepsTheOldConfigWhenTheNewIsBad(t *testing.T) {
	s1 := stateserver.RunT(t)
	r := runApp(t, text(s1))
	for name, bad := range map[string]string{
		"syntax":       "listen: [",
		"unknown key":  text(s1) + "bakends: 3\n",
		"taken listen": strings.Replace(text(s1), "listen: 127.0.0.1:0", "listen: "+s1.Addr(), 1),
	} {
		t.Run(name, func(t *testing.T) {
			before := strings.Count(r.log.String(), "config refused")
			replaceFile(t, r.file, bad)
			r.eventually("a refusal", func() bool { return strings.Count(r.log.String(), "config refused") > before })
			if got := r.ask(putOne); got != "200 OK" {
				t.Errorf("PUT = %q; want 200 OK", got)
			}
		})
	}
	if _, body := r.get("/api/status"); !strings.Contains(body, "refused") {
		t.Errorf("status says nothing of the refusal: %s", body)
	}
}

func TestAppEjectsAndReadmits(t *testing.T) {
	s1, s2 := stateserver.RunT(t), stateserver.RunT(t)
	address := s2.Addr()
	r := runApp(t, text(s1, s2))
	s2.Close()
	r.logged("backend ejected", `"backend":"s2"`, "refused")
	if got := r.ask(putOne); got != "200 OK" {
		t.Errorf("PUT with one of two backends = %q; want 200 OK", got)
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	again := &stateserver.Server{}
	var wg sync.WaitGroup
	wg.Go(func() { again.Serve(ln) })
	defer wg.Wait()
	defer again.Close()
	r.logged("backend readmitted", `"backend":"s2"`)
	if got := r.ask(getOne); got != "200 OK" {
		t.Errorf("GET after the readmission = %q; want 200 OK", got)
	}
}

func TestAppMovesItsListener(t *testing.T) {
	s1 := stateserver.RunT(t)
	port := freeAddress(t)
	r := runApp(t, text(s1))
	old := r.app.address()
	replaceFile(t, r.file, strings.Replace(text(s1), "listen: 127.0.0.1:0", "listen: "+port, 1))
	r.logged("config reloaded")
	if got := r.app.address(); got != port {
		t.Fatalf("listens on %s; want %s", got, port)
	}
	if got := r.ask(putOne); got != "200 OK" {
		t.Errorf("PUT = %q; want 200 OK", got)
	}
	if c, err := net.Dial("tcp", old); err == nil {
		c.Close()
		t.Errorf("still listens on the old address")
	}
}

// What the admin listener goes by follows a reload.
func TestAppReloadsAdminSettings(t *testing.T) {
	s1, s2 := stateserver.RunT(t), stateserver.RunT(t)
	config := func(settings string) string {
		return strings.Replace(text(s1, s2), "admin:\n", "admin:\n"+settings, 1)
	}
	r := runApp(t, config("  min_up: 100%\n"))
	s2.Close()
	r.logged("backend ejected")
	if status, body := r.get("/readyz"); status != 503 || !strings.Contains(body, "1 of 2 backends are up, want 100%") {
		t.Errorf("/readyz = %d %s; want 503, for one is down", status, body)
	}
	if got := r.adminStatus("farm.example"); got != http.StatusMisdirectedRequest {
		t.Errorf("GET /healthz at an unknown host = %d; want %d", got, http.StatusMisdirectedRequest)
	}
	replaceFile(t, r.file, config("  min_up: 50%\n  hosts: [farm.example]\n"))
	r.logged("config reloaded", "admin.min_up 100% -> 50%", "admin.hosts none -> farm.example")
	if status, body := r.get("/readyz"); status != 200 {
		t.Errorf("/readyz = %d %s; want 200", status, body)
	}
	if got := r.adminStatus("farm.example"); got != http.StatusOK {
		t.Errorf("GET /healthz at a host of the config = %d; want 200", got)
	}
}

// adminStatus asks the admin listener for /healthz as if it had that name.
func (r *running) adminStatus(host string) int {
	r.t.Helper()
	req, err := http.NewRequest("GET", "http://"+r.app.adminAddress()+"/healthz", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = host
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestAppRemembersHandoffsOverARestart(t *testing.T) {
	s1, s2 := stateserver.RunT(t), stateserver.RunT(t)
	r := runApp(t, text(s1))
	if got := r.ask(putOne); got != "200 OK" {
		t.Fatalf("PUT = %q; want 200 OK", got)
	}
	replaceFile(t, r.file, text(s1, s2))
	r.logged("config reloaded")
	r.stop()
	again := runAppFile(t, r.file)
	again.logged("handoffs under way restored")
	if got := again.ask(getOne); got != "200 OK" {
		t.Errorf("GET after the restart = %q; want 200 OK", got)
	}
	again.stop()
	if err := os.WriteFile(r.file+".state", []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	third := runAppFile(t, r.file)
	third.logged("state file not used", "set aside")
	if got := third.ask(putOne); got != "200 OK" {
		t.Errorf("PUT after a damaged state file = %q; want 200 OK", got)
	}
}

func run(args ...string) (status int, out, errText string) {
	var o, e logText
	status = dispatch(context.Background(), stdio{&o, &e}, args)
	return status, o.String(), e.String()
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(good, "backends:\n  - name: s1\n    address: 10.0.0.11:42424\n")
	write(bad, "backends:\n  - name: s1\n    address: 10.0.0.11:42424\n    weight: 0\ntypo: 1\n")
	tests := []struct {
		name   string
		args   []string
		status int
		out    string // part of it
		err    string // likewise
	}{
		{"nothing", nil, exitUsage, "", "usage: stateproxy"},
		{"help", []string{"--help"}, exitOK, "healthcheck", ""},
		{"unknown", []string{"rum"}, exitUsage, "", `no subcommand "rum"`},
		{"version", []string{"version"}, exitOK, "stateproxy dev commit", ""},
		{"unknown flag", []string{"version", "-x"}, exitUsage, "", "-x"},
		{"flag help", []string{"run", "-h"}, exitOK, "-config", ""},
		{"extra argument", []string{"check", "-config", good, "more"}, exitUsage, "", `"more"`},
		{"check without file", []string{"check"}, exitUsage, "", "-config"},
		{"check good", []string{"check", "-config", good}, exitOK, "1 backend", ""},
		{"check bad", []string{"check", "-config", bad}, exitError, "", bad + ":4:13: backends[0].weight"},
		{"check bad, second problem", []string{"check", "-config", bad}, exitError, "", "typo"},
		{"check absent", []string{"check", "-config", filepath.Join(dir, "no.yaml")}, exitError, "", "no.yaml"},
		{"run bad", []string{"run", "-config", bad}, exitError, "", bad + ":4:13"},
		{"server bad address", []string{"server", "-listen", "nowhere"}, exitError, "", "nowhere"},
		{"server bad size", []string{"server", "-max-memory", "2"}, exitUsage, "", "want a size"},
		{"farm without target", []string{"farm"}, exitUsage, "", "-target"},
		{"farm bad target", []string{"farm", "-target", "x"}, exitUsage, "", "host:port"},
		{"demo bad servers", []string{"demo", "-servers", "0"}, exitUsage, "", "1..100"},
		{"healthcheck nobody", []string{"healthcheck", "-admin", "127.0.0.1:1"}, exitError, "", "refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, out, errText := run(tt.args...)
			if status != tt.status || !strings.Contains(out, tt.out) || !strings.Contains(errText, tt.err) {
				t.Errorf("%v = %d\nstdout: %s\nstderr: %s\nwant %d with %q and %q", tt.args, status, out, errText, tt.status, tt.out, tt.err)
			}
		})
	}
}
