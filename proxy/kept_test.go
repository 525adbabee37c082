package proxy_test

import (
	"testing"
	"time"

	"stateproxy/proxy"
)

// TestBackendsThatAreKept: a backend that leaves the settings is told of once, with
// the time when it is forgotten.
func TestBackendsThatAreKept(t *testing.T) {
	all := []proxy.Backend{
		{Name: "s1", Address: "192.0.2.1:42424", Weight: 1},
		{Name: "s2", Address: "192.0.2.2:42424", Weight: 1},
		{Name: "s3", Address: "192.0.2.3:42424", Weight: 1, Drain: true}, // from the beginning: it owned nothing
	}
	moved := proxy.Backend{Name: "s2", Address: "192.0.2.22:42424", Weight: 1}
	const window, delay = time.Hour, 30 * time.Second
	tests := []struct {
		name  string
		to    []proxy.Backend
		delay time.Duration
		want  string
		after time.Duration // from now on it is kept
	}{
		{"removed", all[:1], -1, "s2 192.0.2.2:42424", window},
		{"removed with a delay", all[:1], delay, "s2 192.0.2.2:42424", delay + window},
		{"at another address", []proxy.Backend{all[0], moved, all[2]}, -1, "s2 192.0.2.2:42424", window},
		{"only the one that owned nothing", all[:2], -1, "", 0},
		{"nothing removed", all, -1, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &proxy.Proxy{}
			defer p.Close()
			s := proxy.Settings{Backends: all, HandoffWindow: window, HandoffDelay: tt.delay}
			if c, err := p.Reconfigure(s); err != nil || len(c.Kept) > 0 {
				t.Fatalf("the first Reconfigure() = %v, %v; want none kept", c.Kept, err)
			}
			s.Backends = tt.to
			for i := range 2 {
				began := time.Now()
				c, err := p.Reconfigure(s)
				ended := time.Now()
				got := ""
				for _, k := range c.Kept {
					got += k.Name + " " + k.Address
					if k.Until.Before(began.Add(tt.after)) || k.Until.After(ended.Add(tt.after)) {
						t.Errorf("kept until %v; want %v from now", k.Until, tt.after)
					}
				}
				if want := []string{tt.want, ""}[i]; got != want || err != nil {
					t.Errorf("Reconfigure() number %d keeps %q, %v; want %q", i+1, got, err, want)
				}
			}
		})
	}
}

// TestDrainedBackendIsKeptForTheRestOfItsWindow: one that was drained and then removed
// is kept for what is left of its window, and not at all when that is over.
func TestDrainedBackendIsKeptForTheRestOfItsWindow(t *testing.T) {
	all := []proxy.Backend{
		{Name: "s1", Address: "192.0.2.1:42424", Weight: 1},
		{Name: "s2", Address: "192.0.2.2:42424", Weight: 1},
	}
	drained := []proxy.Backend{all[0], {Name: "s2", Address: "192.0.2.2:42424", Weight: 1, Drain: true}}
	p := &proxy.Proxy{}
	defer p.Close()
	take := func(list []proxy.Backend) []proxy.KeptBackend {
		c, err := p.Reconfigure(proxy.Settings{Backends: list, HandoffWindow: time.Hour, HandoffDelay: -1})
		if err != nil {
			t.Fatal(err)
		}
		return c.Kept
	}
	take(all)
	began := time.Now()
	take(drained)
	drainedBy := time.Now()
	kept := take(all[:1])
	if len(kept) != 1 || kept[0].Until.Before(began.Add(time.Hour)) || kept[0].Until.After(drainedBy.Add(time.Hour)) {
		t.Errorf("kept: %v; want s2, for an hour since it was drained at %v", kept, began)
	}
	take(drained)
	p.CloseWindows("default")
	if kept := take(all[:1]); len(kept) != 0 {
		t.Errorf("kept after its window is over: %v; want none", kept)
	}
}
