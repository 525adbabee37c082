package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stateproxy/stateserver"
)

func TestDrainCommand(t *testing.T) {
	s1, s2 := stateserver.RunT(t), stateserver.RunT(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("a secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	withToken := strings.Replace(text(s1, s2), "admin:\n", "admin:\n  token_file: "+token+"\n", 1)
	r := runApp(t, withToken)
	const n = 40
	request := func(verb, id string) string {
		target := strings.Replace(aSession, "bpr4mimb2vjnvtn2jc4yp3uo", id, 1)
		if verb == "PUT" {
			return strings.Replace(putOne, aSession, target, 1)
		}
		return strings.Replace(getOne, aSession, target, 1)
	}
	for i := range n {
		if got := r.ask(request("PUT", fmt.Sprintf("session%017d", i))); got != "200 OK" {
			t.Fatalf("PUT = %q", got)
		}
	}
	address := r.app.adminAddress()
	if status, _, errText := run("drain", "s1", "-admin", address); status != exitError || !strings.Contains(errText, "token") {
		t.Errorf("drain without a token = %d %s; want a refusal that says so", status, errText)
	}
	if status, _, errText := run("drain", "s9", "-admin", address, "-token-file", token); status != exitError || !strings.Contains(errText, "s9") {
		t.Errorf("drain of an unknown backend = %d %s; want a refusal that names it", status, errText)
	}
	status, out, errText := run("drain", "s1", "-admin", address, "-token-file", token, "-wait", "-known")
	if status != exitOK || !strings.Contains(out, "All known sessions have left s1") {
		t.Fatalf("drain = %d\n%s%s", status, out, errText)
	}
	s1.Close() // nobody misses it
	for i := range n {
		if got := r.ask(request("GET", fmt.Sprintf("session%017d", i))); got != "200 OK" {
			t.Fatalf("GET after the drained server has gone = %q", got)
		}
	}
	if status, _, errText := run("drain", "s2", "-admin", address, "-token-file", token); status != exitError || !strings.Contains(errText, "no other") {
		t.Errorf("drain of the last backend = %d %s; want a refusal", status, errText)
	}
	if status, _, errText := run("drain", "-undo", "s1", "-admin", address, "-token-file", token); status != exitOK {
		t.Errorf("drain -undo = %d %s", status, errText)
	}
	r.logged("config reloaded", "s1 state drain -> active")
}
