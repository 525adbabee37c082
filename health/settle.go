package health

import "time"

// settle decides, after any change, which failing targets are ejected, and
// queues an event for each target that changed. The caller holds c.mu.
//
//	failing, room within the share     → ejected, the longest failing first
//	failing, no room                   → kept in service
//	ejected, share or set shrank       → kept in service, the latest ejected first
//	ejected by hand, or unfit          → takes room, never given back here
func (c *Checker) settle(now time.Time) {
	limit := c.params.limit(len(c.order))
	ejected, out := c.count()
	for ; ejected > limit; ejected-- {
		c.latestEjected().keep()
	}
	for ; out < limit; out++ {
		t := c.longestKept()
		if t == nil {
			break
		}
		t.eject(now, c.params)
	}
	// Ups first: whoever follows the events never sees fewer in service than
	// before and after.
	for _, up := range []bool{true, false} {
		for _, t := range c.order {
			if t.up() == up {
				c.tell(t, now)
			}
		}
	}
}

// count returns how many targets are ejected by their verdict alone, and how
// many are out of service in all.
func (c *Checker) count() (ejected, out int) {
	for _, t := range c.order {
		if t.ejected && !t.byHand && t.unfit == "" {
			ejected++
		}
		if !t.up() {
			out++
		}
	}
	return ejected, out
}

// latestEjected returns the target that was ejected last by its verdict alone.
func (c *Checker) latestEjected() *target {
	var found *target
	for _, t := range c.order {
		if t.ejected && !t.byHand && t.unfit == "" && (found == nil || t.since.After(found.since)) {
			found = t
		}
	}
	return found
}

// longestKept returns the target in service that has failed longest, or nil.
func (c *Checker) longestKept() *target {
	var found *target
	for _, t := range c.order {
		if t.kept() && (found == nil || t.failingSince.Before(found.failingSince)) {
			found = t
		}
	}
	return found
}

// tell queues an event if t is not as the last event left it.
func (c *Checker) tell(t *target, now time.Time) {
	up, kept := t.up(), t.kept()
	if up == t.toldUp && kept == t.toldKept {
		return
	}
	if up != t.toldUp {
		t.since = now
	}
	t.toldUp, t.toldKept = up, kept
	if c.OnEvent == nil {
		return
	}
	c.events = append(c.events, Event{
		Name:     t.Name,
		Address:  t.Address,
		Up:       up,
		Kept:     kept,
		Unfit:    t.unfit != "",
		Reason:   t.reason(),
		Time:     now,
		HoldDown: t.heldFor,
	})
	signal(c.queued)
}

// find returns the target with that name, or nil.
func (c *Checker) find(name string) *target {
	if index := c.index.Load(); index != nil {
		return (*index)[name]
	}
	return nil
}

// anotherUp reports whether a target other than t is in service.
func (c *Checker) anotherUp(t *target) bool {
	for _, other := range c.order {
		if other != t && other.up() {
			return true
		}
	}
	return false
}

// forget drops the events of a name that is no longer a target.
func (c *Checker) forget(name string) {
	left := c.events[:0]
	for _, e := range c.events {
		if e.Name != name {
			left = append(left, e)
		}
	}
	c.events = left
}
