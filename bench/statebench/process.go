package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// process is a program under way whose output goes to a file.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// start starts a command in a process group of its own.
func start(log string, command, env []string) (*process, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &process{cmd: exec.Command(command[0], command[1:]...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// listening waits until the process accepts connections.
func (p *process) listening(addr string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(5 * time.Second)
	for {
		if c, err := net.Dial("tcp", addr); err == nil {
			return c.Close()
		}
		select {
		case <-tick.C:
			continue
		case <-p.done:
		case <-end:
		}
		b, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s does not listen on %s: %s", p.cmd.Args[0], addr, bytes.TrimSpace(b))
	}
}

// signalEvery sends the process a signal again and again until stop is called.
func (p *process) signalEvery(sig syscall.Signal, every time.Duration) (stop func()) {
	ended, quit := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				syscall.Kill(p.pid(), sig)
			case <-quit:
				return
			case <-p.done:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}

// stop ends the process group that start made.
func (p *process) stop() {
	syscall.Kill(-p.pid(), syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(time.Second):
	}
	syscall.Kill(-p.pid(), syscall.SIGKILL)
	<-p.done
}
