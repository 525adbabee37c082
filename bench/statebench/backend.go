package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
)

// The backend is one thread on one epoll loop: its session maps need no locks
// and no shards, and a request costs a read, a writev and a share of an
// epoll_wait. It can be several state servers in one process, each with an
// address and sessions of its own, so that the number of servers can grow
// without more processes to wake.

const backendHeadMax = 8 << 10

type blob struct {
	b    []byte
	pins int // responses under way that still point into b
}

type session struct {
	body   *blob
	spare  *blob // the buffer of the body before, for the next one
	locked bool
	cookie int
}

// server is one state server of a backend.
type server struct {
	sessions map[string]*session
	pace     pace
}

type bconn struct {
	fd      int
	server  *server
	in      []byte // bytes read and not used yet
	waiting bool   // in the queue of the server's pace
	paid    bool   // its request has been through that queue
	key     string // the PUT whose body is coming in
	put     head
	body    *blob
	got     int
	out     []byte // a response that did not fit into the socket, from off on
	tail    *blob
	off     int
}

type backend struct {
	p         *poller
	listeners map[int]*server // by file descriptor
	addrs     []string        // that it listens on
	conns     []*bconn        // by file descriptor
	scratch   []byte
	rate      float64 // requests per second of each server; 0 is as many as come
	dump      bool
}

func cmdBackend(args []string) error {
	fs := flag.NewFlagSet("backend", flag.ExitOnError)
	addrs := fs.String("addr", "127.0.0.1:42424", "address to listen on; with several, commas between, each is a state server of its own")
	dump := fs.Bool("dump", false, "print every request head as received")
	rate := fs.Float64("rate", 0, "requests for existing sessions that each server answers per second; the rest wait their turn. 0 answers at once")
	fs.Parse(args)

	s, err := newBackend(strings.Split(*addrs, ","), *rate)
	if err != nil {
		return err
	}
	s.dump = *dump
	s.run()
	return nil
}

// newBackend listens on the addresses; port 0 is a free one.
func newBackend(addrs []string, rate float64) (*backend, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	s := &backend{p: p, listeners: map[int]*server{}, rate: rate}
	for _, addr := range addrs {
		fd, err := listenFD(addr)
		if err != nil {
			return nil, err
		}
		s.listeners[fd] = &server{sessions: map[string]*session{}}
		s.addrs = append(s.addrs, localAddr(fd))
		if err := p.add(fd, syscall.EPOLLIN); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// run serves for ever.
func (s *backend) run() {
	runtime.LockOSThread()
	timeout := -1
	if s.rate > 0 {
		timeout = 1 // ms, the grain of the pace
	}
	for {
		for _, ev := range s.p.wait(timeout) {
			fd := int(ev.Fd)
			if sv := s.listeners[fd]; sv != nil {
				s.accept(fd, sv)
				continue
			}
			c := s.conns[fd]
			if c == nil {
				continue
			}
			if err := s.ready(c, ev.Events); err != nil {
				s.close(c)
			}
		}
		if s.rate > 0 {
			s.serveWaiting()
		}
	}
}

func (s *backend) accept(lfd int, sv *server) {
	for {
		fd, _, err := syscall.Accept4(lfd, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		for fd >= len(s.conns) {
			s.conns = append(s.conns, make([]*bconn, 1024)...)
		}
		s.conns[fd] = &bconn{fd: fd, server: sv, in: make([]byte, 0, backendHeadMax)}
		if s.p.add(fd, syscall.EPOLLIN) != nil {
			s.close(s.conns[fd])
		}
	}
}

func (s *backend) close(c *bconn) {
	if c.tail != nil {
		c.tail.pins--
	}
	s.conns[c.fd] = nil
	syscall.Close(c.fd)
}

func (s *backend) ready(c *bconn, events uint32) error {
	if c.out != nil || c.tail != nil {
		if events&(syscall.EPOLLERR|syscall.EPOLLHUP) != 0 {
			return syscall.EPIPE
		}
		done, err := s.flush(c)
		if err != nil || !done {
			return err
		}
		if err := s.p.mod(c.fd, syscall.EPOLLIN); err != nil {
			return err
		}
		return s.serve(c)
	}
	into := c.in[len(c.in):cap(c.in)]
	if c.body != nil { // straight into the session's buffer
		into = c.body.b[c.got:]
	}
	if len(into) == 0 {
		return nil // the rest of a body that waits for its turn
	}
	n, e := sysRead(c.fd, into)
	if e == syscall.EAGAIN {
		return nil
	}
	if e != 0 || n == 0 {
		return syscall.ECONNRESET
	}
	if c.body == nil {
		c.in = c.in[:len(c.in)+n]
		return s.serve(c)
	}
	if c.got += n; c.got < len(c.body.b) {
		return nil
	}
	return s.stored(c)
}

// serve answers the requests in c.in for as long as whole ones are there, it is
// their turn, and their answers fit into the socket.
func (s *backend) serve(c *bconn) error {
	for len(c.in) > 0 && c.out == nil && c.tail == nil && c.body == nil && !c.waiting {
		h, ok := parseHead(c.in)
		if !ok {
			if len(c.in) == cap(c.in) {
				return syscall.EMSGSIZE
			}
			return nil
		}
		if s.dump {
			fmt.Fprintf(os.Stderr, "%q\n", c.in[:h.size])
		}
		key := bytes.TrimPrefix(target(h.line), []byte("/"))
		if s.rate > 0 && !c.paid && c.server.paced(key, h.line) {
			c.server.pace.wait(c)
			return nil
		}
		c.paid = false
		used, err := s.answer(c, key, h)
		if err != nil {
			return err
		}
		c.in = c.in[:copy(c.in, c.in[used:])]
		if c.body != nil && c.got == len(c.body.b) {
			if err := s.stored(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// answer answers one request, or begins to take in its body. It returns how
// many bytes of c.in that used.
func (s *backend) answer(c *bconn, key []byte, h head) (used int, err error) {
	se := c.server.sessions[string(key)]
	switch {
	case bytes.HasPrefix(h.line, []byte("GET ")):
		return h.size, s.get(c, se, h)
	case bytes.HasPrefix(h.line, []byte("PUT ")) && h.length >= 0:
		body := se.buffer(h.length)
		c.got = copy(body.b, c.in[h.size:])
		c.key, c.put, c.body = string(key), h, body
		return h.size + c.got, nil
	case bytes.HasPrefix(h.line, []byte("HEAD ")):
		if se == nil {
			return h.size, s.reply(c, "404 Not Found", -1, nil)
		}
		return h.size, s.reply(c, "200 OK", -1, nil)
	case bytes.HasPrefix(h.line, []byte("DELETE ")):
		switch {
		case se == nil:
			return h.size, s.reply(c, "404 Not Found", -1, nil)
		case se.locked && se.cookie != h.lockCookie:
			return h.size, s.locked(c, se)
		}
		delete(c.server.sessions, string(key))
		return h.size, s.reply(c, "200 OK", -1, nil)
	}
	return h.size, s.reply(c, "400 Bad Request", -1, nil)
}

func (s *backend) get(c *bconn, se *session, h head) error {
	switch {
	case se == nil:
		return s.reply(c, "404 Not Found", -1, nil)
	case h.exclusive == 'r':
		if se.locked && se.cookie != h.lockCookie {
			return s.locked(c, se)
		}
		se.locked = false
		return s.reply(c, "200 OK", -1, nil)
	case se.locked:
		return s.locked(c, se)
	case h.exclusive == 'a':
		se.locked = true
		se.cookie++
	}
	return s.reply(c, "200 OK", se.cookie, se.body)
}

// buffer returns n bytes for a coming body of the session, which may be nil.
func (se *session) buffer(n int) *blob {
	if se != nil && se.spare != nil {
		b := se.spare
		se.spare = nil
		if b.pins == 0 && cap(b.b) >= n {
			b.b = b.b[:n]
			return b
		}
	}
	return &blob{b: make([]byte, n)}
}

// stored takes in a PUT whose body is complete.
func (s *backend) stored(c *bconn) error {
	body := c.body
	c.body = nil
	se := c.server.sessions[c.key]
	switch {
	case se == nil:
		c.server.sessions[c.key] = &session{body: body}
	case se.locked && se.cookie != c.put.lockCookie:
		return s.locked(c, se)
	default:
		se.spare, se.body, se.locked = se.body, body, false
	}
	return s.reply(c, "200 OK", -1, nil)
}
