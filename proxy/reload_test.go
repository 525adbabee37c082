package proxy_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// load is clients that each work on sessions of their own and check that
// nothing is lost.
type load struct {
	pages atomic.Int64
	stop  atomic.Bool
	wg    sync.WaitGroup
	beat  chan struct{} // a page was done
}

// startLoad starts clients that do pages until finish is called.
func startLoad(t *testing.T, addr string, clients int) *load {
	l := &load{beat: make(chan struct{}, 1)}
	for n := range clients {
		c := dial(t, addr)
		l.wg.Go(func() {
			last := map[string]string{}
			for i := 0; !l.stop.Load(); i++ {
				id := fmt.Sprintf("client%dsession%d", n, i%50)
				body := fmt.Sprintf("%s, page %d", id, i)
				if err := c.page(id, last[id], body); err != nil {
					t.Errorf("page %d of %s: %v", i, id, err)
					return
				}
				last[id] = body
				l.pages.Add(1)
				select {
				case l.beat <- struct{}{}:
				default:
				}
			}
		})
	}
	return l
}

// await waits for more pages.
func (l *load) await(pages int64) {
	for until := l.pages.Load() + pages; l.pages.Load() < until && !l.stop.Load(); {
		<-l.beat
	}
}

func (l *load) finish() {
	l.stop.Store(true)
	l.wg.Wait()
}

// page does what a page does that reads and writes its session: last is what it
// must find, "" nothing, and body what it leaves.
func (c *client) page(id, last, body string) error {
	if last == "" {
		return c.save(id, body, wire.Int{})
	}
	req := wire.Request{Verb: wire.GET, Target: target(id), Exclusive: wire.Acquire}
	if _, err := c.c.Write(wire.AppendRequest(nil, &req)); err != nil {
		return err
	}
	a, err := c.read(wire.GET)
	if err != nil || a.Status != 200 {
		return fmt.Errorf("acquire = %d, %v", a.Status, err)
	}
	if a.body != last {
		return fmt.Errorf("acquire = %q; want %q", a.body, last)
	}
	return c.save(id, body, a.LockCookie)
}

// save writes the session and wants 200.
func (c *client) save(id, body string, cookie wire.Int) error {
	put := wire.Request{
		Verb: wire.PUT, Target: target(id), Timeout: wire.Some(20), ContentLength: wire.Some(int64(len(body))),
		ExtraFlags: wire.Some(0), LockCookie: cookie,
	}
	if _, err := c.c.Write(append(wire.AppendRequest(nil, &put), body...)); err != nil {
		return err
	}
	if a, err := c.read(wire.PUT); a.Status != 200 || err != nil {
		return fmt.Errorf("PUT = %d, %v", a.Status, err)
	}
	return nil
}

func TestReconfigureUnderLoad(t *testing.T) {
	servers := startServers(t, 4)
	all := backends(servers...)
	drained := append([]proxy.Backend(nil), all...)
	drained[0].Drain = true
	heavy := append([]proxy.Backend(nil), all...)
	heavy[1].Weight = 5
	tests := []struct {
		name     string
		settings []proxy.Settings
	}{
		{"same membership", []proxy.Settings{
			{Backends: all}, {Backends: all, MaxWhole: 1 << 10}, {Backends: all, BackendConns: 2}, {Backends: all, OnUnavailable: proxy.Wait},
		}},
		{"changed membership", []proxy.Settings{
			{Backends: all[:2]}, {Backends: all[:3]}, {Backends: all[1:]}, {Backends: drained}, {Backends: heavy},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, s := range servers {
				s.Reset()
			}
			r := newRig(t, tt.settings[0])
			l := startLoad(t, r.addr, 4)
			for i := range 60 {
				l.await(20)
				r.reconfigure(tt.settings[i%len(tt.settings)])
			}
			l.finish()
			r.lastOutcome(1)
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, o := range r.outcomes {
				if o.Reason != "" {
					t.Fatalf("a request failed: %s, %v", o.Reason, o.Err)
				}
			}
		})
	}
}

func TestEjectedBackendsSessionsGoElsewhereAndComeBack(t *testing.T) {
	servers := startServers(t, 3)
	r := newRig(t, proxy.Settings{Backends: backends(servers...)})
	c := dial(t, r.addr)
	const n = 60
	for i := range n {
		c.put(fmt.Sprint("id", i), "before", wire.Some(0))
	}
	held := servers[0].Len()
	change, ok := r.proxy.SetUp("s1", false)
	if !ok || len(change.Pools) != 1 || change.Pools[0].Moved < 0.2 || change.Pools[0].Moved > 0.5 {
		t.Fatalf("SetUp(s1, false) = %+v, %t; want about a third moved", change, ok)
	}
	if _, ok := r.proxy.SetUp("s1", false); ok {
		t.Error("SetUp(s1, false) again = true; want false")
	}
	if _, ok := r.proxy.SetUp("nobody", false); ok {
		t.Error("SetUp of an unknown name = true; want false")
	}
	lost := 0
	for i := range n { // sessions go on: some are written, some only asked for
		id := fmt.Sprint("id", i)
		a := c.get(id)
		if a.Status == 404 {
			lost++
		}
		if i%2 == 0 {
			c.put(id, "meanwhile", wire.Some(0))
		}
	}
	if lost != held || servers[0].Stats().Requests[wire.OpGet].OK > 0 {
		t.Errorf("%d sessions were not found; want the %d of the ejected server, unasked", lost, held)
	}
	if _, ok := r.proxy.SetUp("s1", true); !ok {
		t.Fatal("SetUp(s1, true) = false; want true")
	}
	for i := range n {
		want := "before"
		if i%2 == 0 {
			want = "meanwhile"
		}
		if a := c.get(fmt.Sprint("id", i)); a.Status != 200 || a.body != want {
			t.Errorf("session %d after the server is back = %d, %q; want %q", i, a.Status, a.body, want)
		}
	}
	total := 0
	for i := range n {
		for _, s := range servers {
			if has(s, fmt.Sprint("id", i)) {
				total++
			}
		}
	}
	if total != n {
		t.Errorf("%d copies of %d sessions", total, n)
	}
}
