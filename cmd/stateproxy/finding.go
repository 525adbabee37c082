package main

import (
	"time"

	"github.com/rs/zerolog"

	"stateproxy/internal/admin"
)

// findingChanged logs a finding when it begins and when it is over.
func (a *app) findingChanged(f admin.Finding, began bool) {
	level := map[admin.Level]zerolog.Level{admin.Warn: zerolog.WarnLevel, admin.Error: zerolog.ErrorLevel}[f.Level]
	e, msg := a.log.WithLevel(max(level, zerolog.InfoLevel)), "finding began"
	if !began {
		msg = "finding ended"
		e.Dur("lasted_ms", time.Since(f.Since))
	}
	e.Str("finding", string(f.Kind))
	if f.Backend != "" {
		e.Str("backend", f.Backend)
	}
	if f.App != "" {
		e.Str("application", f.App)
	}
	if began {
		e.Time("since", f.Since).Str("text", f.Text)
	}
	e.Msg(msg)
}
