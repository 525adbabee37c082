package proxy_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"stateproxy/wire"
)

// history is what a world lives through.
type history struct {
	proxies  int
	backends int           // in use at the beginning
	delay    time.Duration // HandoffDelay
	lag      time.Duration // after which the second proxy takes new settings
	lazy     bool          // restarts of machines go unnoticed until there is a look
	steps    []step
}

// step is some requests at once and an event beside them, or an event alone.
type step struct {
	wishes []wish
	event  event
	seed   uint32 // of the delays of messages, if there is more than one request
}

// wish is what a client would like to do.
type wish struct {
	op     wire.Op
	client int
	key    int
	front  int
	at     int  // milliseconds after the step begins
	late   bool // with a cookie whose time is over, or another's
	other  bool // a PUT with another time-out than usual
}

// event is something that happens to backends, proxies or their settings.
type event struct {
	kind   eventKind
	change changeKind
	aimed  bool // at the machine that has the first session, not at the one of number a
	a, b   int
	at     int // milliseconds after the step begins
}

type eventKind int

// The events.
const (
	nothing eventKind = iota
	wait
	change
	cut
	heal
	eject
	crash   // of a machine
	restart // of a proxy
	look
	lose // of a message, in what is next
)

type changeKind int

// The changes.
const (
	add changeKind = iota
	drop
	drain
	reweigh
	readdress
	rehome
	split
	undo
)

var waits = []time.Duration{
	10 * time.Millisecond, 6 * time.Second, 20 * time.Second, 40 * time.Second, 2 * time.Minute, 11 * time.Minute, 21 * time.Minute, 35 * time.Minute,
}

func (w *world) dial(ctx context.Context, _, address string) (net.Conn, error) {
	return w.machineAt(address).dial(ctx)
}

func draw[V any](t *rapid.T, label string, from ...V) V {
	return rapid.SampledFrom(from).Draw(t, label)
}

var someWish = rapid.Custom(func(t *rapid.T) wish {
	return wish{
		op: draw(t, "op",
			wire.OpGet, wire.OpGetExclusive, wire.OpSet, wire.OpRelease, wire.OpSetUninitialized, wire.OpRemove, wire.OpResetTimeout,
			wire.OpGet, wire.OpGetExclusive, wire.OpSet, wire.OpGet, wire.OpGetExclusive, wire.OpSet),
		client: draw(t, "client", 0, 1, 2),
		key:    draw(t, "key", 0, 0, 0, 0, 0, 1, 2),
		front:  draw(t, "front", 0, 1),
		at:     rapid.IntRange(0, 20).Draw(t, "at"),
		late:   draw(t, "late", false, true, false, false),
		other:  draw(t, "other", false, false, false, false, true, false, false, false),
	}
})

var someEvent = rapid.Custom(func(t *rapid.T) event {
	return event{
		kind: draw(t, "kind",
			change, change, change, change, wait, wait, cut, heal, heal, heal, eject, eject, crash, restart, look, lose, lose, lose),
		change: changeKind(rapid.IntRange(int(add), int(undo)).Draw(t, "change")),
		aimed:  draw(t, "aimed", false, true),
		a:      draw(t, "a", 0, 1, 2, 3, 4, 5, 6, 7),
		b:      draw(t, "b", 0, 1, 2, 3, 4, 5, 6, 7),
		at:     rapid.IntRange(0, 40).Draw(t, "at"),
	}
})

var someStep = rapid.Custom(func(t *rapid.T) (s step) {
	switch n := draw(t, "step", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); {
	case n < 8:
		s.wishes = []wish{someWish.Draw(t, "wish")}
	case n < 13:
		s.event = someEvent.Draw(t, "event")
	default:
		s.wishes = rapid.SliceOfN(someWish, 1, 3).Draw(t, "wishes")
		s.seed = rapid.Uint32().Draw(t, "seed")
		if n == 15 {
			s.event = someEvent.Draw(t, "event")
		}
	}
	return s
})

var someHistory = rapid.Custom(func(t *rapid.T) *history {
	delay := draw(t, "delay", -1, 30*time.Second, 5*time.Second)
	return &history{
		proxies:  draw(t, "proxies", 1, 1, 1, 2),
		backends: draw(t, "backends", 2, 1, 3),
		delay:    delay,
		lag:      max(delay, 0) * time.Duration(rapid.IntRange(0, 9).Draw(t, "lag")) / 10,
		lazy:     draw(t, "lazy", false, false, false, true),
		steps:    rapid.SliceOfN(someStep, draw(t, "length", 1, 8, 16, 24), 50).Draw(t, "steps"),
	}
})

// TestHistories plays the same two thousand histories each time, so that what
// fails is the change at hand. make histories plays others, and more.
func TestHistories(t *testing.T) {
	defaultFlag(t, "rapid.checks", "2000")
	defaultFlag(t, "rapid.seed", "1")
	defaultFlag(t, "rapid.nofailfile", "true")
	var failed *history
	defer func() {
		if failed != nil {
			h, err := shorten(t, failed)
			t.Logf("in short: %v\n%v\n%v", h, err, h.literal())
		}
	}()
	rapid.Check(t, func(rt *rapid.T) {
		h := someHistory.Draw(rt, "history")
		if err := playInBubble(t, h); err != nil {
			if failed == nil { // rapid tells of none if it fails only now and then
				t.Logf("the first that failed: %v\n%v\n%v", h, err, h.literal())
			}
			failed = h
			rt.Fatalf("%v\n%v", h, err)
		}
	})
}

// defaultFlag sets a flag that the command line does not, for this test.
func defaultFlag(t *testing.T, name, value string) {
	t.Helper()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if given {
		return
	}
	before := flag.Lookup(name).Value.String()
	if err := flag.Set(name, value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { flag.Set(name, before) })
}

func playInBubble(t *testing.T, h *history) (err error) {
	synctest.Test(t, func(*testing.T) { err = play(h) })
	return err
}

// fails plays the history until it fails, but not for ever: what happens at the
// same moment may happen in another order the next time.
func fails(t *testing.T, h *history) (err error) {
	for i := 0; i < 50 && err == nil; i++ {
		err = playInBubble(t, h)
	}
	return err
}

// shorten leaves out of a history that fails what it fails without, by whole
// steps, which rapid finds hard to do. The error is nil if it fails no more.
func shorten(t *testing.T, h *history) (*history, error) {
	short := *h
	err := fails(t, &short)
	for i := 0; i < len(short.steps); {
		less := short
		less.steps = slices.Delete(slices.Clone(short.steps), i, i+1)
		if e := fails(t, &less); e != nil {
			short, err, i = less, e, 0
		} else {
			i++
		}
	}
	return &short, err
}

// String tells of the history, all but its steps.
func (h *history) String() string {
	return fmt.Sprintf("a history of %d proxies, %d backends, delay %v, lag %v, lazy %t", h.proxies, h.backends, h.delay, h.lag, h.lazy)
}

// literal returns the history as a test can have it, to play it again.
func (h *history) literal() string {
	return strings.ReplaceAll(fmt.Sprintf("%#v", *h), "proxy_test.", "")
}
