package farm

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stateproxy/wire"
)

// script plays exchanges of one session, begun and ended in any order.
type script struct {
	t      *testing.T
	s      *session
	open   map[string]*exchange
	holds  map[string]*hold
	saves  map[string]stamp
	alarms []Alarm
}

func newScript(t *testing.T) *script {
	a := &app{run: 7, prefix: appPrefix(0), timeout: time.Hour, expired: new(atomic.Uint64)}
	return &script{
		t: t, s: newSession(1, a, sessionID(1, 0, 1)),
		open: map[string]*exchange{}, holds: map[string]*hold{}, saves: map[string]stamp{},
	}
}

var scriptOps = map[string]wire.Op{
	"get": wire.OpGet, "acquire": wire.OpGetExclusive, "put": wire.OpSet, "create": wire.OpSetUninitialized,
	"release": wire.OpRelease, "delete": wire.OpRemove, "head": wire.OpResetTimeout,
}

// step plays "NAME VERB begin" or "NAME end ANSWER". Exchanges of one name are
// those of one page; a save is known by its page's name. Answers are 200, 404,
// 423, 400, lost (unknown outcome), unsent, item=NAME with the save seen, and
// behind it #COOKIE or !, for ActionFlags: 1. takeover#COOKIE is a verb.
func (p *script) step(step string) {
	w := strings.Fields(step)
	if w[1] != "end" {
		verb, cookie, takeover := strings.Cut(w[1], "#")
		x := &exchange{op: scriptOps[verb], hold: p.holds[w[0]], takeover: takeover}
		if takeover {
			x.op, x.cookie, x.hold = wire.OpRelease, number(cookie), nil
		}
		p.s.begin(x)
		p.open[w[0]] = x
		if x.op.Verb() == wire.PUT {
			p.saves[w[0]] = stamp{run: 7, session: 1, id: p.s.id, generation: x.generation, save: x.save}
		}
		return
	}
	x := p.open[w[0]]
	h, findings := p.s.end(x, p.answer(x, w[2]))
	p.holds[w[0]] = h
	for _, f := range findings {
		p.alarms = append(p.alarms, f.alarm)
	}
}

func number(s string) (n int64) {
	for _, c := range s {
		n = n*10 + int64(c-'0')
	}
	return n
}

func (p *script) answer(x *exchange, word string) *answer {
	a := &answer{sent: true}
	word, a.flags = strings.CutSuffix(word, "!")
	word, cookie, _ := strings.Cut(word, "#")
	a.cookie = number(cookie)
	resp := wire.Response{ContentLength: wire.Some(0)}
	switch {
	case word == "lost" || word == "unsent":
		a.cause, a.sent = CauseTransport, word == "lost"
		return a
	case word == "400":
		a.cause = CauseRefused
	case strings.HasPrefix(word, "item="):
		resp.ContentLength = wire.Some(200)
		a.size = 200
		a.stamp = p.saves[word[5:]]
		word = "200"
	}
	resp.Status = int(number(word))
	a.status, a.effect = resp.Status, resp.Effect(x.op)
	return a
}

// Scripts that begin with born have a session saved by V.
const born = "V put; V end 200; "

func TestTruth(t *testing.T) {
	tests := []struct {
		name, script string
		want         []Alarm
	}{
		{"saved and read", born + "A get; A end item=V", nil},
		{"never saved", "A get; A end 404", nil},
		{"lost", born + "A get; A end 404", []Alarm{AlarmLost}},
		{"lost once", born + "A get; A end 404; B acquire; B end 404; C head; C end 404", []Alarm{AlarmLost}},
		{"lost again after it was made anew", born + "A acquire; A end 404; A create; A end 200; A acquire; A end 404", []Alarm{AlarmLost, AlarmLost}},
		{"read while it is created", "V put; A get; A end 404; V end 200; B get; B end item=V", nil},
		{"read begun before it was created", "V put; A get; V end 200; A end 404", nil},
		{"creation unknown", "V put; V end lost; A get; A end 404; B get; B end item=V; C get; C end item=V", nil},
		{"creation unsent", "V put; V end unsent; A get; A end 404", nil},
		{"creation unsent, yet there", "V put; V end unsent; A get; A end item=V", []Alarm{AlarmPhantom}},

		{"update", born + "A acquire; A end item=V#2; A put; A end 200; B get; B end item=A", nil},
		{"stale", born + "A acquire; A end item=V#2; A put; A end 200; B get; B end item=V", []Alarm{AlarmStale}},
		{"lost update", born + "A acquire; A end item=V#2; A put; A end 200; B acquire; B end item=V#3", []Alarm{AlarmLostUpdate}},
		{"lost update said once", born + "A acquire; A end item=V#2; A put; A end 200; B acquire; B end item=V#3; B release; B end 200; C get; C end item=V", []Alarm{AlarmLostUpdate}},
		{"lost update comes back", born + "A acquire; A end item=V#2; A put; A end 200; B acquire; B end item=V#3; B release; B end 200; C get; C end item=A", []Alarm{AlarmLostUpdate, AlarmStale}},
		{"read begun before the save ended", born + "A acquire; A end item=V#2; A put; B get; A end 200; B end item=V", nil},
		{"read sees the save before its end, the next does not", born + "A acquire; A end item=V#2; A put; B get; B end item=A; A end 200; C get; C end item=V", []Alarm{AlarmStale}},
		{"two reads while a save goes on see new, then old", born + "A acquire; A end item=V#2; A put; B get; B end item=A; C get; C end item=V; A end 200; D get; D end item=A", nil},
		{"save unknown, seen or not", born + "A acquire; A end item=V#2; A put; A end lost; B get; B end item=V; C get; C end item=A", nil},
		{"save unknown, seen, then an older one", born + "A acquire; A end item=V#2; A put; A end lost; B acquire; B end item=A#3; B put; B end 200; C get; C end item=A", []Alarm{AlarmStale}},
		{"save unknown lands late", born + "A acquire; A end item=V#2; A put; A end lost; B acquire; B end item=V#3; B put; B end 200; C get; C end item=A", nil},
		{"save refused by 400 may land", born + "A acquire; A end item=V#2; A put; A end 400; B get; B end item=A; C get; C end item=A", nil},

		{"save refused to the holder", born + "A acquire; A end item=V#2; A put; A end 423#2", []Alarm{AlarmLostUpdate}},
		{"lock given away, shown by the refusal", born + "A acquire; A end item=V#2; A put; A end 423#3", []Alarm{AlarmTwoHolders}},
		{"release refused to the holder", born + "A acquire; A end item=V#2; A release; A end 423#3", []Alarm{AlarmTwoHolders}},
		{"removal refused to the holder", born + "A acquire; A end item=V#2; A delete; A end 423#3", []Alarm{AlarmTwoHolders}},
		{"two holders", born + "A acquire; A end item=V#2; B acquire; B end item=V#3", []Alarm{AlarmTwoHolders}},
		{"two holders, granted at once", born + "A acquire; B acquire; B end item=V#3; A end item=V#2", []Alarm{AlarmTwoHolders}},
		{"granted while the release goes on", born + "A acquire; A end item=V#2; A release; B acquire; B end item=V#3; A end 200", nil},
		{"granted after a lost release", born + "A acquire; A end item=V#2; A release; A end lost; B acquire; B end item=V#3", nil},
		{"taken over", born + "A acquire; A end item=V#2; B takeover#2; B end 200; C acquire; C end item=V#3; A put; A end 423#3", nil},
		{"late save after takeover is taken", born + "A acquire; A end item=V#2; B takeover#2; B end 200; C acquire; C end item=V#3; C put; C end 200; A put; A end 200; D get; D end item=A", nil},
		{"takeover shown to be refused, old holder saves", born + "A acquire; A end item=V#2; B takeover#2; A put; A end 200; B end 423#2; C get; C end item=A", nil},
		{"a late cookie opens the lock of another", born + "A acquire; A end item=V#2; A release; A end lost; B acquire; B end item=V#2; C acquire; C end item=V#3", nil},

		{"abandoned", born + "A acquire; A end item=V#2; A delete; A end 200; B get; B end 404", nil},
		{"abandoned and risen", born + "A acquire; A end item=V#2; A delete; A end 200; B get; B end item=V", []Alarm{AlarmPhantom}},
		{"abandoned, made anew, the old one risen", born + "A acquire; A end item=V#2; A delete; A end 200; B create; B end 200; C acquire; C end item=B#2; C put; C end 200; D get; D end item=V", []Alarm{AlarmPhantom}},
		{"read while it is abandoned", born + "A acquire; A end item=V#2; A delete; B get; C get; B end 404; A end 200; C end item=V", nil},
		{"removal unknown", born + "A acquire; A end item=V#2; A delete; A end lost; B get; B end item=V; C get; C end 404", nil},
		{"removal landed, session made anew, lost", born + "A acquire; A end item=V#2; A delete; A end lost; B acquire; B end 404; B create; B end 200; B acquire; B end item=B#2; B put; B end 200; C get; C end 404", []Alarm{AlarmLost}},
		{"removal finds nothing", born + "A acquire; A end item=V#2; A delete; A end 404", []Alarm{AlarmLost}},

		{"two create at once", "A create; B create; A end 200; B end 200; A acquire; A end item=B#2; B acquire; B end 423#2", nil},
		{"created over nothing, read before", "A create; B get; B end 404; A end 200; C get; C end 404", []Alarm{AlarmLost}},
		{"create-if-absent leaves what is there", born + "A create; A end 200; B get; B end item=V; C get; C end item=V", nil},
		{"create-if-absent overwrote, then did not", born + "A create; A end 200; B get; B end item=A; C get; C end item=V", []Alarm{AlarmStale}},
		{"lost with its server, then back", born + "A get; A end 404; B get; B end item=V", []Alarm{AlarmLost}},
		{"lost, made anew and saved, the old one back", born + "A acquire; A end 404; A create; A end 200; A acquire; A end item=A#2; B put; B end 200; C get; C end item=V", []Alarm{AlarmLost, AlarmStale}},

		{"announced once", "A create; A end 200; A acquire; A end item=A#2!", nil},
		{"announced twice", "A create; A end 200; A acquire; A end item=A#2!; B get; B end item=A!", []Alarm{AlarmFlags}},
		{"announced on a 423", "A create; A end 200; A get; A end 423#2!; B get; B end 423#2!", []Alarm{AlarmFlags}},
		{"announced though saved plainly", born + "A get; A end item=V!", []Alarm{AlarmFlags}},

		{"nobody wrote it", born + "A get; A end item=X", []Alarm{AlarmPhantom}},
		{"save answered 404", born + "A put; A end 404", []Alarm{AlarmBadAnswer}},
		{"release answered 503", born + "A acquire; A end item=V#2; A release; A end 503", []Alarm{AlarmBadAnswer}},
		{"head answered 423", born + "A head; A end 423", []Alarm{AlarmBadAnswer}},
		{"500 for no session", "A get; A end 500", []Alarm{AlarmBadAnswer}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newScript(t)
			p.saves["X"] = stamp{run: 7, session: 1, id: p.s.id, save: 99}
			for step := range strings.SplitSeq(tt.script, ";") {
				p.step(step)
			}
			if !slices.Equal(p.alarms, tt.want) {
				t.Errorf("alarms of %q = %v; want %v", tt.script, p.alarms, tt.want)
			}
		})
	}
}

func TestTruthForgets(t *testing.T) {
	p := newScript(t)
	for step := range strings.SplitSeq(born, ";") {
		if strings.TrimSpace(step) != "" {
			p.step(step)
		}
	}
	last := "V"
	for range 1000 {
		p.step("A acquire")
		p.step("A end item=" + last + "#2")
		p.step("A put")
		p.step("A end 200")
		last = "A"
	}
	if n := len(p.s.saves); n > 2 || len(p.s.holds) > 0 || len(p.s.exchanges) > 0 {
		t.Errorf("after 1000 updates %d saves, %d holds, %d exchanges are kept; want 2 at most, 0, 0", n, len(p.s.holds), len(p.s.exchanges))
	}
	if p.alarms != nil {
		t.Errorf("alarms = %v; want none", p.alarms)
	}
}
