package main

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

type lsession struct {
	target []byte
	number uint32
	turn   uint32 // of the body last stored
	cookie int    // while held, else -1
	stored bool
}

type lconn struct {
	fd         int // -1 after the end
	sessions   []*lsession
	filling    int // sessions[:filling] have been stored once
	cur        *lsession
	op         int
	started    int64
	connecting bool
	busy       bool // a request is in flight
	queued     bool // in the loop's queue of idle ones

	hdr   []byte
	stamp [stampSize]byte
	data  []byte
	tail  []byte // what follows the body
	off   int
	total int
	full  bool // waiting for the socket to take more

	in     []byte // a response head that came in pieces
	inBody bool
	length int
	cookie int
	got    int
	wrong  bool
}

type loadLoop struct {
	r     *loadRun
	p     *poller
	conns []*lconn
	byFD  []*lconn
	live  int
	rng   *rand.Rand
	buf   []byte

	active   int      // connections with a request in flight
	inflight int      // limit of active; 0 is none
	idle     []*lconn // connections whose turn has not come, with inflight or rate
	interval int64    // ns between requests that fall due; 0 is a closed loop
	due      int64    // when the next one does; 0 before the first
	ticker   int      // file descriptor that wakes the loop for due, else -1

	seconds    []*hist
	requests   uint64
	bytes      uint64
	errors     int
	mismatches int
	statuses   map[int]int
	notes      []string
	lateFill   atomic.Bool // set from outside: filling took too long
}

func (r *loadRun) newLoop(index int) (*loadLoop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	cfg := &r.cfg
	l := &loadLoop{r: r, p: p, rng: rand.New(rand.NewPCG(cfg.seed, uint64(index+2))),
		buf: make([]byte, readSize), statuses: map[int]int{}, ticker: -1,
		inflight: (cfg.inflight + cfg.threads - 1) / cfg.threads}
	if cfg.rate > 0 {
		l.interval = int64(float64(cfg.threads) * 1e9 / cfg.rate)
		if l.ticker, err = p.addTicker(max(time.Duration(l.interval), 50*time.Microsecond)); err != nil {
			return nil, err
		}
	}
	for i := index; i < cfg.conns; i += cfg.threads {
		c := &lconn{fd: -1}
		for s := i; s < cfg.sessions; s += cfg.conns {
			se := &lsession{number: uint32(s), cookie: -1}
			r.name(se, 0)
			c.sessions = append(c.sessions, se)
		}
		l.conns = append(l.conns, c)
	}
	return l, nil
}

// name gives a session a new ID of 24 characters, as ASP.NET makes them.
func (r *loadRun) name(se *lsession, generation uint32) {
	const letters = "abcdefghijklmnopqrstuvwxyz012345"
	rng := rand.New(rand.NewPCG(r.cfg.seed, uint64(se.number)<<32|uint64(generation)))
	b := make([]byte, 0, len(appPath)+25)
	if r.cfg.form == "slash" {
		b = append(b, '/')
	}
	b = append(b, appPath...)
	for range 24 {
		b = append(b, letters[rng.IntN(32)])
	}
	se.target, se.stored, se.cookie = b, false, -1
}

func (l *loadLoop) run() {
	runtime.LockOSThread()
	l.live = len(l.conns)
	for _, c := range l.conns {
		l.connect(c)
	}
	var scanned, stopAt time.Time
	for l.live > 0 {
		for _, ev := range l.p.wait(50) {
			if int(ev.Fd) == l.ticker {
				var ticks [8]byte
				sysRead(l.ticker, ticks[:])
				l.dispatch()
			} else if c := l.byFD[ev.Fd]; c != nil {
				l.ready(c, ev.Events)
			}
		}
		now := time.Now()
		if now.Sub(scanned) < 50*time.Millisecond {
			continue
		}
		scanned = now
		phase := l.r.phase.Load()
		if phase >= phaseStop && stopAt.IsZero() {
			stopAt = now
		}
		l.scan(!stopAt.IsZero() && (now.Sub(stopAt) > drain || phase == phaseAbort))
		l.dispatch()
	}
}

// scan ends all connections if it is late, else looks for ones that hang.
func (l *loadLoop) scan(late bool) {
	for _, c := range l.conns {
		switch {
		case c.fd < 0:
		case late:
			l.end(c)
		case (c.busy || c.connecting) && l.r.now()-c.started > int64(stall):
			l.fail(c, "no answer in "+stall.String())
		}
	}
}

func (l *loadLoop) connect(c *lconn) {
	if c.cur != nil { // what the server has of it is unknown: leave it behind
		l.r.name(c.cur, l.rng.Uint32())
		c.cur = nil
	}
	fd, err := dialFD(l.r.cfg.addr)
	if err != nil {
		l.note(err.Error())
		l.errors++
		l.r.abort()
		c.fd = -1
		l.live--
		return
	}
	for fd >= len(l.byFD) {
		l.byFD = append(l.byFD, make([]*lconn, 1024)...)
	}
	l.byFD[fd] = c
	c.fd, c.full, c.connecting, c.inBody, c.in = fd, true, true, false, c.in[:0]
	c.off, c.total = 0, 0
	c.started = l.r.now()
	l.p.add(fd, syscall.EPOLLIN|syscall.EPOLLOUT)
}

// end closes a connection that has nothing left to do.
func (l *loadLoop) end(c *lconn) {
	l.settle(c)
	l.byFD[c.fd] = nil
	syscall.Close(c.fd)
	c.fd = -1
	l.live--
}

// settle notes that c has no request in flight.
func (l *loadLoop) settle(c *lconn) {
	if c.busy {
		c.busy = false
		l.active--
	}
}

func (l *loadLoop) note(s string) {
	if len(l.notes) < l.r.cfg.printErrors {
		l.notes = append(l.notes, s)
	}
}

// fail counts an error and starts over on a new connection.
func (l *loadLoop) fail(c *lconn, why string) {
	l.errors++
	l.note(why)
	l.settle(c)
	l.byFD[c.fd] = nil
	syscall.Close(c.fd)
	if l.r.errors.Add(1) >= int64(l.r.cfg.givingUp) {
		l.r.abort()
	}
	if l.r.phase.Load() >= phaseStop {
		c.fd = -1
		l.live--
		return
	}
	l.connect(c)
}

func (l *loadLoop) ready(c *lconn, events uint32) {
	if c.full && events&(syscall.EPOLLOUT|syscall.EPOLLERR|syscall.EPOLLHUP) != 0 {
		c.full = false
		l.p.mod(c.fd, syscall.EPOLLIN)
		if c.connecting {
			c.connecting = false
			l.turn(c)
			return
		}
		if !l.flush(c) {
			return
		}
	}
	if events&(syscall.EPOLLIN|syscall.EPOLLERR|syscall.EPOLLHUP) == 0 {
		return
	}
	for {
		n, e := sysRead(c.fd, l.buf)
		if e == syscall.EAGAIN {
			return
		}
		if e != 0 {
			l.fail(c, e.Error())
			return
		}
		if n == 0 {
			l.fail(c, "connection closed")
			return
		}
		if !l.input(c, l.buf[:n]) || n < len(l.buf) {
			return
		}
	}
}

// rated reports whether requests have to fall due: not while sessions are
// stored at first, nor while they are deleted at the end.
func (l *loadLoop) rated() bool {
	return l.interval > 0 && l.r.unfilled.Load() == 0 && l.r.phase.Load() < phaseStop
}

// turn has c send its next request, or wait until it is its turn.
func (l *loadLoop) turn(c *lconn) {
	if l.inflight == 0 && !l.rated() {
		l.next(c)
		return
	}
	if !c.queued {
		c.queued = true
		l.idle = append(l.idle, c)
	}
	l.dispatch()
}

// dispatch has idle connections send for as long as requests may be in flight
// and are due.
func (l *loadLoop) dispatch() {
	for len(l.idle) > 0 && (l.inflight == 0 || l.active < l.inflight) {
		rated := l.rated()
		now := l.r.now()
		if rated && l.due == 0 {
			l.due = now
		}
		if rated && l.due > now {
			return
		}
		c := l.idle[0]
		l.idle = l.idle[1:]
		c.queued = false
		if c.fd < 0 || c.connecting || c.busy {
			continue // it has ended, or comes back when it is connected
		}
		l.next(c)
		if rated && c.busy {
			c.started = l.due
			l.due += l.interval
		}
	}
}
