package farm

import (
	"fmt"
	"strings"
	"time"

	"stateproxy/wire"
)

// Report is what a farm has seen so far. Arrays are indexed by the type named
// beside them.
type Report struct {
	Elapsed         time.Duration // in Fill, Run and Verify
	PagesPerSecond  float64       // over the last 10 s
	ErrorsPerSecond float64       // likewise

	Pages    [NumPages]Latency    // by Page: pages that ended
	Ops      [wire.NumOps]Latency // by wire.Op: exchanges, Fill's and Verify's included
	Errors   [NumCauses]uint64    // by Cause: pages that failed
	Alarms   [NumAlarms]uint64    // by Alarm: damage
	Excused  [NumAlarms]uint64    // by Alarm: what a server that died explains
	Examples []string             // the first findings of each kind, without session IDs
	Failures []string             // the first error of each cause that has one

	Sessions       int    // browsers that have one
	Created        uint64 // sessions
	Abandoned      uint64 // sessions
	Expired        uint64 // sessions found gone after their time-out
	Polls          uint64 // times that a session was found locked
	Takeovers      uint64 // locks taken from their holders for their age
	Connections    uint64 // opened
	Verified       uint64 // sessions read by Verify
	VerifiedLocked uint64 // sessions found locked by Verify
}

// Report returns what was seen so far. Its numbers are read one after the other
// while pages go on.
func (f *Farm) Report() Report {
	s := &f.stats
	r := Report{
		Created: s.created.Load(), Abandoned: s.abandoned.Load(), Expired: s.expired.Load(),
		Polls: s.polls.Load(), Takeovers: s.takeovers.Load(), Connections: s.dials.Load(),
		Verified: s.verified.Load(), VerifiedLocked: s.verifiedLocked.Load(),
	}
	for i := range s.kind {
		r.Pages[i] = s.kind[i].latency()
	}
	for i := range s.ops {
		r.Ops[i] = s.ops[i].latency()
	}
	for i := range f.slots {
		if f.slots[i].Load() != nil {
			r.Sessions++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Errors, r.Alarms, r.Excused = s.errors, s.alarms, s.excused
	for _, texts := range s.examples {
		r.Examples = append(r.Examples, texts...)
	}
	for cause, text := range s.failures {
		if text != "" {
			r.Failures = append(r.Failures, Cause(cause).String()+": "+text)
		}
	}
	now := time.Now()
	r.Elapsed = s.elapsed
	if !s.began.IsZero() {
		r.Elapsed += now.Sub(s.began)
	}
	r.PagesPerSecond, r.ErrorsPerSecond = s.rates(now, r.Elapsed)
	return r
}

// rates returns pages and page errors per second over the last whole seconds.
func (s *stats) rates(now time.Time, elapsed time.Duration) (pages, errors float64) {
	var sum second
	for _, at := range s.seconds {
		if age := now.Unix() - at.unix; age >= 1 && age <= recent {
			sum.pages += at.pages
			sum.errors += at.errors
		}
	}
	over := min(max(elapsed.Seconds(), 1), recent)
	return float64(sum.pages) / over, float64(sum.errors) / over
}

// OK reports that no damage was found. Page errors are none: an outage that
// shows is no damage.
func (r Report) OK() bool { return r.Damage() == 0 }

// Damage returns the number of findings of all kinds.
func (r Report) Damage() uint64 { return sum(r.Alarms[:]) }

// PageErrors returns the number of pages that failed.
func (r Report) PageErrors() uint64 { return sum(r.Errors[:]) }

// PagesServed returns the number of pages that ended, well or not.
func (r Report) PagesServed() uint64 {
	var n uint64
	for _, l := range r.Pages {
		n += l.Count
	}
	return n
}

func sum(counts []uint64) uint64 {
	var n uint64
	for _, c := range counts {
		n += c
	}
	return n
}

// Summary returns the report in one line.
func (r Report) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d pages (%.0f/s), %d sessions, ", r.PagesServed(), r.PagesPerSecond, r.Sessions)
	if n := r.PageErrors(); n == 0 {
		b.WriteString("no page errors, ")
	} else {
		fmt.Fprintf(&b, "%d page errors (%s), ", n, list(r.Errors[:], func(i int) string { return Cause(i).String() }))
	}
	if n := sum(r.Excused[:]); n > 0 {
		fmt.Fprintf(&b, "%d losses with their server, ", n)
	}
	if r.OK() {
		b.WriteString("no damage")
	} else {
		b.WriteString("DAMAGE: " + list(r.Alarms[:], func(i int) string { return Alarm(i).String() }))
	}
	return b.String()
}

// list returns the counts above 0 with their names.
func list(counts []uint64, name func(int) string) string {
	var parts []string
	for i, n := range counts {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, name(i)))
		}
	}
	return strings.Join(parts, ", ")
}

// Text returns the report in several lines, the last one ended.
func (r Report) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s in %v\n", r.Summary(), r.Elapsed.Round(time.Millisecond))
	fmt.Fprintf(&b, "sessions: %d created, %d abandoned, %d expired; locks: %d polls, %d takeovers; %d connections\n",
		r.Created, r.Abandoned, r.Expired, r.Polls, r.Takeovers, r.Connections)
	if n := r.Verified + r.VerifiedLocked; n > 0 {
		fmt.Fprintf(&b, "verified: %d sessions, %d of them locked\n", n, r.VerifiedLocked)
	}
	if text := list(r.Excused[:], func(i int) string { return Alarm(i).String() }); text != "" {
		fmt.Fprintf(&b, "gone with their server: %s\n", text)
	}
	b.WriteString("pages                   count        p50        p99        max\n")
	for i, l := range r.Pages {
		writeLatency(&b, Page(i).String(), l)
	}
	b.WriteString("exchanges\n")
	for i, l := range r.Ops {
		writeLatency(&b, wire.Op(i).String(), l)
	}
	for _, text := range r.Failures {
		fmt.Fprintf(&b, "first %s\n", text)
	}
	for _, text := range r.Examples {
		fmt.Fprintf(&b, "damage: %s\n", text)
	}
	return b.String()
}

func writeLatency(b *strings.Builder, name string, l Latency) {
	if l.Count > 0 {
		fmt.Fprintf(b, "  %-18s %9d %10v %10v %10v\n", name, l.Count, round(l.P50), round(l.P99), round(l.Max))
	}
}

// round leaves about three digits of d.
func round(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
