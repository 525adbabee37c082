package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"stateproxy/internal/admin"
	"stateproxy/internal/handover"
	"stateproxy/internal/systemd"
	"stateproxy/proxy"
)

// A running proxy is replaced by a new process, of another release perhaps, without
// a refused connection or a broken request:
//
//	old: starts the program at its own path, with its listening sockets and what
//	     it knows of handoffs; serves on
//	new: loads the config, restores, listens on the sockets, serves; says so
//	old: accepts no more; each client's connection carries one more request
//	     and is closed with its answer, or is closed when it was idle for longer
//	     than clients use one
//	old: tells what it has learned since, and ends
//
// While both run they are two proxies with one config. A new process that ends,
// or takes too long, before it serves changes nothing.

// Bounds of an upgrade.
const (
	readyLimit    = 30 * time.Second // until the new process serves
	tellLimit     = 10 * time.Second // for what the old one tells at its end
	handOverIdle  = 12 * time.Second // web servers drop a connection that was idle for 10 s (protocol.md section 2)
	handOverShare = 0.6              // of timeouts.drain that idle connections may take, so that the last request can end
)

// upgrade is how the process gets a successor, or took its place.
type upgrade struct {
	asked     chan os.Signal
	program   string           // that the successor runs
	args      []string         // its arguments
	limit     time.Duration    // until it serves
	done      chan struct{}    // closed when there is a successor
	former    *handover.Former // whose place this process takes; nil if nobody's
	successor *handover.Child  // nil until it serves
}

func newUpgrade() upgrade {
	u := upgrade{asked: make(chan os.Signal, 1), program: ownProgram(), limit: readyLimit, done: make(chan struct{})}
	if len(os.Args) > 0 {
		u.args = os.Args[1:]
	}
	return u
}

// ownProgram returns the path by which the process was started, which may lead to
// a new release by now.
func ownProgram() string {
	path := os.Args[0]
	if !strings.ContainsRune(path, filepath.Separator) {
		if found, err := exec.LookPath(path); err == nil {
			path = found
		}
	}
	if whole, err := filepath.Abs(path); err == nil {
		path = whole
	}
	return path
}

// adopt takes over what a former process has passed on, if there is one.
func (u *upgrade) adopt(s *systemd.Supervisor) (err error) {
	if u.former, err = handover.FromFormer(); err != nil || u.former == nil {
		return err
	}
	for _, socket := range u.former.Sockets {
		if err := s.Adopt(socket.File, socket.Manager); err != nil {
			return err
		}
	}
	return nil
}

// leave ends the wait for what the former process tells.
func (u *upgrade) leave() {
	if u.former != nil {
		u.former.Close()
	}
}

// knowledge is what the old process tells before the new one serves.
type knowledge struct {
	Proxy proxy.Snapshot
}

// lastWords is what it tells at its end.
type lastWords struct {
	Proxy  proxy.Snapshot
	Memory proxy.Memory
}

// inherit has the proxy go on from what the former process tells, else from the
// state file.
func (a *app) inherit() error {
	if a.upgrade.former == nil {
		a.restore()
		return nil
	}
	a.log.Info().Int("pid", a.upgrade.former.PID).Msg("taking the place of a running process")
	var k knowledge
	err := a.upgrade.former.Hear(&k)
	if err == nil {
		err = a.proxy.Restore(k.Proxy)
	}
	if err != nil {
		return fmt.Errorf("take the place of process %d: %w", a.upgrade.former.PID, err)
	}
	return nil
}

// serveInstead tells the former process that this one serves.
func (a *app) serveInstead() error {
	if a.upgrade.former == nil {
		return nil
	}
	a.admin.Note(admin.Event{Kind: admin.Upgraded, Text: fmt.Sprintf("version %s has taken the place of process %d", version, a.upgrade.former.PID)})
	return a.upgrade.former.Ready()
}

// hearFormer waits for the end of the former process and takes over what that has
// learned while both ran.
func (a *app) hearFormer() {
	f := a.upgrade.former
	if f == nil {
		return
	}
	var last lastWords
	err := f.Hear(&last)
	if errors.Is(err, os.ErrClosed) {
		return // this process ends, too
	}
	if err == nil {
		a.proxy.Remember(last.Memory)
		err = a.proxy.Absorb(last.Proxy)
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it ended without a word")
	}
	if err != nil {
		a.log.Warn().Int("pid", f.PID).Err(err).Msg("what the former process learned at its end is not known")
		return
	}
	a.log.Info().Int("pid", f.PID).Msg("the former process has ended")
	a.checker.SetTargets(healthTargets(a.proxy.Targets()))
	a.stateMu.Lock()
	a.saved = nil // the former one may have written the file last
	a.stateMu.Unlock()
	a.unlessDraining(a.tellReady)
}

// forwardUpgrades tries for a successor when a signal asks for it, until there is
// one or ctx ends.
func (a *app) forwardUpgrades(ctx context.Context) {
	for {
		select {
		case <-a.upgrade.asked:
		case <-ctx.Done():
			return
		}
		child, err := a.succeed(ctx)
		if err == nil {
			a.upgrade.successor = child
			close(a.upgrade.done)
			return
		}
		a.log.Error().Err(err).Msg("upgrade failed: this process serves on")
		a.admin.Note(admin.Event{Level: admin.Error, Kind: admin.UpgradeFailed, Text: "this process serves on: " + err.Error()})
	}
}

// succeed starts a new process and returns it when it serves. After an error it
// does not run.
func (a *app) succeed(ctx context.Context) (*handover.Child, error) {
	switch {
	case a.file == "":
		return nil, errors.New("there is no config file for a new process")
	case os.Getpid() == 1:
		return nil, errors.New("the process is the first of its container, which would end with it")
	}
	ctx, cancel := context.WithTimeout(ctx, a.upgrade.limit)
	defer cancel()
	sockets, err := a.sockets()
	defer closeSockets(sockets)
	if err != nil {
		return nil, err
	}
	child, err := handover.Start(a.upgrade.program, a.upgrade.args, sockets)
	if err != nil {
		return nil, err
	}
	a.log.Info().Int("pid", child.PID).Str("program", a.upgrade.program).Msg("upgrade: new process started")
	told := child.Tell(ctx, knowledge{a.proxy.Snapshot()})
	if err = child.Ready(ctx); err == nil { // if it has ended, this says how
		err = told
	}
	if err != nil {
		child.Kill()
		return nil, err
	}
	return child, nil
}

// sockets returns copies of the listening sockets, those of the service manager
// first.
func (a *app) sockets() (list []handover.Socket, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.supervisor.Sockets() {
		list = append(list, handover.Socket{File: f, Manager: true})
	}
	add := func(ln any) {
		l, ok := ln.(interface{ File() (*os.File, error) })
		if !ok || err != nil {
			return
		}
		var f *os.File
		if f, err = l.File(); err == nil {
			list = append(list, handover.Socket{File: f})
		}
	}
	for _, ln := range a.listeners {
		add(ln)
	}
	if a.adminLn != nil {
		add(a.adminLn)
	}
	return list, err
}

func closeSockets(list []handover.Socket) {
	for _, s := range list {
		if !s.Manager { // those stay the supervisor's
			s.File.Close()
		}
	}
}

// handOver lets the clients go over to the successor, which serves already.
func (a *app) handOver() {
	child := a.upgrade.successor
	a.told(a.supervisor.MainPID(child.PID))
	a.stateMu.Lock()
	a.stateFile = "" // it is the successor's now
	a.stateMu.Unlock()
	a.mu.Lock()
	a.draining = true
	limit := a.config.Timeouts.Drain
	if a.adminLn != nil {
		a.adminLn.Close()
		a.adminLn = nil
	}
	a.mu.Unlock()
	a.admin.Drain()
	a.log.Info().Int("pid", child.PID).Dur("limit_ms", limit).Msg("upgrade: the new process serves, this one finishes what is under way")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	idle := min(handOverIdle, time.Duration(handOverShare*float64(limit)))
	if err := a.proxy.HandOver(ctx, idle); err != nil {
		a.log.Warn().Err(err).Msg("some requests did not finish in time and were cut off")
	}
}

// tellSuccessor tells the successor, if there is one, what the process has learned
// since that began.
func (a *app) tellSuccessor() {
	child := a.upgrade.successor
	if child == nil {
		return
	}
	defer child.Close()
	ctx, cancel := context.WithTimeout(context.Background(), tellLimit)
	defer cancel()
	if err := child.Tell(ctx, lastWords{a.proxy.Snapshot(), a.proxy.Memory()}); err != nil {
		a.log.Error().Err(err).Msg("the new process does not know what this one learned at its end")
	}
}
