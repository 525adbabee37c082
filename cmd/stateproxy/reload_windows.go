package main

import (
	"errors"
	"os"
)

// notifyReload does nothing: Windows has no signal for it. The file is watched.
func notifyReload(chan<- os.Signal) {}

// notifyUpgrade does nothing: Windows can't pass listening sockets on.
func notifyUpgrade(chan<- os.Signal) {}

const canUpgrade = false

// askUpgrade is not called here.
func askUpgrade(int) error { return errors.ErrUnsupported }
