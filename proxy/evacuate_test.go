package proxy_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// runInBackground runs the proxy's background work until the test ends.
func runInBackground(t *testing.T, p *proxy.Proxy) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// evacuated waits until ok accepts the state of the one evacuation.
func (r *rig) evacuated(what string, ok func(proxy.EvacuationStatus) bool) proxy.EvacuationStatus {
	r.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		list := r.proxy.Status().Evacuations
		if len(list) == 1 && ok(list[0]) {
			return list[0]
		}
		select {
		case <-limit:
			r.t.Fatalf("no evacuation that %s: %+v", what, list)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestEvacuation(t *testing.T) {
	servers := startServers(t, 3)
	all := backends(servers...)
	s := proxy.Settings{Backends: all, Remember: 1000, EvacuationRate: 10000}
	r := newRig(t, s)
	runInBackground(t, r.proxy)
	const n = 300
	c := dial(t, r.addr)
	fill(c, n)
	c.put("an ID of its own", "body", wire.Some(0))
	locked := c.acquire("id7")
	held := servers[1].Len()
	drained := append([]proxy.Backend(nil), all...)
	for i := range drained {
		drained[i].Drain = i == 1
	}
	s.Backends = drained
	r.reconfigure(s)
	got := r.evacuated("has moved all that is free", func(e proxy.EvacuationStatus) bool { return servers[1].Len() <= 1 })
	if got.Backend != "s2" {
		t.Errorf("evacuation of %s; want s2", got.Backend)
	}
	c.put("id7", "body 7", locked.LockCookie)
	got = r.evacuated("has moved all", func(e proxy.EvacuationStatus) bool { return e.Left == 0 && e.Moved >= held })
	if got.Moved != held || servers[1].Len() != 0 || got.Missed != 0 {
		t.Errorf("moved %d, left on the server %d, missed %d; want %d, 0, 0", got.Moved, servers[1].Len(), got.Missed, held)
	}
	if got.Safe || got.BlindUntil.IsZero() {
		t.Errorf("safe %v, blind until %v; want not safe while there may be sessions from before", got.Safe, got.BlindUntil)
	}
	servers[1].Close()
	expect(c, n, "after the drained server was stopped")
}

func TestCensusIsBounded(t *testing.T) {
	servers := startServers(t, 1)
	r := newRig(t, proxy.Settings{Backends: backends(servers...), Remember: 50})
	c := dial(t, r.addr)
	fill(c, 120)
	if got := r.proxy.Status().Remembered; got != 50 {
		t.Errorf("remembers %d sessions; want 50", got)
	}
	for i := range 120 {
		c.delete(fmt.Sprint("id", i), wire.Int{})
	}
	if got := r.proxy.Status().Remembered; got != 0 {
		t.Errorf("remembers %d removed sessions; want none", got)
	}
}

// A backend that is safe to shut down is not asked for anything any more.
func TestEvacuatedBackendIsShutDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(&history{proxies: 1, backends: 2, delay: -1})
		defer w.stop()
		p := w.fronts[0].current()
		take := func() {
			s := w.settings(w.config)
			s.Remember, s.EvacuationRate = 1000, 1000
			if _, err := p.Reconfigure(s); err != nil {
				t.Fatal(err)
			}
		}
		take()
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { p.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		w.pause(30 * time.Minute) // no session lives that the proxy has not seen
		ask := askedAt(t, w)
		ask(&deed{wish: wish{op: wire.OpSet}, body: "one"}, 200, "")
		m := w.holder()
		for _, drain := range []bool{true, false, true} { // once more is not to be as before
			w.config.entries[m.number].drain = drain
			take()
			w.pause(10 * time.Second)
			if e := p.Status().Evacuations; drain && (len(e) != 1 || e[0].Safe || e[0].Left != 0) {
				t.Fatalf("evacuations soon after the change: %+v; want one, not safe", e)
			}
			w.pause(10 * time.Second)
			if e := p.Status().Evacuations; drain && (len(e) != 1 || !e[0].Safe) {
				t.Fatalf("evacuations: %+v; want one, safe", e)
			}
		}
		m.set(refusing)
		ask(&deed{wish: wish{op: wire.OpGet}}, 200, "one")
		for i := range sessionKeys {
			ask(&deed{wish: wish{op: wire.OpSet, key: i}, body: "two"}, 200, "")
			ask(&deed{wish: wish{op: wire.OpGet, key: i}}, 200, "two")
		}
	})
}
