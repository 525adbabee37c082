package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"stateproxy/proxy"
)

// site returns settings with backends s1 to sn of weight 1.
func site(n int, pools ...proxy.Pool) proxy.Settings {
	s := proxy.Settings{Pools: pools}
	for i := range n {
		s.Backends = append(s.Backends, proxy.Backend{Name: fmt.Sprintf("s%d", i+1), Address: fmt.Sprintf("10.0.0.%d:42424", i+1), Weight: 1})
	}
	return s
}

// pool returns a pool; patterns and backends have commas between.
func pool(name, patterns, backends string) proxy.Pool {
	return proxy.Pool{Name: name, Applications: strings.Split(patterns, ","), Backends: strings.Split(backends, ",")}
}

func layout(t *testing.T, s proxy.Settings) *proxy.Layout {
	t.Helper()
	l, err := proxy.NewLayout(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLayoutPools(t *testing.T) {
	s := site(5, pool("shop", "/LM/W3SVC/2/*,/shop", "s5,s4,s2"))
	s.Backends[4].Weight = 3
	s.Backends[3].Drain, s.Backends[2].Drain = true, true
	var got []string
	for _, q := range layout(t, s).Pools() {
		got = append(got, fmt.Sprintf("%s %q %v without %v", q.Name, q.Applications, q.Ring.Members(), q.Draining))
	}
	want := []string{
		`shop ["/LM/W3SVC/2/*" "/shop"] [{s2 1} {s5 3}] without [s4]`,
		`default [] [{s1 1}] without [s3]`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("Pools() = %q; want %q", got, want)
	}
}

func TestLayoutRoutesAsTheProxyDoes(t *testing.T) {
	s := site(4, pool("shop", "/LM/W3SVC/2/*,/shop", "s1,s4"))
	l := layout(t, s)
	p := &proxy.Proxy{}
	if _, err := p.Reconfigure(s); err != nil {
		t.Fatal(err)
	}
	for i, ps := range p.Status().Pools {
		if q := l.Pools()[i]; q.Name != ps.Name || q.Ring.Fingerprint() != ps.Fingerprint {
			t.Errorf("pool %d = %s with ring %x; want %s with %x as the proxy has it", i, q.Name, q.Ring.Fingerprint(), ps.Name, ps.Fingerprint)
		}
	}
}

func TestLayoutPool(t *testing.T) {
	open := layout(t, site(3, pool("shop", "/lm/w3svc/2/*,/Shop", "s1"), pool("any3", "/LM/W3SVC/?/ROOT", "s2")))
	shut := layout(t, site(1, pool("shop", "/shop", "s1")))
	tests := []struct {
		name          string
		layout        *proxy.Layout
		app           string
		pool, pattern string
	}{
		{"first pattern", open, "/LM/W3SVC/2/ROOT", "shop", "/lm/w3svc/2/*"},
		{"second pattern", open, "/SHOP", "shop", "/Shop"},
		{"second pool", open, "/LM/W3SVC/3/ROOT", "any3", "/LM/W3SVC/?/ROOT"},
		{"no pattern", open, "/LM/W3SVC/33/ROOT", "default", ""},
		{"no application", open, "", "default", ""},
		{"no pool", shut, "/else", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, pattern := tt.layout.Pool([]byte(tt.app))
			name := ""
			if q != nil {
				name = q.Name
			}
			if name != tt.pool || pattern != tt.pattern {
				t.Errorf("Pool(%q) = %q by %q; want %q by %q", tt.app, name, pattern, tt.pool, tt.pattern)
			}
		})
	}
}

func TestLayoutPassages(t *testing.T) {
	shop := pool("shop", "/LM/W3SVC/2/*", "s3")
	tests := []struct {
		name      string
		old, next proxy.Settings
		want      []string
	}{
		{"no pools", site(2), site(3), []string{`default>default [""]`}},
		{"same pools", site(3, shop), site(3, shop), []string{`shop>shop ["/LM/W3SVC/2/*"]`, `default>default [""]`}},
		{"new pool", site(3), site(3, shop), []string{`default>shop ["/LM/W3SVC/2/*"]`, `default>default [""]`}},
		{"pool gone", site(3, shop), site(3), []string{`shop>default ["/LM/W3SVC/2/*"]`, `default>default [""]`}},
		{"pool renamed", site(3, shop), site(3, pool("store", "/LM/W3SVC/2/*", "s3")), []string{`shop>store ["/LM/W3SVC/2/*"]`, `default>default [""]`}},
		{"pattern narrowed", site(3, shop), site(3, pool("shop", "/LM/W3SVC/2/ROOT", "s3")), []string{
			`shop>shop ["/LM/W3SVC/2/ROOT"]`, `shop>default ["/LM/W3SVC/2/*"]`, `default>default [""]`,
		}},
		{"pattern widened", site(3, pool("shop", "/2/ROOT,/3/?", "s3")), site(3, pool("shop", "/?/ROOT,/3/*", "s3")), []string{
			`default>shop ["/?/ROOT" "/3/*"]`, `shop>shop ["/2/ROOT" "/3/?"]`, `default>default [""]`,
		}},
		{"nobody's", site(3, shop, pool("rest", "*", "s1,s2")), site(1, pool("shop", "/LM/W3SVC/2/ROOT", "s1")), []string{
			`shop>shop ["/LM/W3SVC/2/ROOT"]`, `shop> ["/LM/W3SVC/2/*"]`, `rest> ["*" ""]`,
		}},
		{"first service", site(1, pool("shop", "/a", "s1")), site(2, pool("shop", "/a", "s1")), []string{
			`shop>shop ["/a"]`, `>default [""]`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, p := range layout(t, tt.old).Passages(layout(t, tt.next)) {
				got = append(got, fmt.Sprintf("%s>%s %q", nameOf(p.From), nameOf(p.To), p.Patterns))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("Passages() = %q; want %q", got, tt.want)
			}
		})
	}
}

func nameOf(q *proxy.PoolLayout) string {
	if q == nil {
		return ""
	}
	return q.Name
}

func TestNewLayoutErrors(t *testing.T) {
	unknown, heavy := site(1, pool("shop", "/a", "s9")), site(1)
	heavy.Backends[0].Weight = 1001
	for name, s := range map[string]proxy.Settings{"unknown backend": unknown, "weight": heavy} {
		t.Run(name, func(t *testing.T) {
			_, want := (&proxy.Proxy{}).Reconfigure(s)
			l, err := proxy.NewLayout(s)
			if want == nil || err == nil || l != nil || err.Error() != want.Error() {
				t.Errorf("NewLayout() = %v, %v; want the error of Reconfigure, %v", l, err, want)
			}
		})
	}
}

func TestLayoutAlias(t *testing.T) {
	s := site(2, pool("shop", "/LM/W3SVC/2/ROOT", "s1"))
	s.Aliases = []proxy.Alias{
		{To: "/LM/W3SVC/2/ROOT", From: []string{"/LM/W3SVC/7/*"}},
		{To: "/LM/W3SVC/3/ROOT", From: []string{"*"}},
	}
	l := layout(t, s)
	tests := []struct{ name, app, alias, pool string }{
		{"one that is taken for another", "/lm/w3svc/7/root/x", "/LM/W3SVC/2/ROOT", "shop"},
		{"that one itself", "/LM/W3SVC/2/ROOT", "", "shop"},
		{"by a later rule", "/LM/W3SVC/2/ROOT/", "/LM/W3SVC/3/ROOT", "default"},
		{"a request without an application", "", "", "default"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			to, ok := l.Alias([]byte(tt.app))
			if to != tt.alias || ok != (to != "") {
				t.Errorf("Alias(%q) = %q, %v; want %q", tt.app, to, ok, tt.alias)
			}
			if q, _ := l.Pool([]byte(tt.app)); q == nil || q.Name != tt.pool {
				t.Errorf("Pool(%q) = %+v; want %s", tt.app, q, tt.pool)
			}
		})
	}
}
