package main

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// The backend and the load generator sit on raw epoll loops so that they take
// as little CPU as possible beside the proxy under test. Data calls on their
// non-blocking sockets skip the Go scheduler's syscall hooks; only epoll_wait,
// which may block, goes through them.

type poller struct {
	fd  int
	evs [512]syscall.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &poller{fd: fd}, nil
}

func (p *poller) add(fd int, events uint32) error {
	ev := syscall.EpollEvent{Events: events, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_ADD, fd, &ev))
}

func (p *poller) mod(fd int, events uint32) error {
	ev := syscall.EpollEvent{Events: events, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_MOD, fd, &ev))
}

// wait returns the ready events; none after timeoutMs or on a signal.
func (p *poller) wait(timeoutMs int) []syscall.EpollEvent {
	n, err := syscall.EpollWait(p.fd, p.evs[:], timeoutMs)
	if err != nil || n < 0 {
		return nil
	}
	return p.evs[:n]
}

// addTicker has the poller wake every interval, with an event of the returned
// file descriptor. It has to be read to go on.
func (p *poller) addTicker(interval time.Duration) (int, error) {
	const monotonic = 1
	fd, _, e := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, monotonic, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if e != 0 {
		return -1, os.NewSyscallError("timerfd_create", e)
	}
	spec := [2]syscall.Timespec{syscall.NsecToTimespec(int64(interval)), syscall.NsecToTimespec(int64(interval))}
	if _, _, e := syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0); e != 0 {
		return -1, os.NewSyscallError("timerfd_settime", e)
	}
	return int(fd), p.add(int(fd), syscall.EPOLLIN)
}

func sysRead(fd int, b []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), e
}

func sysWritev(fd int, iov []syscall.Iovec) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(iov))), uintptr(len(iov)))
	return int(n), e
}

// writeParts sends parts as one stream from offset off on. It returns the new
// offset; short of the total means the socket is full.
func writeParts(fd int, off int, parts ...[]byte) (int, error) {
	for {
		var iov [4]syscall.Iovec
		n, skip := 0, off
		for _, p := range parts {
			if skip >= len(p) {
				skip -= len(p)
				continue
			}
			iov[n].Base = &p[skip]
			iov[n].SetLen(len(p) - skip)
			skip = 0
			n++
		}
		if n == 0 {
			return off, nil
		}
		w, e := sysWritev(fd, iov[:n])
		switch {
		case e == syscall.EAGAIN:
			return off, nil
		case e == syscall.EINTR:
		case e != 0:
			return off, e
		default:
			off += w
		}
	}
}

func sockaddr(addr string) (int, syscall.Sockaddr, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return 0, nil, err
	}
	if ip := a.IP.To4(); ip != nil {
		return syscall.AF_INET, &syscall.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}, nil
	}
	if ip := a.IP.To16(); ip != nil {
		return syscall.AF_INET6, &syscall.SockaddrInet6{Port: a.Port, Addr: [16]byte(ip)}, nil
	}
	return 0, nil, errors.New(addr + ": no address")
}

func tcpSocket(family int) (int, error) {
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	return fd, nil
}

func listenFD(addr string) (int, error) {
	family, sa, err := sockaddr(addr)
	if err != nil {
		return -1, err
	}
	fd, err := tcpSocket(family)
	if err != nil {
		return -1, err
	}
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err := syscall.Bind(fd, sa); err != nil {
		syscall.Close(fd)
		return -1, os.NewSyscallError("bind "+addr, err)
	}
	if err := syscall.Listen(fd, 4096); err != nil {
		syscall.Close(fd)
		return -1, os.NewSyscallError("listen", err)
	}
	return fd, nil
}

// localAddr returns the address that a socket is bound to.
func localAddr(fd int) string {
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return err.Error()
	}
	switch a := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)).String()
	}
	return ""
}

// dialFD connects without blocking: the socket turns writable when done.
func dialFD(addr string) (int, error) {
	family, sa, err := sockaddr(addr)
	if err != nil {
		return -1, err
	}
	fd, err := tcpSocket(family)
	if err != nil {
		return -1, err
	}
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	if err := syscall.Connect(fd, sa); err != nil && err != syscall.EINPROGRESS {
		syscall.Close(fd)
		return -1, os.NewSyscallError("connect "+addr, err)
	}
	return fd, nil
}
