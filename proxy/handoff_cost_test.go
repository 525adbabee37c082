package proxy_test

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/wire"
)

// These tests count the round trips of a move: a session that has moved pays for
// it once, and one that has not pays nothing.

// looks counts the questions for a session at the machine from now on.
func (m *machine) looks() (n *int) {
	n = new(int)
	m.alert = func(b []byte) {
		if bytes.Contains(b, []byte("acquire")) || bytes.HasPrefix(b, []byte("HEAD")) {
			*n++
		}
	}
	return n
}

// rehomed is a world with one proxy, whose sessions the first machine owned a
// minute ago and the second owns now.
func rehomed(t *testing.T) (w *world, ask func(d *deed, status int, body string)) {
	w = newWorld(&history{proxies: 1, backends: 1, delay: -1})
	ask = askedAt(t, w)
	ask(&deed{wish: wish{op: wire.OpSet}, body: "one"}, 200, "")
	w.happen(event{kind: change, change: rehome, b: 1})
	w.pause(time.Minute)
	return w, ask
}

func TestASessionIsLookedForOnce(t *testing.T) {
	tests := []struct {
		name string
		key  int // 0 is at the former owner, 1 nowhere
	}{
		{"moved", 0},
		{"new", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, ask := rehomed(t)
				defer w.stop()
				n := w.machines[0].looks()
				for range 3 {
					ask(&deed{wish: wish{op: wire.OpSet, key: tt.key}, body: "two"}, 200, "")
					ask(&deed{wish: wish{op: wire.OpGet, key: tt.key}}, 200, "two")
					w.fronts[0].take(w.config) // settings that route as before
				}
				if *n != 1 {
					t.Errorf("the former owner was asked %d times; want once", *n)
				}
			})
		})
	}
}

// What a moved session pays, once: four round trips beside the request's own.
func TestRoundTripsOfAMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ask := rehomed(t)
		defer w.stop()
		var sent []string
		for i, name := range []string{"f", "o"} {
			w.machines[i].alert = func(b []byte) {
				verb, _, _ := bytes.Cut(b, []byte(" "))
				sent = append(sent, string(verb)+" "+name)
			}
		}
		ask(&deed{wish: wish{op: wire.OpGet}}, 200, "one")
		want := []string{"GET f", "GET f", "PUT o", "DELETE f", "GET o"}
		if !slices.Equal(sent, want) {
			t.Errorf("the first request after the change took %q; want %q", sent, want)
		}
		sent = nil
		ask(&deed{wish: wish{op: wire.OpGet}}, 200, "one")
		if want := []string{"GET o"}; !slices.Equal(sent, want) {
			t.Errorf("the second request took %q; want %q", sent, want)
		}
	})
}

// Of two requests at once, one moves the session and the other waits for that.
func TestASessionIsLookedForOnceByTwoRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ask := rehomed(t)
		defer w.stop()
		m, n := w.machines[0], 0
		var other sync.WaitGroup
		m.alert = func(b []byte) {
			if !bytes.Contains(b, []byte("acquire")) {
				return
			}
			if n++; n == 1 {
				other.Go(func() { ask(&deed{wish: wish{op: wire.OpGet, client: 1}}, 200, "one") })
				w.pause(time.Millisecond) // it waits by then
			}
		}
		ask(&deed{wish: wish{op: wire.OpGet}}, 200, "one")
		other.Wait()
		if n != 1 {
			t.Errorf("the former owner was asked %d times; want once", n)
		}
	})
}

// The server gets another address, and both lead to it: nothing moves, and nobody
// looks for anything, before the change and after it.
func TestASessionThatDoesNotMoveCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(&history{proxies: 1, backends: 1, delay: 30 * time.Second})
		defer w.stop()
		ask := askedAt(t, w)
		ask(&deed{wish: wish{op: wire.OpSet}, body: "one"}, 200, "")
		n := w.machines[0].looks()
		w.happen(event{kind: change, change: readdress})
		for range 3 {
			ask(&deed{wish: wish{op: wire.OpGet}}, 200, "one")
			ask(&deed{wish: wish{op: wire.OpGet, key: 1}}, 404, "")
			w.pause(20 * time.Second)
		}
		if *n != 0 {
			t.Errorf("the server was asked %d times; want never", *n)
		}
	})
}

// One pool changes, and changes back and forth, and nobody looks for the sessions of
// another one.
func TestAPoolThatDoesNotChangeCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(&history{proxies: 1, backends: 2, delay: 30 * time.Second})
		defer w.stop()
		w.happen(event{kind: change, change: split})
		w.pause(time.Hour)
		const shop = 2
		ask := askedAt(t, w)
		var looks []*int
		for _, m := range w.machines {
			looks = append(looks, m.looks())
		}
		for _, c := range []event{{change: rehome, a: 1, b: 2}, {change: undo}, {change: rehome, a: 1, b: 2}} {
			c.kind = change
			w.happen(c)
			ask(&deed{wish: wish{op: wire.OpGet, key: shop}}, 404, "")
			if c.change == undo {
				w.pause(time.Minute)
			}
		}
		w.pause(time.Minute)
		ask(&deed{wish: wish{op: wire.OpGet, key: shop}}, 404, "")
		for i, n := range looks {
			if *n != 0 {
				t.Errorf("machine %d was asked %d times; want never", i, *n)
			}
		}
	})
}
