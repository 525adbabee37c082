package farm

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"stateproxy/wire"
)

// idLen is the length of a session ID of ASP.NET's own manager.
const idLen = 24

// open is the end of what has not ended, as far as anybody knows.
const open = math.MaxUint64

// expirySlack is how much before its time-out a session may be found expired:
// a server need not renew what would gain less than a second, and looks at its
// clock earlier than the client does.
const expirySlack = 2 * time.Second

// session is the truth about one session: all that its browsers know of what
// was saved, by whom it is locked, and whether it should be there. Time is
// counted in events of the session: an exchange takes a tick before its first
// byte is sent and one after its last is read, so of two exchanges it is known
// whether one ended before the other began.
type session struct {
	number uint32
	app    *app
	id     [idLen]byte // a credential
	target []byte      // encoded, as requests carry it

	mu         sync.Mutex
	tick       uint64
	saves      []save              // what a read may have to be judged by
	lastSave   uint64              // number of the latest one
	generation uint32              // number of the latest incarnation
	abandoned  uint32              // incarnations up to this one were abandoned
	void       map[uint64]struct{} // saves known not to have been taken
	exchanges  []uint64            // start ticks of those under way
	aliveUntil time.Time           // it cannot have expired before
	holds      []*hold             // those not voided
	stray      map[int64]struct{}  // cookies that might open a lock late
	creations  int                 // create-if-absent requests sent
	flags      int                 // ActionFlags: 1 received
}

// save is one save or removal, or an observation that stands for one.
type save struct {
	id         uint64 // 0 for an observation
	start, end uint64 // ticks between which it took effect; end is open until that is known
	absent     bool   // a removal: after it there is no session
	acked      bool   // the server said that it was done
	ifAbsent   bool   // create-if-absent, of which nobody knows whether it created
	soft       bool   // absent, but what was there before may come back: lost, or expired
	pending    bool   // the answer is still to come
	flagged    bool   // an answer with it had ActionFlags: 1
	dead       bool   // prune is about to drop it

	seenStart, seenEnd uint64 // ticks of the latest exchange that saw it; 0 if none did
	firstSeen          uint64 // end tick of the first one
	generation         uint32
}

// hold is an exclusive lock as its page knows it.
type hold struct {
	cookie     int64
	generation uint32 // of the body that came with it
	state      holdState
}

type holdState uint8

const (
	held      holdState = iota
	finishing           // a save, release or removal with its cookie is under way
	voided              // somebody may have taken it away
)

// newSession returns the truth about a session that nobody created yet.
func newSession(number uint32, a *app, id [idLen]byte) *session {
	return &session{
		number: number, app: a, id: id,
		target: wire.AppendEncoded(nil, append([]byte(a.prefix), id[:]...)),
		tick:   1,
		saves:  []save{{absent: true, acked: true}},
	}
}

// exchange is one request and its answer, as the truth keeps book of them.
type exchange struct {
	op       wire.Op
	start    uint64
	began    time.Time
	hold     *hold // whose cookie the request carries, if its page has one
	save     uint64
	takeover bool // a release with somebody else's cookie
	cookie   int64
	final    bool // a read after which nobody writes

	generation uint32 // of the body sent
}

// begin notes that an exchange begins. x has op, hold, takeover, cookie and final set.
func (s *session) begin(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick++
	x.start, x.began = s.tick, time.Now()
	s.exchanges = append(s.exchanges, x.start)
	switch {
	case x.takeover:
		s.voidHolds()
		s.addStray(x.cookie)
	case x.hold != nil && x.hold.state == held:
		x.hold.state = finishing
	case x.hold != nil:
		s.addStray(x.hold.cookie)
	}
	switch x.op {
	case wire.OpSet, wire.OpSetUninitialized:
		s.beginSave(x)
	case wire.OpRemove:
		s.lastSave++
		x.save = s.lastSave
		s.saves = append(s.saves, save{id: x.save, start: x.start, end: open, absent: true, pending: true})
	}
}

func (s *session) beginSave(x *exchange) {
	s.lastSave++
	x.save = s.lastSave
	if x.hold != nil {
		x.generation = x.hold.generation
	} else { // a page without a lock saves a session it made itself
		s.generation++
		x.generation = s.generation
	}
	if x.op == wire.OpSetUninitialized {
		s.creations++
	}
	s.saves = append(s.saves, save{
		id: x.save, start: x.start, end: open, pending: true,
		ifAbsent: x.op == wire.OpSetUninitialized, generation: x.generation,
	})
}

// end judges the answer to x and takes in what it tells. For a granted lock it
// returns the hold.
func (s *session) end(x *exchange, a *answer) (*hold, []finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick++
	j := judge{session: s, exchange: x, answer: a, now: s.tick}
	var h *hold
	switch {
	case a.cause != CauseNone:
		j.unknown()
	case x.op == wire.OpGet || x.op == wire.OpGetExclusive:
		h = j.read()
	case x.op == wire.OpSet || x.op == wire.OpSetUninitialized:
		j.saved()
	case x.op == wire.OpRelease:
		j.released()
	case x.op == wire.OpRemove:
		j.removed()
	case x.op == wire.OpResetTimeout:
		j.touched()
	}
	if a.flags && a.cause == CauseNone {
		j.flagged()
	}
	if x.hold != nil {
		s.dropHold(x.hold)
	}
	if b := s.find(x.save); b != nil {
		b.pending = false
	}
	s.exchanges = slices.DeleteFunc(s.exchanges, func(start uint64) bool { return start == x.start })
	s.prune()
	return h, j.findings
}

// supersedes reports whether a has surely replaced b before the tick at.
func (a *save) supersedes(b *save, at uint64) bool {
	if !a.acked || a.soft || a.ifAbsent && !b.absent {
		return false
	}
	return a.start > b.end && a.end < at || a.seenStart > b.end && a.seenEnd < at
}

// possible reports whether an exchange that began at the tick at may see b,
// which points into s.saves.
func (s *session) possible(b *save, at uint64) bool {
	for i := range s.saves {
		if a := &s.saves[i]; a != b && a.supersedes(b, at) {
			return false
		}
	}
	return true
}

// ack takes in, at the tick now, that the server has done b.
func (s *session) ack(b *save, now uint64) {
	b.acked = true
	b.end = min(b.end, now)
	if b.firstSeen == 0 {
		return
	}
	// It was seen before, so it took effect before. Not if another was seen
	// since: then a server died with b, and a proxy wrote it to a second one.
	for i := range s.saves {
		if s.saves[i].seenStart > b.firstSeen && s.saves[i].id != b.id {
			return
		}
	}
	b.end = min(b.end, b.firstSeen)
}

// find returns the record of a save. The pointer is valid until saves changes.
func (s *session) find(id uint64) *save {
	for i := range s.saves {
		if s.saves[i].id == id && id != 0 {
			return &s.saves[i]
		}
	}
	return nil
}

// forget drops the record of a save that the server did not take.
func (s *session) forget(id uint64) {
	s.saves = slices.DeleteFunc(s.saves, func(b save) bool { return b.id == id })
	if s.void == nil {
		s.void = map[uint64]struct{}{}
	}
	s.void[id] = struct{}{}
}

// prune drops the records that no exchange, under way or to come, may see.
func (s *session) prune() {
	at := s.tick + 1
	for _, start := range s.exchanges {
		at = min(at, start)
	}
	for i := range s.saves {
		s.saves[i].dead = !s.possible(&s.saves[i], at)
	}
	s.saves = slices.DeleteFunc(s.saves, func(b save) bool { return b.dead })
}

// accept makes b the present state: an exclusive read saw it, however wrongly,
// and its page goes on from there.
func (s *session) accept(b save, start, end uint64) {
	b.acked, b.ifAbsent = true, false
	b.start, b.end, b.seenStart, b.seenEnd = start, end, start, end
	s.saves = slices.DeleteFunc(s.saves, func(other save) bool { return other.end != open || other.id == b.id })
	s.saves = append(s.saves, b)
}

// voidHolds notes that locks may have been taken away from those who hold them,
// and that their cookies may do anything from now on.
func (s *session) voidHolds() {
	for _, h := range s.holds {
		h.state = voided
		s.addStray(h.cookie)
	}
	clear(s.holds)
	s.holds = s.holds[:0]
}

func (s *session) addStray(cookie int64) {
	if s.stray == nil {
		s.stray = map[int64]struct{}{}
	}
	s.stray[cookie] = struct{}{}
}

func (s *session) dropHold(h *hold) {
	s.holds = slices.DeleteFunc(s.holds, func(other *hold) bool { return other == h })
}

// finding is one damage, found.
type finding struct {
	alarm     Alarm
	text      string
	excusable bool // the death of a server explains it
}

func (s *session) mayHaveExpired(now time.Time) bool {
	return !s.aliveUntil.IsZero() && now.After(s.aliveUntil.Add(-expirySlack))
}

func describe(b *save) string {
	switch {
	case b.id == 0:
		return "its absence"
	case b.absent:
		return fmt.Sprintf("removal %d", b.id)
	}
	return fmt.Sprintf("save %d", b.id)
}
