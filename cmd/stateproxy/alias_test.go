package main

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"stateproxy/stateserver"
	"stateproxy/wire"
)

// keyOf is the key of a session as a web server makes it.
func keyOf(app, sessionID string) string {
	digest := sha256.Sum256([]byte(app))
	return app + "(" + base64.StdEncoding.EncodeToString(digest[:]) + ")/" + sessionID
}

// holding counts the sessions that servers hold under the keys of an application.
func holding(app string, servers ...*stateserver.Server) (n int) {
	for _, s := range servers {
		for i := range 10 {
			if _, ok := s.Peek(keyOf(app, fmt.Sprintf("session-%d", i))); ok {
				n++
			}
		}
	}
	return n
}

// Two web servers call one site by different numbers. They lose each other's
// sessions until a rule joins them, and see each other's locks from then on.
func TestAliasJoinsWebServers(t *testing.T) {
	const first, second = "/LM/W3SVC/2/ROOT/shop", "/LM/W3SVC/7/ROOT/shop"
	s1, s2 := stateserver.RunT(t), stateserver.RunT(t)
	r := runApp(t, text(s1, s2))
	request := func(verb, app string, n int, headers string) string {
		return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", verb, wire.AppendEncoded(nil, []byte(keyOf(app, fmt.Sprintf("session-%d", n)))), headers)
	}
	put := func(app string, n int, headers string) string {
		return request("PUT", app, n, "Timeout:20\r\nContent-Length:7\r\n"+headers) + "\x14\x00\x00\x00\x00\x00\xff"
	}
	for n := range 10 {
		if got := r.ask(put(first, n, "")); got != "200 OK" {
			t.Fatalf("PUT of one web server = %q; want 200 OK", got)
		}
		if got := r.ask(request("GET", second, n, "")); got != "404 Not Found" {
			t.Fatalf("GET of the other web server = %q; want 404 while nothing joins them", got)
		}
	}
	replaceFile(t, r.file, text(s1, s2)+"applications: [{alias: '"+second+"', to: "+first+"}]\n")
	r.logged("config reloaded", "applications: "+first+" added")
	for n := range 10 {
		if got := r.ask(request("GET", second, n, "Exclusive: acquire\r\n")); got != "200 OK" {
			t.Fatalf("acquire of the other web server = %q; want 200 OK", got)
		}
		if got := r.ask(request("GET", first, n, "Exclusive: acquire\r\n")); got != "423 Locked" {
			t.Errorf("acquire beside it = %q; want 423 Locked", got)
		}
		if got := r.ask(put(second, n, "LockCookie:2\r\n")); got != "200 OK" {
			t.Errorf("PUT of the lock's holder = %q; want 200 OK", got)
		}
		if got := r.ask(request("GET", first, n, "")); got != "200 OK" {
			t.Errorf("GET of one web server = %q; want 200 OK", got)
		}
	}
	if one, other := holding(first, s1, s2), holding(second, s1, s2); one != 10 || other != 0 {
		t.Errorf("the state servers hold %d sessions under one name and %d under the other; want 10 and 0", one, other)
	}
	status, out, errText := run("ring", "where", "-config", r.file, "-app", strings.ToLower(second))
	if status != exitOK || !strings.Contains(out, "taken for "+first) {
		t.Errorf("ring where -app = %d %s%s; want what it is taken for", status, out, errText)
	}
}
