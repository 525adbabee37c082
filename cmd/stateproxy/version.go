package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version and commit are set by the linker in releases.
var (
	version = "dev"
	commit  = ""
)

// buildCommit returns the commit the binary was made from, "unknown" if neither
// linker nor Go tool recorded it.
func buildCommit() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

func printVersion(_ context.Context, std stdio, args []string) int {
	fs := flags(std, "version", "Prints version, commit and platform.")
	if status, ok := parse(std, fs, args); !ok {
		return status
	}
	fmt.Fprintf(std.out, "stateproxy %s commit %s %s %s/%s\n", version, buildCommit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return exitOK
}
