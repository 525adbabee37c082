package proxy

import (
	"bytes"
	"slices"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/wire"
)

// Proxies may stand in a row: one beside each web server, with a few central
// ones before the state servers. A proxy asks who is at each of its backends and
// so learns which of them are proxies themselves. Those
//
//   - are told with each request how long its answer is waited for, so that the
//     one behind gives up first and its answer still arrives;
//   - do not stand for one run of a server: that one of the servers behind was
//     restarted does not mean that a proxy's sessions are gone;
//   - may lead to the same servers: nothing is moved between them then, for they
//     would show each other's sessions anyway;
//   - tell which proxies are behind them. If a proxy finds itself there, its
//     requests would come back to it, and the backend is not used.
//
// Until that is found, what a request may spend bounds how often it can go round:
// each proxy leaves the next less time than it has.

// Peer is a proxy at a backend's address, as it describes itself.
type Peer struct {
	ID      string         // of its run
	Servers []string       // runs of the state servers behind it
	Behind  map[string]int // IDs of proxies behind it, and how far behind
}

// maxBehind is how far behind a proxy others are told of, and so the length of a
// row. Without it, news of one that is gone would go round in a loop for ever.
const maxBehind = 8

// SetPeer tells that a proxy answers at a backend. loop is true if this proxy is
// behind it, or is the one: requests sent there would come back. twin is another
// backend that leads to one of the servers behind it and is no proxy, "" if
// there is none. news is true unless the same proxy was there before.
func (p *Proxy) SetPeer(name string, peer Peer) (loop bool, twin string, news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.table.Load()
	place := t.target(name)
	if place == nil {
		return false, "", false
	}
	old := place.setPeer(&peer)
	place.seen = time.Now().UnixNano()
	before := place.instance.Load()
	if now := before.next(peer.Servers); now != before {
		place.instance.Store(now)
		place.join(t.places())
		twin = t.twin(place)
	}
	_, loop = peer.Behind[p.id]
	loop = loop || peer.ID == p.id
	place.loops.Store(loop)
	return loop, twin, old == nil || old.ID != peer.ID
}

// SetInstance tells which run of its server answers at a backend, by the nonce
// of its sentinel. restarted is true if that is another one than before: the
// server has lost its sessions. twin is another backend that leads to the same
// server, "" if there is none.
func (p *Proxy) SetInstance(name, nonce string) (restarted bool, twin string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.table.Load()
	place := t.target(name)
	if place == nil {
		return false, ""
	}
	now := instance{runs: []string{nonce}}
	before, seen := place.instance.Swap(&now), place.seen
	place.seen = time.Now().UnixNano()
	place.setPeer(nil)
	if before != nil && before.equal(&now) {
		return false, ""
	}
	restarted = before != nil && !before.meets(&now) // else it was behind a proxy before
	if restarted {
		// It may have taken sessions, and even have been cut off with them, since
		// it was restarted: what was overtaken stays so.
		place.began.Store(seen)
	}
	place.join(t.places())
	return restarted, t.twin(place)
}

// twin returns the backend that leads to the same server as place and should not,
// "" if there is none. Proxies before the same servers are as they should be.
func (t *table) twin(place *place) (name string) {
	for _, other := range t.places() {
		if other != place && sameServer(other, place) && !(other.isProxy() && place.isProxy()) {
			name = t.targetName(other)
		}
	}
	return name
}

// setPeer takes what answers at the place: the proxy, or a state server if it is
// nil. It returns what did before.
func (p *place) setPeer(peer *Peer) (old *Peer) {
	kind := backend.Server
	if peer != nil {
		kind = backend.Proxy
	}
	p.conns.SetKind(kind)
	if peer == nil {
		p.loops.Store(false)
	}
	return p.peer.Swap(peer)
}

func (p *place) isProxy() bool { return p.peer.Load() != nil }

// instance is what a place leads to: the run of a state server, or those of all
// the servers behind a proxy. It is never changed.
type instance struct {
	runs   []string
	former []string // of the proxy before its servers last changed: others may not have heard of it yet
}

// next returns what a proxy leads to that has now named its servers. One that
// names none has not asked them yet.
func (in *instance) next(servers []string) *instance {
	switch {
	case len(servers) == 0:
		return in
	case in == nil:
		return &instance{runs: servers}
	case slices.Equal(in.runs, servers):
		return in
	}
	return &instance{runs: servers, former: in.runs}
}

func (in *instance) equal(other *instance) bool { return slices.Equal(in.runs, other.runs) }

// meets reports whether both lead to one and the same server, or did a moment
// ago.
func (in *instance) meets(other *instance) bool {
	return meet(in.runs, other.runs) || meet(in.former, other.runs) || meet(in.runs, other.former)
}

func meet(a, b []string) bool {
	return slices.ContainsFunc(a, func(run string) bool { return slices.Contains(b, run) })
}

// describe returns what proxies before this one are told.
func (p *Proxy) describe() *backend.Description {
	d := &backend.Description{ID: p.id, Serves: p.Serves == nil || p.Serves(), Behind: map[string]int{}}
	for _, place := range p.table.Load().places() {
		if in := place.instance.Load(); in != nil {
			d.Servers = append(d.Servers, in.runs...)
		}
		peer := place.peer.Load()
		if peer == nil || peer.ID == "" {
			continue
		}
		nearer(d.Behind, peer.ID, 1)
		for id, far := range peer.Behind {
			nearer(d.Behind, id, far+1)
		}
	}
	slices.Sort(d.Servers)
	d.Servers = slices.Compact(d.Servers)
	return d
}

// nearer notes that a proxy is so far behind, unless it is nearer on another way
// or too far to be told of.
func nearer(behind map[string]int, id string, far int) {
	if before, ok := behind[id]; far <= maxBehind && (!ok || far < before) {
		behind[id] = far
	}
}

// reserved is how keys begin that are no session's.
var reserved = []byte(backend.Reserved)

// isReserved reports whether the key is no session's. One that a server which
// decodes twice would take for such a key is none either. What follows may look
// like the key of a session, as in notes.
func isReserved(key []byte) bool {
	begin := key[:min(len(key), 6*len(reserved))] // a character has six bytes at most, as %u0073
	if bytes.HasPrefix(begin, []byte("//")) || bytes.IndexByte(begin, '%') >= 0 {
		begin = wire.AppendDecoded(nil, begin)
	}
	return bytes.HasPrefix(begin, reserved)
}

// answerReserved answers a request for a key that is no session's. The other
// proxy's question is answered; no other such key is sent on, for a proxy keeps
// its sentinel on each server under one.
func (c *conn) answerReserved(s *Settings) (keep bool) {
	if string(c.x.key.Full) != backend.DescriptionKey || c.x.Op != wire.OpGet && c.x.Op != wire.OpResetTimeout || c.x.Rest != nil {
		return c.own(s, wire.StatusBadRequest) && c.x.Rest == nil
	}
	resp := wire.Response{Status: wire.StatusOK, AspNetVersion: []byte(s.AspNetVersion)}
	var body []byte
	if c.x.Op == wire.OpGet {
		body = c.p.describe().Append(nil)
		resp.ContentLength = wire.Some(int64(len(body)))
	}
	_, err := c.write(s, append(wire.AppendResponse(nil, &resp), body...), time.Now())
	return err == nil
}

// leastBudget is the time below which no backend is asked.
const leastBudget = 5 * time.Millisecond

// takeBudget takes the line with the budget, if there is one, out of the request
// that begins b and was parsed into c.req.
func (c *conn) takeBudget(b []byte) []byte {
	c.told = wire.Int{}
	if !c.req.HasBudget() {
		return b
	}
	c.told = c.req.Budget
	b = c.req.WithoutBudget(b)
	_, _ = wire.ParseRequest(b, &c.req) // without the line it is the same request
	return b
}

// budget returns what the request in c may spend. A proxy before this one can
// make it shorter.
func (c *conn) budget(s *Settings) time.Duration {
	c.x.Told, c.x.hurried = c.told.Set, false
	if !c.told.Set {
		return s.Budget
	}
	told := time.Duration(c.told.N) * time.Millisecond
	c.x.hurried = told < s.Budget/2
	return min(told, s.Budget)
}
