package xray

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// Places for sessions that are followed. When they are filled with living
// sessions, or when there are too many requests for those that are followed,
// half of the sessions are followed from then on, and so forth.
const (
	numSets  = 2048
	ways     = 8 // places in a set
	seats    = numSets * ways
	maxMask  = 1<<12 - 1
	tooFull  = numSets / 4 // sessions that found no place until fewer are followed
	tooEmpty = seats / 8   // living sessions; with fewer more are followed
)

// followed remembers single sessions. The key of a session, which it shares with
// the sessions of other applications under the same ID, decides on its set, so
// that they meet there. The zero value is empty.
type followed struct {
	mask atomic.Uint64 // a session is followed if these bits of its key, shifted, are 0
	late atomic.Int64  // sessions that found no place since the mask was set
	pace pace
	sets [numSets]set
}

type set struct {
	mu    sync.Mutex // guards what follows
	keys  [ways]uint64
	seats [ways]seat
}

// seat is what is known of one session. Times are Unix nanoseconds; 0 stands for
// never.
type seat struct {
	session uint64
	body    uint64 // hash of what was saved last; 0 if it is unknown
	locked  int64  // when its lock was granted; 0 if it is free
	refused int64  // when the first of those who wait for it was refused; 0 if nobody waits
	polled  int64  // when one was refused last
	seen    int64
	told    int64  // when the doctor was told of it
	app     uint16 // index of the application
	client  uint16 // number of the client that asked last
}

// Times after which what was seen does not count any more.
const (
	lifetime = int64(10 * time.Minute) // of a session that nobody asks for
	patience = int64(5 * time.Second)  // of a client that waits and does not poll
	retell   = int64(30 * time.Second) // before the doctor is told of a session again

	waitingNow = int64(time.Second) // since the last poll, which come every half second
)

func (s *seat) alive(now int64) bool { return s.session != 0 && now-s.seen < lifetime }

// follows reports whether sessions with that key are followed.
func (f *followed) follows(key uint64) bool { return key>>52&f.mask.Load() == 0 }

// share is the number of sessions of which one is followed.
func (f *followed) share() int { return int(f.mask.Load()) + 1 }

// crowd takes a session that found no place. Once there are too many of them
// fewer sessions are followed.
func (f *followed) crowd() {
	if f.late.Add(1) >= tooFull {
		f.thin()
	}
}

// thin has half of the sessions followed.
func (f *followed) thin() {
	if mask := f.mask.Load(); mask < maxMask && f.mask.CompareAndSwap(mask, mask<<1|1) {
		f.late.Store(0)
	}
}

// tune has more sessions followed if there are much room and time.
func (f *followed) tune(now int64) {
	mask := f.mask.Load()
	alive := 0
	f.each(func(key uint64, s *seat) {
		if s.alive(now) && f.follows(key) {
			alive++
		}
	})
	if mask > 0 && alive < tooEmpty && f.pace.idle(now/int64(time.Second)) {
		f.mask.CompareAndSwap(mask, mask>>1)
	}
	f.late.Store(0)
}

// each shows every place that is taken, each set under its mutex.
func (f *followed) each(show func(key uint64, s *seat)) {
	for i := range f.sets {
		t := &f.sets[i]
		t.mu.Lock()
		for j := range t.seats {
			if t.seats[j].session != 0 {
				show(t.keys[j], &t.seats[j])
			}
		}
		t.mu.Unlock()
	}
}

// find returns the place of a session and that of another one under the same
// key, -1 where there is none. t.mu is held.
func (t *set) find(key, session uint64, now int64) (own, twin int) {
	own, twin = -1, -1
	for i, k := range t.keys {
		if k != key {
			continue
		}
		if s := &t.seats[i]; s.session == session {
			own = i
		} else if s.alive(now) {
			twin = i
		}
	}
	return own, twin
}

// free returns a place that no living session has, -1 if there is none. t.mu is
// held.
func (t *set) free(now int64, f *followed) int {
	for i := range t.seats {
		if !t.seats[i].alive(now) || !f.follows(t.keys[i]) {
			return i
		}
	}
	return -1
}

// follow takes the answer to a request for a session that is followed.
func (x *XRay) follow(key uint64, a *app, o *proxy.Outcome) {
	client := x.clients.of(o.Client.Addr())
	a.clients.mark(client)
	body := uint64(0)
	if o.Op == wire.OpSet && o.Status == wire.StatusOK {
		a.timeouts.add(o.Timeout)
		if o.Body != nil {
			body = maphash.Bytes(seed, o.Body) | 1
		}
	}
	now := o.Start.UnixNano()
	if x.sessions.pace.count(now/int64(time.Second)) == tooMany {
		x.sessions.thin()
	}
	t := &x.sessions.sets[key%numSets]
	t.mu.Lock()
	defer t.mu.Unlock()
	i, twin := t.find(key, o.Session, now)
	if twin >= 0 && (i < 0 || now-t.seats[i].told >= retell) {
		s := &t.seats[twin]
		x.doctor.meet(key, now, now-x.memory(), use{x.apps.slots[s.app].Load(), s.client}, use{a, client})
		if i >= 0 {
			t.seats[i].told = now
		}
	}
	if o.Status == wire.StatusNotFound {
		if i >= 0 {
			t.seats[i] = seat{}
		}
		return
	}
	if i < 0 {
		if i = t.free(now, &x.sessions); i < 0 {
			x.sessions.crowd()
			return
		}
		t.keys[i], t.seats[i] = key, seat{session: o.Session, app: a.index, told: now}
	}
	s := &t.seats[i]
	s.seen, s.client = now, client
	s.take(a, o, body)
}

// take notes what an answer tells of the session. Its set's mutex is held.
func (s *seat) take(a *app, o *proxy.Outcome, body uint64) {
	begun := o.Start.UnixNano()
	ended := begun + int64(o.Duration)
	switch {
	case o.Status == wire.StatusLocked:
		if o.Op != wire.OpGet && o.Op != wire.OpGetExclusive {
			return
		}
		if begun-s.polled > patience { // nobody waited until now
			s.refused = begun
		}
		s.polled = begun
	case o.Status != wire.StatusOK:
	case o.Op == wire.OpGet || o.Op == wire.OpGetExclusive:
		s.granted(a, begun, ended)
		if o.Op == wire.OpGetExclusive && !o.LockReleased {
			s.locked = ended
		}
	case o.Op == wire.OpSet:
		s.unlocked(a, ended)
		if body != 0 && s.body != 0 {
			a.judged.Add(1)
			if body == s.body {
				a.same.Add(1)
			}
		}
		s.body = body
	case o.Op == wire.OpRelease:
		s.unlocked(a, ended)
	case o.Op == wire.OpRemove:
		s.unlocked(a, ended)
		*s = seat{}
	}
}

// granted ends the wait of the one who has waited longest.
func (s *seat) granted(a *app, begun, ended int64) {
	if s.refused != 0 && begun-s.polled <= patience {
		a.waits.observe(time.Duration(ended - s.refused))
	}
	s.refused, s.polled = 0, 0
}

// unlocked ends the time that a lock is held.
func (s *seat) unlocked(a *app, ended int64) {
	if s.locked != 0 {
		a.holds.observe(time.Duration(ended - s.locked))
		s.locked = 0
	}
}
