package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"stateproxy/internal/browser"
	"stateproxy/internal/farm"
	"stateproxy/internal/xray"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// toFind is how long trouble may go unseen.
const toFind = 5 * time.Second

// trouble is something that goes wrong in the night, and where it is to be seen.
type trouble struct {
	kind    string   // of the finding
	page    string   // part of the finding as the dashboard shows it
	event   string   // kind of the event, and after a blank its finding
	metrics []string // lines
	log     []string // parts of one line
	over    []string // likewise, when it has been mended
}

// TestNight: whatever goes wrong is found on dashboard, API, metrics and log in
// good time, and what has been mended goes away.
func TestNight(t *testing.T) {
	browser.Find(t)
	n := newNight(t)

	n.server(1).Close()
	n.find(trouble{kind: "backend_down", page: "s2 out of service", event: "backend_ejected",
		metrics: []string{`stateproxy_backend_up{backend="s2"} 0`, `stateproxy_backend_ejections_total{backend="s2"} 1`},
		log:     []string{"backend ejected", `"backend":"s2"`}, over: []string{"backend readmitted", `"backend":"s2"`},
	}, func() { n.restart(1) })

	replaceFile(t, n.file, n.config+"bakends: 3\n")
	n.find(trouble{kind: "refused_config", page: "bakends", event: "config_refused",
		metrics: []string{"stateproxy_last_reload_success 0", `stateproxy_reloads_total{result="refused"} 1`},
		log:     []string{"config refused", "bakends"}, over: []string{"config reloaded"},
	}, func() { replaceFile(t, n.file, n.config) })

	free := n.lockForAMinute()
	n.find(trouble{kind: "lock_held", page: "/LM/W3SVC/9/ROOT/reports has been locked for 6", event: "finding_began lock_held",
		log: []string{"finding began", `"finding":"lock_held"`}, over: []string{"finding ended", `"finding":"lock_held"`},
	}, free)

	agree := n.disagree()
	n.find(trouble{kind: "app_mismatch", page: "/LM/W3SVC/7/ROOT/shop is used by 127.0.0.3", event: "finding_began app_mismatch",
		log: []string{"finding began", `"finding":"app_mismatch"`, "127.0.0.2"}, over: []string{"finding ended", `"finding":"app_mismatch"`},
	}, agree)

	n.page.Shoot("night")
	n.page.Quiet()
	for _, id := range n.ids {
		if strings.Contains(n.log.String(), id) {
			t.Errorf("the log shows the session ID %s", id)
		}
	}
}

// night is a proxy before three state servers under the traffic of several
// applications, with its dashboard in a browser.
type night struct {
	*running
	config string
	page   *browser.Tab
	ids    []string // of sessions beside the farm's

	mu      sync.Mutex // guards servers
	servers []*stateserver.Server
}

func newNight(t *testing.T) *night {
	n := &night{}
	var b strings.Builder
	b.WriteString("listen: 127.0.0.1:0\nadmin:\n  listen: 127.0.0.1:0\nhandoff:\n  delay: 0s\nhealth:\n  interval: 500ms\n  timeout: 500ms\n  hold_down: 0s\nbackends:\n")
	for i := range 3 {
		n.servers = append(n.servers, stateserver.RunT(t))
		fmt.Fprintf(&b, "  - name: s%d\n    address: %s\n", i+1, n.servers[i].Addr())
	}
	n.config = b.String()
	n.running = runApp(t, n.config, func(a *app) { a.admin.XRay.(*xray.XRay).Memory = 3 * time.Second })
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
	f, err := farm.New(farm.Config{Targets: []string{n.app.address()}, Apps: 3, Workers: 6, Sessions: 150, PagesPerSecond: 40})
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { // what becomes of its pages is others' to test
		f.Fill(ctx)
		f.Run(ctx)
	})
	n.page = browser.Open(t, "http://"+n.app.adminAddress()+"/")
	n.page.Until("that all is well", `document.querySelector("#headline").textContent === "All is well"`)
	n.page.Until("three applications", `document.querySelectorAll("#apps > li").length >= 3`)
	return n
}

func (n *night) server(i int) *stateserver.Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.servers[i]
}

// restart starts a server that was closed anew, at its address.
func (n *night) restart(i int) {
	n.t.Helper()
	s := &stateserver.Server{}
	ln, err := net.Listen("tcp", n.server(i).Addr())
	if err != nil {
		n.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.Serve(ln) })
	n.t.Cleanup(wg.Wait)
	n.t.Cleanup(func() { s.Close() })
	n.mu.Lock()
	defer n.mu.Unlock()
	n.servers[i] = s
}

// find wants the trouble to be seen everywhere in good time, mends it and wants
// it to be gone.
func (n *night) find(x trouble, mend func()) {
	n.t.Helper()
	began := time.Now()
	limit := time.After(toFind)
	for {
		missing := n.missing(x)
		if missing == "" {
			break
		}
		select {
		case <-limit:
			n.page.Shoot("missed")
			n.t.Fatalf("%s was not seen within %v: %s\npage:\n%s\nlog:\n%s", x.kind, toFind, missing,
				browser.Eval[string](n.page, `document.querySelector("#verdict").innerText`), n.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	n.t.Logf("%s was seen everywhere after %v", x.kind, time.Since(began).Round(10*time.Millisecond))
	n.page.Shoot("night-" + x.kind)
	mend()
	n.logged(x.over...)
	n.eventually("the end of "+x.kind+" in API and metrics", func() bool {
		_, text := n.get("/metrics")
		return !n.inVerdict(x.kind) && strings.Contains(text, fmt.Sprintf("\nstateproxy_findings{kind=%q} 0\n", x.kind))
	})
	n.page.Until("the end of "+x.kind, "!"+onPage(x.page))
}

// missing says where the trouble is not seen; "" if it is everywhere.
func (n *night) missing(x trouble) string {
	n.t.Helper()
	var list []string
	want := func(ok bool, what string) {
		if !ok {
			list = append(list, what)
		}
	}
	want(n.inVerdict(x.kind), "status")
	want(n.inEvents(x.event), "events")
	_, text := n.get("/metrics")
	for _, line := range append(x.metrics, fmt.Sprintf("stateproxy_findings{kind=%q} 1", x.kind)) {
		want(strings.Contains(text, "\n"+line+"\n"), line)
	}
	want(n.hasLogged(x.log...), "log")
	want(n.page.Is(onPage(x.page)), "dashboard")
	return strings.Join(list, ", ")
}

// onPage is an expression for a text among the findings.
func onPage(text string) string {
	return fmt.Sprintf("document.querySelector('#findings').textContent.includes(%q)", text)
}

func (n *night) inVerdict(kind string) bool {
	n.t.Helper()
	var status struct {
		Verdict struct{ Findings []struct{ Kind string } }
	}
	n.read("/api/v1/status", &status)
	for _, f := range status.Verdict.Findings {
		if f.Kind == kind {
			return true
		}
	}
	return false
}

func (n *night) inEvents(event string) bool {
	n.t.Helper()
	var list struct {
		Events []struct{ Kind, Finding string }
	}
	n.read("/api/v1/events", &list)
	for _, e := range list.Events {
		if strings.TrimSpace(e.Kind+" "+e.Finding) == event {
			return true
		}
	}
	return false
}

func (n *night) read(path string, v any) {
	n.t.Helper()
	status, body := n.get(path)
	if err := json.Unmarshal([]byte(body), v); err != nil || status != 200 {
		n.t.Fatalf("GET %s = %d %s: %v", path, status, body, err)
	}
}

// webServer is a connection from an address of a web server's own.
type webServer struct {
	t *testing.T
	c net.Conn
	r *wire.Reader
}

func (n *night) webServer(address string) *webServer {
	n.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	c, err := d.Dial("tcp", n.app.address())
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return &webServer{n.t, c, wire.NewReader(c, 4<<10, wire.DefaultMaxHead)}
}

// ask sends a request and returns status and lock cookie of its answer.
func (w *webServer) ask(verb, app, id, more, body string) (status int, cookie int64) {
	request := fmt.Sprintf("%s %s(oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5%%2fHxWS854%%3d)%%2f%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n%s",
		verb, strings.ReplaceAll(app, "/", "%2f"), id, more, body)
	w.c.SetDeadline(time.Now().Add(20 * time.Second))
	_, err := w.c.Write([]byte(request))
	var resp wire.Response
	if err == nil {
		err = w.r.ReadResponse(&resp)
	}
	if err == nil {
		cookie, status = resp.LockCookie.N, resp.Status
		_, err = w.r.ReadBody(nil, resp.BodyLen(wire.GET))
	}
	if err != nil {
		w.t.Errorf("%s of %s: %v", verb, app, err)
	}
	return status, cookie
}

const emptySession = "\x14\x00\x00\x00\x00\x00\xff"

func (w *webServer) save(app, id string) {
	w.ask("PUT", app, id, fmt.Sprintf("Timeout:20\r\nContent-Length:%d\r\nExtraFlags:0\r\n", len(emptySession)), emptySession)
}

// newID returns an ID for a session beside the farm's.
func (n *night) newID() string {
	id := fmt.Sprintf("night%019d", len(n.ids)) // as long as usual
	n.ids = append(n.ids, id)
	return id
}

// lockForAMinute has a page lock a session and hang for a minute, while another
// waits. free ends both.
func (n *night) lockForAMinute() (free func()) {
	n.t.Helper()
	const app = "/LM/W3SVC/9/ROOT/reports"
	id, hangs, waits := n.newID(), n.webServer("127.0.0.1"), n.webServer("127.0.0.1")
	hangs.save(app, id)
	status, cookie := hangs.ask("GET", app, id, "Exclusive: acquire\r\n", "")
	if status != 200 {
		n.t.Fatalf("GET acquire = %d; want 200", status)
	}
	for i := range 3 {
		n.server(i).Age(time.Minute)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		poll := time.NewTicker(500 * time.Millisecond)
		defer poll.Stop()
		for {
			switch status, cookie := waits.ask("GET", app, id, "Exclusive: acquire\r\n", ""); status {
			case wire.StatusLocked:
			case wire.StatusOK:
				waits.ask("GET", app, id, fmt.Sprintf("Exclusive: release\r\nLockCookie: %d\r\n", cookie), "")
				return
			default:
				n.t.Errorf("GET acquire = %d; want 200 or 423", status)
				return
			}
			select {
			case <-poll.C:
			case <-ctx.Done():
				return
			}
		}
	})
	n.t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return func() {
		n.t.Helper()
		hangs.ask("GET", app, id, fmt.Sprintf("Exclusive: release\r\nLockCookie: %d\r\n", cookie), "")
		wg.Wait() // the other page gets it
	}
}

// disagree has two web servers call one application by different names, and
// users move between them. agree ends that.
func (n *night) disagree() (agree func()) {
	n.t.Helper()
	apps := make(chan string, 1)
	apps <- "/LM/W3SVC/7/ROOT/shop"
	one, other := n.webServer("127.0.0.2"), n.webServer("127.0.0.3")
	var ids []string
	for range 500 {
		ids = append(ids, n.newID())
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		users := time.NewTicker(50 * time.Millisecond)
		defer users.Stop()
		for _, id := range ids {
			select {
			case <-users.C:
			case <-ctx.Done():
				return
			}
			one.save("/LM/W3SVC/2/ROOT/shop", id)
			app := <-apps
			other.save(app, id)
			apps <- app
		}
	})
	n.t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return func() {
		<-apps
		apps <- "/LM/W3SVC/2/ROOT/shop"
	}
}
