package main

import "os"

// notifyReload does nothing: Windows has no signal for it. The file is watched.
func notifyReload(chan<- os.Signal) {}
