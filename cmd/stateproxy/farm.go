package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"stateproxy/internal/farm"
)

// farmFlags lets the flags of fs set c.
func farmFlags(fs *flag.FlagSet, c *farm.Config) {
	fs.IntVar(&c.Workers, "workers", 4, "worker processes, each with a socket pool of its own")
	fs.IntVar(&c.Pages, "pages", 8, "pages in flight in each worker process")
	fs.IntVar(&c.Sessions, "sessions", 1000, "browsers, each with a session")
	fs.Float64Var(&c.PagesPerSecond, "rate", 0, "pages per second in all; 0 is as fast as it goes")
}

func runFarm(ctx context.Context, std stdio, args []string) int {
	fs := flags(std, "farm", "Simulates IIS worker processes that keep their sessions at -target, checks everything they get\nback, and exits 0 if no session was lost, damaged or mixed up. Sessions it leaves expire.")
	var c farm.Config
	target := fs.String("target", "", "`ADDRESSES` of the proxies or the state server, with commas between")
	fs.DurationVar(&c.Duration, "duration", 30*time.Second, "time to run; 0 is until Ctrl-C")
	fs.IntVar(&c.Apps, "apps", 2, "applications")
	fs.IntVar(&c.Timeout, "timeout", 20, "`MINUTES` until an unused session expires")
	fs.DurationVar(&c.ExecutionTimeout, "execution-timeout", 110*time.Second, "time after which a page takes a lock over or gives up")
	fs.Uint64Var(&c.Seed, "seed", 0, "names sessions and picks pages; 0 draws one")
	every := fs.Duration("report", 5*time.Second, "time between progress lines; 0 is none")
	lost := fs.Bool("servers-die", false, "take lost sessions for those of servers that were killed on purpose: count them, but do not fail")
	farmFlags(fs, &c)
	if status, ok := parse(std, fs, args); !ok {
		return status
	}
	if *target == "" {
		fmt.Fprintln(std.err, "stateproxy farm: want -target ADDRESS")
		return exitUsage
	}
	c.Targets = strings.Split(*target, ",")
	f, err := farm.New(c)
	if err != nil {
		fmt.Fprintln(std.err, "stateproxy farm:", err)
		return exitUsage
	}
	if *lost {
		f.Excuse(func(string) bool { return true })
	}
	stop := reportEvery(ctx, std.out, *every, func() string { return f.Report().Summary() })
	err = runFarmPhases(ctx, f)
	stop()
	r := f.Report()
	fmt.Fprint(std.out, r.Text())
	switch {
	case err != nil:
		return failed(std, "farm", err)
	case !r.OK():
		return exitError
	}
	return exitOK
}

// runFarmPhases gives every browser a session, lets them ask for pages, and
// looks at every session once more. Ctrl-C ends the second phase only.
func runFarmPhases(ctx context.Context, f *farm.Farm) error {
	if err := f.Fill(ctx); err != nil {
		return err
	}
	if err := f.Run(ctx); err != nil {
		return err
	}
	return f.Verify(context.WithoutCancel(ctx))
}

// reportEvery prints line() again and again until stop is called.
func reportEvery(ctx context.Context, w io.Writer, every time.Duration, line func() string) (stop func()) {
	if every <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintln(w, line())
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
