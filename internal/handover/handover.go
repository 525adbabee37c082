// Package handover passes listening sockets and memory from a running process to
// a new one that takes its place.
//
//	// the old one                              // the new one
//	c, err := handover.Start(program, args, s)  f, err := handover.FromFormer()
//	err = c.Tell(ctx, state)                    err = f.Hear(&state)
//	err = c.Ready(ctx)                          err = f.Ready() // serves f.Sockets
//	err = c.Tell(ctx, last)                     err = f.Hear(&last)
//	c.Close()
//
// Until the new process says that it is ready the old one has lost nothing: it can
// end the new one and go on. What is told is encoded by encoding/gob, so that the
// two may be of different releases. Windows can't pass sockets on; Start says so.
package handover

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrUnsupported is the error of Start where the system can't do it.
var ErrUnsupported = errors.New("this system can't pass listening sockets to another process")

// variable tells the new process that it has a former one: the ID of that, a colon,
// and a letter for each socket, m for one of the service manager's, o for the
// former process's own.
const variable = "STATEPROXY_HANDOVER"

// Descriptors in the new process.
const (
	toldFile    = 3 // it reads what the old one tells
	readyFile   = 4 // it writes that it is ready
	firstSocket = 5
)

// stale are variables of the old process that would mislead the new one.
var stale = []string{variable, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"}

// Socket is a listening socket that is passed on.
type Socket struct {
	File    *os.File
	Manager bool // the service manager's, and not the process's own
}

// Child is the new process as the old one sees it. Its methods are for one
// goroutine.
type Child struct {
	PID int

	proc  *os.Process
	told  *os.File
	enc   *gob.Encoder
	ready *os.File
	ended chan struct{} // closed when the process has ended
	err   error         // why; set before ended is closed
}

// Start starts the program with the arguments, the environment and the standard
// files of this process, and passes the sockets on. Their files are the caller's
// to close.
func Start(program string, args []string, sockets []Socket) (*Child, error) {
	if !supported {
		return nil, ErrUnsupported
	}
	toldR, toldW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		toldR.Close()
		toldW.Close()
		return nil, err
	}
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr, toldR, readyW}
	kinds := make([]byte, len(sockets))
	for i, s := range sockets {
		files = append(files, s.File)
		kinds[i] = 'o'
		if s.Manager {
			kinds[i] = 'm'
		}
	}
	env := append(environment(os.Environ()), fmt.Sprintf("%s=%d:%s", variable, os.Getpid(), kinds))
	proc, err := startProcess(program, args, env, files)
	toldR.Close()
	readyW.Close()
	if err != nil {
		toldW.Close()
		readyR.Close()
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	c := &Child{PID: proc.Pid, proc: proc, told: toldW, enc: gob.NewEncoder(toldW), ready: readyR, ended: make(chan struct{})}
	go c.wait()
	return c, nil
}

// environment returns env without what is stale in the new process.
func environment(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(line string) bool {
		name, _, _ := strings.Cut(line, "=")
		return slices.Contains(stale, name)
	})
}

func (c *Child) wait() {
	state, err := c.proc.Wait()
	if c.err = err; err == nil {
		c.err = errors.New(state.String())
	}
	close(c.ended)
}

// Tell sends v, which Hear takes, until ctx ends.
func (c *Child) Tell(ctx context.Context, v any) error {
	stop := context.AfterFunc(ctx, func() { c.told.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.enc.Encode(v); err != nil {
		return fmt.Errorf("tell process %d: %w", c.PID, err)
	}
	return nil
}

// Ready waits until the process says that it is ready. An error says that it has
// ended before, or was not ready when ctx ended; it may still run then.
func (c *Child) Ready(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var b [1]byte
	switch _, err := io.ReadFull(c.ready, b[:]); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("process %d is not ready: %w", c.PID, ctx.Err())
	}
	select {
	case <-c.ended:
		return fmt.Errorf("process %d ended before it was ready: %w", c.PID, c.err)
	case <-ctx.Done():
		return fmt.Errorf("process %d does not say that it is ready: %w", c.PID, ctx.Err())
	}
}

// Kill ends the process and waits for that.
func (c *Child) Kill() {
	_ = c.proc.Kill() // it has ended otherwise
	<-c.ended
	c.Close()
}

// Close says that nothing more will be told. The process goes on.
func (c *Child) Close() {
	c.told.Close()
	c.ready.Close()
}

// Former is the old process as the new one sees it.
type Former struct {
	PID     int
	Sockets []Socket // the receiver's to close

	told  *os.File
	dec   *gob.Decoder
	ready *os.File
}

// FromFormer returns the process whose place this one is to take, nil if there is
// none. Call it once, at the start, before other files are opened.
func FromFormer() (*Former, error) {
	text := os.Getenv(variable)
	if text == "" {
		return nil, nil
	}
	os.Unsetenv(variable)
	pid, kinds, ok := strings.Cut(text, ":")
	n, err := strconv.Atoi(pid)
	if !ok || err != nil || strings.Trim(kinds, "mo") != "" {
		return nil, fmt.Errorf("%s=%s: want the ID of a process, a colon, and m or o for each socket", variable, text)
	}
	if n != os.Getppid() {
		return nil, nil // left over from further back
	}
	f := &Former{PID: n, told: inherited(toldFile, "told"), ready: inherited(readyFile, "ready")}
	f.dec = gob.NewDecoder(f.told)
	for i, kind := range kinds {
		s := Socket{File: inherited(firstSocket+i, fmt.Sprintf("socket %d", i)), Manager: kind == 'm'}
		f.Sockets = append(f.Sockets, s)
	}
	return f, nil
}

// Hear waits for what the old process tells next and decodes it into v, a
// pointer. io.EOF means that it tells nothing any more.
func (f *Former) Hear(v any) error { return f.dec.Decode(v) }

// Ready tells the old process that this one serves.
func (f *Former) Ready() error {
	defer f.ready.Close()
	if _, err := f.ready.Write([]byte{1}); err != nil {
		return fmt.Errorf("tell process %d that this one is ready: %w", f.PID, err)
	}
	return nil
}

// Close ends Hear, also one that waits.
func (f *Former) Close() { f.told.Close() }
