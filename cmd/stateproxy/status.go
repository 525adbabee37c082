package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// adminClient asks the admin listener of a proxy.
type adminClient struct {
	address   string
	tokenFile string
}

// adminFlags lets the flags of fs set c.
func adminFlags(fs *flag.FlagSet, c *adminClient) {
	fs.StringVar(&c.address, "admin", "127.0.0.1:42480", "`ADDRESS` of the admin listener")
	fs.StringVar(&c.tokenFile, "token-file", "", "`FILE` with the token, if the admin listener wants one")
}

// get asks for path. The body of the answer, which is 200, is the caller's to
// close.
func (c *adminClient) get(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: c.address, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if c.tokenFile != "" {
		token, err := os.ReadFile(c.tokenFile)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, fmt.Errorf("GET http://%s%s: %s: %s", c.address, path, resp.Status, refusal(resp.Body))
	}
	return resp, nil
}

// refusal returns what an answer that is no good says to people.
func refusal(body io.Reader) string {
	text, _ := io.ReadAll(io.LimitReader(body, 4<<10)) // what there is of it
	var refused struct{ Error string }
	if json.Unmarshal(text, &refused) == nil && refused.Error != "" {
		return refused.Error
	}
	return string(bytes.TrimSpace(text))
}

// maxStatus bounds what is read of a status: a thousand backends fit.
const maxStatus = 16 << 20

func (c *adminClient) status(ctx context.Context) (raw []byte, s *statusReport, err error) {
	const enough = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, enough)
	defer cancel()
	resp, err := c.get(ctx, "/api/v1/status", nil)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if raw, err = io.ReadAll(io.LimitReader(resp.Body, maxStatus)); err != nil {
		return nil, nil, fmt.Errorf("read status: %w", err)
	}
	s = &statusReport{}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, nil, fmt.Errorf("read status: %w", err)
	}
	if s.Version != 1 {
		return nil, nil, fmt.Errorf("read status: want version 1, got %d: use the stateproxy binary of that proxy", s.Version)
	}
	return raw, s, nil
}

// statusReport is what the table shows of /api/v1/status.
type statusReport struct {
	Version int
	Time    time.Time
	Build   struct{ Version, Commit string }

	UptimeSeconds float64 `json:"uptime_seconds"`
	Ready         bool
	Verdict       struct {
		Level    string // info: all is well
		Since    time.Time
		Findings []struct {
			Level, Kind, Backend, Text string
			Since                      time.Time
		}
	}
	Config struct {
		File     string
		LoadedAt time.Time   `json:"loaded_at"`
		LastLoad *statusLoad `json:"last_load"`
	}
	Clients  struct{ Connections, Refused int64 }
	Requests struct {
		InFlight int64 `json:"in_flight"`
		Total    int64
	}
	Pools       []statusPool
	Backends    []statusBackend
	Evacuations []struct {
		Backend             string
		Moved, Left, Failed int
		BlindUntil          time.Time `json:"blind_until"`
		Safe                bool
	}
}

type statusLoad struct {
	At      time.Time
	OK      bool
	Error   string
	Changes []string
	Moved   float64
}

type statusPool struct {
	Name         string
	Applications []string
	Fingerprint  string
	Owners       []struct {
		Backend string
		Share   float64
	}
	Windows []struct {
		Ended, Until time.Time
		Moved        float64
	}
	Next *struct {
		At    time.Time
		Moved float64
	}
}

type statusBackend struct {
	Name, Address, State string
	Weight               int
	FailingSince         time.Time `json:"failing_since"`
	Connections          struct{ Open, Idle, Busy, Waiting int }
	Health               *struct {
		Kept          bool
		Since         time.Time
		Reason        string
		ProbeSeconds  float64   `json:"probe_seconds"`
		ProbeError    string    `json:"probe_error"`
		HoldDownUntil time.Time `json:"hold_down_until"`
		Ejections     int
	}
}

func runStatus(ctx context.Context, std stdio, args []string) int {
	fs := flags(std, "status", "Shows the state of the proxy whose admin listener is at -admin: the verdict, backends, pools,\nhandoff windows and the last reload. Exits 0 if the proxy is ready.")
	var c adminClient
	adminFlags(fs, &c)
	asJSON := fs.Bool("json", false, "print what the proxy says, as JSON; with -watch one line each time")
	watch := fs.Bool("watch", false, "show it again and again until Ctrl-C")
	every := fs.Duration("every", 2*time.Second, "time between two looks with -watch")
	if status, ok := parse(std, fs, args); !ok {
		return status
	}
	if *every < 100*time.Millisecond {
		fmt.Fprintln(std.err, "stateproxy status: -every: want 100ms or more")
		return exitUsage
	}
	show := func() error { return showStatus(ctx, std.out, &c, *asJSON, *watch) }
	if *watch {
		return watchStatus(ctx, std, *every, show)
	}
	switch err := show(); {
	case errors.Is(err, errNotReady):
		return exitError
	case err != nil:
		return failed(std, "status", err)
	}
	return exitOK
}

// errNotReady tells that the status was shown, and that the proxy is not ready.
var errNotReady = errors.New("not ready")

func showStatus(ctx context.Context, w io.Writer, c *adminClient, asJSON, oneLine bool) error {
	raw, s, err := c.status(ctx)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	switch {
	case !asJSON:
		s.print(&b)
	case !oneLine:
		b.Write(raw)
	default:
		if err := json.Compact(&b, raw); err != nil {
			return err
		}
		b.WriteByte('\n')
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return err
	}
	if !s.Ready {
		return errNotReady
	}
	return nil
}

// watchStatus shows the status until ctx ends, troubles in getting it included.
func watchStatus(ctx context.Context, std stdio, every time.Duration, show func() error) int {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if clears(std.out) {
			fmt.Fprint(std.out, "\x1b[H\x1b[2J")
		}
		if err := show(); err != nil && !errors.Is(err, errNotReady) && ctx.Err() == nil {
			fmt.Fprintf(std.err, "%s stateproxy status: %v\n", time.Now().Format(time.TimeOnly), err)
		}
		select {
		case <-tick.C:
			fmt.Fprintln(std.out)
		case <-ctx.Done():
			return exitOK
		}
	}
}

// clears reports whether w is a terminal that takes the sequence which clears it.
// The old Windows console does not.
func clears(w io.Writer) bool {
	return isTerminal(w) && (runtime.GOOS != "windows" || os.Getenv("WT_SESSION") != "")
}

func (s *statusReport) print(w io.Writer) {
	s.printVerdict(w)
	uptime := time.Duration(s.UptimeSeconds * float64(time.Second))
	fmt.Fprintf(w, "\nstateproxy %s, up %s; client connections: %d open, %d refused; requests: %d, %d in flight\n\n",
		s.Build.Version, ago(uptime), s.Clients.Connections, s.Clients.Refused, s.Requests.Total, s.Requests.InFlight)
	s.printBackends(w)
	s.printPools(w)
	s.printConfig(w)
}

// printVerdict prints first what somebody must know who has no time.
func (s *statusReport) printVerdict(w io.Writer) {
	switch v := s.Verdict; {
	case !s.Ready:
		fmt.Fprintln(w, "NOT READY")
	case v.Level == "info":
		fmt.Fprintln(w, "WELL since", s.since(v.Since))
	default:
		fmt.Fprintln(w, "ATTENTION: it is ready, but not all is well")
	}
	for _, f := range s.Verdict.Findings {
		text, rest, more := strings.Cut(f.Text, "\n")
		if f.Backend != "" {
			text = f.Backend + ": " + text
		}
		fmt.Fprintf(w, "  %-5s  %-16s  %s; since %s\n", f.Level, f.Kind, text, s.since(f.Since))
		if more {
			indent := "\n" + strings.Repeat(" ", 27)
			fmt.Fprintln(w, indent[1:]+strings.ReplaceAll(rest, "\n", indent))
		}
	}
}

// since tells when something was, by the proxy's clock.
func (s *statusReport) since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%s (%s ago)", t.Local().Format(time.DateTime), ago(s.Time.Sub(t)))
}

// ago rounds a time span to what people want to know of it.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(max(d, 0).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

func (s *statusReport) printBackends(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "BACKEND\tADDRESS\tSTATE\tWEIGHT\tSINCE\tCONNS\tBUSY\tWAITING\tPROBE MS\tEJECTED\tWHY")
	for _, b := range s.Backends {
		state, since, probe, ejected, why := b.State, "-", "-", "-", ""
		if h := b.Health; h != nil {
			if h.Kept {
				state += ", failing"
			}
			if !h.Since.IsZero() {
				since = ago(s.Time.Sub(h.Since))
			}
			probe, ejected, why = fmt.Sprintf("%.1f", h.ProbeSeconds*1000), fmt.Sprint(h.Ejections), h.Reason
			if h.HoldDownUntil.After(s.Time) {
				why += fmt.Sprintf("; back in %s at the earliest", ago(h.HoldDownUntil.Sub(s.Time)))
			}
		}
		c := b.Connections
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", b.Name, b.Address, state, b.Weight, since, c.Open, c.Busy, c.Waiting, probe, ejected, why)
	}
	t.Flush()
}

func (s *statusReport) printPools(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nPOOL\tAPPLICATIONS\tFINGERPRINT\tSHARE OF SESSIONS")
	for _, p := range s.Pools {
		var owners []string
		for _, o := range p.Owners {
			owners = append(owners, fmt.Sprintf("%s %.1f%%", o.Backend, o.Share*100))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", p.Name, cmp.Or(strings.Join(p.Applications, " "), "all others"), p.Fingerprint,
			cmp.Or(strings.Join(owners, ", "), "NO BACKEND"))
	}
	t.Flush()
	s.printMoves(w)
}

// printMoves tells of sessions on their way from one backend to another.
func (s *statusReport) printMoves(w io.Writer) {
	for _, p := range s.Pools {
		for _, x := range p.Windows {
			fmt.Fprintf(w, "handoff in pool %s: %.1f%% of the sessions move from owners of before %s at their next use; open for another %s\n",
				p.Name, x.Moved*100, x.Ended.Local().Format(time.DateTime), ago(x.Until.Sub(s.Time)))
		}
		if n := p.Next; n != nil {
			fmt.Fprintf(w, "to come in pool %s in %s: %.1f%% of the sessions get another owner\n", p.Name, ago(n.At.Sub(s.Time)), n.Moved*100)
		}
	}
	for _, e := range s.Evacuations {
		fmt.Fprintf(w, "emptying %s: %d sessions moved, %d left, %d failed", e.Backend, e.Moved, e.Left, e.Failed)
		switch {
		case e.Safe:
			fmt.Fprint(w, "; it may be shut down")
		case e.BlindUntil.After(s.Time):
			fmt.Fprintf(w, "; some may be there unknown for another %s", ago(e.BlindUntil.Sub(s.Time)))
		}
		fmt.Fprintln(w)
	}
}

func (s *statusReport) printConfig(w io.Writer) {
	fmt.Fprintf(w, "\nconfig %s in force since %s\n", cmp.Or(s.Config.File, "without a file"), s.since(s.Config.LoadedAt))
	l := s.Config.LastLoad
	if l == nil {
		return
	}
	if !l.OK {
		fmt.Fprintf(w, "  the file was refused %s, see above\n", s.since(l.At))
		return
	}
	for _, c := range l.Changes {
		fmt.Fprintln(w, "  "+c)
	}
	if l.Moved > 0 {
		fmt.Fprintf(w, "  %.1f%% of the sessions of a pool got another owner\n", l.Moved*100)
	}
}
