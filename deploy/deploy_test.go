// Package deploy_test holds what the files for running stateproxy must agree on
// with each other and with the program.
package deploy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"stateproxy/internal/config"
)

// object is what a manifest says.
type object map[string]any

// at returns what is found along the path; a number picks from a list.
func (o object) at(t *testing.T, path ...any) any {
	t.Helper()
	var v any = map[string]any(o)
	for _, step := range path {
		switch s := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[s]
		case int:
			l, _ := v.([]any)
			if s >= len(l) {
				t.Fatalf("%s has nothing at %v", o["kind"], path)
			}
			v = l[s]
		}
		if v == nil {
			t.Fatalf("%s has nothing at %v", o["kind"], path)
		}
	}
	return v
}

// manifests returns deploy/kubernetes by kind.
func manifests(t *testing.T) map[string]object {
	t.Helper()
	files, err := filepath.Glob("kubernetes/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]object{}
	for _, file := range files {
		for d := yaml.NewDecoder(bytes.NewReader(read(t, file))); ; {
			var o map[string]any
			if err := d.Decode(&o); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all[fmt.Sprint(o["kind"])] = o
		}
	}
	return all
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestKubernetesConfig(t *testing.T) {
	m := manifests(t)
	text := m["ConfigMap"].at(t, "data", "config.yaml").(string)
	c, err := config.Parse("config.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	pod := object(m["Deployment"].at(t, "spec", "template", "spec").(map[string]any))
	container := object(pod.at(t, "containers", 0).(map[string]any))
	port := container.at(t, "ports", 0, "containerPort")
	if want := []string{fmt.Sprintf(":%d", port)}; !reflect.DeepEqual(c.Addresses(), want) {
		t.Errorf("config listens on %v; the container's port wants %v", c.Addresses(), want)
	}
	for name, got := range map[string]any{
		"service":        m["Service"].at(t, "spec", "ports", 0, "port"),
		"network policy": m["NetworkPolicy"].at(t, "spec", "ingress", 0, "ports", 0, "port"),
	} {
		if got != port {
			t.Errorf("port of the %s = %v; want %v", name, got, port)
		}
	}
	grace := time.Duration(pod.at(t, "terminationGracePeriodSeconds").(int)) * time.Second
	pause := time.Duration(container.at(t, "lifecycle", "preStop", "sleep", "seconds").(int)) * time.Second
	if grace <= pause+c.Timeouts.Drain {
		t.Errorf("terminationGracePeriodSeconds = %v; want more than preStop %v and drain %v", grace, pause, c.Timeouts.Drain)
	}
	if c.Handoff.Delay < 2*time.Minute {
		t.Errorf("handoff.delay = %v; want 2m or more, which the pods take to see a new config", c.Handoff.Delay)
	}
	folders := map[string]bool{} // writable
	for _, v := range container.at(t, "volumeMounts").([]any) {
		mount := v.(map[string]any)
		folders[mount["mountPath"].(string)] = mount["readOnly"] != true
		if mount["subPath"] != nil {
			t.Errorf("%v is mounted by subPath, and would never change", mount["mountPath"])
		}
	}
	if folder := filepath.Dir(c.Handoff.StateFile); !folders[folder] {
		t.Errorf("state file is in %s; want one of the writable folders %v", folder, folders)
	}
	args := fmt.Sprint(container.at(t, "args"))
	if writable, ok := folders["/etc/stateproxy"]; !ok || writable || !strings.Contains(args, "/etc/stateproxy/config.yaml") {
		t.Errorf("args = %s, mounts %v; want the config of a read-only folder", args, folders)
	}
}

func TestKubernetesSelectors(t *testing.T) {
	m := manifests(t)
	labels := m["Deployment"].at(t, "spec", "template", "metadata", "labels")
	for name, selector := range map[string]any{
		"Deployment":          m["Deployment"].at(t, "spec", "selector", "matchLabels"),
		"Service":             m["Service"].at(t, "spec", "selector"),
		"PodDisruptionBudget": m["PodDisruptionBudget"].at(t, "spec", "selector", "matchLabels"),
		"NetworkPolicy":       m["NetworkPolicy"].at(t, "spec", "podSelector", "matchLabels"),
	} {
		if !reflect.DeepEqual(selector, labels) {
			t.Errorf("%s selects %v; want the pods' %v", name, selector, labels)
		}
	}
}

func TestKubernetesIsLockedDown(t *testing.T) {
	m := manifests(t)
	pod := object(m["Deployment"].at(t, "spec", "template", "spec").(map[string]any))
	container := object(pod.at(t, "containers", 0).(map[string]any))
	tests := []struct {
		name      string
		got, want any
	}{
		{"non-root", pod.at(t, "securityContext", "runAsNonRoot"), true},
		{"seccomp", pod.at(t, "securityContext", "seccompProfile", "type"), "RuntimeDefault"},
		{"API token", pod.at(t, "automountServiceAccountToken"), false},
		{"read-only root", container.at(t, "securityContext", "readOnlyRootFilesystem"), true},
		{"more rights", container.at(t, "securityContext", "allowPrivilegeEscalation"), false},
		{"capabilities", container.at(t, "securityContext", "capabilities", "drop"), []any{"ALL"}},
		{"ways closed", m["NetworkPolicy"].at(t, "spec", "policyTypes"), []any{"Ingress", "Egress"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !reflect.DeepEqual(tt.got, tt.want) {
				t.Errorf("%s = %v; want %v", tt.name, tt.got, tt.want)
			}
		})
	}
	user := pod.at(t, "securityContext", "runAsUser")
	if image := string(read(t, "../Dockerfile")); !strings.Contains(image, fmt.Sprintf("\nUSER %d:%d\n", user, user)) {
		t.Errorf("Dockerfile does not run as user %v", user)
	}
}

// TestSystemdUnit holds that the unit leaves the program the time it needs, and
// that socket and config meet.
func TestSystemdUnit(t *testing.T) {
	unit := string(read(t, "systemd/stateproxy.service"))
	value := func(text, key string) string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + key + `=(.+)$`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no %s", key)
		}
		return m[1]
	}
	c := config.Default()
	limit, err := time.ParseDuration(value(unit, "TimeoutStopSec") + "s")
	if err != nil || limit <= c.Timeouts.Drain {
		t.Errorf("TimeoutStopSec = %v, %v; want more than timeouts.drain %v", limit, err, c.Timeouts.Drain)
	}
	var files int
	if _, err := fmt.Sscan(value(unit, "LimitNOFILE"), &files); err != nil || files < 2*c.Limits.Connections {
		t.Errorf("LimitNOFILE = %d, %v; want two for each of %d connections", files, err, c.Limits.Connections)
	}
	if got := value(string(read(t, "systemd/stateproxy.socket")), "ListenStream"); !reflect.DeepEqual([]string{got}, c.Addresses()) {
		t.Errorf("ListenStream = %s; want the default of listen, %v", got, c.Addresses())
	}
}

// TestReleaseToolchain: the image is built with the Go that all releases are.
func TestReleaseToolchain(t *testing.T) {
	m := regexp.MustCompile(`(?m)^toolchain go(\S+)$`).FindSubmatch(read(t, "../go.mod"))
	if m == nil {
		t.Fatal("go.mod names no toolchain, which scripts/dist builds with")
	}
	if image := string(read(t, "../Dockerfile")); !strings.Contains(image, fmt.Sprintf(" golang:%s AS build\n", m[1])) {
		t.Errorf("Dockerfile does not build with golang:%s", m[1])
	}
}
