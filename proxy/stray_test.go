package proxy_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/wire"
)

// These tests are about sessions in use at a former owner: what is saved there,
// and for how long it is asked for them.

// askedAt returns a func that sends requests for the first session through a
// proxy and wants their answers to be such.
func askedAt(t *testing.T, w *world) func(d *deed, status int, body string) {
	return func(d *deed, status int, body string) {
		t.Helper()
		d.minutes = usualTimeout
		if w.do(d); d.answer.Status != status || d.answer.body != body {
			t.Errorf("%v; want %d %q", d, status, body)
		}
	}
}

// inUseAtFormer is a world whose first session is locked at m, which does not own
// it any more.
func inUseAtFormer(t *testing.T) (w *world, m *machine, cookie wire.Int) {
	w = newWorld(&history{proxies: 1, backends: 2, delay: -1})
	ask := askedAt(t, w)
	ask(&deed{wish: wish{op: wire.OpSet}, body: "one"}, 200, "")
	lock := &deed{wish: wish{op: wire.OpGetExclusive}}
	ask(lock, 200, "one")
	m = w.holder()
	w.happen(event{kind: change, change: drop, aimed: true})
	return w, m, lock.answer.LockCookie
}

// The server of a locked session is restarted when the holder's save is on its
// way there, so that the save makes the session anew at a place that nobody
// expects to have anything.
func TestSaveThatMeetsARestart(t *testing.T) {
	tests := []struct {
		name    string
		op      wire.Op
		asked   bool // the session is asked for when it is gone
		restart bool // so is the proxy, afterwards
	}{
		{"save", wire.OpSet, false, false},
		{"asked for between", wire.OpSet, true, false},
		{"made between", wire.OpSetUninitialized, true, false},
		{"the proxy too", wire.OpSet, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, m, cookie := inUseAtFormer(t)
				defer w.stop()
				ask := askedAt(t, w)
				w.pause(time.Minute)
				w.happen(event{kind: look})
				m.alert = func(b []byte) {
					if !bytes.HasPrefix(b, []byte("PUT")) {
						return
					}
					m.empty()
					if tt.asked {
						ask(&deed{wish: wish{op: wire.OpGet, client: 1}}, 404, "")
					}
				}
				ask(&deed{wish: wish{op: tt.op}, body: "two", cookie: cookie}, 200, "")
				w.happen(event{kind: look})
				if tt.restart {
					w.happen(event{kind: restart})
				}
				ask(&deed{wish: wish{op: wire.OpGet}}, 200, "two")
			})
		})
	}
}

// A session in use at a former owner keeps the window open for another one, even
// if the proxy is restarted.
func TestWindowIsPutOffByUse(t *testing.T) {
	tests := []struct {
		name    string
		restart bool
	}{
		{"one proxy", false},
		{"restarted", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _, cookie := inUseAtFormer(t)
				defer w.stop()
				ask := askedAt(t, w)
				w.pause(15 * time.Minute)
				ask(&deed{wish: wish{op: wire.OpGet, client: 1}}, 423, "")
				if tt.restart {
					w.fronts[0].restart(6 * time.Minute)
				}
				w.pause(9 * time.Minute)
				ask(&deed{wish: wish{op: wire.OpGet, client: 1}}, 423, "")
				ask(&deed{wish: wish{op: wire.OpRelease}, cookie: cookie}, 200, "")
				ask(&deed{wish: wish{op: wire.OpGet}}, 200, "one")
			})
		})
	}
}
