package farm

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/wire"
)

// Alarm is a kind of damage.
type Alarm uint8

// The kinds of damage.
const (
	AlarmLost       Alarm = iota // no such session, though it was saved, neither abandoned nor expired
	AlarmLostUpdate              // an acknowledged save is gone, or a save was refused to the lock's holder
	AlarmStale                   // a read got what was replaced before it began
	AlarmForeign                 // the body of another session
	AlarmDamaged                 // not the bytes that were saved
	AlarmTwoHolders              // a lock given away while a page held it
	AlarmPhantom                 // a body never saved, or an abandoned session risen
	AlarmFlags                   // ActionFlags: 1 more often than sessions were created
	AlarmBadAnswer               // an answer that clients misread without noticing

	NumAlarms = int(AlarmBadAnswer) + 1
)

var alarmNames = [NumAlarms]string{
	"lost sessions", "lost updates", "stale reads", "foreign bodies", "damaged bodies",
	"locks held twice", "phantoms", "repeated action flags", "misleading answers",
}

// String returns the kind's name in the plural, as it stands behind a number.
func (a Alarm) String() string {
	if int(a) < len(alarmNames) {
		return alarmNames[a]
	}
	return fmt.Sprintf("Alarm(%d)", uint8(a))
}

// maxExamples is how many findings of each kind are kept as text.
const maxExamples = 3

// recent is the time over which the present rates are taken, in seconds.
const recent = 10

// stats counts what happens. It is safe for concurrent use.
type stats struct {
	ops  [wire.NumOps]histogram
	kind [NumPages]histogram

	dials, polls, takeovers     atomic.Uint64
	created, abandoned, expired atomic.Uint64
	verified, verifiedLocked    atomic.Uint64

	mu       sync.Mutex
	errors   [NumCauses]uint64
	failures [NumCauses]string // the first error of each cause
	alarms   [NumAlarms]uint64
	excused  [NumAlarms]uint64
	examples [NumAlarms][]string
	began    time.Time     // of the phase that runs, zero if none does
	elapsed  time.Duration // in phases before
	seconds  [recent + 1]second
}

// second counts the pages that ended in one second.
type second struct {
	unix          int64
	pages, errors uint64
}

func (s *stats) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = time.Now()
}

func (s *stats) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.elapsed += time.Since(s.began)
	s.began = time.Time{}
}

// page counts a page that ended. One that the end of the run cut short counts nothing.
func (s *stats) page(kind Page, cause Cause, took time.Duration) {
	if cause == causeStopped {
		return
	}
	s.kind[kind].add(took)
	now := time.Now().Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	at := &s.seconds[now%int64(len(s.seconds))]
	if at.unix != now {
		*at = second{unix: now}
	}
	at.pages++
	if cause != CauseNone {
		at.errors++
		s.errors[cause]++
	}
}

// failure keeps the first error of each cause as text.
func (s *stats) failure(cause Cause, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures[cause] == "" {
		s.failures[cause] = err.Error()
	}
}

// alarm counts a finding about a session, nil for none. The excuse is asked
// before any lock is taken.
func (f *Farm) alarm(s *session, found finding) {
	if found.excusable && s != nil {
		if excuse := f.excuse.Load(); excuse != nil && *excuse != nil && (*excuse)(string(s.id[:])) {
			f.stats.mu.Lock()
			defer f.stats.mu.Unlock()
			f.stats.excused[found.alarm]++
			return
		}
	}
	text := found.text
	if s != nil {
		text = fmt.Sprintf("session %s of app %d: %s", f.hash(s), s.app.number, text)
	}
	f.stats.mu.Lock()
	defer f.stats.mu.Unlock()
	f.stats.alarms[found.alarm]++
	if kept := &f.stats.examples[found.alarm]; len(*kept) < maxExamples {
		*kept = append(*kept, text)
	}
}
