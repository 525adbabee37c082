package xray_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"stateproxy/internal/xray"
	"stateproxy/proxy"
	"stateproxy/wire"
)

// rig plays web servers whose requests an XRay observes.
type rig struct {
	*xray.XRay
	t *testing.T
}

func newRig(t *testing.T) *rig { return &rig{&xray.XRay{}, t} }

// server is a web server and what it calls its application.
type server struct {
	addr   string
	app    string
	digest uint64 // stands for the digest behind the application part
}

// do observes a request of the server that was answered 200. Changes are made to
// its outcome first.
func (r *rig) do(s server, id uint64, op wire.Op, changes ...func(*proxy.Outcome)) {
	r.t.Helper()
	o := proxy.Outcome{
		Client: netip.AddrPortFrom(netip.MustParseAddr(s.addr), 50123),
		Op:     op, App: []byte(s.app), ID: mix(id), Session: sessionOf(s, id),
		Pool: "default", Backend: "s1", Status: wire.StatusOK,
		Start: time.Now().Add(-time.Millisecond), Duration: time.Millisecond,
	}
	if op == wire.OpSet {
		o.Body, o.Timeout, o.RequestBytes = []byte("some session"), 20, 200
	}
	for _, change := range changes {
		change(&o)
	}
	r.Observe(&o)
}

// sessionOf is what an Outcome calls the server's session under an ID.
func sessionOf(s server, id uint64) uint64 {
	h := mix(s.digest)
	for _, c := range []byte(s.app) {
		h = mix(h ^ uint64(c))
	}
	return mix(h ^ id)
}

// page observes a page that reads and writes the session.
func (r *rig) page(s server, id uint64) {
	r.t.Helper()
	r.do(s, id, wire.OpGetExclusive)
	r.do(s, id, wire.OpSet)
}

func status(n int) func(*proxy.Outcome) { return func(o *proxy.Outcome) { o.Status = n } }

func body(size int) func(*proxy.Outcome) {
	return func(o *proxy.Outcome) { o.Body = make([]byte, size) }
}

func locked(age time.Duration) func(*proxy.Outcome) {
	return func(o *proxy.Outcome) { o.Status, o.LockAge = wire.StatusLocked, age }
}

// only returns the findings of the kinds.
func (r *rig) only(kinds ...xray.Kind) (list []xray.Finding) {
	for _, f := range r.Findings() {
		if slices.Contains(kinds, f.Kind) {
			list = append(list, f)
		}
	}
	return list
}

// app returns the report on one application.
func (r *rig) app(name string) xray.App {
	r.t.Helper()
	report := r.Report()
	for _, a := range report.Apps {
		if a.Name == name {
			return a
		}
	}
	r.t.Fatalf("Report() has no application %q", name)
	return xray.App{}
}
