package statefile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSaveAndLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "proxy.state")
	if data, err := Load(file); data != nil || err != nil {
		t.Fatalf("Load() of no file = %q, %v; want nothing", data, err)
	}
	for _, want := range []string{"first", "", "a longer third\nwith lines"} {
		if err := Save(file, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := Load(file); string(got) != want || err != nil {
			t.Errorf("Load() = %q, %v; want %q", got, err, want)
		}
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("folder holds %d files, %v; want the state file alone", len(left), err)
	}
}

func TestDamagedFilesAreSetAside(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good")
	if err := Save(good, []byte("some state that matters")); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		content []byte
		reason  string
	}{
		{"empty", nil, "is no state file"},
		{"other file", []byte("listen: 127.0.0.1:1\n"), "is no state file"},
		{"cut", whole[:len(whole)-3], "bytes, want"},
		{"longer", append(bytes.Clone(whole), 'x'), "bytes, want"},
		{"changed", bytes.Replace(whole, []byte("matters"), []byte("mutters"), 1), "checksum"},
		{"newer", bytes.Replace(whole, []byte("state 1"), []byte("state 2"), 1), "format 2, want 1"},
		{"newer, other line", []byte("stateproxy-state 7 in another form\n"), "format 7, want 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "proxy.state")
			if err := os.WriteFile(file, tt.content, 0o600); err != nil {
				t.Fatal(err)
			}
			data, err := Load(file)
			var damaged *Damaged
			if !errors.As(err, &damaged) || !strings.Contains(err.Error(), tt.reason) || data != nil {
				t.Fatalf("Load() = %q, %v; want nothing and %q", data, err, tt.reason)
			}
			if kept, err := os.ReadFile(damaged.Aside); err != nil || !bytes.Equal(kept, tt.content) {
				t.Errorf("set aside: %q, %v; want what the file held", kept, err)
			}
			if data, err := Load(file); data != nil || err != nil {
				t.Errorf("second Load() = %q, %v; want nothing", data, err)
			}
		})
	}
}

func TestSaveSaysWhereItFails(t *testing.T) {
	err := Save(filepath.Join(t.TempDir(), "no", "folder"), []byte("x"))
	if err == nil || !strings.Contains(err.Error(), "no") {
		t.Errorf("Save() = %v; want an error that names the folder", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("stateproxy-state 1 00000000 0\n"))
	f.Add([]byte("stateproxy-state 1 e3069283 9\n123456789"))
	f.Add([]byte("stateproxy-state 99999999999999999999 0 0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		data, reason := parse(b)
		if (reason == "") != (data != nil) {
			t.Errorf("parse(%q) = %q, %q", b, data, reason)
		}
	})
}
