package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// memory measures the resident memory of stateproxy by what it has to hold, and
// the sockets it opens. Buffers in the kernel are not in the figures. Each step
// begins with a fresh proxy and fresh backends.

type memoryResult struct {
	Machine machine      `json:"machine"`
	Rounds  int          `json:"rounds"`
	Base    stat         `json:"base_kib"` // after the start, without clients
	Idle    memoryPoint  `json:"idle"`
	Busy    []memoryStep `json:"busy"`
	Large   []memoryStep `json:"large"`
	Sockets socketCount  `json:"sockets"`
}

type memoryPoint struct {
	Conns   int  `json:"conns"`
	RSS     stat `json:"rss_kib"`
	PerConn stat `json:"kib_per_conn"` // above the base
}

// memoryStep is the highest memory under a load of pages.
type memoryStep struct {
	Body    int  `json:"body"`
	Conns   int  `json:"conns"`
	Peak    stat `json:"peak_kib"`
	PerConn stat `json:"kib_per_conn"` // above the base
	Errors  int  `json:"errors"`
}

type socketCount struct {
	Conns    int            `json:"conns"`
	Inflight int            `json:"inflight"`
	Backends []backendCount `json:"backends"`
	Errors   int            `json:"errors"`
}

type backendCount struct {
	Address string `json:"address"`
	Peak    stat   `json:"peak"`
}

var memoryBackends = []string{"127.0.0.1:19101", "127.0.0.1:19102", "127.0.0.1:19103"}

type memoryTest struct {
	bench    *bench
	proxy    contender
	duration time.Duration
	settle   time.Duration
}

func cmdMemory(args []string) error {
	fs := flag.NewFlagSet("memory", flag.ExitOnError)
	program := fs.String("stateproxy", "stateproxy", "the program to measure")
	rounds := fs.Int("rounds", 3, "rounds")
	idle := fs.Int("idle", 10000, "idle connections")
	busy := fs.Int("busy", 1000, "busy connections")
	large := fs.Int("large", 100_000_000, "bytes of a large body")
	duration := fs.Duration("duration", 5*time.Second, "time under each load")
	settle := fs.Duration("settle", 10*time.Second, "time from the last request to reading the memory of idle connections")
	out := fs.String("out", "", "file to write the result to as JSON")
	fs.Parse(args)

	b, err := newBench("", "")
	if err != nil {
		return err
	}
	defer b.close()
	config := filepath.Join(b.scratch, "stateproxy.yaml")
	m := &memoryTest{bench: b, duration: *duration, settle: *settle,
		proxy: contender{name: "stateproxy", addr: "127.0.0.1:19250", form: "slashless", command: []string{*program, "run", "-config", config}}}
	if err := writeProxyConfig(config, m.proxy.addr, memoryBackends, fmt.Sprintf("limits: {connections: %d}\n", max(*idle, *busy, 10000)+100)); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	res := &memoryResult{Machine: thisMachine(), Rounds: *rounds}
	if err := m.idle(ctx, res, *rounds, *idle); err != nil {
		return err
	}
	for _, body := range []int{1 << 10, 16 << 10, 64 << 10} {
		step, err := m.load(ctx, *rounds, body, *busy, res.Base.Median)
		if err != nil {
			return err
		}
		res.Busy = append(res.Busy, step)
	}
	for _, conns := range []int{1, 4} {
		step, err := m.load(ctx, *rounds, *large, conns, res.Base.Median)
		if err != nil {
			return err
		}
		res.Large = append(res.Large, step)
	}
	if res.Sockets, err = m.sockets(ctx, *rounds, 2000, 64); err != nil {
		return err
	}
	res.write(os.Stdout)
	return writeJSON(*out, res)
}

func rssKiB(pid int) float64 { return float64(readUsage([]int{pid}).rss) }

// idle measures what a connection costs that waits for its next request.
func (m *memoryTest) idle(ctx context.Context, res *memoryResult, rounds, conns int) error {
	var base, rss, per []float64
	for range rounds {
		before, after, err := m.idleOnce(ctx, conns)
		if err != nil {
			return err
		}
		base, rss, per = append(base, before), append(rss, after), append(per, (after-before)/float64(conns))
	}
	res.Base = statOf(base)
	res.Idle = memoryPoint{Conns: conns, RSS: statOf(rss), PerConn: statOf(per)}
	return nil
}

func (m *memoryTest) idleOnce(ctx context.Context, conns int) (before, after float64, err error) {
	backends, err := m.bench.startBackends(memoryBackends)
	if err != nil {
		return 0, 0, err
	}
	defer stopAll(backends)
	p, err := m.bench.startContender(m.proxy)
	if err != nil {
		return 0, 0, err
	}
	defer p.stop()
	if err := pause(ctx, m.settle); err != nil {
		return 0, 0, err
	}
	before = rssKiB(p.pid())
	open := make([]net.Conn, 0, conns)
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range conns {
		c, err := net.Dial("tcp", m.proxy.addr)
		if err != nil {
			return 0, 0, err
		}
		open = append(open, c)
		if err := askOnce(c); err != nil {
			return 0, 0, err
		}
	}
	if err := pause(ctx, m.settle); err != nil {
		return 0, 0, err
	}
	after = rssKiB(p.pid())
	// Those that were closed meanwhile would have cost nothing.
	for _, c := range open {
		if err := askOnce(c); err != nil {
			return 0, 0, fmt.Errorf("an idle connection is not there any more: %w", err)
		}
	}
	return before, after, nil
}

// askOnce sends a request for a session that is not there.
func askOnce(c net.Conn) error {
	head, err := ask(c, "", "HEAD "+appPath+randomID()+" HTTP/1.1\r\nHost: 10.0.0.5\r\n\r\n", stall)
	if err != nil {
		return err
	}
	if h, ok := parseHead([]byte(head)); !ok || status(h.line) != 404 {
		return fmt.Errorf("a session that is not there was answered %q", head)
	}
	return nil
}

func randomID() string {
	b := make([]byte, 24)
	for i := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyz012345"[rand.IntN(32)]
	}
	return string(b)
}

// load measures the highest memory while every connection has a request under
// way.
func (m *memoryTest) load(ctx context.Context, rounds, body, conns int, base float64) (memoryStep, error) {
	step := memoryStep{Body: body, Conns: conns}
	var peak, per []float64
	for range rounds {
		res, err := m.bench.run(ctx, m.proxy, memoryBackends, nil, []string{"-mix", "page", "-body", strconv.Itoa(body),
			"-conns", strconv.Itoa(conns), "-sessions", strconv.Itoa(conns), "-duration", m.duration.String(), "-warmup", "0s"})
		if err != nil {
			return step, err
		}
		kib := float64(res.Watch["proxy"].Peak)
		peak, per = append(peak, kib), append(per, (kib-base)/float64(conns))
		step.Errors += res.Errors + res.Mismatches
	}
	step.Peak, step.PerConn = statOf(peak), statOf(per)
	return step, nil
}

// sockets counts the connections to each backend while many client connections
// are open and a few have a request under way.
func (m *memoryTest) sockets(ctx context.Context, rounds, conns, inflight int) (socketCount, error) {
	count := socketCount{Conns: conns, Inflight: inflight}
	peaks := map[string][]float64{}
	defer func() { m.bench.during = nil }()
	for range rounds {
		counted := make(chan map[string]int, 1)
		m.bench.during = func(_ contender, p *process) {
			go func() { counted <- peakConns(memoryBackends, p.done) }()
		}
		res, err := m.bench.run(ctx, m.proxy, memoryBackends, nil, []string{"-mix", "page", "-body", "2048",
			"-conns", strconv.Itoa(conns), "-inflight", strconv.Itoa(inflight), "-duration", m.duration.String()})
		if err != nil {
			return count, err
		}
		count.Errors += res.Errors + res.Mismatches
		for addr, n := range <-counted {
			peaks[addr] = append(peaks[addr], float64(n))
		}
	}
	for _, addr := range memoryBackends {
		count.Backends = append(count.Backends, backendCount{addr, statOf(peaks[addr])})
	}
	return count, nil
}

// peakConns returns the most connections seen to each address until done.
func peakConns(addrs []string, done <-chan struct{}) map[string]int {
	peak := map[string]int{}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		for addr, n := range connsTo(addrs) {
			peak[addr] = max(peak[addr], n)
		}
		select {
		case <-tick.C:
		case <-done:
			return peak
		}
	}
}

// connsTo counts the established connections that lead to each address, which is
// on this machine.
func connsTo(addrs []string) map[string]int {
	const established = "01"
	byPort := map[string]string{}
	for _, addr := range addrs {
		_, port, _ := net.SplitHostPort(addr)
		n, _ := strconv.Atoi(port)
		byPort[fmt.Sprintf("%04X", n)] = addr
	}
	count := map[string]int{}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, _ := os.ReadFile(file)
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) < 4 || f[3] != established {
				continue
			}
			_, port, _ := strings.Cut(f[2], ":")
			if addr, ok := byPort[port]; ok {
				count[addr]++
			}
		}
	}
	return count
}

// pause waits for d, or less if ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return errors.New("interrupted")
	case <-time.After(d):
		return nil
	}
}

// write prints the result as tables in Markdown.
func (r *memoryResult) write(w io.Writer) {
	fmt.Fprintf(w, "%v. Medians of %d rounds [lowest–highest].\n\n", r.Machine, r.Rounds)
	fmt.Fprintln(w, "| what the proxy holds | resident | per connection, above the base |\n|---|---:|---:|")
	fmt.Fprintf(w, "| no client (the base) | %s MiB | - |\n", mib(r.Base))
	fmt.Fprintf(w, "| %d idle connections | %s MiB | %s KiB |\n", r.Idle.Conns, mib(r.Idle.RSS), r.Idle.PerConn.text(1))
	for _, s := range slices.Concat(r.Busy, r.Large) {
		size := sizeName(s.Body)
		if s.Body%1_000_000 == 0 {
			size = fmt.Sprintf("%d MB", s.Body/1_000_000)
		}
		fmt.Fprintf(w, "| %d busy with sessions of %s%s | peak %s MiB | %s KiB |\n", s.Conns, size, errorText(s.Errors), mib(s.Peak), s.PerConn.text(1))
	}
	fmt.Fprintf(w, "\nWith %d client connections of which %d have a request under way%s:\n\n| backend | most connections to it |\n|---|---:|\n",
		r.Sockets.Conns, r.Sockets.Inflight, errorText(r.Sockets.Errors))
	for i, b := range r.Sockets.Backends {
		fmt.Fprintf(w, "| s%d | %s |\n", i+1, b.Peak.text(0))
	}
}

func mib(kib stat) string {
	return stat{kib.Median / 1024, kib.Low / 1024, kib.High / 1024}.text(1)
}

func errorText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d errors)", n)
}
