//go:build unix

package farm

import "syscall"

// lookFD looks at a socket, which the runtime keeps in non-blocking mode. It
// may take a byte: a socket that has one is of no use any more.
var lookFD = func(fd uintptr) lookResult {
	var b [1]byte
	for {
		n, err := syscall.Read(int(fd), b[:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return lookQuiet
		case n > 0:
			return lookBytes
		}
		return lookClosed
	}
}
