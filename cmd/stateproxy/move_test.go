package main

import (
	"strings"
	"testing"

	"stateproxy/stateserver"
)

// withMaxMove is text with a limit on what a reload may move.
func withMaxMove(limit string, servers ...*stateserver.Server) string {
	return strings.Replace(text(servers...), "handoff:\n", "handoff:\n  max_move: "+limit+"\n", 1)
}

func TestAppRefusesToMoveTooMuch(t *testing.T) {
	s1, s2, s3 := stateserver.RunT(t), stateserver.RunT(t), stateserver.RunT(t)
	r := runApp(t, withMaxMove("40%", s1, s2))
	routing := func() string {
		var b strings.Builder
		for _, q := range r.app.proxy.Status().Pools {
			for _, o := range q.Owners {
				b.WriteString(o.Name + " ")
			}
		}
		return b.String()
	}
	replaceFile(t, r.file, withMaxMove("33.3%", s1, s2, s3))
	r.logged("config refused", "pool default: 33.3333% of its sessions would get another owner, and handoff.max_move is 33.3%")
	if got := routing(); got != "s1 s2 " {
		t.Errorf("owners after the refusal: %s; want s1 s2", got)
	}
	if _, body := r.get("/api/status"); !strings.Contains(body, "handoff.max_move is 33.3%") {
		t.Errorf("status does not say why the config was refused: %s", body)
	}
	replaceFile(t, r.file, withMaxMove("33.4%", s1, s2, s3))
	r.logged("config reloaded", `"default":0.33`)
	if got := routing(); got != "s1 s2 s3 " {
		t.Errorf("owners after a change within the limit: %s; want s1 s2 s3", got)
	}
	replaceFile(t, r.file, withMaxMove("100%", s1)) // the change itself says that it may
	r.logged("config reloaded", `"default":0.66`)
	if got := routing(); got != "s1 " {
		t.Errorf("owners after a change that raises the limit: %s; want s1", got)
	}
}

func TestMaxMoveDoesNotStopEjections(t *testing.T) {
	s1, s2 := stateserver.RunT(t), stateserver.RunT(t)
	r := runApp(t, withMaxMove("0%", s1, s2))
	s2.Close()
	r.logged("backend ejected", `"backend":"s2"`)
	if got := r.ask(putOne); got != "200 OK" {
		t.Errorf("PUT with one of two backends = %q; want 200 OK", got)
	}
	// Nor what moves no session: the ejected one owns none.
	replaceFile(t, r.file, withMaxMove("0%", s1))
	r.logged("config reloaded", "s2 removed")
}

func TestPercent(t *testing.T) {
	tests := []struct {
		name  string
		share float64
		want  string
	}{
		{"nothing", 0, "0%"},
		{"all", 1, "100%"},
		{"half", 0.5, "50%"},
		{"a third", 1. / 3, "33.3333%"},
		{"ten", 0.1, "10%"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := percent(tt.share); got != tt.want {
				t.Errorf("percent(%v) = %s; want %s", tt.share, got, tt.want)
			}
		})
	}
}

func TestExceeds(t *testing.T) {
	tests := []struct {
		name         string
		share, limit float64
		want         bool
	}{
		{"below", 0.2, 0.3, false},
		{"equal but for rounding", 0.1 + 0.2, 0.3, false},
		{"above", 0.3001, 0.3, true},
		{"all", 1, 1, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := exceeds(tt.share, tt.limit); got != tt.want {
				t.Errorf("exceeds(%v, %v) = %t; want %t", tt.share, tt.limit, got, tt.want)
			}
		})
	}
}
