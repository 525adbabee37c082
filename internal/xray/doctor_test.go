package xray_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/xray"
	"stateproxy/proxy"
	"stateproxy/wire"
)

var identity = []xray.Kind{xray.AppMismatch, xray.AppPathDiffers, xray.KeyMismatch}

func TestMismatch(t *testing.T) {
	tests := []struct {
		name    string
		servers []server
		kind    xray.Kind
		apps    []string
		advice  string
	}{
		{"site number", []server{{addr: "10.0.0.1", app: "/LM/W3SVC/1/ROOT/shop"}, {addr: "10.0.0.2", app: "/LM/W3SVC/2/ROOT/shop"}},
			xray.AppMismatch, []string{"/LM/W3SVC/1/ROOT/shop", "/LM/W3SVC/2/ROOT/shop"}, "same ID"},
		{"site number of the root", []server{{addr: "10.0.0.1", app: "/LM/W3SVC/1/ROOT"}, {addr: "10.0.0.2", app: "/lm/w3svc/1234567/root"}},
			xray.AppMismatch, []string{"/LM/W3SVC/1/ROOT", "/lm/w3svc/1234567/root"}, "same ID"},
		{"letter case", []server{{addr: "10.0.0.1", app: "/LM/W3SVC/1/ROOT/shop"}, {addr: "10.0.0.2", app: "/LM/W3SVC/1/ROOT/Shop"}},
			xray.AppMismatch, []string{"/LM/W3SVC/1/ROOT/shop", "/LM/W3SVC/1/ROOT/Shop"}, "upper and lower case"},
		{"path", []server{{addr: "10.0.0.1", app: "/LM/W3SVC/1/ROOT/shop"}, {addr: "10.0.0.2", app: "/LM/W3SVC/1/ROOT/web/shop"}},
			xray.AppMismatch, []string{"/LM/W3SVC/1/ROOT/shop", "/LM/W3SVC/1/ROOT/web/shop"}, "same path"},
		{"depth", []server{{addr: "10.0.0.1", app: "/LM/W3SVC/1/ROOT"}, {addr: "10.0.0.2", app: "/LM/W3SVC/1/ROOT/shop"}},
			xray.AppPathDiffers, []string{"/LM/W3SVC/1/ROOT", "/LM/W3SVC/1/ROOT/shop"}, "If these are one application"},
		{"machine key", []server{{addr: "10.0.0.1", app: "/LM/W3SVC/1/ROOT", digest: 1}, {addr: "10.0.0.2", app: "/LM/W3SVC/1/ROOT", digest: 2}},
			xray.KeyMismatch, []string{"/LM/W3SVC/1/ROOT"}, "machineKey"},
		{"three sites", []server{{addr: "10.0.0.1", app: "/LM/W3SVC/1/ROOT"}, {addr: "10.0.0.2", app: "/LM/W3SVC/2/ROOT"}, {addr: "10.0.0.3", app: "/LM/W3SVC/3/ROOT"}},
			xray.AppMismatch, []string{"/LM/W3SVC/1/ROOT", "/LM/W3SVC/2/ROOT", "/LM/W3SVC/3/ROOT"}, "same ID"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			begun := time.Now()
			for id := range uint64(12) {
				for i := range tt.servers { // users move from server to server
					r.page(tt.servers[(int(id)+i)%len(tt.servers)], id)
				}
			}
			list := r.only(identity...)
			if len(list) != 1 {
				t.Fatalf("Findings() = %+v; want one", list)
			}
			f := list[0]
			if f.Kind != tt.kind {
				t.Errorf("Kind = %q; want %q", f.Kind, tt.kind)
			}
			slices.Sort(f.Apps)
			slices.Sort(tt.apps)
			if !slices.Equal(f.Apps, tt.apps) {
				t.Errorf("Apps = %q; want %q", f.Apps, tt.apps)
			}
			for i, s := range tt.servers {
				if !strings.Contains(f.Text, s.app) || !strings.Contains(f.Text, s.addr) {
					t.Errorf("Text = %q; want it to name %s and %s", f.Text, s.app, s.addr)
				}
				if want := netip.MustParseAddr(s.addr); len(f.Clients) != len(tt.servers) || f.Clients[i] != want {
					t.Errorf("Clients = %v; want those of %v", f.Clients, tt.servers)
				}
			}
			if !strings.Contains(f.Advice, tt.advice) || !strings.Contains(f.Advice, "a rule under applications") {
				t.Errorf("Advice = %q; want %q in it, and the other way out", f.Advice, tt.advice)
			}
			if f.Since.Before(begun.Add(-time.Second)) || f.Since.After(time.Now()) {
				t.Errorf("Since = %v; want about %v", f.Since, begun)
			}
		})
	}
}

// A user who comes to the other server with a cookie that names a session under
// another part is told that there is none; the page may not even make one.
func TestMismatchByMisses(t *testing.T) {
	r := newRig(t)
	one, two := server{addr: "10.0.0.1", app: "/LM/W3SVC/1/ROOT"}, server{addr: "10.0.0.2", app: "/LM/W3SVC/7/ROOT"}
	for id := range uint64(8) {
		r.page(one, id)
		r.do(two, id, wire.OpGet, status(wire.StatusNotFound))
	}
	if list := r.only(xray.AppMismatch); len(list) != 1 {
		t.Errorf("Findings() = %v; want a mismatch", list)
	}
}

func TestNoMismatch(t *testing.T) {
	shop, forum := "/LM/W3SVC/1/ROOT/shop", "/LM/W3SVC/1/ROOT/forum"
	root, other := "/LM/W3SVC/1/ROOT", "/LM/W3SVC/2/ROOT"
	tests := []struct {
		name string
		play func(r *rig, id uint64)
	}{
		{"one application on two servers", func(r *rig, id uint64) {
			r.page(server{addr: "10.0.0.1", app: root}, id)
			r.page(server{addr: "10.0.0.2", app: root}, id)
		}},
		{"one cookie for the applications of a site", func(r *rig, id uint64) {
			for _, app := range []string{root, shop, forum} {
				r.page(server{addr: "10.0.0.1", app: app}, id)
				r.page(server{addr: "10.0.0.2", app: app}, id)
			}
		}},
		{"the same, spread at random", func(r *rig, id uint64) {
			addrs := []string{"10.0.0.1", "10.0.0.2"}
			for i, app := range []string{root, shop, root + "/a/shop"} {
				r.page(server{addr: addrs[mix(id*3+uint64(i))%2], app: app}, id)
			}
		}},
		{"applications of their own on servers of their own", func(r *rig, id uint64) {
			r.page(server{addr: "10.0.0.1", app: shop}, id)
			r.page(server{addr: "10.0.0.2", app: forum}, id)
		}},
		{"other sessions", func(r *rig, id uint64) {
			r.page(server{addr: "10.0.0.1", app: root}, id)
			r.page(server{addr: "10.0.0.2", app: other}, id+1000)
		}},
		{"clients behind one address", func(r *rig, id uint64) {
			r.page(server{addr: "10.0.0.9", app: root}, id)
			r.page(server{addr: "10.0.0.9", app: other}, id)
		}},
		{"two users only", func(r *rig, id uint64) {
			r.page(server{addr: "10.0.0.1", app: root}, id%2)
			r.page(server{addr: "10.0.0.2", app: other}, id%2)
		}},
		{"digests renewed by the same server", func(r *rig, id uint64) {
			r.page(server{addr: "10.0.0.1", app: root, digest: 1}, id)
			r.page(server{addr: "10.0.0.1", app: root, digest: 2}, id)
		}},
		{"no application part", func(r *rig, id uint64) {
			noID := func(o *proxy.Outcome) { o.ID = 0 }
			r.do(server{addr: "10.0.0.1"}, id, wire.OpSet, noID)
			r.do(server{addr: "10.0.0.2", digest: 1}, id, wire.OpSet, noID)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			for id := range uint64(200) {
				tt.play(r, id)
			}
			if list := r.only(identity...); len(list) > 0 {
				t.Errorf("Findings() = %+v; want none of %q", list, identity)
			}
		})
	}
}

// Too few requests can't tell servers that differ from chance.
func TestMismatchNeedsEvidence(t *testing.T) {
	r := newRig(t)
	one, two := server{addr: "10.0.0.1", app: "/LM/W3SVC/1/ROOT"}, server{addr: "10.0.0.2", app: "/LM/W3SVC/2/ROOT"}
	for id := range uint64(3) {
		r.page(one, id)
		r.page(two, id)
	}
	if list := r.only(xray.AppMismatch); len(list) > 0 {
		t.Errorf("after 6 requests each: Findings() = %v; want none", list)
	}
	r.page(one, 100)
	r.page(two, 200)
	if list := r.only(xray.AppMismatch); len(list) != 1 {
		t.Errorf("after 8 requests each: Findings() = %v; want a mismatch", list)
	}
}

func TestMismatchEnds(t *testing.T) {
	one, two := server{addr: "10.0.0.1", app: "/LM/W3SVC/1/ROOT"}, server{addr: "10.0.0.2", app: "/LM/W3SVC/2/ROOT"}
	minutes := func(r *rig, n int, play func(id uint64)) {
		for i := range n * 6 {
			for id := range uint64(10) {
				play(id + uint64(i)*10)
			}
			r.Findings()
			time.Sleep(10 * time.Second)
		}
	}
	broken := func(r *rig) func(uint64) {
		return func(id uint64) { r.page(one, id); r.page(two, id) }
	}
	t.Run("when the traffic ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			minutes(r, 5, broken(r))
			time.Sleep(9 * time.Minute)
			if list := r.only(xray.AppMismatch); len(list) != 1 {
				t.Errorf("after 9 minutes: Findings() = %v; want a mismatch", list)
			}
			time.Sleep(2 * time.Minute)
			if list := r.only(xray.AppMismatch); len(list) > 0 {
				t.Errorf("after 11 minutes: Findings() = %v; want none", list)
			}
		})
	})
	t.Run("when the server is put right", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			minutes(r, 5, broken(r))
			fixed := server{addr: two.addr, app: one.app}
			r.page(fixed, 1)
			if list := r.only(xray.AppMismatch); len(list) > 0 {
				t.Errorf("after the first page: Findings() = %v; want none", list)
			}
		})
	})
	t.Run("not while users stay the same", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			minutes(r, 90, func(id uint64) { broken(r)(id % 10) })
			list := r.only(xray.AppMismatch)
			if len(list) != 1 {
				t.Fatalf("Findings() = %v; want a mismatch", list)
			}
			if since := time.Since(list[0].Since); since < 89*time.Minute {
				t.Errorf("Since = %v ago; want 90 minutes", since)
			}
		})
	})
}

func TestMismatchNamesFewClients(t *testing.T) {
	r := newRig(t)
	for id := range uint64(400) {
		r.page(server{addr: netip.AddrFrom4([4]byte{10, 0, 1, byte(id % 40)}).String(), app: "/LM/W3SVC/1/ROOT"}, id)
		r.page(server{addr: netip.AddrFrom4([4]byte{10, 0, 2, byte(id % 40)}).String(), app: "/LM/W3SVC/2/ROOT"}, id)
	}
	list := r.only(xray.AppMismatch)
	if len(list) != 1 {
		t.Fatalf("Findings() = %v; want a mismatch", list)
	}
	if want := "10.0.1.7, 32 more"; !strings.Contains(list[0].Text, want) {
		t.Errorf("Text = %q; want %q in it", list[0].Text, want)
	}
	if len(list[0].Clients) != 80 {
		t.Errorf("len(Clients) = %d; want 80", len(list[0].Clients))
	}
}
