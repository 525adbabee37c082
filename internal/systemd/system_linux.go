package systemd

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstSocket is the descriptor that the manager's sockets begin at.
const firstSocket = 3

// passed returns the sockets that the manager opened for this process. Programs
// that it starts in turn do not get them.
func passed() ([]*os.File, error) {
	text := os.Getenv("LISTEN_FDS")
	if text == "" || !forThisProcess("LISTEN_PID", false) {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 1000 {
		return nil, fmt.Errorf("LISTEN_FDS=%s: want a number of sockets", text)
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	files := make([]*os.File, n)
	for i := range files {
		fd := firstSocket + i
		unix.CloseOnExec(fd)
		name := strconv.Itoa(fd)
		if i < len(names) && names[i] != "" {
			name += " (" + names[i] + ")"
		}
		files[i] = os.NewFile(uintptr(fd), name)
	}
	return files, nil
}

// monotonic returns the clock that the manager compares a reload's start with,
// in microseconds.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // every Linux has this clock
	}
	return t.Nano() / 1000
}
