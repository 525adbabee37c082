package backend_test

import (
	"testing"

	"stateproxy/wire"
)

// A connection whose end the system has told of is not tried, young as it is.
func TestKnownEndIsNotTried(t *testing.T) {
	eachOp(t, func(t *testing.T, op wire.Op) {
		p, _ := resetInPool(t)
		eventually(t, "the reset is heard of", func() bool { return p.Ending() == 1 })
		x := exchange(op)
		x.Started = p.LastUsed()
		if err := p.RoundTrip(t.Context(), x); err != nil {
			t.Fatalf("RoundTrip(%v) = %v; want another connection", op, err)
		}
		x.Release()
		if s := p.Stats(); s.Repeated != 0 || s.Reused != 0 || s.Dropped != 1 || s.Dials != 2 {
			t.Errorf("Stats = %+v; want none repeated or reused, 1 dropped, 2 dials", s)
		}
	})
}
