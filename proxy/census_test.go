package proxy

import (
	"fmt"
	"testing"
	"time"

	"stateproxy/wire"
)

// remembers has the census note a session's answer and reports whether it knows it then.
func remembers(c *census, h uint64, now time.Time) bool {
	x := &exchange{req: &wire.Request{}, id: h}
	x.Op, x.Response.Status = wire.OpSet, wire.StatusOK
	x.req.Timeout = wire.Some(1)
	id := fmt.Sprintf("%024d", h)
	x.key = wire.Key{Full: []byte("/app(digest)/" + id), SessionID: []byte(id)}
	c.note(h, x, now)
	_, ok := c.find(h)
	return ok
}

// A full census looks at all of a shard for what has expired, but not with each
// request that finds no room.
func TestFullCensusLooksNowAndThen(t *testing.T) {
	c := &census{}
	c.setLimit(2)
	at := func(seconds int64) time.Time { return time.Unix(c.since.Load()+seconds, 0) }
	const gone = 60 + 60 + 1 // seconds until a session of a minute is forgotten
	steps := []struct {
		session uint64
		seconds int64
		known   bool
	}{
		{censusShards, 0, true},
		{2 * censusShards, gone - 5, true},
		{3 * censusShards, gone - 4, false}, // full, and the first look finds nothing
		{3 * censusShards, gone + 1, false}, // one has expired, but it is too soon for another look
		{3 * censusShards, gone + 6, true},
	}
	for _, s := range steps {
		if got := remembers(c, s.session, at(s.seconds)); got != s.known {
			t.Errorf("after %d s: session %d is remembered: %v; want %v", s.seconds, s.session, got, s.known)
		}
	}
	if n := c.missed.Load(); n != 2 {
		t.Errorf("%d were missed; want 2", n)
	}
}

func TestCensusOfNoneForgets(t *testing.T) {
	c := &census{}
	c.setLimit(10)
	now := time.Now()
	if !remembers(c, 7, now) {
		t.Fatal("a session is not remembered")
	}
	c.setLimit(0)
	if _, ok := c.find(7); ok || c.size.Load() != 0 {
		t.Errorf("with a limit of 0: remembered %v, %d in all; want none", ok, c.size.Load())
	}
	c.setLimit(10)
	if !remembers(c, 7, now) {
		t.Error("a session is not remembered when it is wanted again")
	}
}
