package stateserver

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/wire"
)

func newStore(maxMemory int64) *store {
	st := new(store)
	st.init(maxMemory)
	return st
}

// doText carries out a request given as text at a time of the test's choice.
func doText(t testing.TB, st *store, now time.Duration, text string) (*wire.Response, string) {
	t.Helper()
	var req wire.Request
	n, err := wire.ParseRequest([]byte(text), &req)
	if err != nil {
		t.Fatalf("ParseRequest(%q): %v", text, err)
	}
	var resp wire.Response
	body := st.do(now, &req, wire.AppendDecoded(nil, req.Target), []byte(text[n:]), &resp)
	return &resp, string(body)
}

// describe puts an answer into one line.
func describe(resp *wire.Response, body string) string {
	parts := []string{fmt.Sprint(resp.Status)}
	for _, h := range []struct {
		name string
		v    wire.Int
	}{{"action", resp.ActionFlags}, {"age", resp.LockAge}, {"cookie", resp.LockCookie}, {"timeout", resp.Timeout}} {
		if h.v.Set {
			parts = append(parts, fmt.Sprintf("%s=%d", h.name, h.v.N))
		}
	}
	if resp.LockDate.Set != resp.LockAge.Set {
		parts = append(parts, "LockDate without LockAge or the reverse")
	}
	if body != "" {
		parts = append(parts, body)
	}
	return strings.Join(parts, " ")
}

// state puts what the store holds for testKey into one line.
func state(st *store) string {
	it := st.shard([]byte(testKey)).items[testKey]
	if it == nil {
		return "absent"
	}
	lock := "unlocked"
	if it.locked {
		lock = "locked"
	}
	flag := ""
	if it.uninit {
		flag = " F"
	}
	return fmt.Sprintf("%s K=%d T=%d %s%s until %v", lock, it.cookie, it.timeout, it.body, flag, it.expires)
}

// TestTable goes through protocol.md section 7 row by row. Items are made at
// 0 min with T = 20, and asked for at 5 min. The function is long because the
// table is.
func TestTable(t *testing.T) {
	const (
		until20 = " until 20m0s"
		until25 = " until 25m0s"
		until35 = " until 35m0s"
	)
	put, acquire := send{body: "old"}, send{exclusive: "acquire"}
	before := map[string][]string{
		"absent":   nil,
		"unlocked": {put.text("PUT", testTarget)}, // K = 1
		"flagged":  {send{body: "old", flags: 1}.text("PUT", testTarget)},
		"locked":   {put.text("PUT", testTarget), acquire.text("GET", testTarget)}, // K = 2
	}
	const (
		unlocked = "unlocked K=1 T=20 old" + until25
		flagged  = "unlocked K=1 T=20 old F" + until25
		locked   = "locked K=2 T=20 old" + until25
		busy     = "age=300 cookie=2"
	)
	get := func(exclusive string, cookie any) send { return send{exclusive: exclusive, cookie: cookie} }
	tests := []struct {
		name      string
		from      string
		verb      string
		send      send
		want      string
		wantState string
	}{
		{"get absent", "absent", "GET", send{}, "404", "absent"},
		{"get unlocked", "unlocked", "GET", send{}, "200 timeout=20 old", unlocked},
		{"get with a cookie nobody needs", "unlocked", "GET", send{cookie: "x"}, "200 timeout=20 old", unlocked},
		{"get flagged", "flagged", "GET", send{}, "200 action=1 timeout=20 old", unlocked},
		{"get locked", "locked", "GET", send{}, "423 " + busy, locked},

		{"acquire absent", "absent", "GET", acquire, "404", "absent"},
		{"acquire unlocked", "unlocked", "GET", acquire, "200 cookie=2 timeout=20 old", "locked K=2 T=20 old" + until25},
		{"acquire flagged", "flagged", "GET", acquire, "200 action=1 cookie=2 timeout=20 old", "locked K=2 T=20 old" + until25},
		{"acquire locked", "locked", "GET", acquire, "423 " + busy, locked},
		{"acquire again by the holder", "locked", "GET", get("acquire", 2), "423 " + busy, locked},

		{"release absent", "absent", "GET", get("release", 2), "404", "absent"},
		{"release absent, no cookie", "absent", "GET", get("release", nil), "404", "absent"},
		{"release absent, bad cookie", "absent", "GET", get("release", -3), "404", "absent"},
		{"release unlocked", "unlocked", "GET", get("release", 55), "200", unlocked},
		{"release flagged", "flagged", "GET", get("release", 55), "200 action=1", unlocked},
		{"release locked", "locked", "GET", get("release", 2), "200", "unlocked K=2 T=20 old" + until25},
		{"release locked, other cookie", "locked", "GET", get("release", 9), "423 " + busy, locked},
		{"release unlocked, no cookie", "unlocked", "GET", get("release", nil), "400", unlocked},
		{"release flagged, no cookie", "flagged", "GET", get("release", nil), "400 action=1", unlocked},
		{"release locked, no cookie", "locked", "GET", get("release", nil), "400", locked},
		{"release locked, negative cookie", "locked", "GET", get("release", -1), "400", locked},
		{"release unlocked, negative cookie", "unlocked", "GET", get("release", -1), "400", unlocked},

		{"set absent", "absent", "PUT", send{body: "new", cookie: 77}, "200", "unlocked K=1 T=20 new" + until25},
		{"set absent, bad cookie", "absent", "PUT", send{body: "new", cookie: -3}, "200", "unlocked K=1 T=20 new" + until25},
		{"set absent, bit 0", "absent", "PUT", send{body: "new", flags: 1}, "200", "unlocked K=1 T=20 new F" + until25},
		{"set absent, bits 0 and 1", "absent", "PUT", send{body: "new", flags: 3}, "200", "unlocked K=1 T=20 new F" + until25},
		{"set absent, bit 1", "absent", "PUT", send{body: "new", flags: 2}, "200", "unlocked K=1 T=20 new" + until25},
		{"set absent, other timeout", "absent", "PUT", send{body: "new", timeout: 30}, "200", "unlocked K=1 T=30 new" + until35},
		{"set absent, timeout -1", "absent", "PUT", send{body: "new", timeout: -1}, "200", "unlocked K=1 T=20 new" + until25},

		{"set unlocked", "unlocked", "PUT", send{body: "new", cookie: 999}, "200", "unlocked K=1 T=20 new" + until25},
		{"set unlocked, no cookie", "unlocked", "PUT", send{body: "new"}, "200", "unlocked K=1 T=20 new" + until25},
		{"set flagged", "flagged", "PUT", send{body: "new", cookie: 0}, "200", "unlocked K=1 T=20 new F" + until25},
		{"set locked", "locked", "PUT", send{body: "new", cookie: 2, timeout: 20}, "200", "unlocked K=2 T=20 new" + until25},
		{"set locked, other cookie", "locked", "PUT", send{body: "new", cookie: 1}, "423 " + busy, locked},
		{"set locked, no cookie", "locked", "PUT", send{body: "new"}, "423 " + busy, locked},

		{"set unlocked, other timeout", "unlocked", "PUT", send{body: "new", timeout: 30, cookie: 999}, "200", "unlocked K=999 T=30 new" + until35},
		{"set unlocked, shorter timeout", "unlocked", "PUT", send{body: "new", timeout: 15, cookie: 0}, "200", "unlocked K=0 T=15 new" + until20},
		{"set unlocked, other timeout, no cookie", "unlocked", "PUT", send{body: "new", timeout: 30}, "200", "unlocked K=-1 T=30 new" + until35},
		{"set unlocked, timeout 0", "unlocked", "PUT", send{body: "new", timeout: 0, cookie: 1}, "200", "unlocked K=1 T=0 new until " + neverExpires.String()},
		{"set flagged, other timeout", "flagged", "PUT", send{body: "new", timeout: 30, cookie: 0}, "200", "unlocked K=0 T=30 new" + until35},
		{"set locked, other timeout", "locked", "PUT", send{body: "new", timeout: 30, cookie: 2}, "200", "unlocked K=2 T=30 new" + until35},
		{"set locked, other timeout and cookie", "locked", "PUT", send{body: "new", timeout: 30, cookie: 1}, "423 " + busy, locked},

		{"set unlocked, bit 0", "unlocked", "PUT", send{body: "new", timeout: 30, flags: 1, cookie: 1}, "200", unlocked},
		{"set flagged, bit 0", "flagged", "PUT", send{body: "new", timeout: 30, flags: 1}, "200", flagged},
		{"set locked, bit 0, own cookie", "locked", "PUT", send{body: "new", flags: 1, cookie: 2}, "200", locked},
		{"set locked, bit 0, other cookie", "locked", "PUT", send{body: "new", flags: 1, cookie: 0}, "200", locked},
		{"set locked, bit 0, bad cookie", "locked", "PUT", send{body: "new", flags: 1, cookie: -3}, "200", locked},

		{"set unlocked, negative cookie", "unlocked", "PUT", send{body: "new", cookie: -3}, "400", unlocked},
		{"set unlocked, unreadable cookie", "unlocked", "PUT", send{body: "new", cookie: "abc"}, "400", unlocked},
		{"set locked, negative cookie", "locked", "PUT", send{body: "new", cookie: -1}, "400", locked},

		{"set absent, timeout too big", "absent", "PUT", send{body: "new", timeout: 525601}, "400", "absent"},
		{"set absent, timeout -2", "absent", "PUT", send{body: "new", timeout: -2}, "400", "absent"},
		{"set unlocked, timeout too big", "unlocked", "PUT", send{body: "new", timeout: 525601}, "400", "unlocked K=1 T=20 old" + until20},
		{"set locked, timeout too big", "locked", "PUT", send{body: "new", timeout: 525601, cookie: 2}, "400", "locked K=2 T=20 old" + until20},
		{"set unlocked, timeout -2", "unlocked", "PUT", send{body: "new", timeout: -2}, "400", "unlocked K=1 T=20 old" + until20},
		{"set unlocked, unreadable flags", "unlocked", "PUT", send{body: "new", flags: "x"}, "400", "unlocked K=1 T=20 old" + until20},
		{"set absent, empty body", "absent", "PUT", send{}, "400", "absent"},
		{"set unlocked, empty body", "unlocked", "PUT", send{}, "400", "unlocked K=1 T=20 old" + until20},

		{"remove absent", "absent", "DELETE", send{cookie: 2}, "404", "absent"},
		{"remove absent, bad cookie", "absent", "DELETE", send{cookie: -3}, "404", "absent"},
		{"remove unlocked", "unlocked", "DELETE", send{cookie: 999}, "200", "absent"},
		{"remove unlocked, no cookie", "unlocked", "DELETE", send{}, "200", "absent"},
		{"remove locked", "locked", "DELETE", send{cookie: 2}, "200", "absent"},
		{"remove locked, other cookie", "locked", "DELETE", send{cookie: 1}, "423 " + busy, locked},
		{"remove locked, no cookie", "locked", "DELETE", send{}, "423 " + busy, locked},
		{"remove unlocked, negative cookie", "unlocked", "DELETE", send{cookie: -3}, "400", unlocked},
		{"remove locked, negative cookie", "locked", "DELETE", send{cookie: -3}, "400", locked},

		{"reset absent", "absent", "HEAD", send{}, "404", "absent"},
		{"reset unlocked", "unlocked", "HEAD", send{}, "200", unlocked},
		{"reset flagged", "flagged", "HEAD", send{}, "200", flagged},
		{"reset locked", "locked", "HEAD", send{}, "200", locked},

		{"unknown exclusive", "flagged", "GET", get("transfer", nil), "400", "unlocked K=1 T=20 old F" + until20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := newStore(0)
			for _, text := range before[tt.from] {
				doText(t, st, 0, text)
			}
			got := describe(doText(t, st, 5*time.Minute, tt.send.text(tt.verb, testTarget)))
			if got != tt.want {
				t.Errorf("%s of %s = %q; want %q", tt.verb, tt.from, got, tt.want)
			}
			if got := state(st); got != tt.wantState {
				t.Errorf("%s of %s leaves %q; want %q", tt.verb, tt.from, got, tt.wantState)
			}
		})
	}
}

func TestLockCookieWraps(t *testing.T) {
	st := newStore(0)
	doText(t, st, 0, send{body: "b"}.text("PUT", testTarget))
	doText(t, st, 0, send{body: "b", timeout: 30, cookie: wire.MaxLockCookie}.text("PUT", testTarget))
	got := describe(doText(t, st, 0, send{exclusive: "acquire"}.text("GET", testTarget)))
	if want := "200 cookie=2 timeout=30 b"; got != want {
		t.Errorf("acquire after the greatest cookie = %q; want %q", got, want)
	}
}

func TestKeys(t *testing.T) {
	tests := []struct {
		name   string
		target string
		want   int // status of a GET after a PUT to testTarget
	}{
		{"same bytes", testTarget, 200},
		{"upper-case hex", strings.ReplaceAll(testTarget, "%2f", "%2F"), 200},
		{"escaped brackets", strings.NewReplacer("(", "%28", ")", "%29").Replace(testTarget), 200},
		{"not escaped", testKey, 200},
		{"two raw slashes", "/" + testKey, 200},
		{"slash added by an intermediary", "/" + testTarget, 404},
		{"other case", strings.ToLower(testTarget), 404},
		{"encoded twice", strings.ReplaceAll(testTarget, "%2f", "%252f"), 404},
	}
	st := newStore(0)
	doText(t, st, 0, send{body: "b"}.text("PUT", testTarget))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if resp, _ := doText(t, st, 0, send{}.text("GET", tt.target)); resp.Status != tt.want {
				t.Errorf("GET %s = %d; want %d", tt.target, resp.Status, tt.want)
			}
		})
	}
}

func TestTicks(t *testing.T) {
	east := time.FixedZone("two hours east", 2*60*60)
	tests := []struct {
		name string
		t    time.Time
		want int64
	}{
		{"year one", time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), 0},
		{"unix epoch", time.Unix(0, 0).UTC(), 621355968000000000},
		{"local time counts", time.Unix(0, 0).In(east), 621355968000000000 + 2*36e9},
		{"100 ns steps", time.Date(1, 1, 1, 0, 0, 1, 1999, time.UTC), 10000019},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := ticks(tt.t); got != tt.want {
				t.Errorf("ticks(%v) = %d; want %d", tt.t, got, tt.want)
			}
		})
	}
}

// Age makes locks and unused sessions older, and lock dates fit the ages.
func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{}
		s.once.Do(s.init)
		ask := func(verb, target string, what send) *wire.Response {
			resp, _ := doText(t, &s.store, s.store.now(), what.text(verb, target))
			return resp
		}
		acquire := send{exclusive: "acquire"}
		s.Age(time.Hour)
		ask("PUT", "short", send{body: "b", timeout: 2})
		ask("PUT", "long", send{body: "b", timeout: 20})
		ask("GET", "long", acquire)
		age := time.Duration(0)
		for _, more := range []time.Duration{0, time.Minute, 90 * time.Second, -time.Minute} {
			s.Age(more)
			age += max(more, 0)
			resp := ask("GET", "long", acquire)
			date := ticks(time.Now().Add(-age))
			if resp.Status != wire.StatusLocked || resp.LockAge.N != int64(age.Seconds()) || resp.LockDate.N != date {
				t.Errorf("aged by %v in all: %s, LockDate %d; want 423, that age, LockDate %d", age, describe(resp, ""), resp.LockDate.N, date)
			}
		}
		if resp := ask("HEAD", "short", send{}); resp.Status != wire.StatusNotFound {
			t.Errorf("a session of two minutes, aged by %v: %s; want 404", age, describe(resp, ""))
		}
	})
}
