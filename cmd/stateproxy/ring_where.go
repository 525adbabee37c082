package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"stateproxy/proxy"
	"stateproxy/ring"
	"stateproxy/wire"
)

// sought is what ring where looks for. What is routed by is a credential and
// printed nowhere.
type sought struct {
	label  string
	app    []byte
	anyApp bool   // the application is not known
	key    []byte // what is routed by; nil: only the pool is asked for
}

// location is where a session is by one pool.
type location struct {
	Label     string          `json:"label"`               // session 1, session 2, …: as they were given
	Pool      string          `json:"pool"`                // "" if none serves the application
	Pattern   string          `json:"pattern"`             // by which the pool does; "": it takes what no other one takes, or the application is not known
	Alias     string          `json:"alias,omitempty"`     // the application that it is taken for
	AnyApp    bool            `json:"application_unknown"` // the pool is one of all there are
	Owner     string          `json:"owner,omitempty"`     // absent if only the pool was asked for
	Successor string          `json:"successor,omitempty"` // absent if there is no other backend
	Ranks     []rankedBackend `json:"ranks,omitempty"`     // the owner first
	Running   *runningPlace   `json:"running,omitempty"`   // by the proxy at -admin
	taken     string          // how the pool is chosen, for people
}

type rankedBackend struct {
	Backend string `json:"backend"`
	Weight  int    `json:"weight"`
}

// runningPlace is where a running proxy sends a session.
type runningPlace struct {
	Pool        bool      `json:"pool"`                  // it has a pool of that name
	Alike       bool      `json:"alike"`                 // whose ring is that of the config
	Owner       string    `json:"owner"`                 // by its ring
	WindowUntil time.Time `json:"window_until,omitzero"` // former owners are asked until then
}

func locate(ctx context.Context, std stdio, in io.Reader, args []string) int {
	fs := flags(std, "ring where", "Shows which backend owns a session: stateproxy ring where -config FILE SESSION-ID... A session ID is\na credential, and others can see command lines: with - it is read from standard input, one a line.\nIt is printed nowhere.")
	file := fs.String("config", "", configHelp)
	app := fs.String("app", "", "`APPLICATION` of the session IDs, such as /LM/W3SVC/2/ROOT; alone it shows its pool")
	var targets []string
	fs.Func("target", "request `TARGET`, such as %2fLM%2fW3SVC…, instead of a session ID; - reads them from standard input", func(t string) error {
		targets = append(targets, t)
		return nil
	})
	var admin adminClient
	ringAdminFlags(fs, &admin)
	asJSON := fs.Bool("json", false, "print it as JSON")
	ids, status, ok := parseMixed(std, fs, args)
	if !ok {
		return status
	}
	if *file == "" {
		return wrongUsage(std, fs, "want -config FILE")
	}
	list, err := seek(in, ids, targets, *app)
	if err != nil {
		return failed(std, fs.Name(), err)
	}
	if len(list) == 0 {
		return wrongUsage(std, fs, "want a SESSION-ID, -target TARGET or -app APPLICATION")
	}
	_, l, err := loadLayout(*file)
	if err != nil {
		fmt.Fprintln(std.err, err)
		return exitError
	}
	running, err := askRings(ctx, &admin)
	if err != nil {
		return failed(std, fs.Name(), err)
	}
	found, err := findAll(l, list, running)
	if err == nil && *asJSON {
		err = encodeIndented(std.out, map[string]any{"locations": found})
	} else if err == nil {
		printLocations(std.out, found, admin.address)
	}
	if err != nil {
		return failed(std, fs.Name(), err)
	}
	return exitOK
}

// seek makes a list of what the command line and standard input name.
func seek(in io.Reader, ids, targets []string, app string) (list []sought, err error) {
	add := func(s sought) {
		s.label = fmt.Sprintf("session %d", len(list)+1)
		list = append(list, s)
	}
	if ids, err = withLines(in, ids); err != nil {
		return nil, err
	}
	if targets, err = withLines(in, targets); err != nil {
		return nil, err
	}
	for _, id := range ids {
		add(sought{app: []byte(app), anyApp: app == "", key: []byte(id)})
	}
	for _, t := range targets {
		k := wire.ParseTarget(nil, []byte(t))
		add(sought{app: k.App, key: k.RoutingKey()})
	}
	if len(list) == 0 && app != "" {
		list = []sought{{label: "application " + app, app: []byte(app)}}
	}
	return list, nil
}

// withLines returns args with the lines of in where one is "-". Blank ones do not
// count.
func withLines(in io.Reader, args []string) (all []string, err error) {
	for _, arg := range args {
		if arg != "-" {
			all = append(all, arg)
			continue
		}
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 {
				all = append(all, string(line))
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
	}
	return all, nil
}

// findAll looks everything up; where the application is not known, in each pool.
func findAll(l *proxy.Layout, list []sought, running *runningRings) (all []location, err error) {
	for _, s := range list {
		pools := []*proxy.PoolLayout{}
		pattern := ""
		if s.anyApp {
			for i := range l.Pools() {
				pools = append(pools, &l.Pools()[i])
			}
		} else {
			var q *proxy.PoolLayout
			q, pattern = l.Pool(s.app)
			pools = append(pools, q)
		}
		for _, q := range pools {
			at := location{Label: s.label, Pattern: pattern, AnyApp: s.anyApp && (len(pools) > 1 || len(q.Applications) > 0)}
			if !s.anyApp {
				at.Alias, _ = l.Alias(s.app)
			}
			at.taken = at.reason(q)
			if q != nil {
				at.Pool = q.Name
				if err := at.find(q, s.key, running); err != nil {
					return nil, err
				}
			}
			all = append(all, at)
		}
	}
	return all, nil
}

// reason tells how the pool is chosen.
func (at *location) reason(q *proxy.PoolLayout) string {
	switch {
	case q == nil:
		return "no pool serves the application"
	case at.AnyApp && len(q.Applications) > 0:
		return "if the application matches " + quoted(q.Applications)
	case at.AnyApp:
		return "if the application matches no pool's pattern"
	case at.Pattern != "":
		return fmt.Sprintf("its pattern %q takes the application", at.Pattern)
	}
	return "no other pool takes the application"
}

// find ranks the backends of q for key.
func (at *location) find(q *proxy.PoolLayout, key []byte, running *runningRings) error {
	if key == nil {
		return nil
	}
	members := q.Ring.Members()
	for _, i := range q.Ring.Owners(nil, key, len(members)) {
		at.Ranks = append(at.Ranks, rankedBackend{members[i].Name, members[i].Weight})
	}
	if len(at.Ranks) > 0 {
		at.Owner = at.Ranks[0].Backend
	}
	if len(at.Ranks) > 1 {
		at.Successor = at.Ranks[1].Backend
	}
	if running == nil {
		return nil
	}
	at.Running = &runningPlace{}
	p := running.pool(q.Name)
	if p == nil {
		return nil
	}
	r, err := p.ring()
	if err != nil {
		return fmt.Errorf("pool %s of the running proxy: %w", q.Name, err)
	}
	at.Running.Pool, at.Running.Alike = true, p.Fingerprint == hex(q.Ring.Fingerprint())
	at.Running.Owner = ownerIn(r, key)
	for _, w := range p.Windows {
		if w.Until.After(at.Running.WindowUntil) {
			at.Running.WindowUntil = w.Until
		}
	}
	return nil
}

// ownerIn returns the name of key's owner, "" if there is none.
func ownerIn(r *ring.Ring, key []byte) string {
	if i := r.Owner(key); i >= 0 {
		return r.Members()[i].Name
	}
	return ""
}

func printLocations(w io.Writer, list []location, address string) {
	ranked := false
	for _, at := range list {
		fmt.Fprintln(w, at.Label)
		line := func(what, format string, args ...any) {
			fmt.Fprintf(w, "  %-9s  %s\n", what, fmt.Sprintf(format, args...))
		}
		if at.Alias != "" {
			line("alias", "taken for %s", at.Alias)
		}
		if at.Pool == "" {
			line("pool", "none: %s", at.taken)
			continue
		}
		line("pool", "%s: %s", at.Pool, at.taken)
		if at.Ranks != nil {
			ranked = true
			at.printRanks(line)
		}
		if at.Running != nil {
			line("running", "%s", at.Running.text(address, at.Pool))
		}
	}
	if ranked {
		fmt.Fprint(w, "\nWhy: each backend draws a number from its name and the session ID and divides it by its weight; the\n"+
			"lowest one owns the session. It moves only if its owner leaves or loses weight, or if another backend\n"+
			"comes or gains weight.\n")
	}
}

func (at *location) printRanks(line func(what, format string, args ...any)) {
	var ranks []string
	for _, r := range at.Ranks {
		ranks = append(ranks, fmt.Sprintf("%s (weight %d)", r.Backend, r.Weight))
	}
	line("owner", "%s", at.Owner)
	if at.Successor != "" {
		line("successor", "%s, if the owner goes", at.Successor)
	}
	line("ranks", "%s", strings.Join(ranks, ", "))
}

// text tells where the running proxy sends the session.
func (r *runningPlace) text(address, pool string) string {
	if !r.Pool {
		return fmt.Sprintf("the proxy at %s has no pool %s", address, pool)
	}
	owner := "the owner is " + r.Owner
	if r.Owner == "" {
		owner = "no backend may own the session"
	}
	text := fmt.Sprintf("at %s %s, by the same ring", address, owner)
	if !r.Alike {
		text = fmt.Sprintf("at %s %s, by another ring: a backend is ejected, or another config is in force", address, owner)
	}
	if !r.WindowUntil.IsZero() {
		text += "; former owners are asked until " + r.WindowUntil.UTC().Format(time.RFC3339)
	}
	return text
}
