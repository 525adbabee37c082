package access

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	anAddr = netip.MustParseAddr("10.0.0.1")
	noon   = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
)

func TestConnsOfAClient(t *testing.T) {
	var c Clients
	limits := Limits{Conns: 2}
	first, v1 := c.Enter(anAddr, limits, noon)
	_, v2 := c.Enter(anAddr, limits, noon)
	refused, v3 := c.Enter(anAddr, limits, noon)
	_, other := c.Enter(netip.MustParseAddr("10.0.0.2"), limits, noon)
	if v1 != Entered || v2 != Entered || v3 != TooManyConns || refused != nil || other != Entered {
		t.Errorf("Enter = %v, %v, %v (%v), another address %v; want two, none, and the other", v1, v2, v3, refused, other)
	}
	c.Leave(first, noon)
	if _, v := c.Enter(anAddr, limits, noon); v != Entered {
		t.Errorf("Enter after one has left = %v; want %v", v, Entered)
	}
	if _, v := c.Enter(anAddr, Limits{}, noon); v != Entered {
		t.Errorf("Enter without a limit = %v; want %v", v, Entered)
	}
}

func TestConnRateOfAClient(t *testing.T) {
	var c Clients
	limits := Limits{ConnRate: 2}
	come := func(at time.Duration) Verdict {
		k, v := c.Enter(anAddr, limits, noon.Add(at))
		if k != nil {
			c.Leave(k, noon.Add(at))
		}
		return v
	}
	for i := range ConnBurst * 2 {
		if v := come(0); v != Entered {
			t.Fatalf("connection %d of a burst = %v; want %v", i, v, Entered)
		}
	}
	steps := []struct {
		at   time.Duration
		want Verdict
	}{
		{0, TooFast}, {499 * time.Millisecond, TooFast}, {500 * time.Millisecond, Entered}, {501 * time.Millisecond, TooFast},
		{1500 * time.Millisecond, Entered}, {1500 * time.Millisecond, Entered}, {1500 * time.Millisecond, TooFast},
	}
	for _, s := range steps {
		if v := come(s.at); v != s.want {
			t.Errorf("connection after %v = %v; want %v", s.at, v, s.want)
		}
	}
	if _, v := c.Enter(netip.MustParseAddr("10.0.0.2"), limits, noon); v != Entered {
		t.Errorf("another address = %v; want %v", v, Entered)
	}
}

// TestRateOutlivesConnections: closing them all does not give a new burst.
func TestRateOutlivesConnections(t *testing.T) {
	var c Clients
	k, _ := c.Enter(anAddr, Limits{}, noon)
	for range 100 {
		if wait, ok := k.Ask(noon, 100, 0); wait != 0 || !ok {
			t.Fatalf("Ask within the burst = %v, %t; want at once", wait, ok)
		}
	}
	c.Leave(k, noon)
	again, _ := c.Enter(anAddr, Limits{}, noon)
	if wait, ok := again.Ask(noon, 100, time.Second); wait != 10*time.Millisecond || !ok {
		t.Errorf("Ask on a new connection = %v, %t; want 10ms of waiting", wait, ok)
	}
	c.Leave(again, noon)
	if n := c.Len(); n != 1 {
		t.Errorf("%d addresses remembered; want 1", n)
	}
	later := noon.Add(2 * time.Second)
	if other, _ := c.Enter(netip.MustParseAddr("10.0.0.2"), Limits{}, later); other == nil || c.Len() != 1 {
		t.Errorf("%d addresses remembered when the first has rested; want the other alone", c.Len())
	}
}

func TestAsk(t *testing.T) {
	var k Client
	k.born = noon
	steps := []struct {
		at       time.Duration
		rate     int
		patience time.Duration
		wait     time.Duration
		ok       bool
	}{
		{0, 0, 0, 0, true}, // no limit, nothing counted
		{0, 2, 0, 0, true},
		{0, 2, 0, 0, true}, // the burst is over
		{0, 2, time.Second, 500 * time.Millisecond, true},
		{0, 2, time.Second, time.Second, true},
		{0, 2, time.Second, 1500 * time.Millisecond, false}, // and not counted
		{0, 2, 2 * time.Second, 1500 * time.Millisecond, true},
		{time.Second, 2, time.Second, time.Second, true},
		{10 * time.Second, 2, 0, 0, true},
		{10 * time.Second, 2, 0, 0, true}, // saved up is one second's worth only
		{10 * time.Second, 2, 0, 500 * time.Millisecond, false},
		{10 * time.Second, 0, 0, 0, true},
	}
	for i, s := range steps {
		if wait, ok := k.Ask(noon.Add(s.at), s.rate, s.patience); wait != s.wait || ok != s.ok {
			t.Errorf("step %d: Ask(%v, %d, %v) = %v, %t; want %v, %t", i, s.at, s.rate, s.patience, wait, ok, s.wait, s.ok)
		}
	}
}

// TestAskTogether: connections of one client share its rate.
func TestAskTogether(t *testing.T) {
	k := Client{born: noon}
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if _, ok := k.Ask(noon, 500, 0); ok {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n != 500 {
		t.Errorf("%d requests passed at once; want 500", n)
	}
}

// TestFloodOfAddresses: however many addresses come and go, few are remembered,
// and those that are connected all are.
func TestFloodOfAddresses(t *testing.T) {
	var c Clients
	limits := Limits{Conns: 1, ConnRate: 1}
	held, _ := c.Enter(anAddr, limits, noon)
	for i := range 200_000 {
		var b [16]byte
		b[0] = 0x20
		binary.BigEndian.PutUint32(b[12:], uint32(i))
		k, v := c.Enter(netip.AddrFrom16(b), limits, noon)
		if v != Entered {
			t.Fatalf("address %d: %v; want %v", i, v, Entered)
		}
		c.Leave(k, noon)
		if n := c.Len(); n > maxIdle+2 || n != c.idle.Len()+1 {
			t.Fatalf("%d addresses are remembered, %d of them idle; want %d at most and one that is not", n, c.idle.Len(), maxIdle+1)
		}
	}
	if _, v := c.Enter(anAddr, limits, noon); v != TooManyConns {
		t.Errorf("second connection of the client that stayed = %v; want %v", v, TooManyConns)
	}
	c.Leave(held, noon)
	later := noon.Add(time.Hour)
	for range maxIdle {
		k, _ := c.Enter(anAddr, limits, later)
		c.Leave(k, later)
		later = later.Add(time.Hour)
	}
	if n := c.Len(); n > 1 {
		t.Errorf("%d addresses remembered when all have rested; want 1 at most", n)
	}
}

func TestAskAllocatesNothing(t *testing.T) {
	k := Client{born: noon}
	if n := testing.AllocsPerRun(1000, func() { k.Ask(noon, 1000, time.Second) }); n > 0 {
		t.Errorf("Ask allocates %v times; want 0", n)
	}
}

func BenchmarkAsk(b *testing.B) {
	k := Client{born: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		k.Ask(noon, 1000, time.Second)
	}
}
