package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stateproxy/stateserver"
)

// adminServer is an admin listener that answers path with text, if the request
// bears the token; "" wants none.
func adminServer(t *testing.T, path, token, text string) (address string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != path:
			http.NotFound(w, r)
		case token != "" && r.Header.Get("Authorization") != "Bearer "+token:
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, `{"error":"a token is wanted","code":"token_needed"}`)
		default:
			io.WriteString(w, text)
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// troubled is the status of a proxy with all kinds of trouble.
const troubled = `{"version":1,"time":"2026-03-04T05:06:07Z","build":{"version":"1.2.0"},"uptime_seconds":90061,"ready":false,
"verdict":{"level":"error","since":"2026-03-04T05:04:07Z","findings":[
 {"level":"error","kind":"backend_down","backend":"s1","text":"out of service: 3 probes failed in a row","since":"2026-03-04T05:04:07Z"},
 {"level":"warn","kind":"refused_config","text":"the config file was refused:\nc.yaml:4:13: weight\nc.yaml:5:1: typo"}]},
"config":{"file":"c.yaml","loaded_at":"2026-03-04T04:06:07Z","last_load":{"at":"2026-03-04T05:05:57Z","ok":false,"error":"c.yaml:4:13: weight\nc.yaml:5:1: typo"}},
"clients":{"connections":12,"refused":3},"requests":{"in_flight":2,"total":4711},
"pools":[{"name":"shop","applications":["/LM/W3SVC/2/*"],"fingerprint":"0abc","owners":[],"next":{"at":"2026-03-04T05:06:17Z","moved":0.5}},
 {"name":"default","fingerprint":"0def","owners":[{"backend":"s2","share":1}],"windows":[{"ended":"2026-03-04T05:00:07Z","until":"2026-03-04T05:20:07Z","moved":0.25}]}],
"backends":[{"name":"s1","address":"10.0.0.1:42424","weight":1,"state":"down","connections":{"open":1},
  "health":{"since":"2026-03-04T05:04:07Z","reason":"3 probes failed in a row","hold_down_until":"2026-03-04T05:06:37Z","ejections":2}},
 {"name":"s2","address":"10.0.0.2:42424","weight":2,"state":"up","health":{"kept":true,"reason":"kept in service"}}],
"evacuations":[{"backend":"s3","moved":7,"left":2,"failed":1,"blind_until":"2026-03-04T05:16:07Z"},{"backend":"s4","safe":true}]}`

func TestStatusTable(t *testing.T) {
	status, out, errText := run("status", "-admin", adminServer(t, "/api/v1/status", "", troubled))
	if status != exitError || errText != "" {
		t.Errorf("status = %d, stderr %q; want %d, nothing", status, errText, exitError)
	}
	if first, _, _ := strings.Cut(out, "\n"); first != "NOT READY" {
		t.Errorf("first line = %q; want the verdict", first)
	}
	for _, want := range []string{
		"\n  error  backend_down      s1: out of service: 3 probes failed in a row; since ", "(2m00s ago)\n",
		"\n  warn   refused_config    the config file was refused:; since -\n                           c.yaml:4:13: weight\n                           c.yaml:5:1: typo\n",
		"stateproxy 1.2.0, up 25h01m; client connections: 12 open, 3 refused; requests: 4711, 2 in flight\n",
		"BACKEND  ADDRESS         STATE        WEIGHT  SINCE  CONNS  BUSY  WAITING  PROBE MS  EJECTED  WHY\n",
		"s1       10.0.0.1:42424  down         1       2m00s  1      0     0        0.0       2        3 probes failed in a row; back in 30s at the earliest\n",
		"up, failing  2 ",
		"shop     /LM/W3SVC/2/*  0abc         NO BACKEND\n",
		"default  all others     0def         s2 100.0%\n",
		"handoff in pool default: 25.0% of the sessions",
		"open for another 14m00s\n",
		"to come in pool shop in 10s: 50.0% of the sessions",
		"emptying s3: 7 sessions moved, 2 left, 1 failed; some may be there unknown for another 10m00s\n",
		"emptying s4: 0 sessions moved, 0 left, 0 failed; it may be shut down\n",
		"config c.yaml in force since ", "(1h00m ago)",
		"  the file was refused ", "(10s ago), see above\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the table has no %q:\n%s", want, out)
		}
	}
}

// TestStatusOfARealProxy holds what the table reads against what a proxy says.
func TestStatusOfARealProxy(t *testing.T) {
	s1, s2 := stateserver.RunT(t), stateserver.RunT(t)
	r := runApp(t, text(s1))
	r.ask(putOne)
	replaceFile(t, r.file, text(s1, s2))
	r.logged("config reloaded", "s2 added")
	var out string
	r.eventually("a proxy that is well", func() bool {
		var status int
		status, out, _ = run("status", "-admin", r.app.adminAddress())
		return status == exitOK && strings.HasPrefix(out, "WELL")
	})
	for _, want := range []string{"stateproxy dev", "s2       " + s2.Addr(), "config " + r.file, "s2 added", "requests: 1, 0 in flight", "first probe passed"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table has no %q:\n%s", want, out)
		}
	}
	s2.Close()
	r.logged("backend ejected", `"backend":"s2"`)
	status, out, _ := run("status", "-admin", r.app.adminAddress())
	if status != exitOK || !strings.HasPrefix(out, "ATTENTION: it is ready, but not all is well\n  error  backend_down      s2: out of service: ") {
		t.Errorf("status = %d\n%s\nwant %d and a word on s2", status, out, exitOK)
	}
	if status, out, _ = run("status", "-json", "-admin", r.app.adminAddress()); status != exitOK || !strings.HasPrefix(out, "{\n  \"version\": 1,") {
		t.Errorf("status -json = %d\n%s", status, out)
	}
}

func TestStatusErrors(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	guarded := adminServer(t, "/api/v1/status", "s3cret", `{"version":1,"ready":true,"verdict":{"level":"info"}}`)
	tests := []struct {
		name   string
		args   []string
		status int
		out    string // part of it
		err    string // likewise
	}{
		{"nobody", []string{"-admin", "127.0.0.1:1"}, exitError, "", "refused"},
		{"no token", []string{"-admin", guarded}, exitError, "", "401 Unauthorized: a token is wanted\n"},
		{"token", []string{"-admin", guarded, "-token-file", token}, exitOK, "WELL", ""},
		{"no token file", []string{"-admin", guarded, "-token-file", token + "x"}, exitError, "", "token"},
		{"no JSON", []string{"-admin", adminServer(t, "/api/v1/status", "", "<html>")}, exitError, "", "read status"},
		{"later version", []string{"-admin", adminServer(t, "/api/v1/status", "", `{"version":2}`)}, exitError, "", "want version 1, got 2"},
		{"too often", []string{"-every", "1ms"}, exitUsage, "", "-every"},
		{"argument", []string{"x"}, exitUsage, "", `"x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, out, errText := run(append([]string{"status"}, tt.args...)...)
			if status != tt.status || !strings.Contains(out, tt.out) || !strings.Contains(errText, tt.err) {
				t.Errorf("status %v = %d\nstdout: %s\nstderr: %s\nwant %d with %q and %q", tt.args, status, out, errText, tt.status, tt.out, tt.err)
			}
			if strings.Contains(out+errText, "s3cret") {
				t.Error("the token is shown")
			}
		})
	}
}

func TestStatusWatch(t *testing.T) {
	address := adminServer(t, "/api/v1/status", "", troubled)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs logText
	ended := make(chan int, 1)
	go func() {
		ended <- dispatch(ctx, stdio{&out, &errs}, []string{"status", "-watch", "-json", "-every", "100ms", "-admin", address})
	}()
	for limit := time.After(20 * time.Second); strings.Count(out.String(), "{\"version\":1,") < 2; {
		select {
		case <-limit:
			t.Fatalf("did not see two statuses:\n%s\n%s", &out, &errs)
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	if status := <-ended; status != exitOK || errs.String() != "" {
		t.Errorf("status -watch = %d, stderr %q; want %d, nothing", status, errs.String(), exitOK)
	}
}

func TestAgo(t *testing.T) {
	tests := []struct {
		in   time.Duration
		want string
	}{
		{-time.Second, "0s"},
		{59900 * time.Millisecond, "59s"},
		{61 * time.Second, "1m01s"},
		{time.Hour, "1h00m"},
		{47*time.Hour + 59*time.Minute, "47h59m"},
		{49 * time.Hour, "2d01h"},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			if got := ago(tt.in); got != tt.want {
				t.Errorf("ago(%v) = %q; want %q", tt.in, got, tt.want)
			}
		})
	}
}
