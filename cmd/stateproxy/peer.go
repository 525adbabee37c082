package main

import (
	"fmt"

	"stateproxy/health"
	"stateproxy/internal/admin"
	"stateproxy/internal/backend"
	"stateproxy/proxy"
)

// errLoop is the error of the probe of a backend that must not be used, or every
// request would go round.
var errLoop = fmt.Errorf("loop: requests sent there come back to this proxy, so it %w", health.ErrUnfit)

// peerSeen takes the description of a proxy that answers at a backend, and what
// is wrong with it, and returns the verdict on the backend.
func (a *app) peerSeen(t health.Target, d *backend.Description, trouble error) error {
	loop, twin, news := a.proxy.SetPeer(t.Name, proxy.Peer{ID: d.ID, Servers: d.Servers, Behind: d.Behind})
	if news {
		a.log.Info().Str("backend", t.Name).Str("address", t.Address).Int("servers", len(d.Servers)).Msg("backend is a proxy")
	}
	a.twinSeen(t, twin)
	if loop {
		return errLoop
	}
	return trouble
}

// twinSeen tells of a backend that leads to the same server as another, unless
// twin is "".
func (a *app) twinSeen(t health.Target, twin string) {
	if twin == "" {
		return
	}
	a.log.Error().Str("backend", t.Name).Str("twin", twin).Msg("two backends lead to one server: give it one name and address")
	a.admin.Note(admin.Event{Level: admin.Error, Kind: admin.BackendTwin, Backend: t.Name, Text: "leads to the same server as " + twin + ": give it one name and address"})
}

// serves reports whether a backend is known to be well, or not known to be ill.
// Proxies before this one ask.
func (a *app) serves() bool {
	for _, s := range a.checker.Status() {
		if s.Up && !s.Kept {
			return true
		}
	}
	return false
}
