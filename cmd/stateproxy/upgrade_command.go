package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// awaitUpgrade is how long the command waits: a little more than the process.
const awaitUpgrade = readyLimit + 15*time.Second

func runUpgrade(ctx context.Context, std stdio, args []string) int {
	fs := flags(std, "upgrade", "Has the proxy on this machine replaced by a new process of the binary at its path, which takes over\nthe listening sockets: no connection is refused, no request broken. If the new one does not come to\nserve, the old one goes on. Linux only; it takes the right to send SIGUSR2 to the process.")
	var c adminClient
	adminFlags(fs, &c)
	if status, ok := parse(std, fs, args); !ok {
		return status
	}
	if !canUpgrade {
		return failed(std, "upgrade", errors.New("this system can't pass listening sockets to another process; docs/windows.md shows the way with a second instance"))
	}
	ctx, cancel := context.WithTimeout(ctx, awaitUpgrade)
	defer cancel()
	if err := c.upgrade(ctx, std.out); err != nil {
		return failed(std, "upgrade", err)
	}
	return exitOK
}

// process is what the status tells of the process.
type process struct {
	Build struct {
		Version string `json:"version"`
		PID     int    `json:"pid"`
	} `json:"build"`
}

// upgrade asks for the upgrade and waits for what comes of it.
func (c *adminClient) upgrade(ctx context.Context, w io.Writer) error {
	var before process
	if err := c.read(ctx, "/api/v1/status", &before); err != nil {
		return err
	}
	seen, _, err := c.upgradeFailed(ctx, 0)
	if err != nil {
		return err
	}
	if before.Build.PID == 0 {
		return errors.New("the proxy there does not tell which process it is")
	}
	if err := askUpgrade(before.Build.PID); err != nil {
		return fmt.Errorf("signal process %d: %w", before.Build.PID, err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("process %d was told, and neither has a successor nor says why not", before.Build.PID)
		}
		var now process
		if c.read(ctx, "/api/v1/status", &now) != nil {
			continue // between the two
		}
		if now.Build.PID != before.Build.PID {
			fmt.Fprintf(w, "Process %d, version %s, has taken the place of process %d, version %s.\n",
				now.Build.PID, now.Build.Version, before.Build.PID, before.Build.Version)
			return nil
		}
		if _, why, err := c.upgradeFailed(ctx, seen); err == nil && why != "" {
			return errors.New(why)
		}
	}
}

// upgradeFailed returns the number of the last event, and what that of a failed
// upgrade says which came after the one of the given number.
func (c *adminClient) upgradeFailed(ctx context.Context, after int64) (last int64, why string, err error) {
	var list struct {
		Events []struct {
			ID   int64  `json:"id"`
			Kind string `json:"kind"`
			Text string `json:"text"`
		} `json:"events"`
	}
	if err := c.read(ctx, "/api/v1/events", &list); err != nil {
		return 0, "", err
	}
	for _, e := range list.Events {
		last = max(last, e.ID)
		if e.Kind == "upgrade_failed" && e.ID > after {
			why = e.Text
		}
	}
	return last, why, nil
}

// read decodes the JSON at path into v.
func (c *adminClient) read(ctx context.Context, path string, v any) error {
	resp, err := c.get(ctx, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(io.LimitReader(resp.Body, maxStatus)).Decode(v)
}
