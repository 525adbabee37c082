package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"stateproxy/internal/config"
	"stateproxy/proxy"
	"stateproxy/ring"
)

// ringDiff is what ring diff shows.
type ringDiff struct {
	Changes  []string      `json:"changes"` // of backends and pools, lines for people
	Moved    float64       `json:"moved"`   // largest share of a pool's sessions with another owner
	MaxMove  float64       `json:"max_move"`
	Refused  bool          `json:"refused"`            // a reload would be: Moved is above MaxMove
	Sessions int64         `json:"sessions,omitempty"` // that there are; absent if not known
	Passages []passageDiff `json:"passages"`
	Notes    []string      `json:"notes"` // on the running proxy, lines for people

	old *proxy.Layout
}

// passageDiff is what becomes of the sessions of some applications.
type passageDiff struct {
	Patterns []string   `json:"patterns"`  // of the applications; "" is those that match none
	From     string     `json:"from_pool"` // "" if none served them
	To       string     `json:"to_pool"`   // "" if none would serve them
	Moved    float64    `json:"moved"`     // share of their sessions with another owner
	Count    int64      `json:"sessions_moved,omitempty"`
	Flows    []flowDiff `json:"flows"`
}

// flowDiff is what moves between two backends.
type flowDiff struct {
	From  string  `json:"from"`
	To    string  `json:"to"`
	Share float64 `json:"share"` // of the applications' sessions
}

func diffRings(ctx context.Context, std stdio, args []string) int {
	fs := flags(std, "ring diff", "Shows which share of the sessions gets another owner if the config file NEW takes the place of OLD,\nand from which backend to which: stateproxy ring diff OLD NEW. The shares are exact, by calculation.\nExits 1 if a reload would be refused because of handoff.max_move.")
	var files []string
	fs.Func("config", "config `FILE`, first the old one, then the new one", func(file string) error {
		files = append(files, file)
		return nil
	})
	var admin adminClient
	ringAdminFlags(fs, &admin)
	sessions := fs.Int64("sessions", 0, "sessions there are, to tell how many move; by default what the proxy at -admin knows, if it says")
	asJSON := fs.Bool("json", false, "print it as JSON")
	others, status, ok := parseMixed(std, fs, args)
	if !ok {
		return status
	}
	if files = append(files, others...); len(files) != 2 {
		return wrongUsage(std, fs, "want two config files, the old and the new one, got %d", len(files))
	}
	if *sessions < 0 {
		return wrongUsage(std, fs, "-sessions: want 0 or more, got %d", *sessions)
	}
	running, err := askRings(ctx, &admin)
	if err != nil {
		return failed(std, fs.Name(), err)
	}
	d, err := newRingDiff(files[0], files[1], *sessions)
	if err != nil {
		fmt.Fprintln(std.err, err)
		return exitError
	}
	if running != nil {
		d.compare(running, admin.address)
	}
	d.estimate()
	if *asJSON {
		if err := encodeIndented(std.out, d); err != nil {
			return failed(std, fs.Name(), err)
		}
	} else {
		d.print(std.out)
	}
	if d.Refused {
		return exitError
	}
	return exitOK
}

func newRingDiff(oldFile, newFile string, sessions int64) (*ringDiff, error) {
	oldConfig, oldLayout, err := loadLayout(oldFile)
	if err != nil {
		return nil, err
	}
	newConfig, newLayout, err := loadLayout(newFile)
	if err != nil {
		return nil, err
	}
	d := &ringDiff{Changes: []string{}, MaxMove: newConfig.Handoff.MaxMove, Sessions: sessions, Passages: []passageDiff{}, Notes: []string{}, old: oldLayout}
	for _, line := range config.Diff(oldConfig, newConfig) {
		if strings.HasPrefix(line, "backends") || strings.HasPrefix(line, "pools") {
			d.Changes = append(d.Changes, line)
		}
	}
	for _, p := range oldLayout.Passages(newLayout) {
		pd := diffPassage(p)
		d.Moved = max(d.Moved, pd.Moved)
		d.Passages = append(d.Passages, pd)
	}
	d.Refused = exceeds(d.Moved, d.MaxMove)
	return d, nil
}

// compare notes where the running proxy's rings are not those of the old config,
// and takes its number of sessions if none is given.
func (d *ringDiff) compare(running *runningRings, address string) {
	if d.Sessions == 0 {
		d.Sessions = running.Remembered
	}
	for _, q := range d.old.Pools() {
		have := running.pool(q.Name)
		switch want := hex(q.Ring.Fingerprint()); {
		case have == nil:
			d.Notes = append(d.Notes, fmt.Sprintf("the proxy at %s has no pool %s: it runs by another config than the old one", address, q.Name))
		case have.Fingerprint != want:
			d.Notes = append(d.Notes, fmt.Sprintf("the proxy at %s routes pool %s by another ring than the old config's, %s and not %s: a backend is ejected, or another config is in force",
				address, q.Name, have.Fingerprint, want))
		}
	}
}

// estimate tells how many sessions move of those that there are.
func (d *ringDiff) estimate() {
	for i := range d.Passages {
		p := &d.Passages[i]
		p.Count = int64(math.Round(p.Moved * float64(d.Sessions)))
	}
}

func diffPassage(p proxy.Passage) passageDiff {
	d := passageDiff{Patterns: p.Patterns, Flows: []flowDiff{}}
	switch {
	case p.From == nil: // no backend has sessions of theirs
		d.To = p.To.Name
	case p.To == nil:
		d.From, d.Moved = p.From.Name, 1
	default:
		d.From, d.To, d.Moved = p.From.Name, p.To.Name, ring.Moved(p.From.Ring, p.To.Ring)
		for _, f := range ring.Flows(p.From.Ring, p.To.Ring) {
			d.Flows = append(d.Flows, flowDiff{f.From, f.To, math.Round(f.Share*1e12) / 1e12})
		}
	}
	return d
}

func (d *ringDiff) print(w io.Writer) {
	for _, line := range d.Changes {
		fmt.Fprintln(w, line)
	}
	if len(d.Changes) > 0 {
		fmt.Fprintln(w)
	}
	for _, p := range d.Passages {
		p.print(w, d.Sessions, len(d.Passages) == 1)
	}
	if d.Refused {
		fmt.Fprintf(w, "A reload would be refused: handoff.max_move is %s, and %s of a pool's sessions would move.\n", percent(d.MaxMove), percent(d.Moved))
	}
	for _, note := range d.Notes {
		fmt.Fprintln(w, "Note: "+note+".")
	}
}

// print prints the passage. sessions is how many there are in all, 0 if that is
// not known, and alone says that all of them are the passage's.
func (p *passageDiff) print(w io.Writer, sessions int64, alone bool) {
	fmt.Fprintf(w, "%s: ", p.heading())
	switch {
	case p.From == "":
		fmt.Fprint(w, "no pool has served them\n\n")
		return
	case p.To == "":
		fmt.Fprint(w, "no pool would serve them any more, and their sessions are out of reach\n\n")
		return
	case p.Moved == 0:
		fmt.Fprint(w, "no session gets another owner\n\n")
		return
	}
	fmt.Fprintf(w, "%.2f%% of the sessions get another owner", 100*p.Moved)
	switch {
	case sessions > 0 && alone:
		fmt.Fprintf(w, ", about %d of %d", p.Count, sessions)
	case sessions > 0:
		fmt.Fprintf(w, ", about %d if all %d are theirs", p.Count, sessions)
	}
	fmt.Fprintln(w)
	p.printMatrix(w)
	fmt.Fprintln(w)
}

// heading names the pool, or the applications if they change pools.
func (p *passageDiff) heading() string {
	if p.From == p.To {
		return "pool " + p.From
	}
	pool := func(name string) string {
		if name == "" {
			return "no pool"
		}
		return "pool " + name
	}
	patterns := slices.DeleteFunc(slices.Clone(p.Patterns), func(s string) bool { return s == "" })
	which := "applications " + quoted(patterns)
	switch {
	case len(patterns) == 0:
		which = "applications that match no pattern"
	case len(patterns) < len(p.Patterns):
		which += " and those that match no pattern"
	}
	return fmt.Sprintf("%s, from %s to %s", which, pool(p.From), pool(p.To))
}

// printMatrix prints a line for each backend that loses sessions and a column for
// each that gets some.
func (p *passageDiff) printMatrix(w io.Writer) {
	var from, to []string
	shares := map[[2]string]float64{}
	for _, f := range p.Flows {
		from, to = append(from, f.From), append(to, f.To)
		shares[[2]string{f.From, f.To}] = f.Share
	}
	slices.Sort(to)
	from, to = slices.Compact(from), slices.Compact(to)
	const heading, cell = "from \\ to", 8
	width := nameWidth(heading, from)
	fmt.Fprintf(w, "  %-*s", width, heading)
	for _, name := range to {
		fmt.Fprintf(w, "  %*s", cell, name)
	}
	fmt.Fprintln(w)
	for _, name := range from {
		fmt.Fprintf(w, "  %-*s", width, name)
		for _, other := range to {
			text := "-"
			if share, ok := shares[[2]string{name, other}]; ok {
				text = fmt.Sprintf("%.2f%%", 100*share)
			}
			fmt.Fprintf(w, "  %*s", max(cell, len(other)), text)
		}
		fmt.Fprintln(w)
	}
}
