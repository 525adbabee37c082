package stateserver

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is protocol.md section 7 as directly as it can be written, for one key.
type model struct {
	present, locked, flag bool
	body                  string
	minutes, k            int
	expires, lockedAt     time.Duration
}

// access is the look-up that every operation but a refused PUT begins with.
func (m *model) access(now time.Duration) bool {
	if m.present && m.minutes > 0 && now >= m.expires {
		*m = model{}
	}
	if !m.present {
		return false
	}
	if e := now + time.Duration(m.minutes)*time.Minute; e-m.expires >= time.Second {
		m.expires = e
	}
	return true
}

func (m *model) busy(now time.Duration) string {
	return fmt.Sprintf(" age=%d cookie=%d", (now-m.lockedAt)/time.Second, m.k)
}

// takeFlag returns what F adds to an answer, behind the status.
func (m *model) takeFlag() string {
	if !m.flag {
		return ""
	}
	m.flag = false
	return " action=1"
}

func (m *model) get(now time.Duration, s send) string {
	if !m.access(now) {
		return "404"
	}
	action := m.takeFlag()
	cookie, sent := s.cookie.(int)
	switch {
	case s.exclusive == "release" && (!sent || cookie < 0):
		return "400" + action
	case s.exclusive == "release" && (!m.locked || cookie == m.k):
		m.locked = false
		return "200" + action
	case m.locked:
		return "423" + action + m.busy(now)
	case s.exclusive == "acquire":
		m.locked, m.lockedAt = true, now
		m.k++
		return fmt.Sprintf("200%s cookie=%d timeout=%d %s", action, m.k, m.minutes, m.body)
	}
	return fmt.Sprintf("200%s timeout=%d %s", action, m.minutes, m.body)
}

func (m *model) put(now time.Duration, s send) string {
	minutes, sent := s.timeout.(int)
	if !sent || minutes == -1 {
		minutes = 20
	}
	if minutes < 0 || minutes > 525600 {
		return "400"
	}
	flag := s.flags == 1 || s.flags == 3
	cookie, sentCookie := s.cookie.(int)
	switch present := m.access(now); {
	case !present:
		*m = model{present: true, flag: flag, k: 1}
	case flag:
		return "200"
	case sentCookie && cookie < 0:
		return "400"
	case m.locked && (!sentCookie || cookie != m.k):
		return "423" + m.busy(now)
	case minutes != m.minutes:
		*m = model{present: true, k: -1}
		if sentCookie {
			m.k = cookie
		}
	default:
		m.body, m.locked = s.body, false
		return "200"
	}
	m.body, m.minutes = s.body, minutes
	m.expires = now + time.Duration(minutes)*time.Minute
	return "200"
}

func (m *model) remove(now time.Duration, s send) string {
	cookie, sent := s.cookie.(int)
	switch {
	case !m.access(now):
		return "404"
	case sent && cookie < 0:
		return "400"
	case m.locked && (!sent || cookie != m.k):
		return "423" + m.busy(now)
	}
	*m = model{}
	return "200"
}

func (m *model) head(now time.Duration) string {
	if !m.access(now) {
		return "404"
	}
	return "200"
}

func (m *model) do(now time.Duration, verb string, s send) string {
	switch verb {
	case "GET":
		return m.get(now, s)
	case "PUT":
		return m.put(now, s)
	case "DELETE":
		return m.remove(now, s)
	}
	return m.head(now)
}

// TestModel plays random requests on a few sessions, with time passing and
// sweeps between them, and compares every answer with the model's.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st := newStore(0)
		models := make([]model, 3)
		var now, swept time.Duration
		number := rapid.SampledFrom([]any{nil, nil, -3, -1, 0, 1, 2, 3, 4})
		minutes := rapid.SampledFrom([]any{nil, -2, -1, 0, 1, 1, 2, 20, 50, 525600, 525601})
		pause := rapid.SampledFrom([]time.Duration{0, 0, 0, 300e6, 999e6, 1e9, 7e9, 20e9, 45e9, 60e9, 20 * time.Minute, time.Hour})
		for range rapid.IntRange(1, 60).Draw(rt, "requests") {
			now += pause.Draw(rt, "pause")
			if rapid.Bool().Draw(rt, "sweep") {
				st.sweep(now)
				swept = now
			}
			i := rapid.IntRange(0, len(models)-1).Draw(rt, "session")
			verb := rapid.SampledFrom([]string{"GET", "GET", "GET", "PUT", "PUT", "DELETE", "HEAD"}).Draw(rt, "verb")
			s := send{cookie: number.Draw(rt, "cookie")}
			switch verb {
			case "GET":
				s.exclusive = rapid.SampledFrom([]string{"", "acquire", "acquire", "release"}).Draw(rt, "exclusive")
			case "PUT":
				s.timeout = minutes.Draw(rt, "timeout")
				s.flags = rapid.SampledFrom([]any{nil, 0, 0, 1, 2, 3}).Draw(rt, "flags")
				s.body = rapid.StringMatching("[a-z]{1,5}").Draw(rt, "body")
			}
			want := models[i].do(now, verb, s)
			got := describe(doText(t, st, now, s.text(verb, fmt.Sprint(testTarget, i))))
			if got != want {
				rt.Fatalf("%s %+v on session %d at %v = %q; want %q", verb, s, i, now, got, want)
			}
		}
		if err := st.check(swept); err != nil {
			rt.Fatal(err)
		}
	})
}
