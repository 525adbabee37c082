package main

import (
	"bytes"
	"time"
)

// paceBurst bounds what a server that was idle, or had to wait for a CPU, may
// catch up on at once.
const paceBurst = 20 * time.Millisecond

// pace is the queue of a server that answers a fixed number of requests per
// second. The zero value is ready.
type pace struct {
	queue     []*bconn
	allowance float64 // requests that may be answered now
	filled    time.Time
}

// paced reports whether a request takes its turn. Sessions are created and
// deleted at once, so that filling a slow server takes no longer than a fast
// one.
func (sv *server) paced(key, line []byte) bool {
	return sv.sessions[string(key)] != nil && !bytes.HasPrefix(line, []byte("DELETE "))
}

func (p *pace) wait(c *bconn) {
	c.waiting = true
	p.queue = append(p.queue, c)
}

// refill adds what rate allows for the time since the last call.
func (p *pace) refill(now time.Time, rate float64) {
	if p.filled.IsZero() {
		p.filled = now
	}
	p.allowance += now.Sub(p.filled).Seconds() * rate
	p.allowance = min(p.allowance, max(1, paceBurst.Seconds()*rate))
	p.filled = now
}

// next takes the connection out of the queue whose turn it is, nil if it is
// nobody's.
func (p *pace) next() *bconn {
	if len(p.queue) == 0 || p.allowance < 1 {
		return nil
	}
	c := p.queue[0]
	p.queue = p.queue[1:]
	c.waiting = false
	return c
}

// serveWaiting answers the requests whose turn has come.
func (s *backend) serveWaiting() {
	now := time.Now()
	for _, sv := range s.listeners {
		sv.pace.refill(now, s.rate)
		for c := sv.pace.next(); c != nil; c = sv.pace.next() {
			if s.conns[c.fd] != c {
				continue // it was closed while it waited
			}
			sv.pace.allowance--
			c.paid = true
			if err := s.serve(c); err != nil {
				s.close(c)
			}
		}
	}
}
