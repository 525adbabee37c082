//go:build !noobserve

package main

import (
	"stateproxy/internal/xray"
	"stateproxy/proxy"
)

// observing returns what is told of each request that has ended: metrics, what
// is known of sessions, and the logs of failures and of requests.
//
// The build tag noobserve leaves all of it out, for `make bench-observe`, which
// measures what it costs. Such a program counts nothing and finds little.
func (a *app) observing(sessions *xray.XRay, failed *failures) func(*proxy.Outcome) {
	return func(o *proxy.Outcome) {
		a.admin.Observe(o)
		sessions.Observe(o)
		failed.note(o)
		a.requests.note(o)
	}
}
