package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"stateproxy/internal/config"
)

const configHelp = "config `FILE` (YAML)"

func checkConfig(_ context.Context, std stdio, args []string) int {
	fs := flags(std, "check", "Checks a config file and the certificates that it names. Prints every problem as file:line:column and exits 1, or a summary and exits 0.\nWarns of a token file that is not there, empty, or open to other users.")
	file := fs.String("config", "", configHelp)
	if status, ok := parse(std, fs, args); !ok {
		return status
	}
	if *file == "" {
		fmt.Fprintln(std.err, "stateproxy check: want -config FILE")
		return exitUsage
	}
	c, _, err := config.Load(*file)
	if err != nil {
		fmt.Fprintln(std.err, err)
		return exitError
	}
	if problem := tokenProblem(c); problem != "" {
		fmt.Fprintf(std.err, "warning: admin.token_file: %s\n", problem)
	}
	if !checkCertificates(std, c, *file) {
		return exitError
	}
	pools := ""
	if len(c.Pools) > 0 {
		pools = fmt.Sprintf(", %s", count(len(c.Pools), "pool"))
	}
	fmt.Fprintf(std.out, "%s: good: listens on %s, %s%s\n", *file, strings.Join(c.Addresses(), ", "), count(len(c.Backends), "backend"), pools)
	return exitOK
}

// tokenProblem says what is wrong with the token file, "" if nothing is. It is no
// problem of the config, which may be checked on another machine.
func tokenProblem(c *config.Config) string {
	if c.Admin.TokenFile == "" {
		return ""
	}
	_, open, err := readToken(c.Admin.TokenFile)
	if err != nil {
		return err.Error()
	}
	return open
}

// checkCertificates prints what is wrong with the certificates. It returns false if
// they can't be used, or the other side would refuse them.
func checkCertificates(std stdio, c *config.Config, file string) (ok bool) {
	certs, _, err := loadCertificates(c, file, nil)
	if err != nil {
		fmt.Fprintln(std.err, err)
		return false
	}
	ok = true
	for use, l := range certs {
		for _, w := range l.Warnings {
			fmt.Fprintf(std.err, "%s: warning: %s\n", use.key, w)
		}
		if err := l.Valid(time.Now()); err != nil {
			fmt.Fprintf(std.err, "%s: %v\n", use.key, err)
			ok = false
		}
	}
	return ok
}

// count returns "1 backend", "2 backends".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
