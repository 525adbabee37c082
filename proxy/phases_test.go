package proxy_test

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// sums reports whether the phases of a request make up its time.
func sums(o proxy.Outcome) bool {
	p := o.Phases
	return p.Handoff+p.Queue+p.Connect+p.Send+p.Body+o.Answer() == o.Wait && o.Wait+o.Reply() == o.Duration
}

func TestPhases(t *testing.T) {
	servers := startServers(t, 2)
	r := newRig(t, proxy.Settings{Backends: backends(servers[0])})
	c := dial(t, r.addr)
	c.put("a", "body", wire.Some(0))
	first := r.lastOutcome(1)
	if first.Phases.Connect == 0 || !sums(first) {
		t.Errorf("first request: %+v of %v, %v; want some time for connecting", first.Phases, first.Wait, first.Duration)
	}
	c.get("a")
	second := r.lastOutcome(2)
	if p := second.Phases; p.Connect+p.Handoff+p.Queue != 0 || !sums(second) {
		t.Errorf("second request: %+v of %v, %v; want no connecting", p, second.Wait, second.Duration)
	}
	r.reconfigure(proxy.Settings{Backends: backends(servers...)[1:]})
	c.get("a")
	moved := r.lastOutcome(3)
	if moved.Phases.Handoff == 0 || !moved.Moved || !sums(moved) {
		t.Errorf("moved: %+v of %v, %v; want some time for the handoff", moved.Phases, moved.Wait, moved.Duration)
	}
}

func TestPhasesOfTheQueue(t *testing.T) {
	open := make(chan struct{})
	f := startFake(t, func(c *fakeConn) {
		for {
			if _, err := c.next(); err != nil {
				return
			}
			<-open
			c.say("404 Not Found\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: 0\r\n\r\n")
		}
	})
	r := newRig(t, proxy.Settings{Backends: []proxy.Backend{f.backend("s1")}, BackendConns: 1, BackendQueue: 1})
	var wg sync.WaitGroup
	for i, id := range []string{"a", "b"} {
		c := dial(t, r.addr)
		wg.Go(func() { c.get(id) })
		if i == 0 {
			f.await("a", 1)
			continue
		}
		for r.proxy.Status().Backends[0].Conns.Waiting == 0 {
			runtime.Gosched()
		}
	}
	close(open)
	wg.Wait()
	if o := r.lastOutcome(2); o.Phases.Queue == 0 || !sums(o) {
		t.Errorf("the second request: %+v of %v; want some time in the queue", o.Phases, o.Wait)
	}
}

// What a client lets its answer wait is part of the request, whatever the system
// that it is written on.
func TestDurationOfASlowReader(t *testing.T) {
	const wait = time.Second // for the backend
	for _, late := range []time.Duration{0, 3 * time.Second} {
		t.Run(late.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBubble(t, proxy.Settings{}, func(c *fakeConn) {
					if q, err := c.next(); err == nil {
						<-time.After(wait)
						c.say(good(q.op, q.id))
					}
				})
				defer b.stop()
				c := b.client()
				c.send(request(wire.OpSet, "a"))
				<-time.After(wait + late)
				if _, err := c.answer(wire.OpSet); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if o := b.lastOutcome(1); o.Duration != wait+late || o.Wait != wait || o.Reply() != late {
					t.Errorf("duration %v, wait %v, reply %v; want %v, %v, %v", o.Duration, o.Wait, o.Reply(), wait+late, wait, late)
				}
			})
		})
	}
}
