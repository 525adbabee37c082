package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// summary is what compare found, as its tables show it.
type summary struct {
	Machine  machine       `json:"machine"`
	Rounds   int           `json:"rounds"`
	Seconds  float64       `json:"seconds"` // measured in each run
	Baseline string        `json:"baseline"`
	MeanOf   int           `json:"mean_of"` // cells in the geometric mean; 0 is all
	Cells    []cellSummary `json:"cells"`
}

type cellSummary struct {
	Mix     string   `json:"mix"`
	Body    int      `json:"body"`
	Conns   int      `json:"conns"`
	Rows    []row    `json:"rows"`
	Foreign stat     `json:"foreign_cpu_percent"` // CPU time of others and stolen time, of one CPU
	Notes   []string `json:"notes,omitempty"`
}

// row is one contender in one cell.
type row struct {
	Contender  string  `json:"contender"`
	Form       string  `json:"form"`
	RPS        stat    `json:"rps"`
	RPSRatio   stat    `json:"rps_ratio"`
	CPU        stat    `json:"cpu_us_per_request"`
	CPURatio   stat    `json:"cpu_ratio"`
	SysShare   float64 `json:"sys_percent"`
	Busy       float64 `json:"busy_percent"` // of one CPU
	Switches   float64 `json:"switches_per_request"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	P999       float64 `json:"p999_us"`
	PeakMiB    float64 `json:"peak_mib"`
	Errors     int     `json:"errors"`
	Mismatches int     `json:"mismatches"`
}

// stat is a figure over the rounds. The zero value is none.
type stat struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

func statOf(v []float64) stat {
	if len(v) == 0 {
		return stat{}
	}
	v = slices.Sorted(slices.Values(v))
	return stat{(v[(len(v)-1)/2] + v[len(v)/2]) / 2, v[0], v[len(v)-1]}
}

// text writes median [lowest–highest].
func (s stat) text(digits int) string {
	if s == (stat{}) {
		return "-"
	}
	f := func(x float64) string { return strconv.FormatFloat(x, 'f', digits, 64) }
	if s.Low == s.High {
		return f(s.Median)
	}
	return fmt.Sprintf("%s [%s–%s]", f(s.Median), f(s.Low), f(s.High))
}

// machine says where figures come from.
type machine struct {
	Date     string   `json:"date"`
	CPU      string   `json:"cpu"`
	CPUs     int      `json:"cpus"`
	Kernel   string   `json:"kernel"`
	Programs []string `json:"programs"` // with their versions
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %s, %d CPUs, Linux %s, %s", m.Date, m.CPU, m.CPUs, m.Kernel, strings.Join(m.Programs, ", "))
}

func thisMachine() machine {
	m := machine{Date: time.Now().Format("2006-01-02"), CPUs: runtime.NumCPU(), Programs: []string{runtime.Version()}}
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(cpuinfo)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = strings.TrimSpace(string(release))
	for _, command := range [][]string{{"haproxy", "-v"}, {"nginx", "-v"}, {"redis-server", "--version"}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err == nil {
			m.Programs = append(m.Programs, command[0]+" "+versionIn(string(out)))
		}
	}
	return m
}

// versionIn returns the first number with dots in s.
func versionIn(s string) string {
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" =/\n", r) }) {
		w = strings.TrimPrefix(w, "v")
		if strings.Contains(w, ".") && w[0] >= '0' && w[0] <= '9' {
			w, _, _ = strings.Cut(w, "-")
			return w
		}
	}
	return "of unknown version"
}

func cpuPerRequest(r *loadResult) float64 { return r.Watch["proxy"].CPU / float64(max(r.Requests, 1)) }

// add takes in all rounds of a cell.
func (s *summary) add(cl cell, list []contender, results map[string][]*loadResult) {
	cs := cellSummary{Mix: cl.mix, Body: cl.body, Conns: cl.conns}
	var foreign []float64
	notes := map[string]bool{}
	for _, c := range list {
		cs.Rows = append(cs.Rows, newRow(c, results[c.name], results[s.Baseline]))
		for _, r := range results[c.name] {
			own := r.LoadCPU
			for _, p := range r.Watch {
				own += p.CPU
			}
			foreign = append(foreign, 100*max(r.Busy+r.Stolen-own, 0)/(r.Seconds*1e6))
			for _, n := range r.Notes {
				notes[c.name+": "+n] = true
			}
		}
	}
	cs.Foreign = statOf(foreign)
	cs.Notes = slices.Sorted(maps.Keys(notes))
	s.Cells = append(s.Cells, cs)
}

func newRow(c contender, results, base []*loadResult) row {
	over := func(f func(*loadResult) float64) stat {
		var v []float64
		for _, r := range results {
			v = append(v, f(r))
		}
		return statOf(v)
	}
	ratio := func(f func(*loadResult) float64) stat {
		var v []float64
		for i := range min(len(results), len(base)) {
			if a, b := f(results[i]), f(base[i]); a > 0 && b > 0 {
				v = append(v, a/b)
			}
		}
		return statOf(v)
	}
	rps := func(r *loadResult) float64 { return r.RPS }
	w := row{
		Contender: c.name, Form: c.form,
		RPS: over(rps), RPSRatio: ratio(rps),
		P50:  over(func(r *loadResult) float64 { return r.P50 }).Median,
		P99:  over(func(r *loadResult) float64 { return r.P99 }).Median,
		P999: over(func(r *loadResult) float64 { return r.P999 }).Median,
	}
	for _, r := range results {
		w.Errors += r.Errors
		w.Mismatches += r.Mismatches
	}
	if c.command == nil {
		return w
	}
	w.CPU, w.CPURatio = over(cpuPerRequest), ratio(cpuPerRequest)
	w.SysShare = over(func(r *loadResult) float64 {
		p := r.Watch["proxy"]
		return 100 * p.Sys / max(p.User+p.Sys, 1)
	}).Median
	w.Busy = over(func(r *loadResult) float64 { return r.Watch["proxy"].CPU / r.Seconds / 1e4 }).Median
	w.Switches = over(func(r *loadResult) float64 {
		p := r.Watch["proxy"]
		return float64(p.Voluntary+p.Preempted) / float64(max(r.Requests, 1))
	}).Median
	w.PeakMiB = over(func(r *loadResult) float64 { return float64(r.Watch["proxy"].Peak) / 1024 }).Median
	return w
}

func (r *row) name() string {
	if r.Form == "slash" {
		return r.Contender + " (slash)"
	}
	return r.Contender
}

// print writes the cell as a table in Markdown.
func (cs *cellSummary) print(w io.Writer, s *summary) {
	fmt.Fprintf(w, "\n### %v\n\n", cell{cs.Mix, cs.Body, cs.Conns})
	fmt.Fprintf(w, "Medians of %d rounds [lowest–highest]; ratios to %s within each round.\n\n", s.Rounds, s.Baseline)
	fmt.Fprintln(w, "| contender | req/s | ratio | CPU µs/req | ratio | sys share | busy | switches/req | p50 µs | p99 µs | p99.9 µs | RSS MiB | errors | mismatches |")
	fmt.Fprintln(w, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, r := range cs.Rows {
		own := "- | - | - | -"
		rss := "-"
		if r.CPU != (stat{}) {
			own = fmt.Sprintf("%s | %.0f %% | %.0f %% | %.2f", r.CPURatio.text(2), r.SysShare, r.Busy, r.Switches)
			rss = fmt.Sprintf("%.0f", r.PeakMiB)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %.0f | %.0f | %.0f | %s | %d | %d |\n", r.name(),
			r.RPS.text(0), r.RPSRatio.text(2), r.CPU.text(2), own, r.P50, r.P99, r.P999, rss, r.Errors, r.Mismatches)
	}
	fmt.Fprintf(w, "\nCPU time of others and stolen time during the runs, in %% of one CPU: %s\n", cs.Foreign.text(0))
	for _, n := range cs.Notes {
		fmt.Fprintln(w, "\nnote:", n)
	}
}

// meanCells are the cells that the geometric mean is over.
func (s *summary) meanCells() []cellSummary {
	if s.MeanOf > 0 && s.MeanOf < len(s.Cells) {
		return s.Cells[:s.MeanOf]
	}
	return s.Cells
}

// mean is the geometric mean of a contender's figure over meanCells, 0 if one is
// missing.
func (s *summary) mean(contender string, f func(*row) float64) float64 {
	sum := 0.0
	cells := s.meanCells()
	for _, cs := range cells {
		i := slices.IndexFunc(cs.Rows, func(r row) bool { return r.Contender == contender })
		if i < 0 || f(&cs.Rows[i]) <= 0 {
			return 0
		}
		sum += math.Log(f(&cs.Rows[i]))
	}
	return math.Exp(sum / float64(max(len(cells), 1)))
}

func rpsRatio(r *row) float64 { return r.RPSRatio.Median }
func cpuRatio(r *row) float64 { return r.CPURatio.Median }

// printMean writes the geometric means of the median ratios.
func (s *summary) printMean(w io.Writer) {
	fmt.Fprintf(w, "\n### Geometric mean over the first %d loads, ratios to %s\n\n", len(s.meanCells()), s.Baseline)
	fmt.Fprintln(w, "| contender | req/s | CPU per request |\n|---|---:|---:|")
	for _, r := range s.Cells[0].Rows {
		fmt.Fprintf(w, "| %s | %s | %s |\n", r.name(), ratioText(s.mean(r.Contender, rpsRatio)), ratioText(s.mean(r.Contender, cpuRatio)))
	}
}

func ratioText(x float64) string {
	if x == 0 {
		return "-"
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}
