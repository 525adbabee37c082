package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"strings"

	"stateproxy/internal/probe"
	"stateproxy/internal/tlsfile"
)

func runProbe(ctx context.Context, std stdio, args []string) int {
	fs := flags(std, "probe ADDRESS", "Tries the way from this machine to one state server or proxy, step by step, and says what is wrong.\nADDRESS is host, host:port or what a connection string says, tcpip=host:port. It stores, locks and\nremoves a session of its own, and touches no other. Exits 0 if no step failed.")
	p := &probe.Probe{}
	fs.StringVar(&p.App, "app", "", "application part, such as /LM/W3SVC/2/ROOT, for a proxy that routes by it")
	fs.DurationVar(&p.Timeout, "timeout", probe.DefaultTimeout, "time that each step may take; web servers wait stateNetworkTimeout, 10s by default")
	fs.DurationVar(&p.Slow, "slow", probe.DefaultSlow, "time that a step may take without a warning")
	fs.DurationVar(&p.Idle, "idle", probe.DefaultTimeout, "pause that the connection must outlive; 0 leaves that step out")
	secure, files := tlsFlags(fs)
	asJSON := fs.Bool("json", false, "print the report as JSON")
	address, status, ok := parseOne(std, fs, args, "ADDRESS")
	if !ok {
		return status
	}
	if p.Timeout <= 0 || p.Slow <= 0 || p.Idle < 0 {
		fmt.Fprintln(std.err, "stateproxy probe: want a positive -timeout and -slow, and an -idle of 0 or more")
		return exitUsage
	}
	if p.TLS, ok = secure.config(std, files); !ok {
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

// tlsOptions are the flags that say whether and as whom to speak TLS.
type tlsOptions struct {
	on         bool
	serverName string
}

// tlsFlags adds the flags for TLS.
func tlsFlags(fs *flag.FlagSet) (*tlsOptions, *tlsfile.Client) {
	o, files := &tlsOptions{}, &tlsfile.Client{}
	fs.BoolVar(&o.on, "tls", false, "speak TLS, as a backend with tls: true is spoken to")
	fs.StringVar(&o.serverName, "server-name", "", "with -tls: `NAME` in the certificate; the host of ADDRESS if left out")
	fs.StringVar(&files.CA, "ca", "", "with -tls: `FILE` of the CAs that are believed, PEM; the system's if left out")
	fs.StringVar(&files.Cert, "cert", "", "with -tls: `FILE` of the certificate to show, PEM")
	fs.StringVar(&files.Key, "key", "", "with -tls: `FILE` of its key, PEM")
	return o, files
}

// config returns what the flags ask for, nil for a plain connection. If ok is false
// they make no sense, which is told.
func (o *tlsOptions) config(std stdio, files *tlsfile.Client) (config *tls.Config, ok bool) {
	switch {
	case !o.on && (o.serverName != "" || *files != tlsfile.Client{}):
		fmt.Fprintln(std.err, "stateproxy probe: want -tls beside -server-name, -ca, -cert and -key")
		return nil, false
	case !o.on:
		return nil, true
	case (files.Cert == "") != (files.Key == ""):
		fmt.Fprintln(std.err, "stateproxy probe: want -cert and -key together")
		return nil, false
	}
	l, err := files.Load()
	if err != nil {
		fmt.Fprintln(std.err, "stateproxy probe:", err)
		return nil, false
	}
	l.Config.ServerName = o.serverName
	return l.Config, true
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
