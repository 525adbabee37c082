package farm

import (
	"fmt"
	"slices"
	"time"

	"stateproxy/wire"
)

// judge holds one answer against the truth. Its session's mutex is held.
type judge struct {
	*session
	exchange *exchange
	answer   *answer
	now      uint64 // tick of the answer
	findings []finding
}

func (j *judge) found(alarm Alarm, excusable bool, format string, args ...any) {
	j.findings = append(j.findings, finding{alarm, fmt.Sprintf(format, args...), excusable})
}

// unknown takes in that an exchange failed: unless not a byte was sent, what it
// asked for may have been done, or be done later.
func (j *judge) unknown() {
	x := j.exchange
	if !j.answer.sent {
		if x.save != 0 {
			j.forget(x.save)
		}
		return
	}
	if x.hold != nil {
		j.addStray(x.hold.cookie)
	}
}

// alive takes in that the server touched the session at or after the exchange
// began.
func (j *judge) alive() {
	if until := j.exchange.began.Add(j.app.timeout); until.After(j.aliveUntil) {
		j.aliveUntil = until
	}
}

// read judges the answer to a GET.
func (j *judge) read() *hold {
	a := j.answer
	switch a.effect {
	case wire.EffectLocked:
		j.alive()
		return nil
	case wire.EffectNotFound:
		alarms := len(j.findings)
		j.absent()
		if a.status != wire.StatusNotFound && len(j.findings) == alarms {
			j.found(AlarmBadAnswer, false, "%v was answered %s, which a client reads as no such session", j.exchange.op, a.say())
		}
		return nil
	}
	j.alive()
	var h *hold
	if j.exchange.op == wire.OpGetExclusive {
		h = j.granted()
	}
	j.body(h)
	return h
}

// granted takes in that the server gave the lock away. Who held it when the
// answer came and had not begun to give it back held it when it was granted, or
// got it between the two: either way there are two.
func (j *judge) granted() *hold {
	j.holds = slices.DeleteFunc(j.holds, func(h *hold) bool {
		if h.state == finishing {
			return false // its giving back is what made the grant possible
		}
		if _, stray := j.stray[h.cookie]; !stray {
			j.found(AlarmTwoHolders, true, "lock granted with cookie %d while a page holds it with cookie %d", j.answer.cookie, h.cookie)
		}
		h.state = voided
		j.addStray(h.cookie)
		return true
	})
	h := &hold{cookie: j.answer.cookie, generation: j.generation}
	j.holds = append(j.holds, h)
	return h
}

// body judges the body of a read.
func (j *judge) body(h *hold) {
	a := j.answer
	if a.damage != "" {
		j.found(AlarmDamaged, false, "%v got a body of %d bytes: %s", j.exchange.op, a.size, a.damage)
		return
	}
	st := &a.stamp
	if st.run == j.app.run && (st.session != j.number || st.app != j.app.number || st.id != j.id) {
		j.found(AlarmForeign, false, "%v got save %d of session number %d of app %d; want session number %d of app %d",
			j.exchange.op, st.save, st.session, st.app, j.number, j.app.number)
		return
	}
	if h != nil {
		h.generation = st.generation
	}
	_, void := j.void[st.save]
	switch {
	case st.run != j.app.run:
		j.found(AlarmPhantom, false, "%v got a body of another run", j.exchange.op)
		return
	case void:
		j.found(AlarmPhantom, false, "%v got save %d, which the server had not taken", j.exchange.op, st.save)
		return
	case st.save == 0 || st.save > j.lastSave:
		j.found(AlarmPhantom, false, "%v got save %d, which nobody wrote; the last was %d", j.exchange.op, st.save, j.lastSave)
		return
	}
	seen := j.find(st.save)
	if seen == nil || !j.possible(seen, j.exchange.start) {
		j.outdated(st)
		return
	}
	seen.ifAbsent = false
	if !seen.pending { // a proxy may yet write a pending one to a second server
		seen.end = min(seen.end, j.now)
	}
	seen.seenStart, seen.seenEnd = j.exchange.start, j.now
	if seen.firstSeen == 0 {
		seen.firstSeen = j.now
	}
	if a.flags {
		if seen.flagged {
			j.found(AlarmFlags, true, "ActionFlags: 1 a second time for the session created by save %d", seen.id)
		}
		seen.flagged = true
	}
}

// outdated reports a body that was replaced before the read began.
func (j *judge) outdated(st *stamp) {
	op := j.exchange.op
	switch {
	case st.generation <= j.abandoned:
		j.found(AlarmPhantom, false, "%v got save %d of incarnation %d, which was abandoned", op, st.save, st.generation)
	case op == wire.OpGetExclusive || j.exchange.final:
		j.found(AlarmLostUpdate, false, "%v got save %d, older than %s, which was acknowledged before", op, st.save, j.newest())
	default:
		j.found(AlarmStale, false, "%v got save %d, older than %s, which was acknowledged before", op, st.save, j.newest())
	}
	if op == wire.OpGetExclusive {
		j.accept(save{id: st.save, generation: st.generation}, j.exchange.start, j.now)
	}
}

// newest names the latest acknowledged save that ended before the exchange began.
func (j *judge) newest() string {
	var latest *save
	for i := range j.saves {
		if b := &j.saves[i]; b.acked && b.end < j.exchange.start && (latest == nil || b.end > latest.end) {
			latest = b
		}
	}
	if latest == nil {
		return "another"
	}
	return describe(latest)
}

// absent judges an answer that says, or is read as, no such session.
func (j *judge) absent() {
	x := j.exchange
	var candidate *save
	candidates := 0
	for i := range j.saves {
		if b := &j.saves[i]; b.absent && j.possible(b, x.start) {
			candidate = b
			candidates++
		}
	}
	if candidates > 0 {
		if candidates == 1 && !candidate.pending {
			candidate.end = min(candidate.end, j.now)
		}
		j.voidHolds()
		return
	}
	if j.mayHaveExpired(time.Now()) {
		j.app.expired.Add(1)
	} else {
		j.found(AlarmLost, true, "%v was answered %s, though %s was acknowledged before", x.op, j.answer.say(), j.newest())
	}
	j.saves = append(j.saves, save{start: x.start, end: j.now, absent: true, acked: true, soft: true})
	j.voidHolds()
}

// saved judges the answer to a PUT.
func (j *judge) saved() {
	x, a := j.exchange, j.answer
	b := j.find(x.save)
	switch {
	case a.status == wire.StatusOK:
		j.alive()
		if b != nil {
			j.ack(b, j.now)
		}
	case a.status == wire.StatusLocked:
		j.refused(AlarmLostUpdate)
		if b != nil && b.seenEnd > 0 {
			j.found(AlarmPhantom, false, "save %d was refused with 423 and had been read before", x.save)
		}
		j.forget(x.save)
	default:
		j.unknown()
		j.found(AlarmBadAnswer, false, "%v was answered %s, which a client reads as saved", x.op, a.say())
	}
}

// released judges the answer to a release.
func (j *judge) released() {
	x, a := j.exchange, j.answer
	switch a.status {
	case wire.StatusOK:
		j.alive()
	case wire.StatusNotFound:
		j.absent()
	case wire.StatusLocked:
		j.alive()
		j.refused(AlarmTwoHolders)
	default:
		j.unknown()
		j.found(AlarmBadAnswer, false, "%v was answered %s, which a client reads as done", x.op, a.say())
	}
}

// refused judges a 423 to the request of a page that held the lock, as far as
// anybody knows. Another cookie in it says why: the lock was given away.
func (j *judge) refused(alarm Alarm) {
	h := j.exchange.hold
	if h == nil || h.state != finishing {
		return
	}
	if j.answer.cookie != h.cookie {
		alarm = AlarmTwoHolders
	}
	j.found(alarm, true, "%v was refused with 423 and cookie %d, though its page held the lock with cookie %d", j.exchange.op, j.answer.cookie, h.cookie)
}

// removed judges the answer to a DELETE.
func (j *judge) removed() {
	x, a := j.exchange, j.answer
	switch a.status {
	case wire.StatusOK:
		if b := j.find(x.save); b != nil {
			j.ack(b, j.now)
		}
		j.abandoned = max(j.abandoned, x.hold.generation)
	case wire.StatusNotFound:
		j.forget(x.save)
		j.absent()
	case wire.StatusLocked:
		j.alive()
		j.refused(AlarmTwoHolders)
		j.forget(x.save)
	default:
		j.unknown()
		j.found(AlarmBadAnswer, false, "%v was answered %s, which a client reads as done", x.op, a.say())
	}
}

// touched judges the answer to a HEAD. A 200 proves nothing: a client does not
// look at it, and a proxy may be told to give it in an outage.
func (j *judge) touched() {
	switch a := j.answer; a.status {
	case wire.StatusOK:
	case wire.StatusNotFound:
		j.absent()
	default:
		j.found(AlarmBadAnswer, false, "%v was answered %s", j.exchange.op, a.say())
	}
}

// flagged takes in an ActionFlags: 1. Each creation gives one at most.
func (j *judge) flagged() {
	j.flags++
	if j.flags <= j.creations {
		return
	}
	j.flags = j.creations
	for _, f := range j.findings {
		if f.alarm == AlarmFlags {
			return // the same one
		}
	}
	j.found(AlarmFlags, true, "%v got ActionFlags: 1, though the %d creations have had theirs", j.exchange.op, j.creations)
}
