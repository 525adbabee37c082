package main

import (
	"context"
	"fmt"

	"stateproxy/internal/config"
	"stateproxy/internal/systemd"
)

func runProxy(ctx context.Context, std stdio, args []string) int {
	fs := flags(std, "run", "Routes session traffic by a config file. SIGHUP or a change of the file reloads it,\nSIGTERM or Ctrl-C drains and exits.")
	file := fs.String("config", "", configHelp)
	if status, ok := parse(std, fs, args); !ok {
		return status
	}
	if *file == "" {
		fmt.Fprintln(std.err, "stateproxy run: want -config FILE")
		return exitUsage
	}
	c, raw, err := config.Load(*file)
	if err != nil {
		fmt.Fprintln(std.err, err)
		return exitError
	}
	a := newApp(c, *file, raw, newLogger(std.err, c.Log))
	if a.supervisor, err = systemd.New(); err != nil {
		return failed(std, "run", err)
	}
	if err := a.upgrade.adopt(a.supervisor); err != nil {
		return failed(std, "run", err)
	}
	if err := a.run(ctx); err != nil {
		return failed(std, "run", err)
	}
	return exitOK
}
