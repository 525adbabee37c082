package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// growth measures how stateproxy does when there is more of something. Capacity:
// slow backends, each of which answers a fixed number of requests per second, so
// that what limits the pool is how evenly the proxy spreads sessions. CPU per
// request: by backends, connections, sessions and handoff windows, everything on
// one CPU.
//
// All backends are in one process, lest the number of processes to wake grows
// with them and is taken for a cost of the proxy.

type growthResult struct {
	Machine  machine  `json:"machine"`
	Rounds   int      `json:"rounds"`
	Seconds  float64  `json:"seconds"`
	Rate     float64  `json:"rate"` // of a slow backend, requests per second
	Capacity []point  `json:"capacity"`
	CPU      []series `json:"cpu"`
}

// series are points along one thing that grows.
type series struct {
	Of     string  `json:"of"`
	Name   string  `json:"name"`
	Points []point `json:"points"`
}

type point struct {
	X      int  `json:"x"`
	RPS    stat `json:"rps"`
	Share  stat `json:"share"` // of RPS at 1 times X; capacity only
	CPU    stat `json:"cpu_us_per_request"`
	Ratio  stat `json:"cpu_ratio"` // of CPU to that of the first X in the same round
	Errors int  `json:"errors"`
}

const growthPort = 19400 // of the first backend

// growthConfig lets 10,000 requests be under way at once, windowConfig a change of
// weights take effect at once and the time be short in which another proxy may go
// by the weights before.
const (
	growthConfig = "limits: {connections: 20000, backend_queue: 10000, backend_wait: 5s}\n"
	windowConfig = "timeouts: {budget: 3s}\nhandoff: {delay: 0s}\n"
	earlyTime    = 6 * time.Second // that time: two budgets
)

type growthTest struct {
	bench    *bench
	program  string
	duration time.Duration
	warmup   time.Duration
}

// growthRun is one run: how many backends, and the load.
type growthRun struct {
	backends int
	config   string // growthConfig if it is empty
	windows  int    // handoffs under way
	pinned   bool   // all on CPU 1
	rate     float64
	load     []string
}

func cmdGrowth(args []string) error {
	fs := flag.NewFlagSet("growth", flag.ExitOnError)
	program := fs.String("stateproxy", "stateproxy", "the program to measure")
	rounds := fs.Int("rounds", 5, "rounds")
	duration := fs.Duration("duration", 4*time.Second, "measured time of a run")
	warmup := fs.Duration("warmup", time.Second, "time under load before that")
	rate := fs.Float64("rate", 1000, "requests per second of a slow backend")
	most := fs.Int("sessions", 1_000_000, "most sessions")
	only := fs.String("only", "capacity,backends,connections,sessions,windows", "what grows, with commas between")
	out := fs.String("out", "", "file to write the result to as JSON; beside it the same as CSV")
	fs.Parse(args)
	wanted := strings.Split(*only, ",")

	b, err := newBench("", "")
	if err != nil {
		return err
	}
	defer b.close()
	g := &growthTest{bench: b, program: *program, duration: *duration, warmup: *warmup}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	res := &growthResult{Machine: thisMachine(), Rounds: *rounds, Seconds: duration.Seconds(), Rate: *rate}
	if slices.Contains(wanted, "capacity") {
		capacity := g.capacity(*rate)
		if err := g.measure(ctx, *rounds, &capacity); err != nil {
			return err
		}
		res.Capacity = capacity.points()
	}
	for _, p := range g.plans(*most) {
		if !slices.Contains(wanted, p.of) {
			continue
		}
		if err := g.measure(ctx, *rounds, &p); err != nil {
			return err
		}
		res.CPU = append(res.CPU, series{p.of, p.name, p.points()})
	}
	res.write(os.Stdout)
	if err := writeJSON(*out, res); err != nil || *out == "" {
		return err
	}
	f, err := os.Create(strings.TrimSuffix(*out, filepath.Ext(*out)) + ".csv")
	if err != nil {
		return err
	}
	if err := res.writeCSV(f); err != nil {
		return err
	}
	return f.Close()
}

// growthPlan is a series to measure: its runs by X, and what came of them.
type growthPlan struct {
	of, name string
	xs       []int
	run      func(x int) growthRun
	results  [][]*loadResult // by index of xs, then round
}

// capacity has as many connections per backend as keep even the least asked one
// busy, and few enough to wait at the most asked one within the proxy's limits.
func (g *growthTest) capacity(rate float64) growthPlan {
	return growthPlan{of: "backends", name: "capacity", xs: []int{1, 2, 4, 8, 16}, run: func(x int) growthRun {
		return growthRun{backends: x, rate: rate, load: []string{"-mix", "get", "-body", "1024",
			"-conns", strconv.Itoa(32 * x), "-sessions", "64000"}}
	}}
}

func (g *growthTest) plans(most int) []growthPlan {
	page := func(conns, sessions int, more ...string) []string {
		return append([]string{"-mix", "page", "-body", "1024", "-conns", strconv.Itoa(conns), "-sessions", strconv.Itoa(sessions)}, more...)
	}
	var sessions []int
	for _, n := range []int{1000, 10_000, 100_000, 1_000_000} {
		if n <= most {
			sessions = append(sessions, n)
		}
	}
	conns := []int{16, 256, 2000, 10_000}
	return []growthPlan{
		{of: "backends", name: "256 connections", xs: []int{1, 3, 10, 30, 100}, run: func(x int) growthRun {
			return growthRun{backends: x, pinned: true, load: page(256, 10_000)}
		}},
		{of: "connections", name: "all with a request under way", xs: conns, run: func(x int) growthRun {
			return growthRun{backends: 3, pinned: true, load: page(x, 40_000)}
		}},
		{of: "connections", name: "16 requests under way at a time", xs: conns, run: func(x int) growthRun {
			return growthRun{backends: 3, pinned: true, load: page(x, 40_000, "-inflight", "16")}
		}},
		{of: "sessions", name: "256 connections", xs: sessions, run: func(x int) growthRun {
			return growthRun{backends: 3, pinned: true, load: page(256, x)}
		}},
		{of: "windows", name: "256 connections", xs: []int{0, 1, 3}, run: func(x int) growthRun {
			return growthRun{backends: 3, windows: x, config: windowConfig, pinned: true, load: page(256, 10_000)}
		}},
	}
}

// measure runs a plan in rounds: every X once, then every X again.
func (g *growthTest) measure(ctx context.Context, rounds int, p *growthPlan) error {
	p.results = make([][]*loadResult, len(p.xs))
	for range rounds {
		for i, x := range p.xs {
			res, err := g.once(ctx, p.run(x))
			if err != nil {
				return fmt.Errorf("%d %s: %w", x, p.of, err)
			}
			p.results[i] = append(p.results[i], res)
			fmt.Fprintf(os.Stderr, "%s, %d %s: %.0f req/s, %.1f µs/req, %d errors %q\n", p.name, x, p.of, res.RPS, cpuPerRequest(res), res.Errors, res.Notes)
		}
	}
	return nil
}

func (g *growthTest) once(ctx context.Context, r growthRun) (*loadResult, error) {
	var addrs []string
	for i := range r.backends {
		addrs = append(addrs, fmt.Sprintf("127.0.0.1:%d", growthPort+i))
	}
	// A folder of its own for each run: beside the config the proxy remembers
	// former backends.
	dir, err := os.MkdirTemp(g.bench.scratch, "growth")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "stateproxy.yaml")
	c := contender{name: "stateproxy", addr: "127.0.0.1:19250", form: "slashless", command: []string{g.program, "run", "-config", config}}
	if err := writeProxyConfig(config, c.addr, addrs, cmp.Or(r.config, growthConfig)); err != nil {
		return nil, err
	}
	g.bench.loadCPU = ""
	if r.pinned {
		g.bench.loadCPU = "1"
		c.command = append([]string{"taskset", "-c", "1"}, c.command...)
	}
	var failed error
	g.bench.during = func(_ contender, p *process) { failed = openWindows(r.windows, config, c.addr, addrs, p) }
	load := append([]string{"-fill", "10m", "-keep", "-warmup", g.warmup.String(), "-duration", g.duration.String()}, r.load...)
	rate := strconv.FormatFloat(r.rate, 'f', -1, 64)
	res, err := g.bench.run(ctx, c, []string{strings.Join(addrs, ",")}, []string{"-rate", rate}, load)
	return res, errors.Join(err, failed)
}

// points sums up the rounds.
func (p *growthPlan) points() (list []point) {
	for i, x := range p.xs {
		pt := point{X: x}
		var rps, share, cpu, ratio []float64
		for round, res := range p.results[i] {
			rps = append(rps, res.RPS)
			cpu = append(cpu, cpuPerRequest(res))
			pt.Errors += res.Errors + res.Mismatches
			if first := cpuPerRequest(p.results[0][round]); first > 0 {
				ratio = append(ratio, cpuPerRequest(res)/first)
			}
			if first := p.results[0][round].RPS; first > 0 && p.name == "capacity" {
				share = append(share, res.RPS/(first*float64(x)/float64(p.xs[0])))
			}
		}
		pt.RPS, pt.CPU, pt.Ratio = statOf(rps), statOf(cpu), statOf(ratio)
		if p.name == "capacity" {
			pt.Share = statOf(share)
		}
		list = append(list, pt)
	}
	return list
}

// write prints the result as tables in Markdown.
func (r *growthResult) write(w io.Writer) {
	fmt.Fprintf(w, "%v. Medians of %d rounds of %g s [lowest–highest].\n", r.Machine, r.Rounds, r.Seconds)
	fmt.Fprintf(w, "\nCapacity of a pool of backends that answer %g requests a second each:\n\n", r.Rate)
	fmt.Fprintln(w, "| backends | req/s | share of linear | proxy CPU µs/req | errors |\n|---:|---:|---:|---:|---:|")
	for _, p := range r.Capacity {
		fmt.Fprintf(w, "| %d | %s | %s | %s | %d |\n", p.X, p.RPS.text(0), p.Share.text(3), p.CPU.text(1), p.Errors)
	}
	for _, s := range r.CPU {
		fmt.Fprintf(w, "\nCPU per request by %s (%s):\n\n| %s | proxy CPU µs/req | ratio | req/s | errors |\n|---:|---:|---:|---:|---:|\n", s.Of, s.Name, s.Of)
		for _, p := range s.Points {
			fmt.Fprintf(w, "| %d | %s | %s | %s | %d |\n", p.X, p.CPU.text(1), p.Ratio.text(2), p.RPS.text(0), p.Errors)
		}
	}
}

func (r *growthResult) writeCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	out.Write([]string{"of", "name", "x", "rps", "rps_low", "rps_high", "share_of_linear", "cpu_us", "cpu_us_low", "cpu_us_high", "cpu_ratio", "errors"})
	number := func(x float64) string { return strconv.FormatFloat(x, 'f', 3, 64) }
	for _, s := range append([]series{{"backends", "capacity", r.Capacity}}, r.CPU...) {
		for _, p := range s.Points {
			share := ""
			if p.Share != (stat{}) {
				share = number(p.Share.Median)
			}
			out.Write([]string{s.Of, s.Name, strconv.Itoa(p.X), number(p.RPS.Median), number(p.RPS.Low), number(p.RPS.High), share,
				number(p.CPU.Median), number(p.CPU.Low), number(p.CPU.High), number(p.Ratio.Median), strconv.Itoa(p.Errors)})
		}
	}
	out.Flush()
	return out.Error()
}
