package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func result(requests uint64, rps, cpu float64) *loadResult {
	return &loadResult{Requests: requests, RPS: rps, Seconds: 1, Watch: map[string]watchResult{"proxy": {CPU: cpu}}}
}

// twoCells is a comparison of two contenders by two loads in three rounds: b
// takes half the CPU of a in the first and twice in the second.
func twoCells() *summary {
	list := []contender{{name: "a", command: []string{"a"}}, {name: "b", command: []string{"b"}}, {name: "direct"}}
	s := &summary{Rounds: 3, Seconds: 1, Baseline: "a"}
	for i, factor := range []float64{0.5, 2} {
		results := map[string][]*loadResult{}
		for round := range 3 {
			cpu := 1000 * float64(round+1)
			results["a"] = append(results["a"], result(100, 1000, cpu))
			results["b"] = append(results["b"], result(100, 2000, cpu*factor))
			results["direct"] = append(results["direct"], &loadResult{Requests: 1, RPS: 3000, Seconds: 1})
		}
		s.add(cell{"page", 1024, 16 << i}, list, results)
	}
	return s
}

func TestSummary(t *testing.T) {
	s := twoCells()
	b := s.Cells[0].Rows[1]
	if want := (stat{10, 5, 15}); b.CPU != want {
		t.Errorf("CPU = %v; want %v", b.CPU, want)
	}
	// Ratios are formed within rounds, whose figures differ.
	if want := (stat{0.5, 0.5, 0.5}); b.CPURatio != want {
		t.Errorf("CPU ratio = %v; want %v", b.CPURatio, want)
	}
	if got := s.mean("b", cpuRatio); math.Abs(got-1) > 1e-9 {
		t.Errorf("geometric mean of 0.5 and 2 = %g; want 1", got)
	}
	s.MeanOf = 1
	if got := s.mean("b", cpuRatio); math.Abs(got-0.5) > 1e-9 {
		t.Errorf("geometric mean over the first cell = %g; want 0.5", got)
	}
	if got := s.mean("direct", cpuRatio); got != 0 {
		t.Errorf("geometric mean without figures = %g; want 0", got)
	}
}

func TestStat(t *testing.T) {
	tests := []struct {
		name string
		in   []float64
		want string
	}{
		{"none", nil, "-"},
		{"one", []float64{2}, "2.0"},
		{"odd", []float64{3, 1, 2}, "2.0 [1.0–3.0]"},
		{"even", []float64{4, 1, 2, 3}, "2.5 [1.0–4.0]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := statOf(tt.in).text(1); got != tt.want {
				t.Errorf("text(%v) = %q; want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestVersionIn(t *testing.T) {
	tests := []struct{ in, want string }{
		{"HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n", "2.6.12"},
		{"nginx version: nginx/1.22.1\n", "1.22.1"},
		{"Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0", "7.0.15"},
		{"nothing", "of unknown version"},
	}
	for _, tt := range tests {
		if got := versionIn(tt.in); got != tt.want {
			t.Errorf("versionIn(%q) = %q; want %q", tt.in, got, tt.want)
		}
	}
}

func TestReadContenders(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "c.conf")
	text := "# comment\n\none 127.0.0.1:1 slash {stateproxy} run -config {config} a~b {backends}\ntwo 127.0.0.1:2 slashless -\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := readContenders(file, placeholders{[]string{"h:1", "h:2"}, "sp", dir}, "")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "one.yaml")
	if got, want := strings.Join(list[0].command, "|"), "sp|run|-config|"+config+"|a b|h:1,h:2"; got != want || len(list) != 2 {
		t.Errorf("command = %q of %d; want %q of 2", got, len(list), want)
	}
	if list[1].command != nil {
		t.Errorf("command of two = %q; want none", list[1].command)
	}
	if b, err := os.ReadFile(config); err != nil || !strings.Contains(string(b), `address: "h:2"`) {
		t.Errorf("config = %q, %v; want the backends in it", b, err)
	}
	if _, err := readContenders(file, placeholders{scratch: dir}, "three"); err == nil {
		t.Error("readContenders of none = nil; want an error")
	}
}

func TestParseTrace(t *testing.T) {
	text := `{"level":"info","message":"state server listens"}
gc 1 @0.512s 2%: 0.018+1.3+0.076 ms clock, 0.037+0.2/1.1/0.5+0.15 ms cpu, 4->4->3 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P
gc 2 @61.000s 0%: 0.05+210+1.5 ms clock, 0.1+0/0/0+3 ms cpu, 4->4->3 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P
gc something else
`
	started := time.Unix(1000, 0)
	list := parseTrace(text, started)
	if len(list) != 2 {
		t.Fatalf("collections = %d; want 2", len(list))
	}
	if got, want := list[1], (collection{started.Add(61 * time.Second), [2]float64{0.05, 1.5}, 210}); got != want {
		t.Errorf("second = %v; want %v", got, want)
	}
}

func TestPhaseOf(t *testing.T) {
	began := time.Unix(1000, 0)
	res := &loadResult{began: began}
	for i := range 10 {
		h := &hist{}
		h.add(int64(i) * int64(time.Millisecond))
		res.seconds = append(res.seconds, h)
	}
	collections := []collection{{at: began.Add(time.Second), pauses: [2]float64{9, 9}}, {at: began.Add(6 * time.Second), pauses: [2]float64{0.1, 0.3}, concurrent: 20}}
	p := phaseOf(res, collections, began.Add(5*time.Second), began.Add(8*time.Second))
	if p.Requests != 3 || p.Max != 7000 || p.Seconds != 3 {
		t.Errorf("requests, longest, seconds = %d, %g, %g; want 3, 7000, 3", p.Requests, p.Max, p.Seconds)
	}
	if p.Collections != 1 || p.LongestMS != 0.3 || p.LongestGC < 20.39 || p.LongestGC > 20.41 {
		t.Errorf("collections, pause, longest = %d, %g, %g; want 1, 0.3, 20.4", p.Collections, p.LongestMS, p.LongestGC)
	}
}

func TestGrowthPoints(t *testing.T) {
	p := growthPlan{of: "backends", name: "capacity", xs: []int{1, 4}, results: [][]*loadResult{
		{result(10, 1000, 100), result(10, 2000, 100)},
		{result(10, 4000, 100), result(10, 4000, 100)},
	}}
	points := p.points()
	if want := (stat{0.75, 0.5, 1}); points[1].Share != want {
		t.Errorf("share of linear = %v; want %v, formed within rounds", points[1].Share, want)
	}
	if want := (stat{10, 10, 10}); points[1].CPU != want {
		t.Errorf("CPU = %v; want %v", points[1].CPU, want)
	}
}

func TestReport(t *testing.T) {
	results, img := t.TempDir(), filepath.Join(t.TempDir(), "img")
	doc := filepath.Join(t.TempDir(), "doc.md")
	text := "# Title\n"
	for _, s := range sections {
		text += "\n<!-- " + s.name + " -->\nstale text\n<!-- /" + s.name + " -->\nkept " + s.name + "\n"
	}
	if err := os.WriteFile(doc, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s := twoCells()
	s.MeanOf = 1
	growth := &growthResult{Rounds: 1, Rate: 1000, Capacity: []point{{X: 1, RPS: stat{1000, 900, 1100}}, {X: 2, RPS: stat{1900, 1800, 2000}}},
		CPU: []series{{"sessions", "256 connections", []point{{X: 1000, CPU: stat{12.5, 12, 13}}}}}}
	flood := &floodResult{Attempt: 23456, Ways: []floodWay{{Name: "flood, no limit", Ratio: stat{1.25, 1, 1.5}}}}
	for name, v := range map[string]any{"flood.json": flood, "peers-one-cpu.json": s, "growth.json": growth, "memory.json": &memoryResult{Idle: memoryPoint{Conns: 12345}}} {
		if err := writeJSON(filepath.Join(results, name), v); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-results", results, "-doc", doc, "-img", img}
	if err := cmdReport(args); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kept peers", "| **geometric mean of the above** | **1.00** | **0.50** | **-** |", "12345 idle connections",
		"23456 connections from one address", "| flood, no limit | - | - | - | 1.25 [1.00–1.50] |",
		"12.5 [12.0–13.0]", "Not measured yet: `make bench-redis`.", "### page, 1 KiB, 32 connections"} {
		if !strings.Contains(string(first), want) {
			t.Errorf("document lacks %q:\n%s", want, first)
		}
	}
	if strings.Contains(string(first), "stale text") {
		t.Errorf("document still has what was there before:\n%s", first)
	}
	for _, name := range []string{"growth-capacity.svg", "growth-cpu-sessions.svg"} {
		if b, err := os.ReadFile(filepath.Join(img, name)); err != nil || !strings.Contains(string(b), "<svg") {
			t.Errorf("%s = %q, %v; want a drawing", name, b, err)
		}
	}
	// A second run changes nothing.
	if err := cmdReport(args); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(doc); string(second) != string(first) {
		t.Errorf("second report = %s; want %s", second, first)
	}
}

func TestReportWithoutMarks(t *testing.T) {
	doc := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(doc, []byte("nothing\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := cmdReport([]string{"-results", t.TempDir(), "-doc", doc}); err == nil || !strings.Contains(err.Error(), "<!-- peers -->") {
		t.Errorf("report = %v; want an error that names the mark", err)
	}
}
