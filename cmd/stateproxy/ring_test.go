package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stateproxy/stateserver"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

// secret stands for a session ID, which must not be shown anywhere.
const secret = "bpr4mimb2vjnvtn2jc4yp3uo"

// runRingWith runs a ring subcommand with something on its standard input.
func runRingWith(in string, args ...string) (status int, out, errText string) {
	var o, e logText
	std := stdio{out: &o, err: &e}
	if args[0] == "where" {
		status = locate(context.Background(), std, strings.NewReader(in), args[1:])
	} else {
		status = runRing(context.Background(), std, args)
	}
	return status, o.String(), e.String()
}

func TestRingGolden(t *testing.T) {
	const oldFile, newFile, plain, wider = "testdata/ring/old.yaml", "testdata/ring/new.yaml", "testdata/ring/plain.yaml", "testdata/ring/wider.yaml"
	tests := []struct {
		name   string // of the golden file
		status int
		in     string
		args   []string
	}{
		{"preview", exitOK, "", []string{"preview", "-config", oldFile}},
		{"preview-json", exitOK, "", []string{"preview", "--json", "-sessions", "100", "-config", plain}},
		{"diff-same", exitOK, "", []string{"diff", oldFile, oldFile}},
		{"diff-add", exitOK, "", []string{"diff", plain, wider, "-sessions", "1000"}},
		{"diff-remove", exitOK, "", []string{"diff", "-config", wider, "-config", plain}},
		{"diff-much", exitError, "", []string{"diff", oldFile, newFile, "-sessions", "5000"}},
		{"diff-json", exitError, "", []string{"diff", "-json", oldFile, newFile, "-sessions", "5000"}},
		{"where", exitOK, "", []string{"where", "-config", plain, secret, "other"}},
		{"where-any-application", exitOK, "", []string{"where", secret, "-config", oldFile}},
		{"where-application", exitOK, secret + "\r\n\n other \n", []string{"where", "-config", oldFile, "-app", "/lm/w3svc/2/root", "-"}},
		{"where-application-alone", exitOK, "", []string{"where", "-config", oldFile, "-app", "/LM/W3SVC/9/ROOT"}},
		{"where-target", exitOK, "", []string{"where", "-config", oldFile, "-target", aSession, "-target", "no%2ftarget" + secret}},
		{"where-json", exitOK, aSession, []string{"where", "-config", oldFile, "-json", "-target", "-"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, out, errText := runRingWith(tt.in, tt.args...)
			if status != tt.status || errText != "" {
				t.Fatalf("ring %v = %d, stderr %s; want %d", tt.args, status, errText, tt.status)
			}
			if strings.Contains(out, secret) {
				t.Errorf("ring %v shows a session ID:\n%s", tt.args, out)
			}
			compareGolden(t, filepath.Join("testdata", "ring", tt.name+".out"), out)
		})
	}
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.ReplaceAll(string(want), "\r\n", "\n"); got != want {
		t.Errorf("output:\n%s\nwant, as in %s:\n%s", got, file, want)
	}
}

func TestRingCommandLine(t *testing.T) {
	const plain = "testdata/ring/plain.yaml"
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	replaceFile(t, bad, "backends:\n  - {name: s1, address: 10.0.0.11, weight: 0}\n")
	tests := []struct {
		name   string
		args   []string
		status int
		out    string // part of it
		err    string // likewise
	}{
		{"nothing", []string{""}, exitUsage, "", "preview"},
		{"unknown", []string{"list"}, exitUsage, "", `no subcommand "list"`},
		{"help", []string{"--help"}, exitOK, "where", ""},
		{"preview help", []string{"preview", "-h"}, exitOK, "-sessions", ""},
		{"preview without file", []string{"preview"}, exitUsage, "", "want -config FILE"},
		{"preview bad sessions", []string{"preview", "-config", plain, "-sessions", "0"}, exitUsage, "", "1 or more"},
		{"preview extra argument", []string{"preview", "-config", plain, "more"}, exitUsage, "", `"more"`},
		{"preview bad config", []string{"preview", "-config", bad}, exitError, "", bad + ":2:44"},
		{"diff help", []string{"diff", "-h"}, exitOK, "-admin", ""},
		{"diff one file", []string{"diff", plain}, exitUsage, "", "two config files"},
		{"diff three files", []string{"diff", "-config", plain, plain, plain}, exitUsage, "", "got 3"},
		{"diff bad sessions", []string{"diff", plain, plain, "-sessions", "-1"}, exitUsage, "", "0 or more"},
		{"diff unknown flag", []string{"diff", plain, "-x"}, exitUsage, "", "-x"},
		{"diff bad old config", []string{"diff", bad, plain}, exitError, "", bad + ":2:44"},
		{"diff bad new config", []string{"diff", plain, bad}, exitError, "", bad + ":2:44"},
		{"diff nobody at admin", []string{"diff", plain, plain, "-admin", "127.0.0.1:1"}, exitError, "", "stateproxy ring diff: "},
		{"where help", []string{"where", "-h"}, exitOK, "-target", ""},
		{"where without file", []string{"where", secret}, exitUsage, "", "want -config FILE"},
		{"where without session", []string{"where", "-config", plain}, exitUsage, "", "want a SESSION-ID"},
		{"where with nothing on standard input", []string{"where", "-config", plain, "-"}, exitUsage, "", "want a SESSION-ID"},
		{"where bad config", []string{"where", "-config", bad, secret}, exitError, "", bad + ":2:44"},
		{"where nobody at admin", []string{"where", "-config", plain, secret, "-admin", "127.0.0.1:1"}, exitError, "", "stateproxy ring where: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, out, errText := runRingWith("", tt.args...)
			if status != tt.status || !strings.Contains(out, tt.out) || !strings.Contains(errText, tt.err) {
				t.Errorf("ring %v = %d\nstdout: %s\nstderr: %s\nwant %d with %q and %q", tt.args, status, out, errText, tt.status, tt.out, tt.err)
			}
			if strings.Contains(out+errText, secret) {
				t.Errorf("ring %v shows a session ID:\n%s%s", tt.args, out, errText)
			}
		})
	}
	if status, out, _ := run("ring"); status != exitUsage || out != "" {
		t.Errorf("ring = %d, stdout %q; want %d and nothing", status, out, exitUsage)
	}
}

// fakeStatus is an admin listener with a status, which is text.
func fakeStatus(t *testing.T, text string) (address string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(text)) }))
	t.Cleanup(s.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestRingDiffAsksTheRunningProxy(t *testing.T) {
	const plain, wider, oldFile = "testdata/ring/plain.yaml", "testdata/ring/wider.yaml", "testdata/ring/old.yaml"
	_, preview, _ := runRingWith("", "preview", "-json", "-config", plain)
	var p struct{ Pools []poolPreview }
	if err := json.Unmarshal([]byte(preview), &p); err != nil {
		t.Fatal(err)
	}
	alike := fakeStatus(t, `{"version":1,"remembered_sessions":800,"pools":[{"name":"default","fingerprint":"`+p.Pools[0].Fingerprint+`"}]}`)
	other := fakeStatus(t, `{"version":1,"pools":[{"name":"default","fingerprint":"0123456789abcdef"}]}`)
	tests := []struct {
		name   string
		args   []string
		want   []string
		absent string
	}{
		{"alike", []string{plain, wider, "-admin", alike}, []string{"25.00% of the sessions get another owner, about 200 of 800\n"}, "Note"},
		{"number given", []string{plain, wider, "-admin", alike, "-sessions", "40"}, []string{"about 10 of 40\n"}, "Note"},
		{"another ring", []string{plain, wider, "-admin", other}, []string{"25.00% of the sessions get another owner\n", "Note: the proxy at " + other + " routes pool default by another ring", "0123456789abcdef and not " + p.Pools[0].Fingerprint}, "about"},
		{"another pool", []string{oldFile, oldFile, "-admin", alike}, []string{"Note: the proxy at " + alike + " has no pool shop"}, "about"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, out, errText := runRingWith("", append([]string{"diff"}, tt.args...)...)
			if status != exitOK || strings.Contains(out, tt.absent) {
				t.Errorf("ring diff = %d, stderr %s, stdout %s; want no %q", status, errText, out, tt.absent)
			}
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("ring diff printed %s; want %q in it", out, want)
				}
			}
		})
	}
}

// What where says is where the proxy really stores a session, also when its ring
// is another one than the config file's.
func TestRingWhereIsWhereTheSessionIs(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	servers := map[string]*stateserver.Server{"s1": stateserver.RunT(t), "s2": stateserver.RunT(t)}
	both, alone := text(servers["s1"], servers["s2"]), text(servers["s1"])
	file := filepath.Join(t.TempDir(), "other.yaml")
	replaceFile(t, file, strings.ReplaceAll(alone, "name: s1", "name: s9"))
	r := runApp(t, both)
	if got := r.ask(putOne); got != "200 OK" {
		t.Fatalf("PUT = %q; want 200 OK", got)
	}
	where := func(file string) location {
		t.Helper()
		status, out, errText := runRingWith(secret, "where", "-config", file, "-admin", r.app.adminAddress(), "-json", "-")
		var found struct{ Locations []location }
		if err := json.Unmarshal([]byte(out), &found); err != nil || len(found.Locations) != 1 {
			t.Fatalf("ring where = %d %s%s (%v); want one location", status, out, errText, err)
		}
		return found.Locations[0]
	}
	at := where(r.file)
	if !holdsSession(t, servers[at.Owner]) || at.Owner != at.Running.Owner || !at.Running.Alike || !at.Running.WindowUntil.IsZero() {
		t.Errorf("ring where = %+v, running %+v; want the owner that has the session, by the same ring", at, at.Running)
	}
	if at := where(file); at.Owner != "s9" || !holdsSession(t, servers[at.Running.Owner]) || at.Running.Alike {
		t.Errorf("ring where with another config = %+v, running %+v; want s9, and the real owner by another ring", at, at.Running)
	}
	replaceFile(t, r.file, alone)
	r.logged("config reloaded")
	at = where(r.file)
	if at.Owner != "s1" || at.Running.Owner != "s1" || at.Running.WindowUntil.IsZero() {
		t.Errorf("ring where after a change = %+v, running %+v; want s1 and a window", at, at.Running)
	}
	_, out, _ := runRingWith("", "where", "-config", r.file, "-admin", r.app.adminAddress(), secret)
	if !strings.Contains(out, "the owner is s1, by the same ring; former owners are asked until 2") {
		t.Errorf("ring where printed %s; want the running proxy's owner and window", out)
	}
}

// holdsSession asks a state server itself for aSession.
func holdsSession(t *testing.T, s *stateserver.Server) bool {
	t.Helper()
	if s == nil {
		return false
	}
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, getOne)
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.HasPrefix(line, "200 ")
}

func TestRunningPlaceText(t *testing.T) {
	tests := []struct {
		name  string
		place runningPlace
		want  string
	}{
		{"no such pool", runningPlace{}, "the proxy at a:1 has no pool shop"},
		{"same ring", runningPlace{Pool: true, Alike: true, Owner: "s1"}, "at a:1 the owner is s1, by the same ring"},
		{"other ring", runningPlace{Pool: true, Owner: "s1"}, "at a:1 the owner is s1, by another ring: a backend is ejected, or another config is in force"},
		{"nobody", runningPlace{Pool: true}, "at a:1 no backend may own the session, by another ring: a backend is ejected, or another config is in force"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.place.text("a:1", "shop"); got != tt.want {
				t.Errorf("text() = %q; want %q", got, tt.want)
			}
		})
	}
}
