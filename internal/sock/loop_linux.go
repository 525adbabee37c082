package sock

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loop is an epoll set and the goroutine that takes its events, the worker.
//
// The runtime's poller wakes a goroutine for each event. That finds its stack gone
// from the processor's cache since its last one, and it waits in the queue of a
// thread that the kernel may have put aside, while others that came later are
// served. Here the events of a loop are run one after the other in the order in
// which they came, on one stack that is warm.
type loop struct{ epfd int }

// loops are made when the first socket is, and stay. One thread fewer than may run
// at once take events: one is left for all else that the process does.
var loops = sync.OnceValues(func() ([]*loop, error) {
	all := make([]*loop, max(1, runtime.GOMAXPROCS(0)-1))
	for i := range all {
		epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			for _, l := range all[:i] {
				unix.Close(l.epfd)
			}
			return nil, err
		}
		all[i] = &loop{epfd}
	}
	for _, l := range all {
		go newWorker(l, nil).run()
	}
	return all, nil
})

var lastLoop atomic.Uint32

// nextLoop returns the loop for a new socket: one after the other.
func nextLoop() (*loop, error) {
	all, err := loops()
	if err != nil {
		return nil, err
	}
	return all[int(lastLoop.Add(1)%uint32(len(all)))], nil
}

// add has the events of s come to the loop.
func (l *loop) add(s *socket) error {
	e := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1),
		Fd:     int32(s.fd), Pad: s.number,
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, s.fd, &e))
}

// remove undoes add.
func (l *loop) remove(s *socket) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, s.fd, nil))
}

// wait waits for events and returns how many there are; it may be 0. It begins by a
// call that the scheduler does not get to hear of, since that would take the thread's
// place away and hand it back at every short wait. The place is kept for a
// millisecond at most: others may need it.
func (l *loop) wait(events []unix.EpollEvent) int {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epfd), uintptr(unsafe.Pointer(&events[0])),
		uintptr(len(events)), 1, 0, 0)
	if errno != 0 { // the scheduler wants something
		return 0
	}
	if n > 0 {
		return int(n)
	}
	m, err := unix.EpollWait(l.epfd, events, -1)
	if err != nil && !errors.Is(err, unix.EINTR) {
		panic("sock: epoll_wait: " + err.Error()) // nobody but the loop has the descriptor
	}
	return max(m, 0)
}

// Worker is the goroutine that runs what the events of a loop wake.
type Worker struct {
	l    *loop
	gone bool // another has taken its place
	woke bool // a goroutine that stood still, which may now run on this thread
	buf  [64]unix.EpollEvent
	rest []unix.EpollEvent // of buf, not seen to yet
}

func newWorker(l *loop, rest []unix.EpollEvent) *Worker {
	w := &Worker{l: l}
	w.rest = w.buf[:copy(w.buf[:], rest)]
	return w
}

// Detach is called before whatever a worker runs waits for anything: another
// worker takes its place, and it becomes a goroutine like others. Nothing happens
// when it is called once more, and nil is no worker.
func (w *Worker) Detach() {
	if w == nil || w.gone {
		return
	}
	w.gone = true
	go newWorker(w.l, w.rest).run()
}

func (w *Worker) run() {
	for !w.gone {
		if len(w.rest) == 0 {
			if w.woke {
				w.woke = false
				runtime.Gosched()
			}
			w.rest = w.buf[:w.l.wait(w.buf[:])]
			continue
		}
		e := w.rest[0]
		w.rest = w.rest[1:]
		// The socket may have been closed since, and another have its descriptor.
		if s := sockets.at(int(e.Fd)); s != nil && s.number == e.Pad {
			s.happened(e.Events, w)
		}
	}
}

// table finds sockets by their descriptors. It is safe for concurrent use.
type table struct {
	pages [1 << 12]atomic.Pointer[page]
	last  atomic.Int32 // number of the last one that was put in
}

type page [1 << 8]atomic.Pointer[socket]

var sockets table

// at returns the socket of a descriptor that had one, nil if it was closed.
func (t *table) at(fd int) *socket { return t.pages[fd>>8].Load()[fd&0xff].Load() }

// put makes s the socket of its descriptor and numbers it. It returns false if the
// descriptor is too high.
func (t *table) put(s *socket) bool {
	if s.fd>>8 >= len(t.pages) {
		return false
	}
	at := &t.pages[s.fd>>8]
	if at.Load() == nil {
		at.CompareAndSwap(nil, new(page))
	}
	s.number = t.last.Add(1)
	at.Load()[s.fd&0xff].Store(s)
	return true
}

// remove is called while the descriptor is still open.
func (t *table) remove(s *socket) { t.pages[s.fd>>8].Load()[s.fd&0xff].Store(nil) }
