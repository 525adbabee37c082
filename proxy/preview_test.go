package proxy_test

import (
	"math"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
)

// previews are changes that keep the pools' names and patterns.
var previews = []struct {
	name      string
	old, next proxy.Settings
	down      string // backend that is ejected in between
}{
	{"same", site(3), site(3), ""},
	{"added", site(3), site(4), ""},
	{"removed", site(4), site(3), ""},
	{"added while one is ejected", site(3), site(4), "s2"},
	{"ejected one removed", site(3), site(2), "s3"},
	{"ejected one drained", site(3), drained(site(3), "s2"), "s2"},
	{"drained", site(3), drained(site(3), "s2"), ""},
	{"moved to another address", site(3), elsewhere(site(3), "s2"), ""},
	{"ejected one moved to another address", site(3), elsewhere(site(3), "s2"), "s2"},
	{"pool gains", site(4, pool("shop", "/a", "s1")), site(4, pool("shop", "/a", "s1,s2")), ""},
}

func drained(s proxy.Settings, name string) proxy.Settings {
	for i := range s.Backends {
		s.Backends[i].Drain = s.Backends[i].Name == name
	}
	return s
}

func elsewhere(s proxy.Settings, name string) proxy.Settings {
	for i := range s.Backends {
		if s.Backends[i].Name == name {
			s.Backends[i].Address = "10.0.9.9:42424"
		}
	}
	return s
}

func TestPreviewTellsWhatReconfigureDoes(t *testing.T) {
	for _, tt := range previews {
		for name, delay := range map[string]time.Duration{"at once": -1, "later": time.Minute} {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { checkPreview(t, tt.old, tt.next, tt.down, delay) })
			})
		}
	}
}

// checkPreview holds Preview to what Reconfigure then does, twice: the second
// time the change may still be to come.
func checkPreview(t *testing.T, old, next proxy.Settings, down string, delay time.Duration) {
	p := &proxy.Proxy{}
	defer p.Close()
	next.HandoffDelay = delay
	reconfigure := func(s proxy.Settings) proxy.Change {
		c, err := p.Reconfigure(s)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	reconfigure(old)
	if down != "" {
		p.SetUp(down, false)
	}
	for range 2 {
		snapshot, status := p.Snapshot(), p.Status()
		got, err := p.Preview(next)
		if err != nil {
			t.Fatal(err)
		}
		if now := p.Snapshot(); !reflect.DeepEqual(now, snapshot) {
			t.Errorf("after Preview the snapshot is %+v; want %+v as before", now, snapshot)
		}
		if now := p.Status(); !reflect.DeepEqual(now, status) {
			t.Errorf("after Preview the status is %+v; want %+v as before", now, status)
		}
		if want := reconfigure(next); !reflect.DeepEqual(got, want) {
			t.Errorf("Preview() = %+v; want %+v as Reconfigure says", got, want)
		}
		<-time.After(10 * time.Second)
	}
}

func TestPreviewSeesApplicationsThatChangePool(t *testing.T) {
	shop := pool("shop", "/shop", "s3")
	rest := pool("rest", "*", "s1,s2")
	tests := []struct {
		name      string
		old, next proxy.Settings
		want      map[string]float64
	}{
		{"new pool", site(3), site(3, shop), map[string]float64{"shop": 2. / 3, "default": 1. / 3}},
		{"pool gone", site(3, shop), site(3), map[string]float64{"default": 2. / 3}},
		{"pool renamed", site(3, shop), site(3, pool("store", "/shop", "s3")), map[string]float64{"store": 0, "default": 0}},
		{"application taken over", site(3, shop), site(3, pool("shop", "/shop,/a", "s3")), map[string]float64{"shop": 1, "default": 0}},
		{"application of nobody", site(3, shop, rest), site(1, pool("shop", "/shop", "s1")), map[string]float64{"shop": 1, "rest": 1}},
		{"application of nobody before", site(1, pool("shop", "/shop", "s1")), site(2, pool("shop", "/shop", "s1")), map[string]float64{"shop": 0, "default": 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &proxy.Proxy{}
			defer p.Close()
			if _, err := p.Reconfigure(tt.old); err != nil {
				t.Fatal(err)
			}
			c, err := p.Preview(tt.next)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range c.Pools {
				if want, ok := tt.want[q.Name]; !ok || math.Abs(q.Moved-want) > 1e-12 {
					t.Errorf("Preview moves %.4f of pool %s; want %v", q.Moved, q.Name, tt.want)
				}
			}
			if len(c.Pools) != len(tt.want) {
				t.Errorf("Preview() = %+v; want %v", c.Pools, tt.want)
			}
		})
	}
}

func TestPreviewBeforeTheFirstSettings(t *testing.T) {
	p := &proxy.Proxy{}
	c, err := p.Preview(site(2))
	if err != nil || !c.At.IsZero() || len(c.Pools) != 1 || c.Pools[0].Moved != 0 {
		t.Errorf("Preview() = %+v, %v; want one pool and nothing moved", c, err)
	}
	bad := site(1, pool("shop", "/a", "s9"))
	_, want := p.Reconfigure(bad)
	if _, err := p.Preview(bad); err == nil || err.Error() != want.Error() {
		t.Errorf("Preview() = %v; want the error of Reconfigure, %v", err, want)
	}
}
