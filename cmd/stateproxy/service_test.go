package main

import (
	"bytes"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseService(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("ProgramData", folder)
	own := filepath.Join(folder, "stateproxy")
	plain := service{name: "stateproxy", folder: own, config: filepath.Join(own, "config.yaml"), log: filepath.Join(own, "logs", "stateproxy.log"), state: filepath.Join(own, "state"), timeout: 2 * time.Minute}
	second := service{name: "second", folder: filepath.Join(folder, "second"), config: filepath.Join(folder, "x.yaml"), log: filepath.Join(folder, "second", "logs", "stateproxy.log"), state: filepath.Join(folder, "second", "state"), timeout: time.Second}
	tests := []struct {
		name   string
		args   []string
		action string
		want   service
		status int
		says   string
	}{
		{"install", []string{"install"}, "install", plain, exitOK, ""},
		{"a second one", []string{"start", "-name", "second", "-config", filepath.Join(folder, "x.yaml"), "-timeout", "1s"}, "start", second, exitOK, ""},
		{"nothing", nil, "", service{}, exitUsage, "usage: stateproxy service install"},
		{"unknown", []string{"restart"}, "", service{}, exitUsage, "usage: stateproxy service install"},
		{"flag first", []string{"-name", "x"}, "", service{}, exitUsage, "usage: stateproxy service install"},
		{"too much", []string{"install", "now"}, "", service{}, exitUsage, `unexpected argument "now"`},
		{"bad name", []string{"install", "-name", `a\b`}, "", service{}, exitUsage, "want 1..64"},
		{"name that leads elsewhere", []string{"install", "-name", ".."}, "", service{}, exitUsage, "want 1..64"},
		{"help", []string{"-h"}, "", service{}, exitOK, "usage: stateproxy service install"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			action, s, status, ok := parseService(stdio{&out, &out}, tt.args)
			if action != tt.action || status != tt.status || ok != (tt.action != "") {
				t.Errorf("parseService(%q) = %q, %d, %v; want %q, %d", tt.args, action, status, ok, tt.action, tt.status)
			}
			if ok && !reflect.DeepEqual(s, tt.want) {
				t.Errorf("parseService(%q) = %+v; want %+v", tt.args, s, tt.want)
			}
			if !strings.Contains(out.String(), tt.says) {
				t.Errorf("parseService(%q) says %q; want %q", tt.args, out.String(), tt.says)
			}
		})
	}
}

// TestServiceArguments holds that what Windows starts is what was installed.
func TestServiceArguments(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("ProgramData", folder)
	want := service{name: "x", config: filepath.Join(folder, "a b.yaml"), log: filepath.Join(folder, "c.log"), timeout: 2 * time.Minute}.withDefaults(folder)
	t.Setenv("ProgramData", filepath.Join(folder, "of another user"))
	args := want.arguments()
	action, s, _, ok := parseService(stdio{new(bytes.Buffer), new(bytes.Buffer)}, args[1:])
	if args[0] != "service" || action != "run" || !ok || s.name != want.name || s.config != want.config || s.log != want.log || s.state != want.state {
		t.Errorf("parseService(%q) = %q, %+v, %v; want run, %+v", args, action, s, ok, want)
	}
}

func TestServiceSID(t *testing.T) {
	// An account that every Windows has.
	const want = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
	for _, name := range []string{"TrustedInstaller", "TRUSTEDINSTALLER"} {
		if got := serviceSID(name); got != want {
			t.Errorf("serviceSID(%s) = %s; want %s", name, got, want)
		}
	}
	if got := (service{name: "x"}).account(); got != `NT SERVICE\x` {
		t.Errorf("account() = %s; want NT SERVICE\\x", got)
	}
}

func TestFolderRights(t *testing.T) {
	config, work := folderRights("S-1-5-80-1")
	for name, rights := range map[string]string{"config": config, "work": work} {
		if !strings.HasPrefix(rights, "D:P") {
			t.Errorf("rights of the %s folder are %s; want nothing inherited from the folder above", name, rights)
		}
		for _, others := range []string{";WD)", ";BU)", ";AU)", ";IU)"} {
			if strings.Contains(rights, others) {
				t.Errorf("rights of the %s folder are %s; want none for other users", name, rights)
			}
		}
	}
	if want := "(A;OICI;0x1200a9;;;S-1-5-80-1)"; !strings.HasSuffix(config, want) || strings.Count(config, "S-1-5-80-1") != 1 {
		t.Errorf("rights of the config folder are %s; want %s alone for the service", config, want)
	}
	if want := "(A;OICI;0x1301ff;;;S-1-5-80-1)"; !strings.HasSuffix(work, want) {
		t.Errorf("rights of the work folders are %s; want %s for the service", work, want)
	}
}

func TestWorkFolders(t *testing.T) {
	programData := t.TempDir()
	own, other := filepath.Join(programData, "x"), filepath.Join(t.TempDir(), "x.log")
	tests := []struct {
		name string
		log  string
		want []string
	}{
		{"log among the rest", "", []string{filepath.Join(own, "state"), filepath.Join(own, "logs")}},
		{"log elsewhere", other, []string{filepath.Join(own, "state")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := (service{name: "x", log: tt.log}).withDefaults(programData).workFolders(); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("workFolders() = %q; want %q", got, tt.want)
			}
		})
	}
}
