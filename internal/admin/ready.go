package admin

import (
	"fmt"
	"net/http"
	"strings"

	"stateproxy/proxy"
)

// serveReady says 200 if the proxy should be sent requests, else 503 with one
// reason on each line.
func (a *Admin) serveReady(w http.ResponseWriter, _ *http.Request) {
	if problems := a.snapshot().problems(); len(problems) > 0 {
		writeText(w, http.StatusServiceUnavailable, strings.Join(problems, "\n")+"\n")
		return
	}
	writeText(w, http.StatusOK, "ready\n")
}

// problems returns why the proxy is not ready, each for people in one line; none
// if it is.
func (s *snapshot) problems() []string {
	list := []string{}
	if s.draining {
		list = append(list, "draining: the proxy is about to stop")
	}
	if len(s.proxy.Pools) == 0 {
		return append(list, "no config in force yet")
	}
	for _, p := range s.proxy.Pools {
		switch up := s.ownersUp(p); {
		case len(p.Owners) == 0:
			list = append(list, fmt.Sprintf("pool %s: no backend is up", p.Name))
		case up == 0:
			list = append(list, fmt.Sprintf("pool %s: no backend is up, %d failing kept in service", p.Name, len(p.Owners)))
		}
	}
	minUp := s.config().MinUp
	if up, all := s.configuredUp(); float64(up) < minUp*float64(all)-1e-9 {
		list = append(list, fmt.Sprintf("%d of %d backends are up, want %.4g%%", up, all, minUp*100))
	}
	return list
}

func (s *snapshot) ownersUp(p proxy.PoolStatus) (up int) {
	for _, o := range p.Owners {
		if !s.health[o.Name].Kept {
			up++
		}
	}
	return up
}

// configuredUp counts the backends that should own sessions, and those that do.
func (s *snapshot) configuredUp() (up, all int) {
	for _, b := range s.proxy.Backends {
		if b.Weight == 0 || b.State == proxy.Draining {
			continue
		}
		all++
		if s.up(b) {
			up++
		}
	}
	return up, all
}
