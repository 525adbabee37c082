//go:build unix

package handover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// role is the variable that has this test's binary play the new process.
const role = "HANDOVER_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(role) != "" {
		if err := play(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// message is what the processes of these tests tell each other.
type message struct {
	Text  string
	Bytes []byte
}

// play is the new process: it says on its socket what it has heard.
func play() error {
	f, err := FromFormer()
	if err != nil || f == nil {
		return fmt.Errorf("FromFormer() = %v, %v; want the former process", f, err)
	}
	var first, last message
	if err := f.Hear(&first); err != nil {
		return err
	}
	if first.Text == "hang" {
		return f.Hear(&last)
	}
	if first.Text == "end" {
		return errors.New("as told")
	}
	if len(f.Sockets) != 2 || !f.Sockets[0].Manager || f.Sockets[1].Manager {
		return fmt.Errorf("sockets = %v; want the manager's and an own", f.Sockets)
	}
	for _, s := range stale {
		if os.Getenv(s) != "" {
			return fmt.Errorf("%s is set", s)
		}
	}
	ln, err := net.FileListener(f.Sockets[1].File)
	if err != nil {
		return err
	}
	if err := f.Ready(); err != nil {
		return err
	}
	c, err := ln.Accept()
	if err != nil {
		return err
	}
	if err := f.Hear(&last); err != nil {
		return err
	}
	end := f.Hear(&message{})
	fmt.Fprintf(c, "%s, %s, %d, %v\n", first.Text, last.Text, len(last.Bytes), end)
	return c.Close()
}

// start starts the new process with two sockets on one address.
func start(t *testing.T) (*Child, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // who connects to the copies waits
	var sockets []Socket
	for _, manager := range []bool{true, false} {
		file, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		sockets = append(sockets, Socket{file, manager})
	}
	t.Setenv(role, "new")
	t.Setenv("LISTEN_PID", "1")
	c, err := Start(os.Args[0], nil, sockets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c, ln.Addr().String()
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestHandover(t *testing.T) {
	c, address := start(t)
	ctx := within(t, 20*time.Second)
	if err := c.Tell(ctx, message{Text: "first"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatalf("connect to the socket that was passed on: %v", err)
	}
	defer nc.Close()
	if err := c.Tell(ctx, message{"last", make([]byte, 1<<20)}); err != nil {
		t.Fatal(err)
	}
	c.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	got, err := bufio.NewReader(nc).ReadString('\n')
	if want := "first, last, 1048576, " + io.EOF.Error() + "\n"; got != want || err != nil {
		t.Errorf("the new process says %q, %v; want %q", got, err, want)
	}
}

func TestNewProcessFails(t *testing.T) {
	tests := []struct {
		told  string
		limit time.Duration
		want  string
	}{
		{"end", 20 * time.Second, "ended before it was ready: exit status 1"},
		{"hang", 300 * time.Millisecond, "is not ready: context deadline exceeded"},
	}
	for _, tt := range tests {
		t.Run(tt.told, func(t *testing.T) {
			c, _ := start(t)
			ctx := within(t, tt.limit)
			if err := c.Tell(ctx, message{Text: tt.told}); err != nil {
				t.Fatal(err)
			}
			if err := c.Ready(ctx); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Ready() = %v; want %q", err, tt.want)
			}
			c.Kill()
		})
	}
}

// A process that does not listen can't hold up the one that tells it much.
func TestTellEndsWithContext(t *testing.T) {
	c, _ := start(t)
	if err := c.Tell(within(t, 20*time.Second), message{Text: "hang"}); err != nil {
		t.Fatal(err)
	}
	_ = c.Tell(within(t, 20*time.Second), message{Text: "heard"})
	if err := c.Tell(within(t, 300*time.Millisecond), message{Bytes: make([]byte, 64<<20)}); err == nil {
		t.Error("Tell() to a process that does not listen = nil; want an error")
	}
}

// The sockets must stay as they are, or a listener could not be closed while
// nobody connects.
func TestListenerCanStillBeClosed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := ln.Accept()
		accepted <- err
	}()
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if c, err := Start("/bin/sh", []string{"-c", "exit 0"}, []Socket{{file, false}}); err != nil {
		t.Fatal(err)
	} else {
		c.Kill()
	}
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var flags int
	err = raw.Control(func(fd uintptr) { flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0) })
	if err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("flags of a socket that was passed on = %#x, %v; want it non-blocking", flags, err)
	}
	ln.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept() = %v; want the listener's end", err)
	}
}

func TestStartFails(t *testing.T) {
	if _, err := Start("/nowhere/stateproxy", nil, nil); err == nil || !strings.Contains(err.Error(), "start /nowhere/stateproxy") {
		t.Errorf("Start() of a program that is not there = %v; want an error that names it", err)
	}
}

func TestFromFormer(t *testing.T) {
	tests := []struct {
		name, value string
		bad         bool
	}{
		{"none", "", false},
		{"another process's", "1000000:oo", false},
		{"no number", "x:oo", true},
		{"no sockets", "12", true},
		{"odd socket", "12:x", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(variable, tt.value)
			if f, err := FromFormer(); f != nil || (err != nil) != tt.bad {
				t.Errorf("FromFormer() with %q = %v, %v; want none, error %v", tt.value, f, err, tt.bad)
			}
		})
	}
}
