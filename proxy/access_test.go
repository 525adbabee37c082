package proxy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

func networks(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// on returns settings with terms for the only listener of a bubble or rig.
func on(l proxy.Listener) proxy.Settings {
	return proxy.Settings{Listeners: map[string]proxy.Listener{"": l}}
}

// doorRig is a bubble that keeps the refusals.
type doorRig struct {
	*bubble
	mu       sync.Mutex
	refusals []proxy.Refusal
}

func newDoorRig(t *testing.T, s proxy.Settings) *doorRig {
	d := &doorRig{bubble: newBubble(t, s, goodUntilClosed)}
	d.proxy.Refused = func(r proxy.Refusal) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.refusals = append(d.refusals, r)
	}
	return d
}

// from connects a client from an address.
func (d *doorRig) from(ip string) *client {
	d.t.Helper()
	d.clients.from = ip
	return d.client()
}

// wantRefusal fails the test unless the last refusal is this one, and counted.
func (d *doorRig) wantRefusal(n int, client string, reason proxy.Reason) proxy.Refusal {
	d.t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.refusals) != n {
		d.t.Fatalf("%d refusals were told of: %v; want %d", len(d.refusals), d.refusals, n)
	}
	r := d.refusals[n-1]
	if r.Client.Addr().String() != client || r.Reason != reason {
		d.t.Errorf("refusal = %v of %v; want %v of %s", r.Reason, r.Client, reason, client)
	}
	s, sum := d.proxy.Status(), int64(0)
	counted := map[proxy.Reason]int64{}
	for _, c := range s.Refusals {
		counted[c.Reason] = c.Count
		sum += c.Count
	}
	told := map[proxy.Reason]int64{}
	for _, r := range d.refusals {
		told[r.Reason]++
	}
	for reason, n := range told {
		if counted[reason] != n {
			d.t.Errorf("Status() counts %d for %v; want %d", counted[reason], reason, n)
		}
	}
	if sum != int64(n) || s.Refused != sum {
		d.t.Errorf("Status() = %d refused, %v by reason; want %d", s.Refused, s.Refusals, n)
	}
	return r
}

func (d *doorRig) reload(s proxy.Settings) {
	d.t.Helper()
	s.Backends = []proxy.Backend{d.fake.backend("s1")}
	d.reconfigure(s)
}

func TestAllowAndDeny(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorRig(t, on(proxy.Listener{Access: proxy.Access{
			Allow: networks("10.0.0.0/8", "2001:db8::/64"), Deny: networks("10.9.0.0/16"),
		}}))
		defer d.stop()
		for _, ip := range []string{"10.0.0.1", "::ffff:10.0.0.2", "2001:db8::1"} {
			d.from(ip).wantGood(wire.OpGet, "a")
		}
		for i, ip := range []string{"11.0.0.1", "10.9.0.1", "2001:db8:0:1::1"} {
			wantRefused(t, d.from(ip))
			d.wantRefusal(i+1, ip, proxy.NotAllowed)
		}
		wantRefused(t, d.from("::ffff:10.9.0.1"))
		d.wantRefusal(4, "10.9.0.1", proxy.NotAllowed)
		if s := d.proxy.Status(); s.Conns != 3 || s.Accepted != 3 {
			t.Errorf("Status() = %d open, %d accepted; want 3, 3", s.Conns, s.Accepted)
		}
	})
}

// TestReloadDismissesClients: a client that is newly denied keeps its connection
// for the request under way, and no longer.
func TestReloadDismissesClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		d := &doorRig{bubble: newBubble(t, proxy.Settings{}, func(c *fakeConn) {
			for {
				q, err := c.next()
				if err != nil {
					return
				}
				if q.id == "slow" {
					<-answer
				}
				c.say(good(q.op, q.id))
			}
		})}
		defer d.stop()
		idle, busy, other := d.from("10.9.0.1"), d.from("10.9.0.2"), d.from("10.0.0.1")
		idle.wantGood(wire.OpGet, "a")
		other.wantGood(wire.OpGet, "b")
		busy.send(request(wire.OpGet, "slow"))
		synctest.Wait()
		d.reload(on(proxy.Listener{Access: proxy.Access{Deny: networks("10.9.0.0/16")}}))
		wantRefused(t, idle)
		other.wantGood(wire.OpGet, "c")
		close(answer)
		if got, err := busy.answer(wire.OpGet); got != good(wire.OpGet, "slow") || err != nil {
			t.Errorf("answer to the request under way = %q, %v; want its own", got, err)
		}
		wantRefused(t, busy)
		other.wantGood(wire.OpGet, "d")
		synctest.Wait()
		if s := d.proxy.Status(); s.Conns != 1 || s.Refused != 0 {
			t.Errorf("Status() = %d open, %d refused; want the other one and none", s.Conns, s.Refused)
		}
		d.reload(proxy.Settings{})
		wantRefused(t, d.from("10.9.0.1")) // a listener that is left out keeps its terms
		d.reload(on(proxy.Listener{}))
		d.from("10.9.0.1").wantGood(wire.OpGet, "e")
	})
}

func TestConnRatePerClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorRig(t, proxy.Settings{ConnRatePerClient: 2})
		defer d.stop()
		for range 20 {
			d.from("10.0.0.1").c.Close()
		}
		wantRefused(t, d.from("10.0.0.1"))
		d.wantRefusal(1, "10.0.0.1", proxy.ClientConnRate)
		d.from("10.0.0.2").wantGood(wire.OpGet, "a")
		<-time.After(500 * time.Millisecond)
		d.from("10.0.0.1").wantGood(wire.OpGet, "b")
		wantRefused(t, d.from("10.0.0.1"))
		d.reload(proxy.Settings{})
		d.from("10.0.0.1").wantGood(wire.OpGet, "c")
	})
}

func TestRequestRatePerClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorRig(t, proxy.Settings{RequestRatePerClient: 10, Budget: 8 * time.Second, OnUnavailable: proxy.Wait})
		defer d.stop()
		first, second, other := d.from("10.0.0.1"), d.from("10.0.0.1"), d.from("10.0.0.2")
		start := time.Now()
		for i := range 10 {
			first.wantGood(wire.OpGet, fmt.Sprint(i))
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("ten requests took %v; want no delay", took)
		}
		first.wantGood(wire.OpGet, "late")
		took := time.Since(start)
		synctest.Wait()
		if o := d.lastOutcome(11); took != 100*time.Millisecond || o.Duration != took || o.Delay != took || o.Wait != 0 || o.Reply() != 0 {
			t.Errorf("the eleventh ended after %v and took %v: %v of delay, %v for the backend, %v of reply; want 100ms of delay alone", took, o.Duration, o.Delay, o.Wait, o.Reply())
		}
		second.wantGood(wire.OpSet, "later")
		if took := time.Since(start); took != 200*time.Millisecond {
			t.Errorf("one on another connection ended after %v; want 200ms", took)
		}
		other.wantGood(wire.OpGet, "other")
		if took := time.Since(start); took != 200*time.Millisecond {
			t.Errorf("one of another client ended after %v; want no delay", took)
		}
		synctest.Wait()
		if s := d.proxy.Status(); s.Delayed != 2 || s.Requests != 13 {
			t.Errorf("Status() = %d delayed of %d; want 2 of 13", s.Delayed, s.Requests)
		}
	})
}

// TestRequestRateIsBounded: of many connections at once, those wait that are
// served within a quarter of the budget; the others get F at once.
func TestRequestRateIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorRig(t, proxy.Settings{RequestRatePerClient: 10, Budget: 8 * time.Second, OnUnavailable: proxy.Wait})
		defer d.stop()
		var all []*client
		for i := range 40 {
			c := d.from("10.0.0.1")
			c.send(request(wire.OpGet, fmt.Sprint(i)))
			all = append(all, c)
			synctest.Wait()
		}
		start, served := time.Now(), 0
		for i, c := range all {
			switch got, err := c.answer(wire.OpGet); got {
			case good(wire.OpGet, fmt.Sprint(i)):
				served++
			case failure:
			default:
				t.Errorf("answer %d = %q, %v; want its own or F", i, got, err)
			}
		}
		if took := time.Since(start); served != 30 || took != 2*time.Second {
			t.Errorf("%d requests were served within %v; want 30 within 2s", served, took)
		}
		synctest.Wait()
		if n := d.failedFor(proxy.ClientRequestRate); n != 10 {
			t.Errorf("%d outcomes with reason %s; want 10", n, proxy.ClientRequestRate)
		}
		all[39].wantGood(wire.OpGet, "again")
	})
}

// failedFor counts the outcomes with a reason.
func (r *rig) failedFor(reason proxy.Reason) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.outcomes {
		if r.outcomes[i].Reason == reason {
			n++
		}
	}
	return n
}

// TestShutdownEndsDelays: who waits for his turn is not waited for.
func TestShutdownEndsDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorRig(t, proxy.Settings{RequestRatePerClient: 1})
		defer d.stop()
		c := d.from("10.0.0.1")
		c.wantGood(wire.OpGet, "a")
		c.send(request(wire.OpGet, "b"))
		synctest.Wait()
		start := time.Now()
		d.proxy.Close()
		if took := time.Since(start); took != 0 {
			t.Errorf("Close() took %v; want no waiting", took)
		}
	})
}

const (
	digest    = "oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5/HxWS854="
	oddDigest = "oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5+HxWS854="
)

// targetOf is the target of a session of another application.
func targetOf(app, digest string) string {
	return string(wire.AppendEncoded(nil, []byte(app+"("+digest+")/a")))
}

func TestAppAccess(t *testing.T) {
	rules := []proxy.AppAccess{
		{Applications: []string{"/LM/W3SVC/4/my app"}, Access: proxy.Access{Allow: networks("10.1.0.0/16")}},
		{Applications: []string{"/lm/w3svc/2/*"}, Access: proxy.Access{Allow: networks("10.1.0.0/16")}},
		{Applications: []string{"/LM/W3SVC/*"}},
		{Applications: []string{"*"}, Access: proxy.Access{Deny: networks("10.0.0.0/8")}},
	}
	get := func(target string) []byte {
		return []byte("GET " + target + " HTTP/1.1\r\nHost: s\r\n\r\n")
	}
	second := string(target("a"))
	tests := []struct {
		name    string
		target  string
		ip      string
		allowed bool
	}{
		{"allowed", second, "10.1.0.1", true},
		{"not allowed", second, "10.2.0.1", false},
		{"another application", targetOf("/LM/W3SVC/3/ROOT", digest), "10.2.0.1", true},
		{"the last rule", "/whatever", "10.2.0.1", false},
		{"the last rule, allowed", "/whatever", "11.2.0.1", true},
		{"encoded twice", strings.ReplaceAll(second, "%", "%25"), "10.2.0.1", false},
		{"partly encoded twice", strings.Replace(second, "W3SVC", "%2557%2533SVC", 1), "10.2.0.1", false},
		{"partly encoded twice, allowed", strings.Replace(second, "W3SVC", "%2557%2533SVC", 1), "10.1.0.1", false}, // the last rule
		{"a blank encoded twice", strings.Replace(targetOf("/LM/W3SVC/2/my app", digest), "+", "%2b", 1), "10.1.0.1", true},
		{"a blank encoded twice, not allowed", strings.Replace(targetOf("/LM/W3SVC/4/my app", digest), "+", "%2b", 1), "10.2.0.1", false},
		{"a blank", targetOf("/LM/W3SVC/4/my app", digest), "10.2.0.1", false},
		{"an odd ID behind an odd digest", targetOf("/LM/W3SVC/2/ROOT", oddDigest) + "%25+41", "10.1.0.1", true},
		{"a slash more", "/" + second, "10.2.0.1", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, when := range []proxy.OnUnavailable{proxy.Fail, proxy.Wait, proxy.CloseConn} {
					d := newDoorRig(t, proxy.Settings{Access: rules, OnUnavailable: when})
					c := d.from(tt.ip)
					c.send(get(tt.target))
					got, err := c.answer(wire.OpGet)
					if (got != failure) != tt.allowed || err != nil {
						t.Errorf("answer = %q, %v; allowed: want %t", got, err, tt.allowed)
					}
					want := proxy.Reason("")
					if !tt.allowed {
						want = proxy.AppNotAllowed
					}
					if o := d.lastOutcome(1); o.Reason != want || tt.allowed == (o.Backend == "") {
						t.Errorf("outcome = %q of %q; want %q", o.Reason, o.Backend, want)
					}
					c.send(get(targetOf("/LM/W3SVC/3/ROOT", digest))) // the connection is still good
					if got, err := c.answer(wire.OpGet); got == failure || err != nil {
						t.Errorf("answer on the same connection = %q, %v; want a good one", got, err)
					}
					d.stop()
				}
			})
		})
	}
}

// TestAppAccessOfEveryVerb: whatever is asked, it is F, and no backend hears of it.
func TestAppAccessOfEveryVerb(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorRig(t, proxy.Settings{MaxWhole: 100, Access: []proxy.AppAccess{
			{Applications: []string{"*"}, Access: proxy.Access{Deny: networks("0.0.0.0/0")}},
		}})
		defer d.stop()
		c := d.from("10.0.0.1")
		for _, op := range verbs {
			if got, err := c.exchange(op, "a"); got != failure || err != nil {
				t.Errorf("answer to %v = %q, %v; want F", op, got, err)
			}
		}
		long := []byte(put("a", 1000, 0))
		go c.c.Write(long)
		if got, err := c.answer(wire.OpSet); got != failure || err != nil {
			t.Errorf("answer to a long save = %q, %v; want F", got, err)
		}
		if n := len(d.fake.requests("")); n > 0 {
			t.Errorf("the backend got %d requests; want none", n)
		}
	})
}

// TestAppAccessOfAliases: what counts is the name that a session is kept under.
func TestAppAccessOfAliases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorRig(t, proxy.Settings{
			Aliases: []proxy.Alias{{To: "/LM/W3SVC/9/ROOT", From: []string{"/LM/W3SVC/2/ROOT"}}},
			Access:  []proxy.AppAccess{{Applications: []string{"/LM/W3SVC/9/*"}, Access: proxy.Access{Allow: networks("10.1.0.0/16")}}},
		})
		defer d.stop()
		if got, err := d.from("10.2.0.1").exchange(wire.OpGet, "a"); got != failure || err != nil {
			t.Errorf("answer under the other name = %q, %v; want F", got, err)
		}
		if got, err := d.from("10.1.0.1").exchange(wire.OpGet, "a"); got == failure || err != nil {
			t.Errorf("answer to the client that may = %q, %v; want a good one", got, err)
		}
	})
}

// guarded is settings with every guard, none of which is in the way of loopback.
func guarded() proxy.Settings {
	s := on(proxy.Listener{Access: proxy.Access{Allow: networks("127.0.0.0/8", "::1/128"), Deny: networks("127.9.0.0/16")}})
	s.MaxConnsPerClient, s.ConnRatePerClient, s.RequestRatePerClient = 1000, 1_000_000, 1_000_000
	s.Access = []proxy.AppAccess{
		{Applications: []string{"/LM/W3SVC/7/*", "/LM/W3SVC/8/*"}, Access: proxy.Access{Allow: networks("10.0.0.0/8")}},
		{Applications: []string{"/LM/W3SVC/2/*"}, Access: proxy.Access{Allow: networks("127.0.0.0/8", "::1/128")}},
	}
	return s
}

func TestGuardedRequestsAllocateNothing(t *testing.T) {
	req, want := request(wire.OpGet, "session"), []byte(good(wire.OpGet, "session"))
	s := guarded()
	s.Backends = []proxy.Backend{{Name: "s1", Address: plainBackend(t, req, want), Weight: 1}}
	p := &proxy.Proxy{}
	if _, err := p.Reconfigure(s); err != nil {
		t.Fatal(err)
	}
	wantNoAllocs(t, p, req, want)
}

// BenchmarkGuarded is BenchmarkProxy/get-1KiB with every guard.
func BenchmarkGuarded(b *testing.B) {
	for _, guards := range []bool{false, true} {
		b.Run(fmt.Sprintf("guards=%t", guards), func(b *testing.B) {
			var s proxy.Settings
			if guards {
				s = guarded()
			}
			s.Backends = backends(stateserver.RunT(b))
			p := &proxy.Proxy{Done: func(*proxy.Outcome) {}, Evidence: func(string, error) {}}
			if _, err := p.Reconfigure(s); err != nil {
				b.Fatal(err)
			}
			c := newBenchClient(b, startProxy(b, p))
			get := string(request(wire.OpGet, "a"))
			c.learn(put("a", 1<<10, 0), wire.PUT)
			c.learn(get, wire.GET)
			c.loop(b, get)
		})
	}
}
