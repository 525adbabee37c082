package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"stateproxy/internal/config"
	"stateproxy/proxy"
	"stateproxy/ring"
)

// ringCommands are what runRing dispatches to.
var ringCommands = []command{
	{"preview", "which backends own what share of the sessions by a config file", previewRing},
	{"diff", "which sessions a change of the config file would move, and where to", diffRings},
	{"where", "which backend owns a session, and why", func(ctx context.Context, std stdio, args []string) int {
		return locate(ctx, std, os.Stdin, args)
	}},
}

func runRing(ctx context.Context, std stdio, args []string) int {
	if len(args) > 0 {
		for _, c := range ringCommands {
			if c.name == args[0] {
				return c.run(ctx, std, args[1:])
			}
		}
	}
	w, status := std.err, exitUsage
	switch {
	case len(args) > 0 && slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]):
		w, status = std.out, exitOK
	case len(args) > 0:
		fmt.Fprintf(w, "stateproxy ring: there is no subcommand %q\n\n", args[0])
	}
	fmt.Fprint(w, "usage: stateproxy ring SUBCOMMAND [flags]\n\nTells where sessions go. All but what -admin asks for comes from config files alone, with every\nbackend taken for up.\n\n")
	for _, c := range ringCommands {
		fmt.Fprintf(w, "  %-8s %s\n", c.name, c.summary)
	}
	return status
}

// parseMixed parses args, in which flags and other arguments may come in any
// order, and returns the others. If ok is false the subcommand ends with status.
func parseMixed(std stdio, fs *flag.FlagSet, args []string) (others []string, status int, ok bool) {
	if slices.ContainsFunc(args, func(a string) bool { return a == "-h" || a == "-help" || a == "--help" }) {
		fs.SetOutput(std.out)
	}
	for {
		switch err := fs.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			return nil, exitOK, false
		case err != nil:
			return nil, exitUsage, false
		case fs.NArg() == 0:
			return others, exitOK, true
		}
		others = append(others, fs.Arg(0))
		args = fs.Args()[1:]
	}
}

// wrongUsage prints what is wrong with the command line.
func wrongUsage(std stdio, fs *flag.FlagSet, format string, args ...any) int {
	fmt.Fprintf(std.err, "stateproxy %s: %s\n", fs.Name(), fmt.Sprintf(format, args...))
	return exitUsage
}

// loadLayout reads a config file and tells where it sends sessions.
func loadLayout(file string) (*config.Config, *proxy.Layout, error) {
	c, _, err := config.Load(file)
	if err != nil {
		return nil, nil, err
	}
	l, err := proxy.NewLayout(proxySettings(c))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, l, nil
}

// encodeIndented prints v as JSON.
func encodeIndented(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// hex returns a fingerprint as the status shows it.
func hex(fingerprint uint64) string { return fmt.Sprintf("%016x", fingerprint) }

// quoted returns patterns for people.
func quoted(patterns []string) string {
	list := make([]string, len(patterns))
	for i, p := range patterns {
		list[i] = fmt.Sprintf("%q", p)
	}
	return strings.Join(list, ", ")
}

// nameWidth returns the width of a column of names under a heading.
func nameWidth(heading string, names []string) int {
	width := len(heading)
	for _, name := range names {
		width = max(width, len(name))
	}
	return width
}

// runningRings is what a running proxy tells of where sessions go.
type runningRings struct {
	Remembered int64 `json:"remembered_sessions"` // 0 if it does not say
	Pools      []runningPool
}

type runningPool struct {
	Name        string
	Fingerprint string
	Owners      []struct {
		Backend string
		Weight  int
	}
	Windows []struct {
		Until time.Time
		Moved float64
	}
}

// askRings asks a running proxy, or returns nil if there is no address.
func askRings(ctx context.Context, c *adminClient) (*runningRings, error) {
	if c.address == "" {
		return nil, nil
	}
	raw, _, err := c.status(ctx)
	if err != nil {
		return nil, err
	}
	r := &runningRings{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	return r, nil
}

// ringAdminFlags is adminFlags for subcommands that can do without a proxy.
func ringAdminFlags(fs *flag.FlagSet, c *adminClient) {
	adminFlags(fs, c)
	c.address = ""
	f := fs.Lookup("admin")
	f.DefValue, f.Usage = "", "`ADDRESS` of the admin listener of a running proxy, to compare with; none by default"
}

// pool returns the pool of that name, nil if the proxy has none.
func (r *runningRings) pool(name string) *runningPool {
	i := slices.IndexFunc(r.Pools, func(p runningPool) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Pools[i]
}

// ring returns the ring in force.
func (p *runningPool) ring() (*ring.Ring, error) {
	var members []ring.Member
	for _, o := range p.Owners {
		members = append(members, ring.Member{Name: o.Backend, Weight: o.Weight})
	}
	return ring.New(members)
}
