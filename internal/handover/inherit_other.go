//go:build !unix

package handover

import "os"

const supported = false

// startProcess is never called here.
func startProcess(string, []string, []string, []*os.File) (*os.Process, error) {
	return nil, ErrUnsupported
}

// inherited is never called with a file that was passed on.
func inherited(fd int, name string) *os.File { return os.NewFile(uintptr(fd), name) }
