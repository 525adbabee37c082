package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"stateproxy/stateserver"
)

// writeToken writes a token file of that mode, whatever the umask.
func writeToken(t *testing.T, text string, mode os.FileMode) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestReadToken(t *testing.T) {
	tests := []struct {
		name, text string
		mode       os.FileMode
		token      string
		open       string // the beginning
		err        string
	}{
		{"owner alone", "a secret\n", 0o600, "a secret", "", ""},
		{"read-only", "a secret", 0o400, "a secret", "", ""},
		{"group may read", "a secret", 0o440, "a secret", "", ""},
		{"others may read", "a secret", 0o644, "a secret", "others can read it (mode 0644)", ""},
		{"group may write", "a secret", 0o660, "a secret", "others can write it (mode 0660)", ""},
		{"all may write", "a secret", 0o666, "a secret", "others can write it (mode 0666)", ""},
		{"empty", "", 0o600, "", "", "is empty"},
		{"a blank", " \n", 0o600, "", "", "is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := writeToken(t, tt.text, tt.mode)
			want := tt.open
			if runtime.GOOS == "windows" {
				want = ""
			}
			token, open, err := readToken(file)
			if token != tt.token || open != want || (err == nil) != (tt.err == "") {
				t.Errorf("readToken = %q, %q, %v; want %q, %q, %q", token, open, err, tt.token, want, tt.err)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), file)) {
				t.Errorf("readToken = %v; want the file and %q", err, tt.err)
			}
		})
	}
	if _, _, err := readToken(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("readToken of no file = nil; want an error")
	}
}

func TestCheckWarnsOfTheTokenFile(t *testing.T) {
	tests := []struct {
		name, file, want string
	}{
		{"good", writeToken(t, "a secret", 0o600), ""},
		{"empty", writeToken(t, "", 0o600), "is empty"},
		{"not there", filepath.Join(t.TempDir(), "none"), "none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config.yaml")
			replaceFile(t, file, fmt.Sprintf("backends:\n  - {name: s1, address: 127.0.0.1:1}\nadmin:\n  token_file: '%s'\n", tt.file))
			status, out, errText := run("check", "-config", file)
			if status != exitOK || !strings.Contains(out, ": good") {
				t.Errorf("check = %d, %q; want a good config", status, out)
			}
			if tt.want == "" && errText != "" || !strings.Contains(errText, tt.want) || tt.want != "" && !strings.HasPrefix(errText, "warning: admin.token_file: ") {
				t.Errorf("check says %q; want %q", errText, tt.want)
			}
		})
	}
}

// TestTokenIsToldNowhere: neither the token nor a wrong one that was tried shows
// in log, pages, metrics or API.
func TestTokenIsToldNowhere(t *testing.T) {
	const secret, wrong = "tk-5Yw0nqv8", "tk-wrong-9hJ2"
	file := writeToken(t, secret+"\n", 0o640)
	config := strings.Replace(text(stateserver.RunT(t)), "admin:\n", "log: {level: debug}\nadmin:\n  token_file: '"+file+"'\n", 1)
	r := runApp(t, config)
	for token, want := range map[string]int{secret: http.StatusOK, wrong: http.StatusUnauthorized} {
		req, err := http.NewRequest(http.MethodPost, "http://"+r.app.adminAddress()+"/api/v1/token", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("POST with %q = %d; want %d", token, resp.StatusCode, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	for _, path := range []string{"/", "/metrics", "/api/v1/status", "/api/v1/events", "/api/v1/config", "/api/v1/reloads", "/api/v1/sessions", "/api/v1/history"} {
		status, body := r.get(path)
		if status != http.StatusOK || body == "" {
			t.Errorf("GET %s = %d; want 200", path, status)
		}
		if strings.Contains(body, secret) || strings.Contains(body, wrong) {
			t.Errorf("GET %s shows a token", path)
		}
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		r.logged("admin.token_file is open to other users", "others can read it (mode 0644)")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r.logged("admin.token_file can't be read", file)
	r.stop()
	if log := r.log.String(); strings.Contains(log, secret) || strings.Contains(log, wrong) {
		t.Errorf("a token is logged:\n%s", log)
	}
}
