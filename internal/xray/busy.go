package xray

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the memory of the busiest sessions.
const (
	busySets = 512
	maxThin  = 1<<14 - 1
)

// busiest estimates how often the sessions asked for most are asked for. It
// looks at a sample of the requests where they are many. In a set that is full a
// session without a place wears out the count of the least busy one before it
// takes its place, so counts err on the low side. The zero value is empty; it is
// safe for concurrent use.
type busiest struct {
	mask atomic.Uint32 // requests of which one is looked at, less one
	pace pace
	sets [busySets]busySet
}

type busySet struct {
	mu     sync.Mutex // guards what follows
	places [ways]busySession
}

type busySession struct {
	session uint64 // 0: free
	minute  int64  // Unix time in minutes that count belongs to
	count   int64  // requests in that minute
	before  int64  // in the one before
	app     uint16
}

// observe takes a request.
func (b *busiest) observe(session uint64, app uint16, at time.Time) {
	mask := b.mask.Load()
	if mask != 0 && rand.Uint32()&mask != 0 {
		return
	}
	second := at.Unix()
	switch b.pace.count(second) {
	case tooMany:
		if mask < maxThin {
			b.mask.CompareAndSwap(mask, mask<<1|1)
		}
	case few:
		b.mask.CompareAndSwap(mask, mask>>1)
	}
	s := &b.sets[session%busySets]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(session, app, second/60, int64(mask)+1)
}

// note counts weight requests for the session. s.mu is held.
func (s *busySet) note(session uint64, app uint16, minute, weight int64) {
	least := &s.places[0]
	for i := range s.places {
		p := &s.places[i]
		p.advance(minute)
		if p.session == session {
			p.count += weight
			return
		}
		if p.count+p.before < least.count+least.before {
			least = p
		}
	}
	if left := least.count + least.before - weight; left > 0 {
		least.before = max(least.before-weight, 0)
		least.count = left - least.before
		return
	}
	*least = busySession{session: session, app: app, minute: minute, count: weight}
}

// advance brings the counts up to the minute.
func (p *busySession) advance(minute int64) {
	if minute <= p.minute { // the clock may have been set back
		return
	}
	if minute == p.minute+1 {
		p.before = p.count
	} else {
		p.before = 0
	}
	p.count, p.minute = 0, minute
	if p.before == 0 {
		p.session = 0
	}
}

// perMinute estimates the requests of the last 60 seconds.
func (p *busySession) perMinute(now time.Time) int64 {
	part := now.Unix() % 60
	return p.count + p.before*(60-part)/60
}

// each shows every session that has a place.
func (b *busiest) each(now time.Time, show func(p *busySession)) {
	for i := range b.sets {
		s := &b.sets[i]
		s.mu.Lock()
		for j := range s.places {
			p := &s.places[j]
			p.advance(now.Unix() / 60)
			if p.session != 0 {
				show(p)
			}
		}
		s.mu.Unlock()
	}
}
