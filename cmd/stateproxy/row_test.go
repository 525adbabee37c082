package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"stateproxy/internal/farm"
	"stateproxy/stateserver"
)

// rowText is a config whose backends are given as name, address, state.
func rowText(listen string, backends ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "listen: %s\nadmin:\n  listen: 127.0.0.1:0\n", listen)
	b.WriteString("health:\n  interval: 200ms\n  timeout: 200ms\n  hold_down: 200ms\nhandoff:\n  delay: 200ms\nbackends:\n")
	for _, backend := range backends {
		var name, address, state string
		fmt.Sscan(backend, &name, &address, &state)
		fmt.Fprintf(&b, "  - {name: %s, address: %s, state: %s}\n", name, address, state)
	}
	return b.String()
}

// TestFarmThroughARow runs a farm against two proxies before two central ones
// before three state servers. A server is killed and comes back, the central
// proxies change its weight, and one of them is drained and stopped.
func TestFarmThroughARow(t *testing.T) {
	s := &oneProcess{t: t, servers: map[string]*stateserver.Server{}, address: map[string]string{}}
	var servers []string
	for _, name := range []string{"s1", "s2", "s3"} {
		s.servers[name] = stateserver.RunT(t)
		s.address[name] = s.servers[name].Addr()
		servers = append(servers, name+" "+s.address[name]+" active")
	}
	c1, c2 := runApp(t, rowText("127.0.0.1:0", servers...)), runApp(t, rowText("127.0.0.1:0", servers...))
	centrals := func(state string) string {
		return rowText("127.0.0.1:0", "c1 "+c1.app.address()+" active", "c2 "+c2.app.address()+" "+state)
	}
	a, b := runApp(t, centrals("active")), runApp(t, centrals("active"))
	for _, r := range []*running{a, b} {
		r.logged("backend is a proxy", `"c1"`)
		r.logged("backend is a proxy", `"c2"`)
	}
	total := farmTime(t)
	f, err := farm.New(farm.Config{
		Targets: []string{a.app.address(), b.app.address()}, Workers: 4, Pages: 6, Sessions: 600, PagesPerSecond: 400,
	})
	if err != nil {
		t.Fatal(err)
	}
	killed := make(chan struct{})
	excuse(t, f, "s2", func() bool {
		select {
		case <-killed:
			return true
		default:
			return false
		}
	})
	if err := f.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- f.Run(ctx) }()
	after(ctx, total/5)
	if n := f.Report().PageErrors(); n != 0 {
		t.Errorf("%d page errors before any server was killed; want none", n)
	}
	close(killed)
	s.kill("s2")
	for _, r := range []*running{c1, c2} {
		r.logged("backend ejected", `"s2"`)
	}
	after(ctx, total/5)
	duringOutage := f.Report().PageErrors()
	s.restart("s2")
	for _, r := range []*running{c1, c2} {
		r.logged("backend readmitted", `"s2"`)
	}
	after(ctx, total/5)
	for _, r := range []*running{a, b} {
		replaceFile(t, r.file, centrals("drain"))
	}
	for _, r := range []*running{a, b} {
		r.logged("routing changed")
	}
	after(ctx, total/5)
	c2.stop()
	after(ctx, total/5)
	stop()
	if err := <-ran; err != nil {
		t.Errorf("farm: %v", err)
	}
	if err := f.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	report := f.Report()
	t.Log(report.Text())
	if !report.OK() {
		t.Error("the farm found damage")
	}
	if n := report.PageErrors(); n != duringOutage {
		t.Errorf("%d page errors after the killed server was ejected; want none", n-duringOutage)
	}
	for _, r := range []*running{a, b} {
		for _, wrong := range []string{"sessions it held are gone", "lead to one server"} {
			if strings.Contains(r.log.String(), wrong) {
				t.Errorf("a proxy says of a central one: %s\n%s", wrong, r.log)
			}
		}
	}
}

// TestLoopIsKeptOut has two proxies lead to each other.
func TestLoopIsKeptOut(t *testing.T) {
	server := stateserver.RunT(t)
	listen := [2]string{freeAddress(t), freeAddress(t)}
	a := runApp(t, rowText(listen[0], "s1 "+server.Addr()+" active", "b "+listen[1]+" active"))
	b := runApp(t, rowText(listen[1], "a "+listen[0]+" active"))
	for name, r := range map[string]*running{"b": a, "a": b} {
		r.logged("backend leads back to this proxy: it is not used", `"`+name+`"`, `"reason":"loop: `)
		for _, tt := range []struct{ path, want string }{
			{"/metrics", `stateproxy_backend_loop{backend="` + name + `"} 1`},
			{"/api/v1/status", `"loop": true`},
			{"/api/v1/status", `"kind": "backend_loop"`},
			{"/api/v1/events", `"kind": "backend_loop"`},
		} {
			r.eventually(tt.want, func() bool { _, body := r.get(tt.path); return strings.Contains(body, tt.want) })
		}
	}
	for range 20 { // a has a server of its own, and b has nothing else
		if got := a.ask(putOne); got != "200 OK" {
			t.Errorf("PUT at a = %q; want 200 OK", got)
		}
		if got := b.ask(getOne); got != "400 Bad Request" {
			t.Errorf("GET at b = %q; want 400 Bad Request", got)
		}
	}
	replaceFile(t, b.file, rowText(listen[1], "s1 "+server.Addr()+" active"))
	a.logged("backend readmitted", `"b"`)
	b.logged("config reloaded")
	b.eventually("b serves", func() bool { return b.ask(getOne) == "200 OK" })
}

// TestLoopToItself leads a proxy to itself by a way that its config can't see.
func TestLoopToItself(t *testing.T) {
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := freeAddress(t)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { front.Close() })
	wg.Go(func() { forward(front, listen, &wg) })
	r := runApp(t, rowText(listen, "me "+front.Addr().String()+" active"))
	r.logged("backend leads back to this proxy: it is not used", `"me"`)
	if got := r.ask(getOne); got != "400 Bad Request" {
		t.Errorf("GET = %q; want 400 Bad Request", got)
	}
}

// forward passes connections on to an address until ln is closed.
func forward(ln net.Listener, to string, wg *sync.WaitGroup) {
	for {
		in, err := ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			in.Close()
			continue
		}
		pass := func(dst, src net.Conn) {
			_, _ = io.Copy(dst, src)
			dst.Close()
			src.Close()
		}
		wg.Go(func() { pass(out, in) })
		wg.Go(func() { pass(in, out) })
	}
}
