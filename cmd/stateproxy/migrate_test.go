package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"stateproxy/stateserver"
)

// migrationText is the config of a proxy with some of the servers, which acts on
// each new config at once.
func migrationText(servers map[string]*stateserver.Server, names ...string) string {
	var b strings.Builder
	b.WriteString("listen: 127.0.0.1:0\nadmin:\n  listen: 127.0.0.1:0\nhandoff:\n  delay: 0s\nbackends:\n")
	for _, name := range names {
		fmt.Fprintf(&b, "  - name: %s\n    address: %s\n", name, servers[name].Addr())
	}
	return b.String()
}

// put stores a session on a state server itself, as a web server does that does
// not know the proxy yet.
func put(t *testing.T, s *stateserver.Server, target string) {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: localhost\r\nTimeout:20\r\nContent-Length:7\r\nExtraFlags:0\r\n\r\n\x14\x00\x00\x00\x00\x00\xff", target)
	b := make([]byte, 512)
	if n, err := c.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "200 OK") {
		t.Fatalf("PUT = %q, %v; want 200 OK", b[:n], err)
	}
}

// TestMigrationFromAResolver does what docs/operations.md says for farms whose
// sessions lie where a partition resolver put them: the proxy is told of each
// server alone, one after the other, then of all together, and finds every
// session at its first use.
func TestMigrationFromAResolver(t *testing.T) {
	servers := map[string]*stateserver.Server{"s1": stateserver.RunT(t), "s2": stateserver.RunT(t), "s3": stateserver.RunT(t)}
	var targets []string
	for i := range 60 {
		target := strings.Replace(aSession, "bpr4mimb2vjnvtn2jc4yp3uo", fmt.Sprintf("bpr4mimb2vjnvtn2jc4yp%c%c%c", 'a'+i%26, 'a'+i/26, '0'+i%3), 1)
		put(t, servers[fmt.Sprintf("s%d", 1+i%3)], target)
		targets = append(targets, target)
	}
	r := runApp(t, migrationText(servers, "s1"))
	for step, names := range [][]string{{"s2"}, {"s3"}, {"s1", "s2", "s3"}} {
		replaceFile(t, r.file, migrationText(servers, names...))
		r.eventually("a reload", func() bool { return strings.Count(r.log.String(), "config reloaded") == step+1 })
	}
	for i, target := range targets {
		for _, verb := range []string{"GET " + target + " HTTP/1.1\r\nHost: localhost\r\nExclusive: acquire\r\n\r\n", "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n"} {
			want := "200 OK"
			if !strings.Contains(verb, "acquire") {
				want = "423 Locked"
			}
			if got := r.ask(verb); got != want {
				t.Fatalf("session %d of s%d: %q; want %q", i, 1+i%3, got, want)
			}
		}
	}
}

// TestMigrationFromOneServer: the only server becomes one of several, and all of
// it can be taken back.
func TestMigrationFromOneServer(t *testing.T) {
	servers := map[string]*stateserver.Server{"s1": stateserver.RunT(t), "s2": stateserver.RunT(t)}
	put(t, servers["s1"], aSession)
	r := runApp(t, migrationText(servers, "s1"))
	for step, names := range [][]string{{"s1", "s2"}, {"s2"}, {"s1"}} {
		if got := r.ask(getOne); got != "200 OK" {
			t.Fatalf("GET before step %d = %q; want 200 OK", step, got)
		}
		replaceFile(t, r.file, migrationText(servers, names...))
		r.eventually("a reload", func() bool { return strings.Count(r.log.String(), "config reloaded") == step+1 })
	}
	if got := r.ask(getOne); got != "200 OK" {
		t.Errorf("GET at the end = %q; want 200 OK", got)
	}
}
