package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"stateproxy/bench/chart"
)

// report writes results into a document: what stands between <!-- NAME --> and
// <!-- /NAME --> is replaced by the tables of that name, and drawings go beside
// it. Sections whose results are missing say how to get them.

type section struct {
	name  string
	how   string // the command that measures it
	file  string // the result it shows
	write func(w io.Writer, result []byte) error
}

var sections = []section{
	{"peers", "make bench-peers", "peers-one-cpu.json", writePeers},
	{"peers-two-cpus", "make bench-peers", "peers-two-cpus.json", writeSummaryTables},
	{"peers-tables", "make bench-peers", "peers-one-cpu.json", writeSummaryTables},
	{"observe", "make bench-observe", "observe.json", writePeers},
	{"memory", "make bench-memory", "memory.json", writeResult[*memoryResult]},
	{"growth", "make bench-growth", "growth.json", writeResult[*growthResult]},
	{"redis", "make bench-redis", "redis-one-cpu.json", writePeers},
	{"redis-two-cpus", "make bench-redis", "redis-two-cpus.json", writePeers},
	{"flood", "make bench-flood", "flood.json", writeResult[*floodResult]},
	{"expiry", "make bench-redis", "expiry.json", writeResult[*expiryResult]},
}

func cmdReport(args []string) error {
	fset := flag.NewFlagSet("report", flag.ExitOnError)
	results := fset.String("results", "docs/bench", "folder of the results")
	doc := fset.String("doc", "docs/performance.md", "document to write the tables into")
	img := fset.String("img", "docs/img", "folder for the drawings")
	fset.Parse(args)

	text, err := os.ReadFile(*doc)
	if err != nil {
		return err
	}
	for _, s := range sections {
		content, err := s.content(*results)
		if err != nil {
			return err
		}
		if text, err = replaceSection(text, s.name, content); err != nil {
			return fmt.Errorf("%s: %w", *doc, err)
		}
	}
	if err := os.WriteFile(*doc, text, 0o644); err != nil {
		return err
	}
	return writeDrawings(*results, *img)
}

// content returns what belongs into the section.
func (s *section) content(dir string) ([]byte, error) {
	result, err := os.ReadFile(filepath.Join(dir, s.file))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Appendf(nil, "Not measured yet: `%s`.\n", s.how), nil
	}
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := s.write(&b, result); err != nil {
		return nil, fmt.Errorf("%s: %w", s.file, err)
	}
	return b.Bytes(), nil
}

// replaceSection puts content between the marks of a section.
func replaceSection(text []byte, name string, content []byte) ([]byte, error) {
	open, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, ok := strings.Cut(string(text), open)
	if !ok {
		return nil, errors.New("there is no " + strings.TrimSpace(open))
	}
	_, after, ok := strings.Cut(rest, end)
	if !ok {
		return nil, errors.New("there is no " + end)
	}
	return []byte(before + open + "\n" + strings.TrimSpace(string(content)) + "\n\n" + end + after), nil
}

// writeResult writes the tables of a result that can do so itself.
func writeResult[R interface{ write(io.Writer) }](w io.Writer, result []byte) error {
	var r R
	if err := json.Unmarshal(result, &r); err != nil {
		return err
	}
	r.write(w)
	return nil
}

// writePeers writes one table of ratios: contenders by load.
func writePeers(w io.Writer, result []byte) error {
	var s summary
	if err := json.Unmarshal(result, &s); err != nil {
		return err
	}
	s.writeRatios(w, "CPU per request", func(r *row) stat { return r.CPURatio }, cpuRatio)
	s.writeRatios(w, "Requests per second", func(r *row) stat { return r.RPSRatio }, rpsRatio)
	return nil
}

// writeRatios writes a table of ratios to the baseline: contenders by load.
func (s *summary) writeRatios(w io.Writer, title string, f func(*row) stat, median func(*row) float64) {
	fmt.Fprintf(w, "%s in relation to %s. %v. Medians of %d rounds of %g s [lowest–highest].\n\n| load |", title, s.Baseline, s.Machine, s.Rounds, s.Seconds)
	for _, r := range s.Cells[0].Rows {
		fmt.Fprintf(w, " %s |", r.name())
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---:|", len(s.Cells[0].Rows)))
	for i, cs := range s.Cells {
		fmt.Fprintf(w, "| %v |", cell{cs.Mix, cs.Body, cs.Conns})
		for _, r := range cs.Rows {
			fmt.Fprintf(w, " %s |", f(&r).text(2))
		}
		fmt.Fprintln(w)
		if i+1 == len(s.meanCells()) {
			fmt.Fprintf(w, "| **geometric mean of the above** |")
			for _, r := range cs.Rows {
				fmt.Fprintf(w, " **%s** |", ratioText(s.mean(r.Contender, median)))
			}
			fmt.Fprintln(w)
		}
	}
	fmt.Fprintln(w)
}

// writeSummaryTables writes all figures of each load.
func writeSummaryTables(w io.Writer, result []byte) error {
	var s summary
	if err := json.Unmarshal(result, &s); err != nil {
		return err
	}
	fmt.Fprintln(w, s.Machine)
	for i := range s.Cells {
		s.Cells[i].print(w, &s)
	}
	return nil
}

// writeDrawings draws the growth results, if there are any.
func writeDrawings(results, img string) error {
	b, err := os.ReadFile(filepath.Join(results, "growth.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var g growthResult
	if err := json.Unmarshal(b, &g); err != nil {
		return err
	}
	if err := os.MkdirAll(img, 0o755); err != nil {
		return err
	}
	for name, c := range g.charts() {
		var b bytes.Buffer
		if err := c.Write(&b); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(img, name+".svg"), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// charts returns the drawings by file name.
func (r *growthResult) charts() map[string]*chart.Chart {
	capacity := &chart.Chart{Title: fmt.Sprintf("Capacity of a pool of backends that answer %g requests a second each", r.Rate),
		X: "backends", Y: "requests per second", Lines: []chart.Line{{Name: "through stateproxy"}, {Name: "linear", Dashed: true}}}
	for _, p := range r.Capacity {
		capacity.Lines[0].Points = append(capacity.Lines[0].Points, chartPoint(p.X, p.RPS))
		linear := r.Capacity[0].RPS.Median * float64(p.X) / float64(r.Capacity[0].X)
		capacity.Lines[1].Points = append(capacity.Lines[1].Points, chart.Point{X: float64(p.X), Y: linear})
	}
	list := map[string]*chart.Chart{"growth-capacity": capacity}
	for _, s := range r.CPU {
		name := "growth-cpu-" + s.Of
		if list[name] == nil {
			list[name] = &chart.Chart{Title: "CPU per request by " + s.Of, X: s.Of, Y: "µs of the proxy per request", LogX: s.Of != "windows"}
		}
		line := chart.Line{Name: s.Name}
		for _, p := range s.Points {
			line.Points = append(line.Points, chartPoint(p.X, p.CPU))
		}
		list[name].Lines = append(list[name].Lines, line)
	}
	return list
}

func chartPoint(x int, y stat) chart.Point {
	return chart.Point{X: float64(x), Y: y.Median, Low: y.Low, High: y.High}
}
