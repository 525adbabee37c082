//go:build !race

package backend_test

import (
	"testing"
	"time"

	"stateproxy/wire"
)

func TestRoundTripAllocs(t *testing.T) {
	answers := map[string]string{"empty": done}
	answers["small"], _ = item(500)
	answers["64KiB"], _ = item(64 << 10)
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			p, _ := overTCP(t, echo(answer))
			x := exchange(wire.OpGet)
			if name == "empty" {
				x = exchange(wire.OpSet)
			}
			got := testing.AllocsPerRun(300, func() {
				x.Deadline = time.Now().Add(8 * time.Second)
				if err := p.RoundTrip(t.Context(), x); err != nil {
					t.Fatal(err)
				}
				x.Release()
			})
			if got != 0 {
				t.Errorf("RoundTrip with the answer %s = %v allocations; want 0", name, got)
			}
		})
	}
}
