package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// expiry fills the state server with a million sessions that expire after a
// minute, then asks for others at a steady rate while they do. Latency counts
// from when a request was due, so a pause shows in all that it held up.

type expiryResult struct {
	Machine  machine `json:"machine"`
	Sessions int     `json:"sessions"`
	Body     int     `json:"body"`
	Rate     float64 `json:"rate"` // requests that fell due per second
	Filled   float64 `json:"filled_seconds"`
	Left     int     `json:"left_of_sample"` // expired sessions that were still there at the end
	Peak     int64   `json:"peak_kib"`
	Quiet    phase   `json:"quiet"`    // all sessions are there
	Expiring phase   `json:"expiring"` // from the first that expires to after the last sweep
	Errors   int     `json:"errors"`
}

// phase is a part of the measured time.
type phase struct {
	Seconds     float64 `json:"seconds"`
	Requests    uint64  `json:"requests"`
	P50         float64 `json:"p50_us"`
	P99         float64 `json:"p99_us"`
	P999        float64 `json:"p999_us"`
	Max         float64 `json:"max_us"`
	Collections int     `json:"collections"`
	LongestMS   float64 `json:"longest_pause_ms"` // of the garbage collector
	LongestGC   float64 `json:"longest_collection_ms"`
}

const (
	expiryMinutes = 1
	expirySweep   = 25 * time.Second // within which expired sessions are swept
	expirySample  = 1000
)

func cmdExpiry(args []string) error {
	fs := flag.NewFlagSet("expiry", flag.ExitOnError)
	program := fs.String("stateproxy", "stateproxy", "the program whose server to measure")
	sessions := fs.Int("sessions", 1_000_000, "sessions that expire")
	body := fs.Int("body", 2048, "bytes of a session's body")
	rate := fs.Float64("rate", 5000, "requests per second for other sessions")
	out := fs.String("out", "", "file to write the result to as JSON")
	fs.Parse(args)

	b, err := newBench("", "")
	if err != nil {
		return err
	}
	defer b.close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	const addr = "127.0.0.1:19301"
	log := filepath.Join(b.scratch, "server.log")
	started := time.Now()
	server, err := start(log, []string{*program, "server", "-listen", addr}, []string{"GODEBUG=gctrace=1"})
	if err != nil {
		return err
	}
	defer server.stop()
	context.AfterFunc(ctx, server.stop) // which ends the load, too
	if err := server.listening(addr); err != nil {
		return err
	}

	fill := loadConfig{addr: addr, conns: 64, sessions: *sessions, threads: 1, body: *body, mix: "get", form: "slashless",
		minutes: expiryMinutes, seed: 7, fill: 10 * time.Minute, keep: true, givingUp: 1, printErrors: 1}
	begin := time.Now()
	filled, err := runLoad(fill)
	if err != nil {
		return err
	}
	end := time.Now()
	expires := begin.Add(expiryMinutes * time.Minute)
	swept := end.Add(expiryMinutes*time.Minute + expirySweep)
	steady := loadConfig{addr: addr, conns: 64, sessions: 10_000, threads: 1, body: *body, mix: "page", form: "slashless",
		minutes: 20, seed: 8, warmup: time.Second, duration: time.Until(swept), rate: *rate,
		watch: []watched{{"proxy", server.pid()}}, givingUp: 1000, printErrors: 3}
	loaded, err := runLoad(steady)
	if err != nil {
		return err
	}
	if server.ended() {
		return fmt.Errorf("the server ended: %v %v", filled.Notes, loaded.Notes)
	}
	res := &expiryResult{Machine: thisMachine(), Sessions: *sessions, Body: *body, Rate: *rate, Filled: end.Sub(begin).Seconds(),
		Peak: loaded.Watch["proxy"].Peak, Errors: filled.Errors + loaded.Errors + loaded.Mismatches}
	trace, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	collections := parseTrace(string(trace), started)
	res.Quiet = phaseOf(loaded, collections, loaded.began.Add(time.Second), expires.Add(-time.Second))
	res.Expiring = phaseOf(loaded, collections, expires, swept)
	if res.Left, err = stillThere(addr, &fill); err != nil {
		return err
	}
	res.write(os.Stdout)
	return writeJSON(*out, res)
}

// phaseOf sums up what fell between two times, by whole seconds of the load.
func phaseOf(res *loadResult, collections []collection, from, to time.Time) phase {
	var h hist
	p := phase{}
	for i, s := range res.seconds {
		at := res.began.Add(time.Duration(i) * time.Second)
		if at.Before(from) || at.Add(time.Second).After(to) {
			continue
		}
		h.merge(s)
		p.Seconds++
	}
	p.Requests = h.n
	p.P50, p.P99, p.P999, p.Max = h.us(.5), h.us(.99), h.us(.999), float64(h.max)/1e3
	for _, c := range collections {
		if c.at.Before(from) || c.at.After(to) {
			continue
		}
		p.Collections++
		p.LongestMS = max(p.LongestMS, c.pauses[0], c.pauses[1])
		p.LongestGC = max(p.LongestGC, c.concurrent+c.pauses[0]+c.pauses[1])
	}
	return p
}

// collection is one run of the garbage collector.
type collection struct {
	at         time.Time
	pauses     [2]float64 // ms in which all stood still, before and after
	concurrent float64    // ms between them
}

// parseTrace reads what GODEBUG=gctrace=1 has a program print, among its log:
// gc 1 @0.012s 2%: 0.018+1.3+0.076 ms clock, ...
func parseTrace(text string, started time.Time) (list []collection) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 6 || f[0] != "gc" || f[5] != "ms" || !strings.HasPrefix(f[2], "@") {
			continue
		}
		at, err := strconv.ParseFloat(strings.TrimSuffix(f[2][1:], "s"), 64)
		parts := strings.Split(f[4], "+")
		if err != nil || len(parts) != 3 {
			continue
		}
		var ms [3]float64
		for i, s := range parts {
			ms[i], _ = strconv.ParseFloat(s, 64)
		}
		list = append(list, collection{started.Add(time.Duration(at * float64(time.Second))), [2]float64{ms[0], ms[2]}, ms[1]})
	}
	return list
}

// stillThere asks for a sample of the sessions that were filled.
func stillThere(addr string, fill *loadConfig) (left int, err error) {
	r := &loadRun{cfg: *fill}
	for i := range min(expirySample, fill.sessions) {
		se := &lsession{number: uint32(i * (fill.sessions / min(expirySample, fill.sessions)))}
		r.name(se, 0)
		text, err := ask(nil, addr, "HEAD "+string(se.target)+" HTTP/1.1\r\nHost: 10.0.0.5\r\n\r\n", stall)
		if err != nil {
			return 0, err
		}
		if h, _ := parseHead([]byte(text)); status(h.line) != 404 {
			left++
		}
	}
	return left, nil
}

// write prints the result as a table in Markdown.
func (r *expiryResult) write(w io.Writer) {
	fmt.Fprintf(w, "%v. %d sessions of %s, stored in %.0f s; %g requests per second for others; %d errors; highest memory %d MiB; %d of a sample left at the end.\n\n",
		r.Machine, r.Sessions, sizeName(r.Body), r.Filled, r.Rate, r.Errors, r.Peak>>10, r.Left)
	fmt.Fprintln(w, "| | seconds | requests | p50 µs | p99 µs | p99.9 µs | longest µs | collections | longest pause ms | longest collection ms |")
	fmt.Fprintln(w, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, p := range []struct {
		name string
		phase
	}{{"all are there", r.Quiet}, {"they expire", r.Expiring}} {
		fmt.Fprintf(w, "| %s | %.0f | %d | %.0f | %.0f | %.0f | %.0f | %d | %.2f | %.0f |\n", p.name, p.Seconds, p.Requests,
			p.P50, p.P99, p.P999, p.Max, p.Collections, p.LongestMS, p.LongestGC)
	}
}
