package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"stateproxy/proxy"
)

func TestLockOfSession(t *testing.T) {
	tests := []struct {
		name, body, token string
		err               error
		status            int
		says              string
	}{
		{"locked", `{"session":"0000000000000abc"}`, "secret", nil, 200,
			`"session": "0000000000000abc", "app": "/LM/W3SVC/2/ROOT", "backend": "s1", "locked": true, "age_seconds": 200, "lock": 5`},
		{"unknown", `{"session":"abc"}`, "secret", fmt.Errorf("%w: never seen", proxy.ErrUnknownSession), 404, "never seen"},
		{"its backend can't be asked", `{"session":"abc"}`, "secret", errors.New("dial"), 409, "dial"},
		{"no session", `{}`, "secret", nil, 400, "session: want one"},
		{"too much", `{"session":"abc","lock":1}`, "secret", nil, 400, "lock: lock takes none"},
		{"no token", `{"session":"abc"}`, "", nil, 401, "needs the token"},
		{"a wrong token", `{"session":"abc"}`, "secre", nil, 401, "not the right one"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, list := acted()
			if found := a.Actions.Lock; tt.err != nil {
				a.Actions.Lock = func(ctx context.Context, session uint64) (proxy.Lock, error) {
					l, _ := found(ctx, session)
					return l, tt.err
				}
			}
			w := send(a.Handler(), "POST", "/api/v1/lock", tt.body, tt.token)
			answer := strings.Join(strings.Fields(w.Body.String()), " ")
			if w.Code != tt.status || !strings.Contains(answer, tt.says) {
				t.Errorf("POST /api/v1/lock %s = %d %s; want %d with %s", tt.body, w.Code, answer, tt.status, tt.says)
			}
			if asked := len(*list) == 1; asked != (w.Code == 200 || tt.err != nil) {
				t.Errorf("asked for %q", *list)
			}
		})
	}
	a, _ := acted()
	a.Token = nil
	if w := send(a.Handler(), "POST", "/api/v1/lock", `{"session":"abc"}`, "secret"); w.Code != 403 {
		t.Errorf("POST /api/v1/lock where no token is configured = %d; want 403", w.Code)
	}
}

// Acted hears of each action with who asked for it, whatever became of it.
func TestActed(t *testing.T) {
	a, _ := acted()
	var heard []string
	a.Acted = func(what, from string, err error) { heard = append(heard, fmt.Sprint(what, " from ", from, ": ", err)) }
	send(a.Handler(), "POST", "/api/v1/actions/unlock", `{"session":"0000000000000abc","lock":5}`, "secret")
	a.Actions.Unlock = func(context.Context, uint64, int64) error { return proxy.ErrNotLocked }
	send(a.Handler(), "POST", "/api/v1/actions/unlock", `{"session":"abc","lock":5}`, "secret")
	send(a.Handler(), "POST", "/api/v1/actions/unlock", `{"session":"abc","lock":5}`, "wrong")
	want := "unlock 0000000000000abc (lock 5) from 192.0.2.1: <nil>|unlock abc (lock 5) from 192.0.2.1: the session is not locked"
	if got := strings.Join(heard, "|"); got != want {
		t.Errorf("heard %s; want %s", got, want)
	}
}
