package proxy

import (
	"cmp"
	"time"

	"stateproxy/wire"
)

// Memory is what a proxy remembers of single sessions, for another one that takes
// over from it. It holds session IDs, so it must not be kept or shown.
type Memory struct {
	Since    time.Time // when it began to remember; zero if it remembers none
	Missed   int64     // sessions that found no room
	Sessions []Seen
	Halves   []uint64 // numbers of sessions that a move has stored at their owner and not removed where they were
}

// Seen is a session that passed by.
type Seen struct {
	Key     string
	At      time.Time // to the second
	Minutes uint32    // its time-out
}

// Memory returns what Remember takes.
func (p *Proxy) Memory() Memory {
	c := &p.census
	m := Memory{Since: fromSeconds(c.known.Load()), Missed: c.missed.Load(), Halves: p.moves.halves.all()}
	c.every(time.Now(), func(_ uint64, s Seen) bool {
		m.Sessions = append(m.Sessions, s)
		return true
	})
	return m
}

// Remember adds what another proxy remembers. Its numbers are understood only if
// this proxy began by the other's Snapshot.
func (p *Proxy) Remember(m Memory) {
	c := &p.census
	for _, s := range m.Sessions {
		c.remember(p.salt, s)
	}
	c.missed.Add(m.Missed)
	if since := m.Since.Unix(); !m.Since.IsZero() && since < c.known.Load() {
		c.known.Store(since)
	}
	for _, h := range m.Halves {
		p.moves.halves.add(h, time.Now().UnixNano())
	}
}

// remember takes up a session that another proxy has seen.
func (c *census) remember(salt uint64, s Seen) {
	x := ownExchange(s.Key)
	x.Response.Status = wire.StatusOK
	x.req.Timeout = wire.Some(int64(s.Minutes))
	h := keyHash(salt, x.key.Full)
	if c.on() && !c.has(h) {
		c.note(h, x, s.At)
	}
}

func (c *census) has(h uint64) bool {
	sh := &c.shards[h%censusShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	_, short := sh.short[h]
	_, long := sh.long[h]
	return cmp.Or(short, long)
}

func fromSeconds(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(n, 0)
}
