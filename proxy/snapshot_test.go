package proxy_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/wire"
)

// A proxy that goes on from a snapshot knows all that the snapshot holds.
func TestSnapshotOfARestoredProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(&history{proxies: 1, backends: 3, delay: 30 * time.Second})
		defer w.stop()
		ask := askedAt(t, w)
		ask(&deed{wish: wish{op: wire.OpSet, other: true}, body: "one"}, 200, "")
		ask(&deed{wish: wish{op: wire.OpGetExclusive}}, 200, "one")
		first := w.holder()
		w.happen(event{kind: change, change: drop, aimed: true})
		w.pause(time.Minute)
		ask(&deed{wish: wish{op: wire.OpGet}}, 423, "") // in use at a former owner
		w.happen(event{kind: eject, a: first.number})
		ask(&deed{wish: wish{op: wire.OpSet}, body: "two"}, 200, "") // what that has is overtaken
		w.pause(time.Minute)
		spare := w.machines[w.config.entries[0].machine]
		w.happen(event{kind: crash, a: spare.number})
		w.happen(event{kind: change, change: readdress})
		f := w.fronts[0]
		before := f.current().Snapshot()
		f.restart(0)
		after := f.current().Snapshot()
		if was, is := indented(t, before), indented(t, after); was != is {
			t.Errorf("after a restart the snapshot is\n%s\nand it was\n%s", is, was)
		}
		full := map[string]bool{}
		for _, p := range before.Places {
			full["overtaken"] = full["overtaken"] || len(p.Overtaken) > 0
			full["last down"] = full["last down"] || !p.LastDown.IsZero()
			full["began"] = full["began"] || !p.Began.IsZero()
			full["in use"] = full["in use"] || !p.InUse.IsZero()
			full["instance"] = full["instance"] || p.Instance != ""
		}
		for what, ok := range full {
			if !ok {
				t.Errorf("the snapshot has nothing of %q; want it to be tried", what)
			}
		}
		if before.Next == nil || len(before.Down) == 0 || len(before.Windows) == 0 {
			t.Errorf("the snapshot has next %v, down %v, %d windows; want all of them", before.Next, before.Down, len(before.Windows))
		}
	})
}

func indented(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
