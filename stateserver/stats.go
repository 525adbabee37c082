package stateserver

import (
	"sync/atomic"

	"stateproxy/wire"
)

// Stats is a snapshot of what a server holds and has done. Its numbers are read
// one after the other while requests go on.
type Stats struct {
	Sessions  int   // now, expired ones that were not swept yet included
	Locked    int   // sessions locked now
	BodyBytes int64 // in the bodies of Sessions
	Memory    int64 // estimate of the bytes that Sessions take; MaxMemory bounds it

	Conns        int    // open now
	ConnsTotal   uint64 // served so far
	ConnsRefused uint64 // closed unanswered: MaxConns reached, or closing
	AcceptErrors uint64 // passing failures of a listener

	Requests  [wire.NumOps]StatusCounts // answered, by wire.Op
	Malformed uint64                    // requests answered 400 because they can't be parsed; not in Requests
	Oversized uint64                    // PUTs refused by MaxBody
	NoMemory  uint64                    // PUTs refused by MaxMemory
	Expired   uint64                    // sessions that ended by their timeout
	Stalled   uint64                    // connections cut by StallTimeout
	Broken    uint64                    // connections that ended in the middle of a request or answer
}

// StatusCounts counts answers by status. The zero value is no answers.
type StatusCounts struct {
	OK         uint64 // 200
	BadRequest uint64 // 400
	NotFound   uint64 // 404
	Locked     uint64 // 423
}

// statuses gives the index of each status in counters.requests.
var statuses = [...]int{wire.StatusOK, wire.StatusBadRequest, wire.StatusNotFound, wire.StatusLocked}

// counters are what Stats tells beyond the store.
type counters struct {
	requests     [wire.NumOps][len(statuses)]atomic.Uint64
	conns        atomic.Uint64
	connsRefused atomic.Uint64
	acceptErrors atomic.Uint64
	malformed    atomic.Uint64
	oversized    atomic.Uint64
	stalled      atomic.Uint64
	broken       atomic.Uint64
}

func (c *counters) answered(op wire.Op, status int) {
	for i, s := range statuses {
		if s == status {
			c.requests[op][i].Add(1)
		}
	}
}

// Stats returns the present numbers.
func (s *Server) Stats() Stats {
	s.once.Do(s.init)
	c := &s.counters
	stats := Stats{
		Memory:       s.store.used.Load(),
		NoMemory:     s.store.refused.Load(),
		ConnsTotal:   c.conns.Load(),
		ConnsRefused: c.connsRefused.Load(),
		AcceptErrors: c.acceptErrors.Load(),
		Malformed:    c.malformed.Load(),
		Oversized:    c.oversized.Load(),
		Stalled:      c.stalled.Load(),
		Broken:       c.broken.Load(),
	}
	for op := range c.requests {
		n := &c.requests[op]
		stats.Requests[op] = StatusCounts{n[0].Load(), n[1].Load(), n[2].Load(), n[3].Load()}
	}
	for i := range s.store.shards {
		s.store.shards[i].addTo(&stats)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stats.Conns = len(s.conns)
	return stats
}

func (sh *shard) addTo(stats *Stats) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	stats.Sessions += len(sh.items)
	stats.Locked += sh.locked
	stats.BodyBytes += sh.bodies
	stats.Expired += sh.expired
}
