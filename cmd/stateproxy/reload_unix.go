//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyReload has c told of the signal that asks for a reload.
func notifyReload(c chan<- os.Signal) { signal.Notify(c, syscall.SIGHUP) }

// notifyUpgrade has c told of the signal that asks for a successor.
func notifyUpgrade(c chan<- os.Signal) { signal.Notify(c, syscall.SIGUSR2) }

const canUpgrade = true

// askUpgrade sends that signal.
func askUpgrade(pid int) error { return syscall.Kill(pid, syscall.SIGUSR2) }
