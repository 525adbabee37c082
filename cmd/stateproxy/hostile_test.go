//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stateproxy/internal/farm"
)

// hostileTime is how long the hostile run lasts. STATEPROXY_HOSTILE makes it
// longer, for example 10m; scripts/hostile does.
func hostileTime(t *testing.T) time.Duration {
	text := os.Getenv("STATEPROXY_HOSTILE")
	if text == "" {
		return 20 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("STATEPROXY_HOSTILE: %v", err)
	}
	return d
}

// Bounds that the proxy must keep.
const (
	hostileRSS  = 256 << 20 // bytes, at most
	hostileMore = 25        // goroutines and descriptors beyond those before, when all is over
)

// What the proxy takes from one address in a second.
const (
	hostileRate     = 1000 // requests
	hostileConnRate = 200  // connections, and ten times as many at once
)

// hostileText is a config with limits that keep one client from another.
func hostileText(s *processes, adminAt string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "listen: %s\nadmin:\n  listen: %s\n", s.listen, adminAt)
	b.WriteString("timeouts:\n  client_stall: 3s\n  client_idle: 5s\n")
	b.WriteString("limits:\n  connections: 1000\n  connections_per_client: 150\n  body: 1MiB\n")
	fmt.Fprintf(&b, "  connection_rate_per_client: %d\n  request_rate_per_client: %d\n", hostileConnRate, hostileRate)
	b.WriteString("handoff:\n  remember: 20000\n") // so that it is soon full, and memory grows no more
	b.WriteString("backends:\n")
	for _, name := range slices.Sorted(maps.Keys(s.address)) {
		fmt.Fprintf(&b, "  - {name: %s, address: %s}\n", name, s.address[name])
	}
	return b.String()
}

// TestHostileClients lets a well-behaved farm and every kind of hostile client at
// one proxy. The farm must notice nothing, and nothing must be left behind.
func TestHostileClients(t *testing.T) {
	s := newProcesses(t, 2)
	file, adminAt := filepath.Join(t.TempDir(), "config.yaml"), freeAddress(t)
	replaceFile(t, file, hostileText(s, adminAt))
	s.start(s.listen, "run", "-config", file)
	f, err := farm.New(farm.Config{Targets: []string{s.listen}, Workers: 2, Pages: 4, Sessions: 300, PagesPerSecond: 100})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := scrape(t, adminAt)
	ctx, cancel := context.WithTimeout(t.Context(), hostileTime(t))
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- f.Run(ctx) }()
	watched := make(chan gauges, 1)
	go func() { watched <- peaks(ctx, t, adminAt) }()
	h := &hostile{t: t, target: s.listen, done: map[string]int{}, saw: map[string]map[string]int{}}
	began := time.Now()
	h.run(ctx)
	took := time.Since(began)
	if err := <-ran; err != nil {
		t.Errorf("farm: %v", err)
	}
	peak := <-watched
	if err := f.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	report := f.Report()
	after := settled(t, adminAt, before)
	t.Logf("farm: %s", report.Summary())
	h.report(took, after.refused["connection_rate_per_client"])
	t.Logf("resident memory: before %.1f MiB, peak %.1f MiB, after %.1f MiB", before.rss/(1<<20), peak.rss/(1<<20), after.rss/(1<<20))
	t.Logf("resident memory, the highest in each tenth of the run, in MiB: %.0f", peak.tenths)
	t.Logf("goroutines: before %.0f, peak %.0f, after %.0f", before.goroutines, peak.goroutines, after.goroutines)
	t.Logf("descriptors: before %.0f, peak %.0f, after %.0f", before.descriptors, peak.descriptors, after.descriptors)
	t.Logf("failed by reason: %s", counted(after.reasons))
	t.Logf("connections refused: %s; locks given back: %.0f", counted(after.refused), after.unlocked)
	if !report.OK() || report.PageErrors() != 0 {
		t.Errorf("%d findings of damage, %d page errors; want none\n%s\n%s", report.Damage(), report.PageErrors(), report.Text(), s.log)
	}
	if after.unlocked == 0 {
		t.Error("no lock of a client that was gone was given back; want some")
	}
	if peak.rss > hostileRSS {
		t.Errorf("resident memory grew to %.0f bytes; want %d at most", peak.rss, hostileRSS)
	}
	for _, reason := range []string{"malformed", "request_too_large", "client_stalled", "client_gone", "cut_tail"} {
		if after.reasons[reason] == 0 {
			t.Errorf("no request failed for %s; want some of each kind of attack counted", reason)
		}
	}
	if after.refused["connections_per_client"] == 0 {
		t.Error("no connection was refused for connections_per_client; want the hoard held off")
	}
	if strings.Contains(s.log.String(), "backend ejected") || strings.Contains(s.log.String(), "panic") {
		t.Errorf("hostile clients had a backend ejected, or worse:\n%s", s.log)
	}
}

// counted shows counts by name.
func counted[N int | float64](counts map[string]N) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%s %v", name, counts[name]))
	}
	return strings.Join(list, ", ")
}

// gauges are what the metrics tell of the proxy's process.
type gauges struct {
	rss, goroutines, descriptors float64
	tenths                       [10]float64        // rss in the tenths of the run, in MiB
	unlocked                     float64            // locks given back
	reasons, refused             map[string]float64 // failed requests, refused connections
}

// scrape reads the metrics.
func scrape(t *testing.T, adminAt string) (g gauges) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + adminAt + "/metrics")
	if err != nil {
		t.Errorf("metrics: %v", err)
		return g
	}
	defer resp.Body.Close()
	g.reasons, g.refused = map[string]float64{}, map[string]float64{}
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		name, text, _ := strings.Cut(sc.Text(), " ")
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue
		}
		name, label, _ := strings.Cut(name, `{reason="`)
		reason := strings.TrimSuffix(label, `"}`)
		switch {
		case name == "stateproxy_request_failures_total" && v > 0:
			g.reasons[reason] = v
		case name == "stateproxy_client_connections_refused_total" && v > 0:
			g.refused[reason] = v
		case name == "process_resident_memory_bytes":
			g.rss = v
		case name == "stateproxy_locks_released_total":
			g.unlocked = v
		case name == "go_goroutines":
			g.goroutines = v
		case name == "process_open_fds":
			g.descriptors = v
		}
	}
	return g
}

// peaks returns the highest values until ctx ends, which has a deadline.
func peaks(ctx context.Context, t *testing.T, adminAt string) (most gauges) {
	began := time.Now()
	end, _ := ctx.Deadline()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		g := scrape(t, adminAt)
		most.rss, most.goroutines, most.descriptors = max(most.rss, g.rss), max(most.goroutines, g.goroutines), max(most.descriptors, g.descriptors)
		tenth := &most.tenths[min(9, 10*time.Since(began)/end.Sub(began))]
		*tenth = max(*tenth, g.rss/(1<<20))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return most
		}
	}
}

// settled waits until the proxy holds no more than before.
func settled(t *testing.T, adminAt string, before gauges) gauges {
	limit := time.After(40 * time.Second)
	for {
		g := scrape(t, adminAt)
		if g.goroutines <= before.goroutines+hostileMore && g.descriptors <= before.descriptors+hostileMore {
			return g
		}
		select {
		case <-limit:
			t.Errorf("%.0f goroutines and %.0f descriptors when all is over, %.0f and %.0f before; want %d more at most",
				g.goroutines, g.descriptors, before.goroutines, before.descriptors, hostileMore)
			return g
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// hostile is what attacks a proxy.
type hostile struct {
	t      *testing.T
	target string

	mu   sync.Mutex
	done map[string]int            // attacks, by kind
	saw  map[string]map[string]int // what came of them, by kind
}

// did counts an attack that is over.
func (h *hostile) did(kind string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done[kind]++
}

// met counts what came of an attack.
func (h *hostile) met(kind, what string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.saw[kind] == nil {
		h.saw[kind] = map[string]int{}
	}
	h.saw[kind][what] += n
}

// report logs what came of each kind of attack, and fails the test if one did not
// do what it is there for. refused is how many connections were too many a second.
func (h *hostile) report(took time.Duration, refused float64) {
	h.t.Helper()
	for _, a := range attacks {
		h.t.Logf("%-15s by %2d: %6d; %s", a.kind, a.clients, h.done[a.kind], counted(h.saw[a.kind]))
		if a.want != "" && h.saw[a.kind][a.want] == 0 {
			h.t.Errorf("%s: none %q of %d; want some", a.kind, a.want, h.done[a.kind])
		}
	}
	most := int(hostileRate * (took.Seconds() + 1))
	if n := h.saw["flood"]["answered"]; n > most {
		h.t.Errorf("the flood got %d answers in %v; want %d at most, the limit of its address", n, took, most)
	}
	most = int(hostileConnRate * (took.Seconds() + 10))
	if n := h.done["connect storm"]; n > most && refused == 0 {
		h.t.Errorf("the storm made %d connections in %v and none was refused for its rate; want %d at most", n, took, most)
	}
}

// run attacks in all ways at once until ctx ends.
func (h *hostile) run(ctx context.Context) {
	var wg sync.WaitGroup
	for i, a := range attacks {
		for j := range a.clients {
			wg.Go(func() {
				v := &villain{
					hostile: h, ctx: ctx, kind: a.kind, from: fmt.Sprintf("127.0.0.%d", 10+i), rng: newRandom(i, j), id: fmt.Sprintf("h%dx%d", i, j),
				}
				for ctx.Err() == nil {
					a.attack(v)
					h.did(a.kind)
					v.pause(a.pause)
				}
			})
		}
	}
	wg.Wait()
}
