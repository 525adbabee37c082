package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

func runTail(ctx context.Context, std stdio, args []string) int {
	fs := flags(std, "tail", "Shows requests as they end, until Ctrl-C. A hash stands for a session: the same one while the proxy runs.")
	var c adminClient
	adminFlags(fs, &c)
	query := url.Values{}
	filter := func(name, parameter, help string) {
		fs.Func(name, help, func(text string) error { query.Set(parameter, text); return nil })
	}
	filter("op", "op", "only these `OPERATIONS`, with commas between: get, get_exclusive, release, set, set_uninitialized,\nremove, reset_timeout, none (unreadable)")
	filter("backend", "backend", "only these `BACKENDS`, with commas between")
	filter("status", "status", "only these `STATUSES`, with commas between, such as 400,closed")
	filter("min-ms", "min_ms", "only those that took `MS` milliseconds or more")
	filter("session", "session", "only those of the session with this `HASH`")
	filter("app", "app", "only those whose application part has `TEXT` in it, in any letter case")
	phases := fs.Bool("phases", false, "show where the time of each request went, in milliseconds; docs/logs.md names the phases")
	asJSON := fs.Bool("json", false, "print the lines as JSON")
	if status, ok := parse(std, fs, args); !ok {
		return status
	}
	resp, err := c.get(ctx, "/api/v1/tail", query)
	if err != nil {
		return failed(std, "tail", err)
	}
	defer resp.Body.Close()
	if !*asJSON {
		fmt.Fprintln(std.out, tailHeading)
	}
	err = copyTail(std.out, resp.Body, *asJSON, *phases)
	switch {
	case ctx.Err() != nil:
		return exitOK
	case err != nil:
		return failed(std, "tail", err)
	}
	fmt.Fprintln(std.err, "stateproxy tail: the proxy has ended the stream")
	return exitError
}

// tailRequest is a line of /api/v1/tail.
type tailRequest struct {
	Time            time.Time
	Client, Op, App string
	Session         string
	Pool, Backend   string
	Status          int
	Reason, Error   string
	MS              float64
	DelayMS         float64 `json:"delay_ms"`
	WaitMS          float64 `json:"wait_ms"`
	HandoffMS       float64 `json:"handoff_ms"`
	QueueMS         float64 `json:"queue_ms"`
	ConnectMS       float64 `json:"connect_ms"`
	SendMS          float64 `json:"send_ms"`
	BodyMS          float64 `json:"body_ms"`
	RequestBytes    int64   `json:"request_bytes"`
	ResponseBytes   int64   `json:"response_bytes"`
	Moved           bool
	LockReleased    bool `json:"lock_released"`
	Dropped         int64
}

// copyTail prints the stream until it ends.
func copyTail(w io.Writer, r io.Reader, asJSON, phases bool) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		b := lines.Bytes()
		if len(b) == 0 { // the stream lives
			continue
		}
		if asJSON {
			if _, err := fmt.Fprintf(w, "%s\n", b); err != nil {
				return err
			}
			continue
		}
		var q tailRequest
		if err := json.Unmarshal(b, &q); err != nil {
			return fmt.Errorf("read a line: %w", err)
		}
		if _, err := io.WriteString(w, q.text(phases)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// tailHeading is the heading over the columns of text.
var tailHeading = fmt.Sprintf(tailColumns, "TIME", "CLIENT", "OPERATION", "SESSION", "STATUS", "BACKEND", "MS", "WAIT", "IN", "OUT", "APPLICATION")

const tailColumns = "%-12s  %-21s  %-17s  %-16s  %-6s  %-12s  %8s  %8s  %8s  %8s  %s"

// text returns the request as a line for people, with its phases if wanted.
func (q *tailRequest) text(phases bool) string {
	var b strings.Builder
	if q.Dropped > 0 {
		fmt.Fprintf(&b, "... %s left out: more came than could be shown\n", count(int(q.Dropped), "request"))
	}
	status := "closed"
	if q.Status != 0 {
		status = fmt.Sprint(q.Status)
	}
	fmt.Fprintf(&b, tailColumns, q.Time.Local().Format("15:04:05.000"), q.Client, q.Op, cmp.Or(q.Session, "-"), status, cmp.Or(q.Backend, "-"),
		fmt.Sprintf("%.1f", q.MS), fmt.Sprintf("%.1f", q.WaitMS), fmt.Sprint(q.RequestBytes), fmt.Sprint(q.ResponseBytes), printable(q.App))
	if phases {
		b.WriteString(q.phases())
	}
	if q.Moved {
		b.WriteString("  moved here")
	}
	if q.LockReleased {
		b.WriteString("  lock given back")
	}
	if q.Reason != "" {
		fmt.Fprintf(&b, "  %s", q.Reason)
	}
	if q.Error != "" {
		fmt.Fprintf(&b, ": %s", printable(q.Error))
	}
	b.WriteByte('\n')
	return b.String()
}

// phases tells where the time of the request went, as far as it is worth telling.
func (q *tailRequest) phases() string {
	var b strings.Builder
	for _, p := range []struct {
		name string
		ms   float64
	}{
		{"delay", q.DelayMS}, {"handoff", q.HandoffMS}, {"queue", q.QueueMS}, {"connect", q.ConnectMS}, {"send", q.SendMS},
		{"answer", q.WaitMS - q.HandoffMS - q.QueueMS - q.ConnectMS - q.SendMS - q.BodyMS},
		{"body", q.BodyMS}, {"reply", q.MS - q.DelayMS - q.WaitMS},
	} {
		if p.ms >= 0.05 {
			fmt.Fprintf(&b, "  %s %.1f", p.name, p.ms)
		}
	}
	return b.String()
}

// printable keeps what a client has chosen from steering the terminal.
func printable(text string) string {
	quoted := fmt.Sprintf("%q", text)
	return quoted[1 : len(quoted)-1]
}
