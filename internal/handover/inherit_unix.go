//go:build unix

package handover

import (
	"os"
	"runtime"
	"syscall"
)

const supported = true

// startProcess starts the program with the files as its first descriptors. Package
// os would make the sockets blocking for that, and with them the ones that this
// process accepts from: it could not even close them any more.
func startProcess(program string, args, env []string, files []*os.File) (*os.Process, error) {
	attr := &syscall.ProcAttr{Env: env}
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { attr.Files = append(attr.Files, fd) })
		}
		if err != nil {
			return nil, err
		}
	}
	pid, _, err := syscall.StartProcess(program, append([]string{program}, args...), attr)
	runtime.KeepAlive(files)
	if err != nil {
		return nil, err
	}
	return os.FindProcess(pid)
}

// inherited returns a file that the old process has passed on. Programs that this
// process starts do not get it, and waiting for it can be ended.
func inherited(fd int, name string) *os.File {
	syscall.CloseOnExec(fd)
	_ = syscall.SetNonblock(fd, true) // else Close would not end a read
	return os.NewFile(uintptr(fd), name)
}
