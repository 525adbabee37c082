//go:build race

package proxy_test

// raceEnabled tells that the race detector runs, which allocates by itself.
const raceEnabled = true
