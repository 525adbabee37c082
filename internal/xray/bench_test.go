package xray_test

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"stateproxy/internal/xray"
	"stateproxy/proxy"
	"stateproxy/wire"
)

// traffic makes the outcomes of one connection: acquire and save in turn, for
// one of many sessions after the other, at some 100,000 requests a second.
type traffic struct {
	sessions uint64
	n        uint64
	at       time.Time
	o        proxy.Outcome
	app      []byte
	body     []byte
}

func newTraffic(sessions, n uint64) *traffic {
	return &traffic{sessions: sessions, n: n, at: time.Now(), app: []byte("/LM/W3SVC/2/ROOT/shop"), body: make([]byte, 4096)}
}

func (t *traffic) next() *proxy.Outcome {
	id := mix(t.n / 2 % t.sessions)
	t.at = t.at.Add(10 * time.Microsecond)
	t.o = proxy.Outcome{
		Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(t.n >> 1 & 3)}), uint16(t.n>>4)),
		App:    t.app, Session: mix(id), ID: id, Pool: "default", Backend: "s1", Status: wire.StatusOK,
		Start: t.at, Duration: time.Millisecond, Timeout: 20, Body: t.body,
	}
	if t.o.Op = wire.OpGetExclusive; t.n%2 == 1 {
		t.o.Op = wire.OpSet
	}
	t.n++
	return &t.o
}

// mix is a one-to-one hash, as the proxy's are.
func mix(n uint64) uint64 {
	n = (n + 1) * 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

// batch makes that many outcomes beforehand.
func (t *traffic) batch(n int) []proxy.Outcome {
	list := make([]proxy.Outcome, n)
	for i := range list {
		list[i] = *t.next()
	}
	return list
}

func BenchmarkObserve(b *testing.B) {
	const size = 1 << 17
	run := func(sessions uint64) func(*testing.B) {
		return func(b *testing.B) {
			x, list := &xray.XRay{}, newTraffic(sessions, 0).batch(size)
			for i := range list {
				x.Observe(&list[i])
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				o := &list[i%size]
				o.Start = o.Start.Add(size * 10 * time.Microsecond)
				x.Observe(o)
				i++
			}
		}
	}
	b.Run("thousand-sessions", run(1000))
	b.Run("million-sessions", run(1e6))
	b.Run("parallel", func(b *testing.B) {
		x := &xray.XRay{}
		for tr, i := newTraffic(1e6, 0), 0; i < size; i++ {
			x.Observe(tr.next())
		}
		var n atomic.Uint64
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			list := newTraffic(1e6, n.Add(1)<<20).batch(1 << 12)
			for i := 0; pb.Next(); i++ {
				o := &list[i%len(list)]
				o.Start = o.Start.Add(time.Millisecond)
				x.Observe(o)
			}
		})
	})
}
