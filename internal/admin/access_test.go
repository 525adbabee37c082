package admin

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestToken(t *testing.T) {
	none := func() string { return "" }
	secret := func() string { return "secret" }
	const reload, status = "POST /api/v1/actions/reload", "GET /api/v1/status"
	tests := []struct {
		name    string
		token   func() string
		request string
		at      string // address that it comes in on
		header  string
		want    int
		code    string
	}{
		{"acting without one configured", nil, reload, "127.0.0.1:1", "Bearer secret", 403, "no_token_configured"},
		{"acting with an empty one configured", none, reload, "127.0.0.1:1", "Bearer ", 403, "no_token_configured"},
		{"acting without", secret, reload, "127.0.0.1:1", "", 401, "token_needed"},
		{"acting with a wrong one", secret, reload, "127.0.0.1:1", "Bearer Secret", 401, "wrong_token"},
		{"acting with the beginning", secret, reload, "127.0.0.1:1", "Bearer secre", 401, "wrong_token"},
		{"acting with an empty one", secret, reload, "127.0.0.1:1", "Bearer ", 401, "wrong_token"},
		{"acting as Basic", secret, reload, "127.0.0.1:1", "Basic secret", 401, "token_needed"},
		{"acting with it", secret, reload, "127.0.0.1:1", "Bearer secret", 200, ""},
		{"acting from outside with it", secret, reload, "10.0.0.7:1", "Bearer secret", 200, ""},
		{"asking whether it is right", secret, "POST /api/v1/token", "127.0.0.1:1", "Bearer secret", 200, ""},
		{"asking whether it is wrong", secret, "POST /api/v1/token", "127.0.0.1:1", "Bearer x", 401, "wrong_token"},
		{"reading on loopback", nil, status, "127.0.0.1:1", "", 200, ""},
		{"reading on IPv6 loopback", nil, status, "[::1]:1", "", 200, ""},
		{"reading on mapped loopback", nil, status, "[::ffff:127.0.0.1]:1", "", 200, ""},
		{"reading from outside, none configured", nil, status, "10.0.0.7:1", "", 403, "no_token_configured"},
		{"reading from outside without", secret, status, "10.0.0.7:1", "", 401, "token_needed"},
		{"reading from outside with a wrong one", secret, status, "10.0.0.7:1", "Bearer x", 401, "wrong_token"},
		{"reading from outside with it", secret, status, "10.0.0.7:1", "Bearer secret", 200, ""},
		{"metrics from outside without", secret, "GET /metrics", "10.0.0.7:1", "", 401, "token_needed"},
		{"stream from outside without", secret, "GET /api/v1/stream", "10.0.0.7:1", "", 401, "token_needed"},
		{"tail from outside without", secret, "GET /api/v1/tail", "10.0.0.7:1", "", 401, "token_needed"},
		{"config from outside without", secret, "GET /api/v1/config", "10.0.0.7:1", "", 401, "token_needed"},
		{"health from outside", nil, "GET /healthz", "10.0.0.7:1", "", 200, ""},
		{"readiness from outside", nil, "GET /readyz", "10.0.0.7:1", "", 200, ""},
		{"the page from outside", nil, "GET /", "10.0.0.7:1", "", 200, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, list := acted()
			a.Token = tt.token
			method, path, _ := strings.Cut(tt.request, " ")
			r := cameInOn(httptest.NewRequest(method, "http://10.0.0.7:42480"+path, strings.NewReader("")), tt.at)
			r.Header.Set("Content-Type", "application/json")
			if tt.header != "" {
				r.Header.Set("Authorization", tt.header)
			}
			w := httptest.NewRecorder()
			a.Handler().ServeHTTP(w, r)
			if w.Code != tt.want || !strings.Contains(w.Body.String(), tt.code) {
				t.Errorf("%s = %d %.200s; want %d %s", tt.request, w.Code, w.Body, tt.want, tt.code)
			}
			if done := len(*list) > 0; done != (tt.want == 200 && tt.request == reload) {
				t.Errorf("%s = %d; done: %q", tt.request, w.Code, *list)
			}
			if (w.Header().Get("WWW-Authenticate") != "") != (tt.want == 401) {
				t.Errorf("%s = %d with WWW-Authenticate %q", tt.request, w.Code, w.Header().Get("WWW-Authenticate"))
			}
		})
	}
}

// A handler that does not know where a request came in takes it for foreign.
func TestTokenWhereTheListenerIsUnknown(t *testing.T) {
	a, _ := acted()
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/api/v1/status", nil))
	if w.Code != 401 {
		t.Errorf("GET without a local address = %d; want 401", w.Code)
	}
}

func TestCrossSite(t *testing.T) {
	tests := []struct {
		name    string
		request string
		headers map[string]string
		allowed bool
	}{
		{"no browser", "POST /api/v1/actions/reload", nil, true},
		{"the page itself", "POST /api/v1/actions/reload", map[string]string{"Origin": "http://localhost:42480", "Sec-Fetch-Site": "same-origin"}, true},
		{"the page behind TLS", "POST /api/v1/actions/reload", map[string]string{"Origin": "https://localhost:42480"}, true},
		{"another site", "POST /api/v1/actions/reload", map[string]string{"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, false},
		{"another site, an old browser", "POST /api/v1/actions/reload", map[string]string{"Origin": "http://evil.example"}, false},
		{"another port", "POST /api/v1/actions/reload", map[string]string{"Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-site"}, false},
		{"no origin to tell", "POST /api/v1/actions/reload", map[string]string{"Origin": "null"}, false},
		{"a form's navigation", "POST /api/v1/actions/reload", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, false},
		{"an image", "GET /api/v1/status", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, false},
		{"a script", "GET /api/v1/status", map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, false},
		{"a frame", "GET /", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, false},
		{"a link", "GET /", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, true},
		{"typed", "GET /api/v1/status", map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, list := acted()
			method, path, _ := strings.Cut(tt.request, " ")
			r := onLoopback(httptest.NewRequest(method, "http://localhost:42480"+path, strings.NewReader("{}")))
			r.Header.Set("Authorization", "Bearer secret")
			r.Header.Set("Content-Type", "application/json")
			for name, value := range tt.headers {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			a.Handler().ServeHTTP(w, r)
			if (w.Code == 200) != tt.allowed || !tt.allowed && (w.Code != 403 || len(*list) > 0) {
				t.Errorf("%s = %d, done %q; want allowed: %v", tt.request, w.Code, *list, tt.allowed)
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Error("the answer allows other sites to read it")
			}
		})
	}
}

func TestWrongTokensAreNotedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := acted()
		h := a.Handler()
		for range 3 {
			for range 10 {
				send(h, "POST", "/api/v1/token", "", "guess")
			}
			<-time.After(time.Minute)
		}
		events := a.feed.recent()
		if len(events) != 3 {
			t.Errorf("%d events of 30 wrong tokens in 3 minutes; want 3", len(events))
		}
		for _, e := range events {
			if e.Kind != TokenRefused || strings.Contains(e.Text, "guess") || !strings.Contains(e.Text, "192.0.2.1") {
				t.Errorf("event %+v; want a refused token and the client's address, not the guess", e)
			}
		}
	})
}
