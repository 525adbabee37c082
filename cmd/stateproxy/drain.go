package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

func runDrain(ctx context.Context, std stdio, args []string) int {
	fs := flags(std, "drain", "Takes backend NAME out of the ring of the running proxy and has its sessions brought over, so that\nit can be shut down: stateproxy drain [flags] NAME. It lasts until the config file changes.")
	var c adminClient
	adminFlags(fs, &c)
	undo := fs.Bool("undo", false, "put the backend back into the ring")
	wait := fs.Bool("wait", false, "show the progress and exit 0 when the backend is safe to shut down")
	known := fs.Bool("known", false, "with -wait: do not wait for the expiry of sessions that the proxy has not seen")
	name, status, ok := parseName(std, fs, args, "the name of one backend")
	if !ok {
		return status
	}
	action := "drain"
	if *undo {
		action = "undrain"
	}
	if err := c.act(ctx, action, map[string]any{"backend": name}); err != nil {
		return failed(std, "drain", err)
	}
	if *undo {
		fmt.Fprintf(std.out, "%s is in the ring again as soon as handoff.delay is over.\n", name)
		return exitOK
	}
	fmt.Fprintf(std.out, "%s owns no sessions as soon as handoff.delay is over.\n", name)
	if !*wait {
		return exitOK
	}
	if err := awaitDrain(ctx, std.out, &c, name, *known); err != nil {
		return failed(std, "drain", err)
	}
	return exitOK
}

// parseName parses one name with flags before and behind it. want says what it
// is.
func parseName(std stdio, fs *flag.FlagSet, args []string, want string) (name string, status int, ok bool) {
	var names []string
	for more := true; more; more = len(args) > 0 {
		if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
			return "", exitOK, false
		} else if err != nil {
			return "", exitUsage, false
		}
		if args = fs.Args(); len(args) > 0 {
			names, args = append(names, args[0]), args[1:]
		}
	}
	if len(names) != 1 {
		fmt.Fprintf(std.err, "stateproxy %s: want %s\n", fs.Name(), want)
		return "", exitUsage, false
	}
	return names[0], exitOK, true
}

// act has the proxy carry out an action.
func (c *adminClient) act(ctx context.Context, action string, order map[string]any) error {
	return c.post(ctx, "actions/"+action, order, nil)
}

// post sends an order to a path of the API and reads the answer into answer, if
// that is not nil.
func (c *adminClient) post(ctx context.Context, path string, order map[string]any, answer any) error {
	body, err := json.Marshal(order)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.address+"/api/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.tokenFile != "" {
		token, err := os.ReadFile(c.tokenFile)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", strings.TrimPrefix(path, "actions/"), refusal(resp.Body))
	}
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxStatus)).Decode(answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

// evacuation is what the status tells of a backend that is being emptied.
type evacuation struct {
	Backend    string     `json:"backend"`
	Moved      int        `json:"moved"`
	Left       int        `json:"left"`
	InUse      int        `json:"in_use"`
	Failed     int        `json:"failed"`
	Ends       *time.Time `json:"ends"`
	BlindUntil *time.Time `json:"blind_until"`
	Safe       bool       `json:"safe"`
}

func (c *adminClient) evacuation(ctx context.Context, name string) (e evacuation, found bool, err error) {
	resp, err := c.get(ctx, "/api/v1/status", nil)
	if err != nil {
		return e, false, err
	}
	defer resp.Body.Close()
	var s struct {
		Evacuations []evacuation `json:"evacuations"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxStatus)).Decode(&s); err != nil {
		return e, false, err
	}
	for _, e := range s.Evacuations {
		if e.Backend == name {
			return e, true, nil
		}
	}
	return e, false, nil
}

// awaitDrain shows the progress until the backend is empty. known is whether it
// is enough that the sessions which the proxy knows of have left.
func awaitDrain(ctx context.Context, w io.Writer, c *adminClient, name string, known bool) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	show := drainProgress{w: w, terminal: isTerminal(w)}
	for {
		e, found, err := c.evacuation(ctx, name)
		switch {
		case err != nil:
			return err
		case !found:
			show.line(name+" still owns sessions", "")
		case e.Safe || known && e.Left == 0:
			show.end()
			if e.Safe {
				fmt.Fprintf(w, "%s is empty: %d sessions moved. It is safe to shut down.\n", name, e.Moved)
			} else {
				fmt.Fprintf(w, "All known sessions have left %s, %d of them moved. %s\n", name, e.Moved, blindText(e))
			}
			return nil
		default:
			show.evacuation(name, e)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			show.end()
			return ctx.Err()
		}
	}
}

func blindText(e evacuation) string {
	if e.BlindUntil == nil {
		return ""
	}
	return "Sessions that the proxy has not seen may be there until " + e.BlindUntil.Local().Format("15:04:05") + "."
}

// drainProgress shows one line that changes: in place on a terminal, else each text
// once.
type drainProgress struct {
	w        io.Writer
	terminal bool
	last     string
}

const barWidth = 30

func (p *drainProgress) evacuation(name string, e evacuation) {
	bar := ""
	if total := e.Moved + e.Left; total > 0 && p.terminal {
		full := barWidth * e.Moved / total
		bar = "[" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "] "
	}
	text := fmt.Sprintf("%s: %d moved, %d left", name, e.Moved, e.Left)
	if e.InUse > 0 {
		text += fmt.Sprintf(", %d of them in use", e.InUse)
	}
	if e.Failed > 0 {
		text += fmt.Sprintf(", %d failed and tried again", e.Failed)
	}
	switch {
	case e.Ends != nil:
		text += ", done at about " + e.Ends.Local().Format("15:04:05")
	case e.Left == 0:
		text += ". " + blindText(e)
	}
	p.line(text, bar)
}

func (p *drainProgress) line(text, bar string) {
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s%s", bar, text)
	} else if text != p.last {
		fmt.Fprintln(p.w, text)
	}
	p.last = text
}

// end leaves the line that changes.
func (p *drainProgress) end() {
	if p.terminal && p.last != "" {
		fmt.Fprintln(p.w)
	}
}
