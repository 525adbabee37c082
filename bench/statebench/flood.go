package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// flood measures what one client address that opens very many connections does
// to the others. The flood comes from 127.0.0.2 and asks nothing; the others come
// from 127.0.0.1, at a steady rate, so that a pause shows in all that it held up.
// Each run has a fresh proxy; within a round the three ways take turns, and the
// ratio is to the quiet run of the same round.

type floodResult struct {
	Machine machine    `json:"machine"`
	Rounds  int        `json:"rounds"`
	Seconds float64    `json:"seconds"`
	Rate    float64    `json:"rate"`
	Attempt int        `json:"attempts"`
	Ways    []floodWay `json:"ways"`
}

// floodWay is the others' lot under one kind of flood.
type floodWay struct {
	Name   string `json:"name"`
	Limit  int    `json:"limit"` // of connections per client; 0 is none
	Open   stat   `json:"open"`  // connections that the flood has got
	P50    stat   `json:"p50_us"`
	P99    stat   `json:"p99_us"`
	Ratio  stat   `json:"p99_ratio"` // to the quiet run
	Errors int    `json:"errors"`
}

const (
	floodFrom    = "127.0.0.2"
	floodProxy   = "127.0.0.1:19260"
	floodBackend = "127.0.0.1:19261"
)

type floodTest struct {
	bench   *bench
	program string
	conns   int
	load    []string
}

func cmdFlood(args []string) error {
	fs := flag.NewFlagSet("flood", flag.ExitOnError)
	program := fs.String("stateproxy", "stateproxy", "the program to measure")
	rounds := fs.Int("rounds", 7, "rounds")
	conns := fs.Int("conns", 10000, "connections that the flood opens")
	limit := fs.Int("limit", 100, "limits.connections_per_client in the run with a limit")
	rate := fs.Float64("rate", 1000, "requests of the others per second")
	duration := fs.Duration("duration", 4*time.Second, "measured time of a run")
	out := fs.String("out", "", "file to write the result to as JSON")
	fs.Parse(args)

	b, err := newBench("", "")
	if err != nil {
		return err
	}
	defer b.close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f := &floodTest{bench: b, program: *program, conns: *conns, load: []string{"-mix", "page", "-body", "2048", "-conns", "64",
		"-rate", strconv.FormatFloat(*rate, 'f', -1, 64), "-duration", duration.String(), "-warmup", "1s"}}
	res := &floodResult{Machine: thisMachine(), Rounds: *rounds, Seconds: duration.Seconds(), Rate: *rate, Attempt: *conns}
	res.Ways, err = f.rounds(ctx, *rounds, []floodWay{
		{Name: "no flood"}, {Name: fmt.Sprintf("flood, at most %d per client", *limit), Limit: *limit}, {Name: "flood, no limit"},
	})
	if err != nil {
		return err
	}
	res.write(os.Stdout)
	return writeJSON(*out, res)
}

// rounds runs the ways in turn. The first is the quiet one.
func (f *floodTest) rounds(ctx context.Context, rounds int, ways []floodWay) ([]floodWay, error) {
	type figures struct{ open, p50, p99, ratio []float64 }
	all := make([]figures, len(ways))
	for range rounds {
		quiet := 0.0
		for i := range ways {
			res, open, err := f.run(ctx, i > 0, ways[i].Limit)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				quiet = res.P99
			}
			a := &all[i]
			a.open, a.p50, a.p99 = append(a.open, float64(open)), append(a.p50, res.P50), append(a.p99, res.P99)
			a.ratio = append(a.ratio, res.P99/quiet)
			ways[i].Errors += res.Errors + res.Mismatches
		}
	}
	for i, a := range all {
		w := &ways[i]
		w.Open, w.P50, w.P99, w.Ratio = statOf(a.open), statOf(a.p50), statOf(a.p99), statOf(a.ratio)
	}
	return ways, nil
}

// run measures the others once. open is how many connections the flood has got
// when they begin.
func (f *floodTest) run(ctx context.Context, flood bool, limit int) (res *loadResult, open int, err error) {
	config := filepath.Join(f.bench.scratch, "stateproxy.yaml")
	more := fmt.Sprintf("limits: {connections: %d, connections_per_client: %d}\n", f.conns+1000, limit)
	if err := writeProxyConfig(config, floodProxy, []string{floodBackend}, more); err != nil {
		return nil, 0, err
	}
	var held []net.Conn
	var floodErr error
	f.bench.during = func(contender, *process) {
		if !flood {
			return
		}
		if held, floodErr = openFrom(floodFrom, floodProxy, f.conns); floodErr == nil {
			floodErr = pause(ctx, time.Second) // until the proxy has closed those that are too many
		}
		open = stillOpen(held)
	}
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	proxy := contender{name: "stateproxy", addr: floodProxy, form: "slashless", command: []string{f.program, "run", "-config", config}}
	res, err = f.bench.run(ctx, proxy, []string{floodBackend}, nil, f.load)
	if err == nil {
		err = floodErr
	}
	return res, open, err
}

// openFrom opens n connections and leaves them alone.
func openFrom(ip, addr string, n int) (open []net.Conn, err error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	for range n {
		c, err := d.Dial("tcp", addr)
		if err != nil {
			return open, err
		}
		open = append(open, c)
	}
	return open, nil
}

// stillOpen counts the connections whose peer has not closed them.
func stillOpen(conns []net.Conn) (n int) {
	for _, c := range conns {
		if raw, err := c.(*net.TCPConn).SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) {
				var b [1]byte
				if _, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT); err == syscall.EAGAIN {
					n++
				}
			})
		}
	}
	return n
}

// write prints the result as a table in Markdown.
func (r *floodResult) write(w io.Writer) {
	fmt.Fprintf(w, "%d connections from one address; %g requests per second from another. %v. Medians of %d rounds of %g s [lowest–highest].\n\n",
		r.Attempt, r.Rate, r.Machine, r.Rounds, r.Seconds)
	fmt.Fprintln(w, "| run | flood's connections that stay | others' p50 µs | others' p99 µs | p99 to that without a flood |\n|---|---:|---:|---:|---:|")
	for _, y := range r.Ways {
		fmt.Fprintf(w, "| %s%s | %s | %s | %s | %s |\n", y.Name, errorText(y.Errors), y.Open.text(0), y.P50.text(0), y.P99.text(0), y.Ratio.text(2))
	}
}
