package backend_test

import (
	"testing"
	"time"

	"stateproxy/wire"
)

// echo answers every read with answer and allocates nothing.
func echo(answer string) func(c *peer) {
	return func(c *peer) {
		in, out := make([]byte, 4<<10), []byte(answer)
		for {
			if _, err := c.Read(in); err != nil {
				return
			}
			c.Write(out)
		}
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, bm := range []struct {
		name string
		body int
	}{{"small", 500}, {"64KiB", 64 << 10}} {
		b.Run(bm.name, func(b *testing.B) {
			answer, _ := item(bm.body)
			p, _ := overTCP(b, echo(answer))
			x := exchange(wire.OpGet)
			b.ReportAllocs()
			b.SetBytes(int64(len(answer)))
			for b.Loop() {
				x.Started = time.Now()
				x.Deadline = x.Started.Add(8 * time.Second)
				if err := p.RoundTrip(b.Context(), x); err != nil {
					b.Fatal(err)
				}
				x.Release()
			}
		})
	}
}

func BenchmarkRoundTripParallel(b *testing.B) {
	answer, _ := item(500)
	p, _ := overTCP(b, echo(answer))
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		x := exchange(wire.OpGet)
		for pb.Next() {
			x.Started = time.Now()
			x.Deadline = x.Started.Add(8 * time.Second)
			if err := p.RoundTrip(b.Context(), x); err != nil {
				b.Error(err)
				return
			}
			x.Release()
		}
	})
}
