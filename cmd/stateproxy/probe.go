package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"

	"stateproxy/internal/probe"
)

func runProbe(ctx context.Context, std stdio, args []string) int {
	fs := flags(std, "probe ADDRESS", "Tries the way from this machine to one state server or proxy, step by step, and says what is wrong.\nADDRESS is host, host:port or what a connection string says, tcpip=host:port. It stores, locks and\nremoves a session of its own, and touches no other. Exits 0 if no step failed.")
	p := &probe.Probe{}
	fs.StringVar(&p.App, "app", "", "application part, such as /LM/W3SVC/2/ROOT, for a proxy that routes by it")
	fs.DurationVar(&p.Timeout, "timeout", probe.DefaultTimeout, "time that each step may take; web servers wait stateNetworkTimeout, 10s by default")
	fs.DurationVar(&p.Slow, "slow", probe.DefaultSlow, "time that a step may take without a warning")
	fs.DurationVar(&p.Idle, "idle", probe.DefaultTimeout, "pause that the connection must outlive; 0 leaves that step out")
	asJSON := fs.Bool("json", false, "print the report as JSON")
	address, status, ok := parseOne(std, fs, args, "ADDRESS")
	if !ok {
		return status
	}
	if p.Timeout <= 0 || p.Slow <= 0 || p.Idle < 0 {
		fmt.Fprintln(std.err, "stateproxy probe: want a positive -timeout and -slow, and an -idle of 0 or more")
		return exitUsage
	}
	if !*asJSON {
		p.OnStep = func(s probe.Step) { printStep(std.out, s) }
	}
	report, err := p.Run(ctx, address)
	if err != nil {
		fmt.Fprintln(std.err, "stateproxy probe:", err)
		return exitUsage
	}
	if *asJSON {
		err = encodeIndented(std.out, report)
	} else {
		printVerdict(std.out, report)
	}
	switch {
	case err != nil:
		return failed(std, "probe", err)
	case !report.OK:
		return exitError
	}
	return exitOK
}

// parseOne parses args that hold flags and exactly one argument, in any order.
// If ok is false the subcommand ends with status.
func parseOne(std stdio, fs *flag.FlagSet, args []string, what string) (arg string, status int, ok bool) {
	for i, a := range args {
		if !strings.HasPrefix(a, "-") && (i == 0 || !takesValue(fs, args[i-1])) {
			rest := append(append([]string{}, args[:i]...), args[i+1:]...)
			status, ok = parse(std, fs, rest)
			return a, status, ok
		}
	}
	if status, ok = parse(std, fs, args); ok {
		fmt.Fprintf(std.err, "stateproxy %s: want %s\n", fs.Name(), what)
		return "", exitUsage, false
	}
	return "", status, false
}

// takesValue reports whether arg is a flag whose value is the next argument.
func takesValue(fs *flag.FlagSet, arg string) bool {
	f := fs.Lookup(strings.TrimLeft(arg, "-"))
	if f == nil || !strings.HasPrefix(arg, "-") {
		return false
	}
	b, isBool := f.Value.(interface{ IsBoolFlag() bool })
	return !isBool || !b.IsBoolFlag()
}

func printStep(w io.Writer, s probe.Step) {
	took := ""
	if s.Seconds > 0 {
		took = fmt.Sprintf("%.2f ms", s.Seconds*1000)
	}
	fmt.Fprintf(w, "%-8s %-13s %11s  %s\n", s.Result, s.Name, took, s.Text)
}

func printVerdict(w io.Writer, r *probe.Report) {
	failures, warnings := 0, 0
	said := map[string]bool{}
	var advice []string
	total := 0.0
	for _, s := range r.Steps {
		total += s.Seconds
		switch s.Result {
		case probe.Failed:
			failures++
		case probe.Warning:
			warnings++
		}
		if s.Advice != "" && !said[s.Advice] {
			said[s.Advice] = true
			advice = append(advice, fmt.Sprintf("%s: %s", s.Name, s.Advice))
		}
	}
	verdict := "good"
	if failures > 0 {
		verdict = "NOT GOOD"
	}
	fmt.Fprintf(w, "\n%s is %s: %s, %s, all steps took %.2f ms\n", r.Address, verdict,
		count(failures, "failure"), count(warnings, "warning"), total*1000)
	for _, a := range advice {
		fmt.Fprintln(w, "  "+a)
	}
}
