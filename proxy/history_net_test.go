package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"stateproxy/stateserver"
)

// outage is how a machine is cut off.
type outage int

// The outages.
const (
	reachable outage = iota
	refusing         // connections are reset and refused
	silent           // connections hang, nothing comes through
)

// machine is a state server with a network of its own that can be cut off. It
// keeps its sessions while it is, and loses them when it is restarted.
type machine struct {
	number  int
	server  *stateserver.Server
	ln      *memory
	running sync.WaitGroup

	mu      sync.Mutex // guards what follows
	outage  outage
	ejected bool // health says that it is down
	run     int  // grows with each restart
	links   map[*link]struct{}
	seed    uint64       // of the delays of messages; 0 is none
	sent    uint64       // messages since the seed was set
	losing  int          // the how-many-eth message from now is lost; 0 loses none
	unheard bool         // not that one is lost but the answer to it
	alert   func([]byte) // told of each message to the machine before it is sent; nil tells nobody
}

func startMachine(number int) *machine {
	m := &machine{number: number, server: &stateserver.Server{}, ln: newMemory(), links: map[*link]struct{}{}}
	m.running.Go(func() { _ = m.server.Serve(m.ln) })
	return m
}

func (m *machine) stop() {
	m.server.Close()
	m.running.Wait()
}

// addresses are the two that lead to the machine.
func (m *machine) address(second bool) string {
	if second {
		return fmt.Sprintf("m%d.second:42424", m.number)
	}
	return fmt.Sprintf("m%d.first:42424", m.number)
}

// nonce is what the machine's sentinel shows.
func (m *machine) nonce() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("m%d run %d", m.number, m.run)
}

// asked reports whether a proxy asks the machine and gets answers.
func (m *machine) asked() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.outage == reachable && !m.ejected
}

// sound reports whether neither network nor health are against the machine.
func (m *machine) isEjected() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ejected
}

func (m *machine) setEjected(ejected bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ejected = ejected
}

// set cuts the machine off or brings it back.
func (m *machine) set(o outage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outage = o
	for l := range m.links {
		if o == silent {
			l.lost = true
		} else if o == refusing || l.lost {
			l.reset()
		}
	}
}

// restart has the machine lose its sessions and connections.
func (m *machine) restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.run++
	m.server.Reset()
	for l := range m.links {
		l.reset()
	}
}

// empty is restart, but for the connections: those that matter were made since.
func (m *machine) empty() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.run++
	m.server.Reset()
}

// lose has a message to the machine be lost, or the answer to it, with its
// connection: the nth from now. 0 loses none.
func (m *machine) lose(n int, answer bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.losing, m.unheard = n, answer
}

func (m *machine) isLosing() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.losing > 0
}

// loses reports whether the next message, or the answer to it, is lost.
func (m *machine) loses() (message, answer bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.losing == 0 {
		return false, false
	}
	m.losing--
	return m.losing == 0 && !m.unheard, m.losing == 0 && m.unheard
}

// shake gives each message from now on a delay of its own.
func (m *machine) shake(seed uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seed, m.sent = uint64(seed), 0
}

// delay waits for as long as the next message is to take.
func (m *machine) delay() {
	m.mu.Lock()
	seed := m.seed
	m.sent++
	n := (seed + m.sent*machineCount + uint64(m.number)) * 0x9e3779b97f4a7c15 >> 60
	m.mu.Unlock()
	if seed != 0 && n > 0 {
		<-time.After(time.Duration(n) * time.Millisecond)
	}
}

func (m *machine) dial(ctx context.Context) (net.Conn, error) {
	m.mu.Lock()
	o := m.outage
	m.mu.Unlock()
	switch o {
	case refusing:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case silent:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	nc, err := m.ln.dial(ctx, "", "")
	if err != nil {
		return nil, err
	}
	l := &link{Conn: nc, m: m}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.links[l] = struct{}{}
	return l, nil
}

// link is a proxy's connection to a machine.
type link struct {
	net.Conn
	m    *machine
	lost bool        // m was silent: nothing comes through any more; guarded by m.mu
	deaf atomic.Bool // the next answer is lost
}

// reset closes the connection, and whoever uses it hears of that. l.m.mu is
// held.
func (l *link) reset() {
	l.lost = false
	l.Conn.Close()
	delete(l.m.links, l)
}

func (l *link) isLost() bool {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return l.lost
}

// Write implements net.Conn.
func (l *link) Write(b []byte) (int, error) {
	l.m.delay()
	l.m.mu.Lock()
	alert := l.m.alert
	l.m.mu.Unlock()
	if alert != nil {
		alert(b)
	}
	if l.isLost() {
		return len(b), nil
	}
	message, answer := l.m.loses()
	if message {
		l.Close()
		return len(b), nil
	}
	l.deaf.Store(answer)
	return l.Conn.Write(b)
}

// Read implements net.Conn.
func (l *link) Read(b []byte) (int, error) {
	for {
		n, err := l.Conn.Read(b)
		if n > 0 && err == nil {
			l.m.delay()
		}
		if n > 0 && l.deaf.Load() {
			l.Close()
			return 0, io.EOF
		}
		if err != nil || !l.isLost() {
			return n, err
		}
	}
}

// Close implements net.Conn.
func (l *link) Close() error {
	l.m.mu.Lock()
	delete(l.m.links, l)
	l.m.mu.Unlock()
	return l.Conn.Close()
}
