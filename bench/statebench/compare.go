package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// compare runs one load after the other against every contender, in rounds:
// A B C A B C ... Whatever else the machine does thus hits all alike, and what
// is compared are figures of the same round.

type cell struct {
	mix   string
	body  int
	conns int
}

func (c cell) String() string {
	return fmt.Sprintf("%s, %s, %d connections", c.mix, sizeName(c.body), c.conns)
}

func sizeName(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

type comparison struct {
	bench    *bench
	list     []contender
	backends []string
	rounds   int
	load     []string
	record   io.Writer
	end      time.Time // no run starts after this
}

func cmdCompare(args []string) error {
	fs := flag.NewFlagSet("compare", flag.ExitOnError)
	config := fs.String("config", "contenders/one-cpu.conf", "contenders: lines of name, address, target form (slashless, slash or resp) and command line, or - for no proxy")
	backends := fs.String("backends", "127.0.0.1:19101,127.0.0.1:19102,127.0.0.1:19103", "addresses to start backends on; none for contenders that are servers")
	stateproxy := fs.String("stateproxy", "stateproxy", "the program that {stateproxy} stands for")
	cells := fs.String("cells", "page:1024:256", "loads to run: mix:body:conns,...")
	mean := fs.Int("mean", 0, "cells, from the first on, to form the geometric mean over; 0 is all")
	only := fs.String("only", "", "names of the contenders to run, with commas between; all by default")
	baseline := fs.String("baseline", "", "contender that the ratios are to; the first one by default")
	hup := fs.String("hup", "", "names of contenders to send a SIGHUP every second")
	rounds := fs.Int("rounds", 5, "rounds")
	duration := fs.Duration("duration", 4*time.Second, "measured time of a run")
	warmup := fs.Duration("warmup", time.Second, "time under load before that")
	loadCPU := fs.String("loadcpu", "", "CPUs for load and backends, as taskset -c takes them")
	threads := fs.Int("threads", 1, "event loops of the load generator")
	out := fs.String("out", "", "file to append every run's JSON line to")
	result := fs.String("summary", "", "file to write the tables to as JSON")
	budget := fs.Duration("budget", 6*time.Hour, "no run starts after this time")
	fs.Parse(args)

	plan, err := parseCells(*cells)
	if err != nil {
		return err
	}
	b, err := newBench(*loadCPU, *hup)
	if err != nil {
		return err
	}
	defer b.close()
	cmp := &comparison{bench: b, rounds: *rounds, record: io.Discard, end: time.Now().Add(*budget),
		load: []string{"-duration", duration.String(), "-warmup", warmup.String(), "-threads", strconv.Itoa(*threads)}}
	if *backends != "" {
		cmp.backends = strings.Split(*backends, ",")
	}
	cmp.list, err = readContenders(*config, placeholders{cmp.backends, *stateproxy, b.scratch}, *only)
	if err != nil {
		return err
	}
	if *out != "" {
		f, err := os.OpenFile(*out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		cmp.record = f
	}
	if *baseline == "" {
		*baseline = cmp.list[0].name
	}
	s := &summary{Machine: thisMachine(), Rounds: *rounds, Seconds: duration.Seconds(), Baseline: *baseline, MeanOf: *mean}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, cl := range plan {
		results, err := cmp.cell(ctx, cl)
		if err != nil {
			return err
		}
		s.add(cl, cmp.list, results)
		s.Cells[len(s.Cells)-1].print(os.Stdout, s)
	}
	s.printMean(os.Stdout)
	return writeJSON(*result, s)
}

func parseCells(text string) (plan []cell, err error) {
	for s := range strings.SplitSeq(text, ",") {
		f := strings.Split(s, ":")
		if len(f) != 3 {
			return nil, errors.New("-cells wants mix:body:conns, with commas between")
		}
		body, err1 := strconv.Atoi(f[1])
		conns, err2 := strconv.Atoi(f[2])
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		plan = append(plan, cell{f[0], body, conns})
	}
	return plan, nil
}

// cell runs all rounds of one load.
func (cmp *comparison) cell(ctx context.Context, cl cell) (map[string][]*loadResult, error) {
	results := map[string][]*loadResult{}
	for round := 1; round <= cmp.rounds; round++ {
		seed := rand.Uint64() | 1 // the same sessions for all of a round
		for _, c := range cmp.list {
			if time.Now().After(cmp.end) {
				return nil, errors.New("out of -budget")
			}
			load := append([]string{"-mix", cl.mix, "-body", strconv.Itoa(cl.body), "-conns", strconv.Itoa(cl.conns),
				"-seed", strconv.FormatUint(seed, 10)}, cmp.load...)
			res, err := cmp.bench.run(ctx, c, cmp.backends, nil, load)
			if err != nil {
				return nil, err
			}
			res.Round = round
			results[c.name] = append(results[c.name], res)
			if err := json.NewEncoder(cmp.record).Encode(res); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// writeJSON writes v to a file, if one is named.
func writeJSON(path string, v any) error {
	if path == "" {
		return nil
	}
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
