package admin

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromedp/chromedp"

	"stateproxy/internal/browser"
	"stateproxy/internal/xray"
	"stateproxy/proxy"
	"stateproxy/wire"
)

// sessionsOf is an XRay that has seen each application lock, save and release a
// session of 3000 bytes, save the same again and lock once more; now somebody
// waits, and is told that it is locked since 90 s.
func sessionsOf(apps ...string) *xray.XRay {
	x := &xray.XRay{}
	for i, app := range apps {
		id := uint64(i+1) * 0x9E3779B97F4A7C15
		see := func(op wire.Op, status int, age time.Duration) {
			o := proxy.Outcome{Client: netip.MustParseAddrPort("10.0.0.7:50000"), Op: op, App: []byte(app), Session: id, ID: id + 1,
				Pool: "default", Backend: "s1", Status: status, Start: time.Now(), Duration: 2 * time.Millisecond, LockAge: age}
			if op == wire.OpSet {
				o.Body, o.Timeout = make([]byte, 3000), 20
			}
			x.Observe(&o)
		}
		for range 2 {
			see(wire.OpGetExclusive, wire.StatusOK, 0)
			see(wire.OpSet, wire.StatusOK, 0)
		}
		see(wire.OpGetExclusive, wire.StatusOK, 0)
		see(wire.OpGetExclusive, wire.StatusLocked, 90*time.Second)
	}
	return x
}

func TestStreamTellsOfSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range maxStreamApps + 3 {
			names = append(names, fmt.Sprintf("/LM/W3SVC/%d/ROOT", i))
		}
		x := sessionsOf(names...)
		a := &Admin{XRay: x}
		ln, stop := watching(a)
		defer stop()
		s, _ := openStream(t, ln)
		defer s.Close()
		busiest := proxy.Outcome{Client: netip.MustParseAddrPort("10.0.0.7:50000"), Op: wire.OpGet, App: []byte(names[14]), Pool: "default", Status: 404, Start: time.Now()}
		for range 20 {
			x.Observe(&busiest)
		}
		s.find(t, "sessions")
		got := s.find(t, "sessions")
		var apps []xray.App
		if err := json.Unmarshal(got["apps"], &apps); err != nil {
			t.Fatal(err)
		}
		if len(apps) != maxStreamApps || string(got["left_out"]) != "3" || apps[0].Name != names[14] {
			t.Errorf("%d applications, first %s, and %s left out; want %d, the busiest first, and 3", len(apps), apps[0].Name, got["left_out"], maxStreamApps)
		}
		var all xray.App
		if err := json.Unmarshal(got["all"], &all); err != nil || all.Sizes.Count() != 30 {
			t.Errorf("all: %d saves, %v; want those of all 15 applications, 30", all.Sizes.Count(), err)
		}
	})
}

// An Admin that knows nothing of sessions says nothing, and shows no part for them.
func TestStreamWithoutSessions(t *testing.T) {
	if got := (&Admin{}).sessions(); got != nil {
		t.Errorf("sessions() = %s; want nil", got)
	}
}

func TestPageShowsSessions(t *testing.T) {
	browser.Find(t)
	a := showing(farm())
	a.XRay = sessionsOf("/LM/W3SVC/1/ROOT/shop", "/LM/W3SVC/1/ROOT/forum")
	ln, _ := serve(t, a)
	a.history.begin(a.snapshot())
	a.tick()
	b := browser.Open(t, "http://"+ln.Addr().String()+"/")
	shows := func(what, selector, text string) {
		t.Helper()
		b.Until(what, fmt.Sprintf(`document.querySelector(%q).textContent.includes(%q)`, selector, text))
	}
	shows("the median size", "#sizes-value", " KiB")
	shows("the largest", "#sizes .legend", "largest 2.9 KiB")
	shows("who waits", "#locks-value", "2")
	shows("the oldest lock", "#locks .legend", "longest held 1 min 3")
	shows("the lock", ".locks", "waited for")
	shows("its application", ".locks", "/LM/W3SVC/1/ROOT/shop")
	shows("identical saves", "#session-facts", "100 %")
	shows("the histogram", "#sizes [role=img]", "16 KiB")
	if label := browser.Eval[string](b, `document.querySelector("#sizes [role=img]").getAttribute("aria-label")`); !strings.Contains(label, "100 % up to 4 KiB") {
		t.Errorf("the histogram is called %q; want it to say where all are", label)
	}
	b.Until("two applications", `document.querySelectorAll("#apps > li").length === 2`)
	b.Do(chromedp.Focus("[data-app='/LM/W3SVC/1/ROOT/forum'] summary"))
	b.Do(chromedp.KeyEvent("\r"))
	const open = "[data-app='/LM/W3SVC/1/ROOT/forum'] details[open]"
	shows("its largest session", open+" .ranking", "2.9 KiB")
	shows("its time-outs", open, "20 min 100 %")
	shows("its busiest session", open+" .part:nth-child(5)", fmt.Sprintf("%016x", uint64(0x9E3779B97F4A7C15*2&(1<<64-1))))
	b.Shoot("sessions")
	b.Quiet()
}
