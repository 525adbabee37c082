// Command stateproxy routes ASP.NET sessions over a pool of state servers. Run
// it without arguments for a list of its subcommands.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// command is a subcommand. run gets the arguments behind its name and returns
// the exit status.
type command struct {
	name    string
	summary string
	run     func(ctx context.Context, std stdio, args []string) int
}

// stdio is what a subcommand reads and writes; tests bring their own.
type stdio struct {
	out, err io.Writer
}

// Exit statuses.
const (
	exitOK    = 0
	exitError = 1 // it was tried and went wrong
	exitUsage = 2 // the command line was wrong
)

func commands() []command {
	return []command{
		{"run", "route session traffic by a config file", runProxy},
		{"check", "check a config file and print every problem", checkConfig},
		{"demo", "proxy, three state servers and simulated traffic on loopback", runDemo},
		{"server", "run the built-in state server alone", runServer},
		{"farm", "simulate an IIS farm against a proxy or state server and look for damage", runFarm},
		{"drain", "empty a backend so that it can be shut down, or take that back", runDrain},
		{"unlock", "release a session that has been locked for too long", runUnlock},
		{"upgrade", "have a running proxy replaced by a new process, without a refused connection", runUpgrade},
		{"status", "show the state of the proxy on this machine", runStatus},
		{"tail", "show requests as they end", runTail},
		{"probe", "try the way to one state server or proxy and say what is wrong", runProbe},
		{"ring", "show where sessions go by a config file, and what a change of it moves", runRing},
		{"service", "run as a Windows service: install, uninstall, start, stop, reload, status", runService},
		{"healthcheck", "exit 0 if the proxy on this machine is ready, for containers", runHealthcheck},
		{"version", "print version, commit and platform", printVersion},
	}
}

// threads returns how many threads run Go code at once. suggested is what the
// runtime would take: the CPUs, or fewer where a quota allows less. There is one
// more, for all that is not run by the workers of connections, of which there is
// one fewer than threads (internal/sock). A choice by GOMAXPROCS is kept to, but
// for a single thread.
func threads(suggested int, chosen bool) int {
	if chosen {
		return max(suggested, 2)
	}
	return suggested + 1
}

func main() {
	// The state server has no such workers, and keeps to the CPUs: where threads take
	// turns on one, the one that sweeps may be put aside with sessions locked.
	chosen := os.Getenv("GOMAXPROCS") != "" || len(os.Args) > 1 && os.Args[1] == "server"
	runtime.GOMAXPROCS(threads(runtime.GOMAXPROCS(0), chosen))
	// The first signal ends things in order, a second one at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(dispatch(ctx, stdio{os.Stdout, os.Stderr}, os.Args[1:]))
}

func dispatch(ctx context.Context, std stdio, args []string) int {
	if len(args) == 0 {
		usage(std.err)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(std.out)
		return exitOK
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, std, args[1:])
		}
	}
	fmt.Fprintf(std.err, "stateproxy: there is no subcommand %q\n\n", args[0])
	usage(std.err)
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "stateproxy routes ASP.NET sessions over a pool of state servers.\n\nusage: stateproxy SUBCOMMAND [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\nstateproxy SUBCOMMAND -h shows the flags of one.\n")
}

// flags returns the flag set of a subcommand. about is printed above the flags.
func flags(std stdio, name, about string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(std.err)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "usage: stateproxy %s [flags]\n\n%s\n\n", name, about)
		fs.PrintDefaults()
	}
	return fs
}

// parse parses args, which may hold flags only. If ok is false the subcommand
// ends with status.
func parse(std stdio, fs *flag.FlagSet, args []string) (status int, ok bool) {
	for _, a := range args {
		if a == "-h" || a == "-help" || a == "--help" {
			fs.SetOutput(std.out)
		}
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK, false
	case err != nil:
		return exitUsage, false
	case fs.NArg() > 0:
		fmt.Fprintf(std.err, "stateproxy %s: unexpected argument %q\n", fs.Name(), fs.Arg(0))
		return exitUsage, false
	}
	return exitOK, true
}

// failed prints err and returns the exit status for it.
func failed(std stdio, name string, err error) int {
	fmt.Fprintf(std.err, "stateproxy %s: %v\n", name, err)
	return exitError
}
