package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"stateproxy/stateserver"
)

// whenAsked answers y, after it has done something.
type whenAsked func()

func (do whenAsked) Read(p []byte) (int, error) {
	do()
	return copy(p, "y\n"), io.EOF
}

func TestUnlockCommand(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("a secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := strings.Replace(text(stateserver.RunT(t)), "admin:\n", "admin:\n  token_file: "+token+"\n", 1) +
		"log: {access: 100%}\ntimeouts: {budget: 900ms, dial: 500ms}\nlimits: {backend_wait: 500ms}\n"
	r := runApp(t, config)
	const sessionID = "bpr4mimb2vjnvtn2jc4yp3uo"
	acquire := strings.Replace(getOne, "\r\n\r\n", "\r\nExclusive: acquire\r\n\r\n", 1)
	release := func(cookie string) string {
		return strings.Replace(getOne, "\r\n\r\n", "\r\nExclusive: release\r\nLockCookie:"+cookie+"\r\n\r\n", 1)
	}
	ask := func(request, want string) {
		t.Helper()
		if got := r.ask(request); got != want {
			t.Fatalf("%.3s = %q; want %q", request, got, want)
		}
	}
	ask(putOne, "200 OK")
	r.logged(`"message":"request"`, `"op":"set"`)
	hash := regexp.MustCompile(`"session":"([0-9a-f]{16})"`).FindStringSubmatch(r.log.String())[1]
	try := func(in io.Reader, args ...string) (int, string) {
		var out, errs logText
		status := unlock(context.Background(), stdio{&out, &errs}, in, append([]string{"-admin", r.app.adminAddress()}, args...))
		return status, out.String() + errs.String()
	}
	check := func(name string, wantStatus int, want string, in io.Reader, args ...string) {
		t.Helper()
		if status, says := try(in, args...); status != wantStatus || !strings.Contains(says, want) {
			t.Errorf("%s: unlock = %d %s; want %d with %q", name, status, says, wantStatus, want)
		}
	}
	yes := func() io.Reader { return whenAsked(func() {}) }
	check("not locked", exitError, "of /LM/W3SVC/2/ROOT, on s1, is not locked", yes(), hash, "-token-file", token)
	ask(acquire, "200 OK")
	check("too young", exitError, "the lock is 0s old", yes(), hash, "-token-file", token)
	check("no token", exitError, "needs the token", yes(), hash)
	check("unknown", exitError, "no such session", yes(), "0123456789abcdef", "-token-file", token)
	check("a session ID", exitError, "want the hash", yes(), sessionID, "-token-file", token)
	check("nobody to ask", exitUsage, "-yes", nil, hash, "-token-file", token)
	check("no session", exitUsage, "the hash of one session", yes())
	check("nobody there", exitError, "refused", yes(), hash, "-token-file", token, "-admin", "127.0.0.1:1")
	check("no", exitError, "Nothing was done", strings.NewReader("n\n"), hash, "-token-file", token)
	check("end of input", exitError, "Nothing was done", strings.NewReader(""), hash, "-token-file", token)
	check("changed meanwhile", exitError, "locked by another request", whenAsked(func() {
		ask(release("2"), "200 OK")
		ask(acquire, "200 OK")
	}), hash, "-token-file", token)
	ask(acquire, "423 Locked")
	r.eventually("an age above the budget", func() bool {
		status, _ := try(nil, hash, "-yes", "-token-file", token)
		return status == exitOK
	})
	ask(acquire, "200 OK")
	r.logged("action done", `"action":"unlock `+hash+` (lock 3)"`, `"from":"127.0.0.1"`)
	r.logged("action refused", `"action":"unlock `+hash, "locked by another request")
	_, events := r.get("/api/v1/events")
	if !strings.Contains(events, "unlock "+hash+" (lock 3), asked for from 127.0.0.1") {
		t.Errorf("events = %s; want one of the release", events)
	}
	if strings.Contains(r.log.String()+events, sessionID) {
		t.Error("log or events hold a session ID")
	}
}
