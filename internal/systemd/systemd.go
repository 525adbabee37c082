// Package systemd talks with the service manager that started the process, over
// the environment variables and the socket that sd_notify(3), sd_listen_fds(3)
// and sd_watchdog_enabled(3) describe:
//
//	s, err := systemd.New()
//	ln, err := s.Listen("10.0.0.5:42424") // the manager's socket, or a new one
//	err = s.Ready("")
//	go s.RunWatchdog(ctx, alive)
//	err = s.Stopping()
//
// Without such a manager, and on other systems than Linux, Listen opens a socket
// as net.Listen does and the rest does nothing. What to do about an error is left
// to the caller; a manager that can't be told is no reason to stop.
package systemd

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// sendTimeout bounds one message; the socket takes it at once unless the manager
// is stuck.
const sendTimeout = 2 * time.Second

// Supervisor is the service manager as this process sees it. The zero value is
// none. Its methods may be called from any goroutine.
type Supervisor struct {
	socket   string        // "": it wants to hear nothing
	watchdog time.Duration // within which it wants a sign of life; 0: none

	mu      sync.Mutex
	sockets []*inherited // those it opened for this process
}

// inherited is a socket that was open before this process. The manager's stays open
// in this process too, so that an address that leaves the config can come back to
// it; a former process's own is for one listener.
type inherited struct {
	file    *os.File
	address net.Addr
	claimed bool
	own     bool // a former process's
}

// New returns the manager that the environment names, the zero Supervisor if it
// names none. Call it once: the sockets passed on are taken over. It starts
// nothing.
func New() (*Supervisor, error) {
	s := &Supervisor{socket: os.Getenv("NOTIFY_SOCKET")}
	var err error
	if s.watchdog, err = watchdogInterval(); err != nil {
		return nil, err
	}
	files, err := passed()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := s.Adopt(f, true); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Adopt takes over a listening socket that a former process passed on: one of the
// manager's, or one of that process's own, which the next fitting Listen takes.
func (s *Supervisor) Adopt(f *os.File, managers bool) error {
	ln, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("%s, which was passed on: %w", f.Name(), err)
	}
	defer ln.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets = append(s.sockets, &inherited{file: f, address: ln.Addr(), own: !managers})
	return nil
}

// Release closes the sockets of a former process that no Listen has taken.
func (s *Supervisor) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets = slices.DeleteFunc(s.sockets, func(in *inherited) bool {
		if in.own {
			in.file.Close()
		}
		return in.own
	})
}

// Sockets returns the manager's sockets. The files stay the Supervisor's.
func (s *Supervisor) Sockets() (files []*os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range s.sockets {
		if !in.own {
			files = append(files, in.file)
		}
	}
	return files
}

// watchdogInterval returns WATCHDOG_USEC, 0 if it is not meant for this process.
func watchdogInterval() (time.Duration, error) {
	text := os.Getenv("WATCHDOG_USEC")
	if text == "" || !forThisProcess("WATCHDOG_PID", true) {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || n > int64(24*time.Hour/time.Microsecond) {
		return 0, fmt.Errorf("WATCHDOG_USEC=%s: want microseconds, a day at most", text)
	}
	return time.Duration(n) * time.Microsecond, nil
}

// forThisProcess tells whether the variable holds the process's own ID. If it is
// not set, the answer is unset.
func forThisProcess(variable string, unset bool) bool {
	text := os.Getenv(variable)
	if text == "" {
		return unset
	}
	return text == strconv.Itoa(os.Getpid())
}

// Ready tells that the start or the reload is complete. status is shown to the
// operator by systemctl status.
func (s *Supervisor) Ready(status string) error {
	return s.send("READY=1\nSTATUS=" + status)
}

// Reloading tells that a reload has begun. Ready must follow, also when the
// reload was refused.
func (s *Supervisor) Reloading() error {
	return s.send("RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(monotonic(), 10))
}

// MainPID tells that another process is the service from now on. From then on the
// manager may not listen to this one.
func (s *Supervisor) MainPID(pid int) error {
	return s.send("MAINPID=" + strconv.Itoa(pid))
}

// Stopping tells that the process is about to end.
func (s *Supervisor) Stopping() error {
	return s.send("STOPPING=1\nSTATUS=draining")
}

// RunWatchdog gives signs of life, as often as the manager wants them, until ctx
// ends. Before each it calls alive, which must return only if the process is
// well; as long as it does not, the manager hears nothing and acts in the end.
// The same goes for a sign that can't be sent; the next is tried as usual. It
// returns at once if the manager wants none.
func (s *Supervisor) RunWatchdog(ctx context.Context, alive func()) {
	if s.watchdog <= 0 || s.socket == "" {
		return
	}
	t := time.NewTicker(s.watchdog / 3)
	defer t.Stop()
	for {
		alive()
		_ = s.send("WATCHDOG=1") // see above
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// send sends one message, whose lines are assignments.
func (s *Supervisor) send(message string) error {
	if s.socket == "" {
		return nil
	}
	c, err := net.Dial("unixgram", s.socket)
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	if _, err := c.Write([]byte(message)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

// Listen returns a listener on the TCP address: on the socket that the manager or
// a former process has there, if any, else on a new one. Closing it leaves the
// manager's socket open; a later Listen finds it again.
func (s *Supervisor) Listen(address string) (net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.sockets, func(in *inherited) bool { return stands(in.address, address) })
	if i < 0 {
		return net.Listen("tcp", address)
	}
	in := s.sockets[i]
	ln, err := net.FileListener(in.file)
	if err != nil {
		return nil, fmt.Errorf("listen on %s with the socket that was passed on: %w", address, err)
	}
	in.claimed = true
	if in.own {
		in.file.Close()
		s.sockets = slices.Delete(s.sockets, i, i+1)
	}
	return ln, nil
}

// Unclaimed returns the addresses of the manager's sockets that Listen was never
// asked for. Clients that connect there wait in vain.
func (s *Supervisor) Unclaimed() (addresses []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, in := range s.sockets {
		if !in.claimed && !in.own {
			addresses = append(addresses, in.address.String())
		}
	}
	return addresses
}

// stands tells whether a socket with that address is one for what the config
// calls wanted. All interfaces are alike, whether of both IP versions or one.
func stands(socket net.Addr, wanted string) bool {
	have, ok := socket.(*net.TCPAddr)
	if !ok {
		return false
	}
	want, err := net.ResolveTCPAddr("tcp", wanted)
	if err != nil || want.Port != have.Port {
		return false
	}
	if want.IP == nil || want.IP.IsUnspecified() {
		return have.IP.IsUnspecified()
	}
	return want.IP.Equal(have.IP)
}
