package xray

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// topN is how many sessions each list for people names.
const topN = 10

// sizeMemory is how long the size of a session counts that is not seen again at
// that size or above the others.
const sizeMemory = 10 * time.Minute

// largest is the list of an application's largest sessions. The zero value is
// empty; it is safe for concurrent use.
type largest struct {
	floor atomic.Int64 // what is not larger finds no place

	mu   sync.Mutex // guards list
	list []sized    // in no order
}

type sized struct {
	session uint64
	size    int64
	seen    time.Time
}

// offer takes the size of a session.
func (l *largest) offer(session uint64, size int64, at time.Time) {
	if size <= l.floor.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list == nil {
		l.list = make([]sized, 0, topN)
	}
	least := 0
	for i := range l.list {
		s := &l.list[i]
		if s.session == session {
			s.size, s.seen = size, at
			l.setFloor()
			return
		}
		if s.size < l.list[least].size {
			least = i
		}
	}
	s := sized{session, size, at}
	if len(l.list) < topN {
		l.list = append(l.list, s)
	} else if size > l.list[least].size {
		l.list[least] = s
	}
	l.setFloor()
}

// setFloor sets the floor by the list. l.mu is held.
func (l *largest) setFloor() {
	floor := int64(0)
	if len(l.list) == topN {
		floor = slices.MinFunc(l.list, bySize).size
	}
	l.floor.Store(floor)
}

func bySize(a, b sized) int { return int(min(max(a.size-b.size, -1), 1)) }

// sorted returns the sessions seen lately, the largest first, and forgets the
// others.
func (l *largest) sorted(now time.Time) []sized {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.DeleteFunc(l.list, func(s sized) bool { return now.Sub(s.seen) >= sizeMemory })
	l.setFloor()
	list := slices.Clone(l.list)
	slices.SortFunc(list, func(a, b sized) int { return bySize(b, a) })
	return list
}

// Bounds of the memory of locks that clients are told of.
const (
	maxHeld    = 32
	heldMemory = int64(10 * time.Second) // since the last one who polled
	heldStep   = 2 * time.Second         // ages are in whole seconds
)

// heldLocks are the oldest locks of which 423s tell. The zero value is empty; it
// is safe for concurrent use.
type heldLocks struct {
	number atomic.Int64 // of locks in list

	mu   sync.Mutex // guards list
	list [maxHeld]heldLock
}

// heldLock is a lock that someone waits for. Times are Unix nanoseconds.
type heldLock struct {
	session     uint64 // 0: free
	since, seen int64
	app         uint16
}

// note takes the age of a lock as a 423 gives it.
func (h *heldLocks) note(session uint64, app uint16, now int64, age time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	since := now - int64(age)
	youngest := &h.list[0]
	for i := range h.list {
		l := &h.list[i]
		if l.session == session {
			l.seen = now
			if since < l.since || since-l.since > int64(heldStep) { // else it is the same lock
				l.since = since
			}
			return
		}
		if l.free(now) && !youngest.free(now) || l.since > youngest.since && !youngest.free(now) {
			youngest = l
		}
	}
	if !youngest.free(now) && since >= youngest.since {
		return
	}
	if youngest.session == 0 {
		h.number.Add(1)
	}
	*youngest = heldLock{session, since, now, app}
}

func (l *heldLock) free(now int64) bool { return l.session == 0 || now-l.seen >= heldMemory }

// drop takes the end of a lock.
func (h *heldLocks) drop(session uint64) {
	if h.number.Load() == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.list {
		if h.list[i].session == session {
			h.list[i] = heldLock{}
			h.number.Add(-1)
		}
	}
}

// present returns the locks that someone waits for.
func (h *heldLocks) present(now int64) (list []heldLock) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.list {
		l := &h.list[i]
		if l.session != 0 && l.free(now) {
			*l = heldLock{}
			h.number.Add(-1)
		}
		if l.session != 0 {
			list = append(list, *l)
		}
	}
	return list
}
