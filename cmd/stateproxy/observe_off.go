//go:build noobserve

package main

import (
	"stateproxy/internal/xray"
	"stateproxy/proxy"
)

// observing returns nil: nothing is told of requests.
func (*app) observing(*xray.XRay, *failures) func(*proxy.Outcome) { return nil }
