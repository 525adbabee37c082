package proxy_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"stateproxy/wire"
)

// patience is how long a client waits for an answer.
const patience = 10 * time.Second

// play plays the history and returns what contradicts the promises.
func play(h *history) error {
	w := newWorld(h)
	defer w.stop()
	for _, s := range h.steps {
		w.pause(time.Millisecond)
		if len(s.wishes) == 0 {
			w.happen(s.event)
		} else {
			w.requests(s)
		}
		if w.err != nil {
			break
		}
	}
	return w.err
}

func (w *world) pause(d time.Duration) { <-time.After(d) }

// happen does what is not a client's request.
func (w *world) happen(e event) {
	m := w.target(e)
	if (e.kind == eject || e.kind == crash) && !w.mayFail(m, e.kind) {
		return
	}
	switch e.kind {
	case nothing:
	case change:
		w.change(e)
	case cut:
		w.note("machine %d is cut off", m.number)
		m.set(outage(1 + e.b%2))
	case eject:
		w.note("machine %d is cut off and ejected", m.number)
		m.set(outage(1 + e.b%2))
		m.setEjected(true)
		w.turn()
		w.observe(false)
	case heal:
		if m.isEjected() {
			m.set(reachable)
			m.setEjected(false)
			w.turn()
			w.note("machine %d is readmitted", m.number)
			w.observe(true)
			return
		}
		w.note("machine %d can be reached", m.number)
		m.set(reachable)
	case crash:
		w.note("machine %d is restarted", m.number)
		for _, key := range sessionKeys {
			if item, ok := m.server.Peek(key); ok {
				w.died = append(w.died, string(item.Body))
			}
		}
		m.restart()
		w.observe(false)
	case look:
		w.observe(true)
	case lose:
		if !e.aimed { // at one that is in use
			m = w.machines[w.config.entries[e.a%len(w.config.entries)].machine]
		}
		n, answer := 1+e.b%4, e.b > 3
		w.note("machine %d: message %d from now is lost, or the answer to it: %t", m.number, n, answer)
		m.lose(n, answer)
	case wait:
		d := waits[e.a%len(waits)]
		w.note("%v pass", d)
		w.pause(d)
	case restart:
		n := e.a % len(w.fronts)
		w.note("proxy %d is restarted", n)
		w.fronts[n].restart(0)
	}
}

// mayFail reports whether m may be ejected or restarted. Where there are several
// proxies, once a machine was ejected only that one may: what happened to its
// sessions meanwhile is known from the other machines, and to all proxies only
// as long as these are there.
func (w *world) mayFail(m *machine, kind eventKind) bool {
	if len(w.fronts) > 1 && w.away == nil && kind == eject {
		w.away = m
	}
	return w.away == nil || w.away == m
}

// target returns the machine that e happens to.
func (w *world) target(e event) *machine {
	bad := func(m *machine) bool { return !m.asked() }
	if i := slices.IndexFunc(w.machines, bad); e.kind == heal && e.aimed && i >= 0 {
		return w.machines[i]
	}
	if e.aimed {
		if m := w.holder(); m != nil {
			return m
		}
	}
	return w.machines[e.a%machineCount]
}

// holder returns a machine that has the first session, nil if none has.
func (w *world) holder() *machine {
	for _, m := range w.machines {
		if _, ok := m.server.Peek(sessionKeys[0]); ok {
			return m
		}
	}
	return nil
}

func (w *world) observe(look bool) {
	for _, f := range w.fronts {
		f.observe(f.current(), look)
	}
}

// change gives the proxies new settings, one after the other.
func (w *world) change(e event) {
	if len(w.fronts) > 1 && time.Since(w.changed) < 2*max(w.history.delay, 0)+w.history.lag {
		return
	}
	if m := w.holder(); e.aimed && m != nil {
		e.a = max(slices.IndexFunc(w.config.entries, func(b entry) bool { return b.machine == m.number }), 0)
	}
	c := w.config.with(e, w.former)
	if c.equal(w.config) || !c.owned() {
		return
	}
	w.former, w.config, w.changed = w.config, c, time.Now()
	w.turn()
	w.note("new settings: %v", c)
	w.fronts[0].take(c)
	for _, f := range w.fronts[1:] {
		if w.history.lag == 0 {
			f.take(c)
			continue
		}
		w.timers = append(w.timers, time.AfterFunc(w.history.lag, func() { f.take(c) }))
	}
}

// with returns c changed by e. former is what c took the place of.
func (c config) with(e event, former config) config {
	c.entries = slices.Clone(c.entries)
	i := e.a % len(c.entries)
	at := &c.entries[i]
	spare := c.spare(e.b)
	switch e.change {
	case add:
		name := fmt.Sprintf("b%d", spare)
		if c.names(name) || e.b%8 > 5 {
			name = fmt.Sprintf("x%d", e.b)
		}
		if spare >= 0 && !c.names(name) {
			c.entries = append(c.entries, entry{name: name, machine: spare, weight: 1})
		}
	case drop:
		if len(c.entries) > 1 {
			c.entries = slices.Delete(c.entries, i, i+1)
		}
		c.split = c.split && len(c.entries) > 1
	case drain:
		at.drain = !at.drain
	case reweigh:
		at.weight = 4 - at.weight
	case readdress:
		at.second = !at.second
	case rehome:
		if spare >= 0 {
			at.machine = spare
		}
	case split:
		c.split = !c.split && len(c.entries) > 1
	case undo:
		return former
	}
	return c
}

// trouble reports whether a request may fail: something is down, or a proxy does
// not know yet what is behind an address.
func (w *world) trouble() bool {
	return slices.ContainsFunc(w.machines, func(m *machine) bool { return !m.asked() || m.isLosing() }) ||
		slices.ContainsFunc(w.fronts, (*front).inTheDark)
}

// requests has the clients send theirs, and something happen meanwhile, and
// judges the answers.
func (w *world) requests(s step) {
	deeds := w.plan(s.wishes)
	during := s.event.kind != nothing && s.event.kind != wait && !w.tooSoon(s.event)
	trouble := w.trouble() || during
	before := w.copies()
	w.died = nil
	if len(deeds) > 1 || during {
		w.shake(s.seed)
	}
	var wg sync.WaitGroup
	for _, d := range deeds {
		wg.Go(func() { w.do(d) })
	}
	if during {
		w.pause(time.Duration(s.event.at) * time.Millisecond)
		w.happen(s.event)
	}
	wg.Wait()
	w.shake(0)
	for _, m := range w.machines {
		m.lose(0, false)
	}
	after := before
	if during {
		after = w.copies()
	}
	for i := range w.beliefs {
		var own []*deed
		for _, d := range deeds {
			if d.key == i {
				own = append(own, d)
			}
		}
		if len(own) == 0 {
			continue
		}
		b := &w.beliefs[i]
		b.trouble, b.crowd = trouble, len(deeds) > 1 || during
		forgotten := w.forgotten(i)
		b.lost = func(body string) bool {
			isNew := slices.ContainsFunc(own, func(d *deed) bool { return d.body == body })
			had := isNew || slices.Contains(before[i], body)
			has := slices.Contains(after[i], body) || isNew && !during
			// What dies with its server while another proxy moves it is nowhere for a moment.
			return !had || !has || forgotten || during && slices.Contains(w.died, body)
		}
		w.judge(b, own, w.whereabouts(sessionKeys[i]))
		if slices.ContainsFunc(b.can, func(s session) bool { return !s.locked }) {
			w.free[i] = time.Since(w.start)
		}
	}
}

func (w *world) turn() { w.turns = append(w.turns, time.Since(w.start)) }

// forgotten reports whether a session was locked for so long that a window was over
// meanwhile. A proxy that had none of its requests does not know that it is still
// where it was locked.
func (w *world) forgotten(key int) bool {
	return len(w.fronts) > 1 && slices.ContainsFunc(w.turns, func(at time.Duration) bool {
		return at >= w.free[key] && time.Since(w.start)-at > window
	})
}

// tooSoon reports whether e must not happen beside requests: where there are
// several proxies, a change needs a delay, in which what is under way ends.
func (w *world) tooSoon(e event) bool {
	return e.kind == change && len(w.fronts) > 1 && w.history.delay < 0
}

func (w *world) judge(b *belief, deeds []*deed, whereabouts string) {
	for _, d := range deeds {
		w.note("%v", d)
		w.remember(d)
		if d.overdue {
			w.violate("no answer within %v", patience)
		}
	}
	can := b.can
	if !b.judge(deeds) {
		w.violate("contradicts what can be: %+v; after it, %s", can, whereabouts)
	}
}

func (w *world) shake(seed uint32) {
	for _, m := range w.machines {
		m.shake(seed)
	}
}

// copies returns by key the bodies that machines have which can be asked.
func (w *world) copies() [][]string {
	all := make([][]string, len(sessionKeys))
	for i, key := range sessionKeys {
		for _, m := range w.machines {
			if item, ok := m.server.Peek(key); ok && m.asked() {
				all[i] = append(all[i], string(item.Body))
			}
		}
	}
	return all
}

// whereabouts tells where copies of a session are.
func (w *world) whereabouts(key string) string {
	text := "copies are"
	for _, m := range w.machines {
		if item, ok := m.server.Peek(key); ok {
			text += fmt.Sprintf(" at machine %d: %q, locked %t, asked %t;", m.number, item.Body, item.Locked, m.asked())
		}
	}
	return text
}

// plan makes deeds of wishes. Of those that run side by side each is another
// client's, and none writes without a lock, for such writes may be lost
// wherever they meet others.
func (w *world) plan(wishes []wish) (deeds []*deed) {
	for _, x := range wishes {
		if slices.ContainsFunc(deeds, func(d *deed) bool { return d.client == x.client }) {
			continue
		}
		m := w.memos[x.client][x.key]
		d := &deed{wish: x, cookie: m.held}
		alone := len(wishes) == 1
		switch x.op {
		case wire.OpSet, wire.OpRemove:
			if !alone && !w.beliefs[x.key].lockedWith(m.held) {
				d.op = wire.OpGetExclusive
			}
			if alone && x.late {
				d.cookie = m.last
			}
		case wire.OpSetUninitialized:
			if !alone && !w.beliefs[x.key].mayBeAbsent() { // nobody was told 404
				d.op = wire.OpGetExclusive
			}
		case wire.OpRelease:
			if alone && x.late {
				d.cookie = m.seen
			}
			if !d.cookie.Set || !alone && !w.beliefs[x.key].lockedWith(m.held) {
				d.op = wire.OpGet
			}
		}
		if d.op == wire.OpSet || d.op == wire.OpSetUninitialized {
			w.bodies++
			d.body, d.minutes = fmt.Sprintf("body %d", w.bodies), usualTimeout
			if x.other {
				d.minutes = otherTimeout
			}
		}
		deeds = append(deeds, d)
	}
	return deeds
}

// remember notes what the client of d knows after it.
func (w *world) remember(d *deed) {
	m := &w.memos[d.client][d.key]
	switch {
	case d.op == wire.OpGetExclusive && !d.failed && d.answer.Status == wire.StatusOK:
		m.held = d.answer.LockCookie
	case d.op == wire.OpSet || d.op == wire.OpRelease || d.op == wire.OpRemove:
		if m.held.Set {
			m.last = m.held
		}
		m.held = wire.Int{}
	}
	if d.answer.Status == wire.StatusLocked {
		m.seen = d.answer.LockCookie
	}
}

// do sends d's request and waits for its answer.
func (w *world) do(d *deed) {
	w.pause(time.Duration(d.at)*time.Millisecond + time.Duration(d.client)*100*time.Microsecond)
	d.begun = time.Since(w.start)
	defer func() { d.end = time.Since(w.start) }()
	f := w.fronts[d.front%len(w.fronts)]
	s, err := f.stream(d.client)
	if err == nil {
		d.answer, err = s.exchange(d.wire(), d.body)
	}
	if err != nil {
		f.streams[d.client] = nil
		if s != nil {
			s.Close()
		}
	}
	ne, ok := err.(net.Error)
	d.overdue = ok && ne.Timeout()
	d.failed = err != nil || d.answer.Status == wire.StatusBadRequest
}

func (d *deed) wire() *wire.Request {
	req := &wire.Request{Verb: d.op.Verb(), Target: wire.AppendEncoded(nil, []byte(sessionKeys[d.key])), LockCookie: d.cookie}
	switch d.op {
	case wire.OpGet, wire.OpResetTimeout:
		req.LockCookie = wire.Int{}
	case wire.OpGetExclusive:
		req.LockCookie, req.Exclusive = wire.Int{}, wire.Acquire
	case wire.OpRelease:
		req.Exclusive = wire.Release
	case wire.OpSet, wire.OpSetUninitialized:
		req.Timeout, req.ExtraFlags = wire.Some(d.minutes), wire.Some(0)
		req.ContentLength = wire.Some(int64(len(d.body)))
		if d.op == wire.OpSetUninitialized {
			req.ExtraFlags, req.LockCookie = wire.Some(1), wire.Int{}
		}
	}
	return req
}

// String tells of the deed in a line.
func (d *deed) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "client %d, proxy %d: %v of session %d", d.client, d.front, d.op, d.key)
	if d.cookie.Set {
		fmt.Fprintf(&b, ", cookie %d", d.cookie.N)
	}
	if d.body != "" {
		fmt.Fprintf(&b, ", %q for %d min", d.body, d.minutes)
	}
	a := &d.answer
	fmt.Fprintf(&b, ", %v to %v: %d %q", d.begun, d.end, a.Status, a.body)
	if a.LockCookie.Set {
		fmt.Fprintf(&b, ", cookie %d", a.LockCookie.N)
	}
	if a.ActionFlags.Set {
		fmt.Fprintf(&b, ", flags %d", a.ActionFlags.N)
	}
	return b.String()
}

// stream is a client's connection to a proxy.
type stream struct {
	net.Conn
	r    *wire.Reader
	to   *memory
	used time.Time
}

// stream returns the client's connection to the proxy. As the real client does,
// it makes a new one if the old one is closed or was not used for long
// (protocol.md section 2).
func (f *front) stream(client int) (*stream, error) {
	f.mu.Lock()
	ln := f.ln
	f.mu.Unlock()
	if s := f.streams[client]; s != nil {
		if s.to == ln && time.Since(s.used) < 10*time.Second {
			return s, nil
		}
		s.Close()
	}
	nc, err := ln.dial(context.Background(), "", "")
	if err != nil {
		return nil, err
	}
	s := &stream{Conn: nc, r: wire.NewReader(nc, 4<<10, 8<<10), to: ln}
	f.streams[client] = s
	return s, nil
}

func (s *stream) exchange(req *wire.Request, body string) (a answer, err error) {
	if err := s.SetDeadline(time.Now().Add(patience)); err != nil {
		return a, err
	}
	if _, err := s.Write(append(wire.AppendRequest(nil, req), body...)); err != nil {
		return a, err
	}
	if err := s.r.ReadResponse(&a.Response); err != nil {
		return a, err
	}
	b, err := s.r.ReadBody(nil, a.BodyLen(req.Verb))
	a.body = string(b)
	s.used = time.Now()
	return a, err
}
