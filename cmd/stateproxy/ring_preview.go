package main

import (
	"context"
	"fmt"
	"io"
	"math"

	"stateproxy/proxy"
)

// poolPreview is a pool as ring preview shows it.
type poolPreview struct {
	Name         string         `json:"name"`
	Applications []string       `json:"applications"` // patterns; empty: all that no other pool takes
	Fingerprint  string         `json:"fingerprint"`  // 16 hex digits
	Sessions     int            `json:"sessions"`     // that the pool is taken to hold
	Owners       []ownerPreview `json:"owners"`
	Draining     []string       `json:"draining"` // backends that own none any more
}

// ownerPreview is a backend's part in a pool.
type ownerPreview struct {
	Backend string  `json:"backend"`
	Weight  int     `json:"weight"`
	Share   float64 `json:"share"`    // of the pool's sessions, 0 to 1
	Count   float64 `json:"sessions"` // in expectation
	Spread  float64 `json:"spread"`   // four standard deviations of it
}

func previewRing(_ context.Context, std stdio, args []string) int {
	fs := flags(std, "ring preview", "Shows the backends of each pool, their shares of its sessions, and the fingerprint to compare with\na running proxy's.")
	file := fs.String("config", "", configHelp)
	sessions := fs.Int("sessions", 10000, "sessions that each pool is taken to hold")
	asJSON := fs.Bool("json", false, "print it as JSON")
	if status, ok := parse(std, fs, args); !ok {
		return status
	}
	switch {
	case *file == "":
		return wrongUsage(std, fs, "want -config FILE")
	case *sessions < 1:
		return wrongUsage(std, fs, "-sessions: want 1 or more, got %d", *sessions)
	}
	_, l, err := loadLayout(*file)
	if err != nil {
		fmt.Fprintln(std.err, err)
		return exitError
	}
	pools := previewPools(l, *sessions)
	if *asJSON {
		if err := encodeIndented(std.out, map[string]any{"pools": pools}); err != nil {
			return failed(std, fs.Name(), err)
		}
		return exitOK
	}
	for _, p := range pools {
		p.print(std.out)
	}
	fmt.Fprintln(std.out, "± is four standard deviations: by chance one number in some 16000 is off by more.")
	return exitOK
}

func previewPools(l *proxy.Layout, sessions int) (list []poolPreview) {
	for _, q := range l.Pools() {
		p := poolPreview{
			Name: q.Name, Applications: append([]string{}, q.Applications...), Fingerprint: hex(q.Ring.Fingerprint()),
			Sessions: sessions, Owners: []ownerPreview{}, Draining: append([]string{}, q.Draining...),
		}
		for i, m := range q.Ring.Members() {
			share := q.Ring.Share(i)
			count := share * float64(sessions)
			p.Owners = append(p.Owners, ownerPreview{m.Name, m.Weight, share, count, 4 * math.Sqrt(count*(1-share))})
		}
		list = append(list, p)
	}
	return list
}

func (p *poolPreview) print(w io.Writer) {
	serves := "all applications that no other pool takes"
	if len(p.Applications) > 0 {
		serves = "applications " + quoted(p.Applications)
	}
	fmt.Fprintf(w, "pool %s: %s; fingerprint %s\n", p.Name, serves, p.Fingerprint)
	names := append([]string{}, p.Draining...)
	for _, o := range p.Owners {
		names = append(names, o.Backend)
	}
	const heading = "backend"
	width := nameWidth(heading, names)
	fmt.Fprintf(w, "  %-*s  weight    share  of %d sessions\n", width, heading, p.Sessions)
	for _, o := range p.Owners {
		fmt.Fprintf(w, "  %-*s  %6d  %6.2f%%  %.0f ± %.0f\n", width, o.Backend, o.Weight, 100*o.Share, o.Count, math.Ceil(o.Spread))
	}
	for _, name := range p.Draining {
		fmt.Fprintf(w, "  %-*s  drains: owns none\n", width, name)
	}
	fmt.Fprintln(w)
}
