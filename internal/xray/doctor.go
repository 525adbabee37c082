package xray

import (
	"cmp"
	"slices"
	"sync"
)

// What the doctor needs before it speaks, and what it remembers.
const (
	maxPairs    = 256 // of application parts that session IDs had in common
	maxIDs      = 16  // session IDs remembered of each pair
	enoughIDs   = 3
	enoughCalls = 8 // lately for each of the two: with fewer, chance may keep clients apart
)

// doctor looks for session IDs that are used under several application parts.
// The applications of one site share session IDs, for their cookie is valid for
// all of it; there each web server uses all of the parts. Where web servers are
// set up differently each uses its own. The zero value knows of none; it is safe
// for concurrent use.
type doctor struct {
	mu    sync.Mutex // guards what follows
	pairs map[pairKey]*pair
}

// pairKey is two indexes of applications, the smaller one first. They are the
// same where the parts differ in the digest alone.
type pairKey struct{ a, b uint16 }

// pair is two application parts that session IDs had in common. Times are Unix
// nanoseconds.
type pair struct {
	a, b   *app
	how    difference
	first  int64 // meeting of those that are remembered without a gap
	last   int64
	shared int64 // when one client was last seen to use both for one ID; 0 for never
	count  int   // IDs since first
	ids    [maxIDs]meeting
}

// meeting is a session ID that was used under both parts.
type meeting struct {
	id      uint64 // 0: none
	at      int64
	clients [2]uint16
}

// use is an application and the client that asked for it.
type use struct {
	app    *app // nil if it has been dropped
	client uint16
}

// meet takes a session ID that a client used under one part while it is alive
// under another one. What was seen until since does not count any more, here and
// below.
func (d *doctor) meet(id uint64, now, since int64, before, after use) {
	if before.app == nil || before.app.index == 0 || after.app.index == 0 {
		return
	}
	if before.app.index > after.app.index {
		before, after = after, before
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.pair(before.app, after.app, now)
	if p == nil {
		return
	}
	if before.client == after.client {
		p.shared = now
		return
	}
	p.note(meeting{id, now, [2]uint16{before.client, after.client}}, since)
}

// pair returns what is known of two applications; nil if they are not related or
// there is no room. d.mu is held.
func (d *doctor) pair(a, b *app, now int64) *pair {
	k := pairKey{a.index, b.index}
	p := d.pairs[k]
	if p != nil && p.a == a && p.b == b {
		return p
	}
	if p == nil && len(d.pairs) >= maxPairs {
		return nil
	}
	how := compare(a.name, b.name)
	if how == unrelated {
		return nil
	}
	if d.pairs == nil {
		d.pairs = map[pairKey]*pair{}
	}
	p = &pair{a: a, b: b, how: how, last: now}
	d.pairs[k] = p
	return p
}

// note takes a meeting. The oldest one makes room for it.
func (p *pair) note(m meeting, since int64) {
	if p.first == 0 || p.last <= since {
		p.first, p.count = m.at, 0
	}
	p.last = m.at
	oldest := &p.ids[0]
	for i := range p.ids {
		if p.ids[i].id == m.id {
			p.ids[i] = m
			return
		}
		if p.ids[i].at < oldest.at {
			oldest = &p.ids[i]
		}
	}
	p.count++
	*oldest = m
}

// lately returns the meetings that still count.
func (p *pair) lately(since int64) (list []meeting) {
	for _, m := range p.ids {
		if m.id != 0 && m.at > since {
			list = append(list, m)
		}
	}
	return list
}

// mismatch reports whether the two are one application that web servers call by
// different names.
func (p *pair) mismatch(since int64) bool {
	if len(p.lately(since)) < enoughIDs {
		return false
	}
	if p.how == inDigest {
		return p.shared <= since
	}
	for _, a := range []*app{p.a, p.b} {
		if a.clients.calls.Load()+a.clients.earlier.Load() < enoughCalls {
			return false
		}
	}
	users, others := p.a.clients.bits(), p.b.clients.bits()
	return !users.meets(&others)
}

// tidy forgets pairs that have not met for long, and those of applications that
// have been dropped.
func (d *doctor) tidy(since int64, apps *directory) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, p := range d.pairs {
		gone := apps.slots[k.a].Load() != p.a || apps.slots[k.b].Load() != p.b
		if gone || max(p.last, p.shared) <= since {
			delete(d.pairs, k)
		}
	}
}

// diagnosis is a group of application parts that should be one.
type diagnosis struct {
	hows  []difference
	apps  []*app
	since int64
	count int        // session IDs seen, at least
	used  clientBits // of a difference in the digest: by whom
}

// diagnose returns the groups of parts that should be one.
func (d *doctor) diagnose(since int64) []*diagnosis {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []*pair
	for _, p := range d.pairs {
		if p.mismatch(since) {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(p, q *pair) int {
		return cmp.Or(cmp.Compare(p.a.index, q.a.index), cmp.Compare(p.b.index, q.b.index))
	})
	var groups []*diagnosis
	for _, p := range found {
		groups = p.join(groups, since)
	}
	return groups
}

// join adds a pair to the groups. Differences in the digest alone and those that
// may be meant stay apart from the others; else pairs that have a part in common
// become one group.
func (p *pair) join(groups []*diagnosis, since int64) []*diagnosis {
	g := &diagnosis{hows: []difference{p.how}, apps: []*app{p.a, p.b}, since: p.first, count: p.count}
	if p.how == inDigest {
		g.apps = g.apps[:1]
		for _, m := range p.lately(since) {
			g.used.set(m.clients[0])
			g.used.set(m.clients[1])
		}
	}
	if p.how == inDigest || p.how == inDepth {
		return append(groups, g)
	}
	rest := groups[:0]
	for _, o := range groups {
		if o.hows[0] == inDigest || o.hows[0] == inDepth || !slices.Contains(o.apps, p.a) && !slices.Contains(o.apps, p.b) {
			rest = append(rest, o)
			continue
		}
		g.hows = append(g.hows, o.hows...)
		g.apps = append(g.apps, o.apps...)
		g.since, g.count = min(g.since, o.since), max(g.count, o.count)
	}
	g.hows, g.apps = unique(g.hows), uniqueApps(g.apps)
	return append(rest, g)
}

func unique(list []difference) []difference {
	slices.Sort(list)
	return slices.Compact(list)
}

func uniqueApps(list []*app) []*app {
	slices.SortFunc(list, func(a, b *app) int { return cmp.Compare(a.index, b.index) })
	return slices.Compact(list)
}
