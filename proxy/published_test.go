package proxy_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/wire"
)

// Sequences that are known to make other sharding proxies serve old data, played
// in the words of this protocol. What the proxy owes at each step is the value
// that was acknowledged last. While its only holder can't be reached it owes F,
// and from that server's ejection on, when the session counts as lost with it,
// 404; an older value never.

// published is a sequence that is being played, about the first session.
type published struct {
	t *testing.T
	w *world
	n int // of the request
}

// playPublished plays a sequence with three servers behind one proxy.
func playPublished(t *testing.T, sequence func(*published)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(&history{proxies: 1, backends: 3, delay: -1})
		defer w.stop()
		sequence(&published{t: t, w: w})
	})
}

// ask sends a request and wants its answer to be that status and body.
func (p *published) ask(op wire.Op, body string, status int, want string) {
	p.t.Helper()
	p.n++
	d := &deed{wish: wish{op: op}, body: body, minutes: usualTimeout}
	p.w.do(d)
	if got := fmt.Sprintf("%d %q", d.answer.Status, d.answer.body); got != fmt.Sprintf("%d %q", status, want) {
		p.t.Errorf("request %d: %v %q = %s; want %d %q", p.n, op, body, got, status, want)
	}
}

func (p *published) set(body string)              { p.t.Helper(); p.ask(wire.OpSet, body, 200, "") }
func (p *published) get(status int, body string)  { p.t.Helper(); p.ask(wire.OpGet, "", status, body) }
func (p *published) remove(status int)            { p.t.Helper(); p.ask(wire.OpRemove, "", status, "") }
func (p *published) happen(kind eventKind, m int) { p.w.happen(event{kind: kind, a: m, b: 1}) }

// holder returns the number of the one server that has the session.
func (p *published) holder() int {
	p.t.Helper()
	number, n := 0, 0
	for _, m := range p.w.machines {
		if _, ok := m.server.Peek(sessionKeys[0]); ok {
			number, n = m.number, n+1
		}
	}
	if n != 1 {
		p.t.Errorf("after request %d there are %d copies; want one", p.n, n)
	}
	return number
}

// TestTwemproxyIssue604: a server is ejected, comes back and is ejected again
// (github.com/twitter/twemproxy/issues/604). The copy that was made while it was
// away for the first time must not be served while it is away for the second.
func TestTwemproxyIssue604(t *testing.T) {
	tests := []struct {
		name  string
		empty bool // the server comes back without its sessions
		third string
	}{
		{"it keeps what it has", false, "three"},
		{"it comes back empty", true, "three"},
		{"nothing is written when it is back", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			playPublished(t, func(p *published) {
				p.set("one")
				first := p.holder()
				p.happen(eject, first)
				p.get(404, "") // lost with its server
				p.set("two")
				if tt.empty {
					p.happen(crash, first)
				}
				p.happen(heal, first)
				latest := "two"
				p.get(200, latest)
				if tt.third != "" {
					latest = tt.third
					p.set(latest)
				}
				if at := p.holder(); at != first {
					t.Errorf("the session is at server %d; want it back at %d", at, first)
				}
				p.happen(eject, first)
				p.get(404, "") // lost again, and "two" is gone for good
				p.happen(heal, first)
				p.get(200, latest)
			})
		})
	}
}

// TestMcrouterIssue202: a session is removed and made anew while packets to its
// server are dropped (github.com/facebook/mcrouter/issues/202). When they come
// through again the server still has the first copy, which must not be served.
func TestMcrouterIssue202(t *testing.T) {
	playPublished(t, func(p *published) {
		p.set("hello1")
		first := p.holder()
		p.happen(cut, first)
		p.remove(400) // the server may have it and does not answer
		p.get(400, "")
		p.happen(eject, first)
		p.remove(404)
		p.set("hello2")
		p.get(200, "hello2")
		p.happen(heal, first)
		p.get(200, "hello2")
		if at := p.holder(); at != first {
			t.Errorf("the session is at server %d; want it back at %d, alone", at, first)
		}
		p.remove(200)
		p.get(404, "")
	})
}

// TestMcrouterIssue202WithoutNewValue is the same, but the session is removed for
// good: nothing must bring it back.
func TestMcrouterIssue202WithoutNewValue(t *testing.T) {
	playPublished(t, func(p *published) {
		p.set("hello1")
		first := p.holder()
		p.happen(eject, first)
		p.remove(404)
		p.happen(heal, first)
		p.get(404, "")
	})
}

// TestNewSessionOfTheSecondServer: a session is lost with its server and made anew,
// not saved, at another, which falls out when the first is back. What that one has
// was overtaken all the same.
func TestNewSessionOfTheSecondServer(t *testing.T) {
	playPublished(t, func(p *published) {
		p.set("one")
		first := p.holder()
		p.happen(eject, first)
		p.ask(wire.OpSetUninitialized, "two", 200, "")
		p.happen(heal, first)
		for _, m := range p.w.machines {
			if _, ok := m.server.Peek(sessionKeys[0]); ok && m.number != first {
				p.happen(eject, m.number)
			}
		}
		p.get(404, "")
	})
}

// TestWindowsThatAreClosedByHand: what was not brought over yet is lost then, and
// what was overtaken does not come back in its place.
func TestWindowsThatAreClosedByHand(t *testing.T) {
	playPublished(t, func(p *published) {
		p.set("one")
		first := p.holder()
		p.happen(eject, first)
		p.set("two")
		p.happen(heal, first)
		p.w.fronts[0].current().CloseWindows("default")
		p.get(404, "")
		p.set("three")
		p.get(200, "three")
		p.w.pause(time.Hour)
		p.set("four")
		p.get(200, "four")
	})
}
