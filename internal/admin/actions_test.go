package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"stateproxy/health"
	"stateproxy/proxy"
)

// allActions calls do with what is asked for.
func allActions(do func(string) error) Actions {
	one := func(name string) func(context.Context, string) error {
		return func(_ context.Context, what string) error { return do(name + " " + what) }
	}
	return Actions{
		Reload:  func(context.Context) error { return do("reload") },
		Drain:   one("drain"),
		Undrain: one("undrain"),
		Weight: func(_ context.Context, name string, n int) error {
			return do(fmt.Sprintf("weight %s %d", name, n))
		},
		Eject:       func(_ context.Context, name, reason string) error { return do("eject " + name + ": " + reason) },
		Readmit:     one("readmit"),
		CloseWindow: one("close-window"),
		LogLevel:    one("log-level"),
		Lock: func(_ context.Context, session uint64) (proxy.Lock, error) {
			return proxy.Lock{App: "/LM/W3SVC/2/ROOT", Backend: "s1", Held: true, Cookie: 5, Age: 200 * time.Second}, do(fmt.Sprintf("lock %x", session))
		},
		Unlock: func(_ context.Context, session uint64, cookie int64) error {
			return do(fmt.Sprintf("unlock %x %d", session, cookie))
		},
	}
}

// acted returns an Admin with the token "secret" and the list of what was done.
func acted() (*Admin, *[]string) {
	var list []string
	a := showing(farm())
	a.Token = func() string { return "secret" }
	a.Actions = allActions(func(what string) error {
		list = append(list, what)
		return nil
	})
	return a, &list
}

func TestActions(t *testing.T) {
	tests := []struct {
		action, body string
		does         string
	}{
		{"reload", ``, "reload"},
		{"reload", `{}`, "reload"},
		{"drain", `{"backend":"s1"}`, "drain s1"},
		{"undrain", ` {"backend":"s1"} `, "undrain s1"},
		{"weight", `{"backend":"s1","weight":1000}`, "weight s1 1000"},
		{"eject", `{"backend":"s1"}`, "eject s1: by an operator"},
		{"eject", `{"backend":"s1","reason":"patch day"}`, "eject s1: patch day"},
		{"readmit", `{"backend":"s1"}`, "readmit s1"},
		{"close-window", `{"pool":"shop"}`, "close-window shop"},
		{"log-level", `{"level":"debug"}`, "log-level debug"},
		{"unlock", `{"session":"0000000000000abc","lock":0}`, "unlock abc 0"},
	}
	for _, tt := range tests {
		t.Run(tt.action+tt.body, func(t *testing.T) {
			a, list := acted()
			w := send(a.Handler(), "POST", "/api/v1/actions/"+tt.action, tt.body, "secret")
			if w.Code != 200 || len(*list) != 1 || (*list)[0] != tt.does {
				t.Errorf("POST %s %s = %d, done %q; want 200, %q", tt.action, tt.body, w.Code, *list, tt.does)
			}
			events := a.feed.recent()
			if len(events) != 1 || events[0].Kind != ActionDone || !strings.HasPrefix(events[0].Text, tt.action) || !strings.Contains(events[0].Text, "192.0.2.1") {
				t.Errorf("events = %+v; want one of %s with the client's address", events, tt.action)
			}
		})
	}
}

func TestActionsRefuseBodies(t *testing.T) {
	tests := []struct {
		name, action, body string
		status             int
		says               string
	}{
		{"nothing", "drain", ``, 400, "backend: want one"},
		{"a field missing", "weight", `{"backend":"s1"}`, 400, "weight: want one"},
		{"an unknown field", "drain", `{"backend":"s1","force":true}`, 400, `unknown field \"force\"`},
		{"another action's field", "drain", `{"backend":"s1","weight":2}`, 400, "weight: drain takes none"},
		{"a wrong type", "drain", `{"backend":7}`, 400, "backend: got number"},
		{"a list", "drain", `["s1"]`, 400, "want a JSON object, got array"},
		{"null for a field", "drain", `{"backend":null}`, 400, "backend: want one"},
		{"cut off", "drain", `{"backend":"s1"`, 400, "breaks off"},
		{"two objects", "drain", `{"backend":"s1"}{}`, 400, "nothing after it"},
		{"a form", "drain", `backend=s1`, 400, "invalid character"},
		{"weight 0", "weight", `{"backend":"s1","weight":0}`, 400, "want 1..1000, got 0"},
		{"weight 1001", "weight", `{"backend":"s1","weight":1001}`, 400, "want 1..1000, got 1001"},
		{"half a weight", "weight", `{"backend":"s1","weight":1.5}`, 400, "weight: got number 1.5"},
		{"no session", "unlock", `{"lock":1}`, 400, "session: want one"},
		{"no lock", "unlock", `{"session":"abc"}`, 400, "lock: want one"},
		{"a session ID for a hash", "unlock", `{"session":"bpr4mimb2vjnvtn2jc4yp3uo","lock":1}`, 400, "session: want the hash of one, up"},
		{"a negative lock", "unlock", `{"session":"abc","lock":-1}`, 400, "lock: want 0..2147483647, got -1"},
		{"a long lock", "unlock", `{"session":"abc","lock":2147483648}`, 400, "lock: want 0..2147483647, got 2147483648"},
		{"an unknown level", "log-level", `{"level":"loud"}`, 400, "level: want one of"},
		{"a long reason", "eject", `{"backend":"s1","reason":"` + strings.Repeat("x", 201) + `"}`, 400, "reason: want at most 200 bytes"},
		{"a huge body", "drain", `{"backend":"` + strings.Repeat("x", maxActionBody) + `"}`, 413, "at most 4096 bytes"},
		{"deep", "drain", strings.Repeat("[", 4000), 400, "body"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, list := acted()
			w := send(a.Handler(), "POST", "/api/v1/actions/"+tt.action, tt.body, "secret")
			if strings.Contains(w.Body.String(), "bpr4mimb2vjnvtn2jc4yp3uo") {
				t.Errorf("POST %s = %s, which holds what may be a session ID", tt.action, w.Body)
			}
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.says) || len(*list) != 0 {
				t.Errorf("POST %s %.60s = %d %s, done %q; want %d, %q, nothing", tt.action, tt.body, w.Code, w.Body, *list, tt.status, tt.says)
			}
		})
	}
}

func TestActionErrors(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
		code   string
	}{
		{"an unknown name", fmt.Errorf("drain %q: %w", "s9", health.ErrUnknown), 404, "unknown_name"},
		{"an unknown session", fmt.Errorf("%w", proxy.ErrUnknownSession), 404, "unknown_name"},
		{"anything else", errors.New("no other backend is in service"), 409, "refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := acted()
			a.Actions.Drain = func(context.Context, string) error { return tt.err }
			w := send(a.Handler(), "POST", "/api/v1/actions/drain", `{"backend":"s9"}`, "secret")
			var p problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatal(err)
			}
			if w.Code != tt.status || p != (problem{tt.err.Error(), tt.code}) {
				t.Errorf("POST drain = %d %+v; want %d %s", w.Code, p, tt.status, tt.code)
			}
			if e := a.feed.recent(); len(e) != 1 || e[0].Kind != ActionFailed || !strings.Contains(e[0].Text, tt.err.Error()) {
				t.Errorf("events = %+v; want one that tells of the failure", e)
			}
		})
	}
}

func TestActionsNotAvailable(t *testing.T) {
	a := showing(farm())
	a.Token = func() string { return "secret" }
	for _, x := range actions {
		body := map[string]string{"backend": `{"backend":"s1"}`, "pool": `{"pool":"shop"}`, "level": `{"level":"info"}`}[append(x.needs, "")[0]]
		switch x.name {
		case "weight":
			body = `{"backend":"s1","weight":1}`
		case "unlock":
			body = `{"session":"abc","lock":1}`
		}
		if w := send(a.Handler(), "POST", "/api/v1/actions/"+x.name, body, "secret"); w.Code != http.StatusNotImplemented {
			t.Errorf("POST %s without a func = %d %s; want 501", x.name, w.Code, w.Body)
		}
	}
	if got := a.Actions.available(); len(got) != 0 {
		t.Errorf("available() = %q; want none", got)
	}
	all := allActions(func(string) error { return nil })
	if got := all.available(); len(got) != len(actions) {
		t.Errorf("available() = %q; want all %d", got, len(actions))
	}
}

func TestActionsNeedJSON(t *testing.T) {
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json-patch+json"} {
		t.Run(kind, func(t *testing.T) {
			a, list := acted()
			r := onLoopback(httptest.NewRequest("POST", "http://localhost/api/v1/actions/reload", strings.NewReader("{}")))
			r.Header.Set("Content-Type", kind)
			r.Header.Set("Authorization", "Bearer secret")
			w := httptest.NewRecorder()
			a.Handler().ServeHTTP(w, r)
			if w.Code != http.StatusUnsupportedMediaType || len(*list) != 0 {
				t.Errorf("POST as %q = %d, done %q; want 415, nothing", kind, w.Code, *list)
			}
		})
	}
}

// FuzzOrder holds that whatever is sent, an action is called only with values in
// their ranges, and nothing but a clear answer comes back.
func FuzzOrder(f *testing.F) {
	for _, seed := range []string{`{"backend":"s1","weight":7}`, `{"backend":"s1"}`, `{"level":"info"}`, `{"pool":"p"}`, ``, `[`, `{"weight":1e9}`, "{\"backend\":\"\xff\"}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, x := range actions {
			a, list := acted()
			w := send(a.serveAction(x), "POST", "/api/v1/actions/"+x.name, body, "secret")
			if !json.Valid(w.Body.Bytes()) || w.Code >= 500 || (w.Code == 200) != (len(*list) == 1) {
				t.Errorf("POST %s %q = %d %s, done %q", x.name, body, w.Code, w.Body, *list)
			}
			var o order
			if x.name == "weight" && w.Code == 200 {
				if err := json.NewDecoder(bytes.NewReader([]byte(body))).Decode(&o); err != nil || *o.Weight < 1 || *o.Weight > maxWeight {
					t.Errorf("POST weight %q was done", body)
				}
			}
		}
	})
}
