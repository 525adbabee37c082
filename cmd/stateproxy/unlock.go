package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

const unlockHelp = `Releases the lock of a session that pages have waited for too long, because the page that took it hangs or
its web server died: stateproxy unlock [flags] HASH. HASH is the session as tail, status and the log show it.

The page that holds the lock is not told. If it saves later, that is dropped while another page has the
session locked; else it is taken, and overwrites what other pages have saved meanwhile. So make sure that
it is dead, or wait: web servers take over a lock by themselves after executionTimeout, 110 s by default.`

func runUnlock(ctx context.Context, std stdio, args []string) int {
	in := io.Reader(nil)
	if term.IsTerminal(int(os.Stdin.Fd())) {
		in = os.Stdin
	}
	return unlock(ctx, std, in, args)
}

// unlock asks on in whether it may; nil means that nobody is there to answer.
func unlock(ctx context.Context, std stdio, in io.Reader, args []string) int {
	fs := flags(std, "unlock", unlockHelp)
	var c adminClient
	adminFlags(fs, &c)
	yes := fs.Bool("yes", false, "do not ask")
	hash, status, ok := parseName(std, fs, args, "the hash of one session")
	if !ok {
		return status
	}
	if in == nil && !*yes {
		return wrongUsage(std, fs, "want -yes where there is no terminal to ask at")
	}
	var l sessionLock
	if err := c.post(ctx, "lock", map[string]any{"session": hash}, &l); err != nil {
		return failed(std, "unlock", err)
	}
	fmt.Fprint(std.out, l.text())
	if !l.Locked {
		return exitError
	}
	if !*yes && !agrees(std.out, in) {
		fmt.Fprintln(std.out, "Nothing was done.")
		return exitError
	}
	if err := c.act(ctx, "unlock", map[string]any{"session": hash, "lock": l.Lock}); err != nil {
		return failed(std, "unlock", err)
	}
	fmt.Fprintln(std.out, "The lock is released.")
	return exitOK
}

// sessionLock is what /api/v1/lock answers.
type sessionLock struct {
	Session, App, Backend string
	Locked                bool
	AgeSeconds            float64 `json:"age_seconds"`
	Lock                  int64
}

func (l *sessionLock) text() string {
	state := "is not locked"
	if l.Locked {
		state = fmt.Sprintf("has been locked for %v", time.Duration(l.AgeSeconds*float64(time.Second)))
	}
	return fmt.Sprintf("Session %s of %s, on %s, %s.\n", printable(l.Session), printable(l.App), printable(l.Backend), state)
}

// agrees asks whether to go on.
func agrees(out io.Writer, in io.Reader) bool {
	fmt.Fprint(out, "If its page still runs and saves later, that may overwrite what others have saved by then.\nRelease the lock? [y/N] ")
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return false
	}
	answer := strings.ToLower(strings.TrimSpace(lines.Text()))
	return answer == "y" || answer == "yes"
}
