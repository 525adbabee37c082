package admin

import (
	"time"

	"stateproxy/health"
	"stateproxy/proxy"
)

// snapshot is what one page or one collection of metrics is made from.
type snapshot struct {
	*Admin
	now      time.Time
	proxy    proxy.Status
	health   map[string]health.Status // by name
	loads    loads
	draining bool

	firstSeen map[findingKey]time.Time
	wellSince time.Time
}

func (a *Admin) snapshot() *snapshot {
	s := &snapshot{Admin: a, now: time.Now(), health: map[string]health.Status{}, draining: a.draining.Load()}
	if a.Proxy != nil {
		s.proxy = a.Proxy()
	}
	if a.Health != nil {
		for _, h := range a.Health() {
			s.health[h.Name] = h
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.loads, s.firstSeen, s.wellSince = a.loads, a.firstSeen, a.wellSince
	return s
}

// up reports whether the backend is in service and, as far as is known, well:
// one that fails and is kept because too many others are out is not.
func (s *snapshot) up(b proxy.BackendStatus) bool {
	return b.State != proxy.Down && !s.health[b.Name].Kept
}
