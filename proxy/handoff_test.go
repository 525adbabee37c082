package proxy_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

const (
	oldBody = "body at the former owner"
	newBody = "body of the request"
)

// handoffRig is a proxy whose every session has moved from f to o.
type handoffRig struct {
	*rig
	f, o *stateserver.Server
	trap *trap
}

func newHandoffRig(t *testing.T, o *stateserver.Server) *handoffRig {
	h := &handoffRig{rig: newRig(t, proxy.Settings{}), f: stateserver.RunT(t), o: o, trap: &trap{}}
	if o == nil {
		h.o = stateserver.RunT(t)
	}
	h.proxy.Dial = h.trap.dial
	h.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "f", Address: h.f.Addr(), Weight: 1}}})
	return h
}

// change makes o the owner.
func (h *handoffRig) change() {
	h.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "o", Address: h.o.Addr(), Weight: 1}}})
	for _, name := range []string{"f", "o"} { // as the probes would do soon
		h.proxy.SetInstance(name, "server "+name)
	}
}

// breakMove has a move store the session at o and break off before it is removed
// at f, where it stays locked.
func (h *handoffRig) breakMove() {
	h.t.Helper()
	h.trap.set("DELETE", "", false, 2)
	if a := dial(h.t, h.addr).get("a"); a.Status != 400 || place(h.f) != "old locked" || place(h.o) != "old" {
		h.t.Fatalf("GET whose move breaks = %d, then at f: %s, at o: %s; want 400, two copies", a.Status, place(h.f), place(h.o))
	}
}

// place tells what a server has: "-" nothing, else "old" or "new" by the body,
// with marks for a lock and for an uninitialized session.
func place(s *stateserver.Server) string {
	item, ok := s.Peek(app + "a")
	if !ok {
		return "-"
	}
	text := map[string]string{oldBody: "old", newBody: "new"}[string(item.Body)]
	if item.Locked {
		text += " locked"
	}
	if item.Uninitialized {
		text += " fresh"
	}
	return text
}

func has(s *stateserver.Server, id string) bool {
	_, ok := s.Peek(app + id)
	return ok
}

func TestHandoffVerbByVerb(t *testing.T) {
	const mine, other = 2, 9 // cookies: of the lock at f, and a wrong one
	type row struct {
		op     wire.Op
		status int
		f, o   string // afterwards
	}
	tests := []struct {
		name   string
		state  string // at f
		cookie int64  // of the request
		rows   []row
	}{
		{"absent", "", mine, []row{
			{wire.OpGet, 404, "-", "-"}, {wire.OpGetExclusive, 404, "-", "-"},
			{wire.OpSet, 200, "-", "new"}, {wire.OpSetUninitialized, 200, "-", "new fresh"},
			{wire.OpRelease, 404, "-", "-"}, {wire.OpRemove, 404, "-", "-"}, {wire.OpResetTimeout, 404, "-", "-"},
		}},
		{"unlocked", "old", mine, []row{
			{wire.OpGet, 200, "-", "old"}, {wire.OpGetExclusive, 200, "-", "old locked"},
			{wire.OpSet, 200, "-", "new"}, {wire.OpSetUninitialized, 200, "-", "old"},
			{wire.OpRelease, 200, "-", "old"}, {wire.OpRemove, 200, "-", "-"}, {wire.OpResetTimeout, 200, "-", "old"},
		}},
		{"locked by the requester", "old locked", mine, []row{
			{wire.OpGet, 423, "old locked", "-"}, {wire.OpGetExclusive, 423, "old locked", "-"},
			{wire.OpSet, 200, "new", "-"}, {wire.OpSetUninitialized, 200, "old locked", "-"},
			{wire.OpRelease, 200, "old", "-"}, {wire.OpRemove, 200, "-", "-"}, {wire.OpResetTimeout, 200, "old locked", "-"},
		}},
		{"locked by another", "old locked", other, []row{
			{wire.OpGet, 423, "old locked", "-"}, {wire.OpGetExclusive, 423, "old locked", "-"},
			{wire.OpSet, 423, "old locked", "-"}, {wire.OpSetUninitialized, 200, "old locked", "-"},
			{wire.OpRelease, 423, "old locked", "-"}, {wire.OpRemove, 423, "old locked", "-"}, {wire.OpResetTimeout, 200, "old locked", "-"},
		}},
		{"uninitialized", "old fresh", mine, []row{
			{wire.OpGet, 200, "-", "old"}, {wire.OpGetExclusive, 200, "-", "old locked"},
			{wire.OpSet, 200, "-", "new fresh"}, {wire.OpSetUninitialized, 200, "-", "old fresh"},
			{wire.OpRelease, 200, "-", "old"}, {wire.OpRemove, 200, "-", "-"}, {wire.OpResetTimeout, 200, "-", "old fresh"},
		}},
	}
	for _, tt := range tests {
		for _, row := range tt.rows {
			t.Run(tt.name+"/"+row.op.String(), func(t *testing.T) {
				h := newHandoffRig(t, nil)
				h.prepare(tt.state)
				h.change()
				a := dial(t, h.addr).operation(row.op, tt.cookie)
				if f, o := place(h.f), place(h.o); a.Status != row.status || f != row.f || o != row.o {
					t.Errorf("%v = %d, then at f: %s, at o: %s; want %d, %s, %s", row.op, a.Status, f, o, row.status, row.f, row.o)
				}
				h.check(tt.state, row.op, a)
			})
		}
	}
}

// prepare brings the session at f into a state, written as place tells it.
func (h *handoffRig) prepare(state string) {
	h.t.Helper()
	prepare(h.t, h.f, state)
}

// prepare brings the session at the server into a state.
func prepare(t *testing.T, s *stateserver.Server, state string) {
	t.Helper()
	c := dial(t, s.Addr())
	put := wire.Request{Verb: wire.PUT, Target: target("a"), Timeout: wire.Some(25)}
	if strings.Contains(state, "fresh") {
		put.ExtraFlags = wire.Some(1)
	}
	switch {
	case strings.HasPrefix(state, "old"):
		c.do(put, oldBody)
	case strings.HasPrefix(state, "new"):
		c.do(put, newBody)
	}
	if strings.Contains(state, "locked") {
		c.acquire("a")
	}
}

// operation does op on the session with the cookie.
func (c *client) operation(op wire.Op, cookie int64) answer {
	c.t.Helper()
	switch op {
	case wire.OpGet:
		return c.get("a")
	case wire.OpGetExclusive:
		return c.acquire("a")
	case wire.OpRelease:
		return c.release("a", wire.Some(cookie))
	case wire.OpRemove:
		return c.delete("a", wire.Some(cookie))
	case wire.OpResetTimeout:
		return c.head("a")
	}
	req := wire.Request{Verb: wire.PUT, Target: target("a"), Timeout: wire.Some(25), LockCookie: wire.Some(cookie)}
	if op == wire.OpSetUninitialized {
		req.ExtraFlags = wire.Some(1)
	}
	return c.do(req, newBody)
}

// check looks at what an answer and a copy must keep through the move.
func (h *handoffRig) check(state string, op wire.Op, a answer) {
	h.t.Helper()
	if isRead(op) && a.Status == 200 {
		wantFlags := wire.Int{}
		if strings.Contains(state, "fresh") {
			wantFlags = wire.Some(1)
		}
		if a.body != oldBody || a.ActionFlags != wantFlags || a.Timeout != wire.Some(25) {
			h.t.Errorf("%v = %q, flags %v, timeout %v; want the old body, flags %v, timeout 25", op, a.body, a.ActionFlags, a.Timeout, wantFlags)
		}
	}
	if item, ok := h.o.Peek(app + "a"); ok && item.Timeout != 25 {
		h.t.Errorf("timeout at o = %d; want 25", item.Timeout)
	}
	backend, moved := "o", false
	if state != "" && place(h.f) == "-" && !strings.Contains(state, "locked") {
		moved = true
	} else if state != "" {
		backend = "f"
	}
	if o := h.lastOutcome(1); o.Backend != backend || o.Moved != moved || o.Reason != "" {
		h.t.Errorf("outcome = %s, moved %t, %q; want %s, moved %t, no reason", o.Backend, o.Moved, o.Reason, backend, moved)
	}
}

// trap cuts connections to backends at a request of its choice.
type trap struct {
	mu     sync.Mutex
	prefix string // the request begins with it
	within string // and holds it
	after  bool   // the backend gets the request and only the answer is lost
	times  int    // how often that happens
}

func (tr *trap) set(prefix, within string, after bool, times int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.prefix, tr.within, tr.after, tr.times = prefix, within, after, times
}

func (tr *trap) dial(ctx context.Context, network, address string) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, network, address)
	return &trappedConn{Conn: nc, trap: tr}, err
}

type trappedConn struct {
	net.Conn
	trap *trap
	cut  bool
}

// Write implements net.Conn.
func (c *trappedConn) Write(b []byte) (int, error) {
	tr := c.trap
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.times == 0 || !bytes.HasPrefix(b, []byte(tr.prefix)) || !bytes.Contains(b, []byte(tr.within)) {
		return c.Conn.Write(b)
	}
	tr.times--
	c.cut = true
	if !tr.after {
		return len(b), nil // lost on its way
	}
	return c.Conn.Write(b)
}

// Read implements net.Conn.
func (c *trappedConn) Read(b []byte) (int, error) {
	if !c.cut {
		return c.Conn.Read(b)
	}
	c.trap.mu.Lock()
	after := c.trap.after
	c.trap.mu.Unlock()
	if after {
		_, _ = c.Conn.Read(b)
	}
	return 0, io.EOF
}

func TestBrokenMovesLeaveTheSessionReadable(t *testing.T) {
	tests := []struct {
		name           string
		prefix, within string
		after          bool
		times          int
		status         int    // of the request whose move breaks
		f, o           string // after it
		next           int    // status of the next request
	}{
		{"lost before the lock at f", "GET", "acquire", false, 1, 400, "old", "-", 200},
		{"answer of the lock lost", "GET", "acquire", true, 1, 400, "old locked", "-", 423},
		{"lost before the store at o", "PUT", "", false, 1, 400, "old", "-", 200},
		{"answer of the store lost", "PUT", "", true, 1, 400, "old", "old", 200},
		{"lost before the removal at f", "DELETE", "", false, 1, 200, "-", "old", 200},
		{"answer of the removal lost", "DELETE", "", true, 1, 200, "-", "old", 200},
		{"no removal goes through", "DELETE", "", false, 2, 400, "old locked", "old", 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHandoffRig(t, nil)
			h.prepare("old")
			h.change()
			c := dial(t, h.addr)
			h.trap.set(tt.prefix, tt.within, tt.after, tt.times)
			a := c.get("a")
			if f, o := place(h.f), place(h.o); a.Status != tt.status || f != tt.f || o != tt.o {
				t.Errorf("GET whose move breaks = %d, then at f: %s, at o: %s; want %d, %s, %s", a.Status, f, o, tt.status, tt.f, tt.o)
			}
			if o := h.lastOutcome(1); tt.status == 400 && o.Reason != proxy.HandoffBlocked {
				t.Errorf("outcome = %s; want handoff_blocked", o.Reason)
			}
			a = c.get("a")
			if a.Status != tt.next || a.Status == 200 && (a.body != oldBody || place(h.f) != "-" || place(h.o) != "old") {
				t.Errorf("the next GET = %d, %q, then at f: %s, at o: %s; want %d and, if moved, one copy", a.Status, a.body, place(h.f), place(h.o), tt.next)
			}
			if a.Status == 423 { // a client takes the lock over, as it does after its time-out
				c.release("a", a.LockCookie)
				if a := c.get("a"); a.Status != 200 || a.body != oldBody {
					t.Errorf("GET after the takeover = %d, %q; want the session", a.Status, a.body)
				}
			}
		})
	}
}

// newRefusedRig returns a handoffRig whose session is at f, for o takes none so large.
func newRefusedRig(t *testing.T) *handoffRig {
	o := &stateserver.Server{MaxBody: 4}
	o.StartT(t)
	h := newHandoffRig(t, o)
	h.prepare("old")
	h.change()
	return h
}

func TestNewOwnerThatRefusesTheSession(t *testing.T) {
	h := newRefusedRig(t)
	c := dial(t, h.addr)
	for i, op := range []wire.Op{wire.OpGet, wire.OpGetExclusive, wire.OpRemove, wire.OpSet} {
		if a := c.operation(op, 2); a.Status != 400 {
			t.Errorf("%v = %d; want 400", op, a.Status)
		}
		if o := h.lastOutcome(i + 1); o.Reason != proxy.HandoffBlocked || place(h.f) != "old" {
			t.Errorf("outcome = %s, then at f: %s; want handoff_blocked, the session unlocked", o.Reason, place(h.f))
		}
	}
	h.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "f", Address: h.f.Addr(), Weight: 1}}})
	if a := c.get("a"); a.Status != 200 || a.body != oldBody {
		t.Errorf("GET after the change is taken back = %d, %q; want the session", a.Status, a.body)
	}
}

// The lock of a move that fails can't be released either. The next request does it.
func TestLockThatIsNotLetGo(t *testing.T) {
	h := newRefusedRig(t)
	c := dial(t, h.addr)
	h.trap.set("GET", "release", false, 1)
	for _, want := range []string{"old locked", "old"} {
		if a := c.get("a"); a.Status != 400 || place(h.f) != want {
			t.Errorf("GET = %d, then at f: %s; want 400, %s", a.Status, place(h.f), want)
		}
	}
}

func TestFormerOwnerThatIsDead(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old")
	h.change()
	h.f.Close()
	c := dial(t, h.addr)
	for _, op := range verbs {
		if a := c.operation(op, 2); a.Status != 400 || h.o.Len() != 0 {
			t.Errorf("%v while the session may be at a dead server = %d, then %d sessions at o; want 400 and none", op, a.Status, h.o.Len())
		}
	}
	if _, ok := h.proxy.SetUp("f", false); !ok {
		t.Fatal("SetUp does not know the former owner")
	}
	if a := c.get("a"); a.Status != 404 {
		t.Errorf("GET once that server is ejected = %d; want o's 404", a.Status)
	}
	if a := c.put("a", newBody, wire.Some(0)); a.Status != 200 {
		t.Errorf("PUT once that server is ejected = %d; want 200", a.Status)
	}
}

func TestRequestsBesideAMoveNeedNotPoll(t *testing.T) {
	h := newHandoffRig(t, nil)
	h.prepare("old")
	h.change()
	const n = 20
	var wg sync.WaitGroup
	for range n {
		c := dial(t, h.addr)
		wg.Go(func() {
			c.send(request(wire.OpGet, "a"))
			if a, err := c.read(wire.GET); a.Status != 200 || a.body != oldBody || err != nil {
				t.Errorf("GET = %d, %q, %v; want the session", a.Status, a.body, err)
			}
		})
	}
	wg.Wait()
	h.lastOutcome(n)
	moved := 0
	for _, o := range h.outcomes {
		if o.Moved {
			moved++
		}
	}
	if moved != 1 {
		t.Errorf("%d requests say that they moved the session; want 1", moved)
	}
}

// f was cut off after it had ceased to be the owner: what it still has may be
// older than what o got meanwhile, so o's copy counts, and f's where o has none.
func TestFormerOwnerThatWasCutOff(t *testing.T) {
	h := newHandoffRig(t, nil)
	direct := dial(t, h.f.Addr())
	for _, id := range []string{"a", "b", "c", "e"} {
		direct.put(id, oldBody, wire.Some(0))
	}
	direct.acquire("a") // by a client that is long gone
	h.change()
	h.proxy.SetUp("f", false)
	c := dial(t, h.addr)
	c.put("a", newBody, wire.Some(0))
	dial(t, h.o.Addr()).put("e", newBody, wire.Some(0)) // by somebody who leaves no note
	h.proxy.SetUp("f", true)
	if a := c.get("a"); a.Status != 200 || a.body != newBody {
		t.Errorf("GET of the session that went on at o = %d, %q; want o's copy", a.Status, a.body)
	}
	if a := c.head("b"); a.Status != 200 || !has(h.o, "b") || has(h.f, "b") {
		t.Errorf("HEAD of the session that is only at f = %d, then at o: %t; want 200, moved", a.Status, has(h.o, "b"))
	}
	if a := c.get("b"); a.Status != 200 || a.body != oldBody {
		t.Errorf("GET of the session that was only at f = %d, %q; want f's copy", a.Status, a.body)
	}
	if a := c.put("c", newBody, wire.Some(0)); a.Status != 200 || has(h.f, "c") {
		t.Errorf("PUT of the session that is only at f = %d, then at f: %t; want 200, moved", a.Status, has(h.f, "c"))
	}
	if a := c.get("e"); a.Status != 200 || a.body != newBody {
		t.Errorf("GET of the session that went on at o unseen = %d, %q; want o's copy", a.Status, a.body)
	}
	if a := c.get("d"); a.Status != 404 {
		t.Errorf("GET of a session that is nowhere = %d; want 404", a.Status)
	}
}

// An old copy at an owner that is back must give way, whatever its state.
func TestOldCopyAtTheOwnerGivesWay(t *testing.T) {
	states := []string{"old", "old locked", "old fresh"}
	for _, state := range states {
		t.Run(state, func(t *testing.T) {
			h := newHandoffRig(t, nil)
			h.prepare(state)
			h.proxy.SetUp("f", false)
			h.change()
			c := dial(t, h.addr)
			req := wire.Request{Verb: wire.PUT, Target: target("a"), Timeout: wire.Some(30), ExtraFlags: wire.Some(1)}
			c.do(req, newBody)
			h.proxy.SetUp("f", true)
			h.reconfigure(proxy.Settings{Backends: []proxy.Backend{{Name: "f", Address: h.f.Addr(), Weight: 1}}})
			a := c.get("a")
			if a.Status != 200 || a.body != newBody || a.ActionFlags != wire.Some(1) || a.Timeout != wire.Some(30) {
				t.Errorf("GET = %d, %q, flags %v, timeout %v; want the later copy, flags 1, timeout 30", a.Status, a.body, a.ActionFlags, a.Timeout)
			}
			if f, o := place(h.f), place(h.o); f != "new" || o != "-" {
				t.Errorf("then at f: %s, at o: %s; want new, -", f, o)
			}
		})
	}
}

func TestRemovedSessionDoesNotComeBack(t *testing.T) {
	for _, state := range []string{"old", "old locked"} {
		t.Run(state, func(t *testing.T) {
			h := newHandoffRig(t, nil)
			h.prepare(state)
			h.change()
			h.proxy.SetUp("f", false)
			c := dial(t, h.addr)
			c.put("a", newBody, wire.Some(0))
			h.proxy.SetUp("f", true)
			if a := c.delete("a", wire.Some(0)); a.Status != 200 {
				t.Fatalf("DELETE = %d; want 200", a.Status)
			}
			if a := c.get("a"); a.Status != 404 || place(h.f) != "-" {
				t.Errorf("GET after it = %d, at f: %s; want 404 and no copy", a.Status, place(h.f))
			}
		})
	}
}
