//go:build !windows

package main

import "fmt"

// do says where services are found here.
func (s service) do(std stdio, action string) int {
	fmt.Fprintf(std.err, "stateproxy service %s: services are a thing of Windows; for systemd there is deploy/systemd/stateproxy.service\n", action)
	return exitError
}
