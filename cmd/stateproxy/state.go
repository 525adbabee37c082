package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"stateproxy/internal/admin"
	"stateproxy/internal/config"
	"stateproxy/internal/statefile"
	"stateproxy/proxy"
)

// savedState is the content of the state file.
type savedState struct {
	Proxy proxy.Snapshot
}

// stateFile returns where the proxy's memory is kept, "" if nowhere.
func stateFile(c *config.Config, configFile string) string {
	switch c.Handoff.StateFile {
	case "off":
		return ""
	case "":
		if configFile == "" {
			return ""
		}
		if folder := os.Getenv("STATE_DIRECTORY"); folder != "" { // systemd's, where the config's folder is read-only
			return filepath.Join(folder, filepath.Base(configFile)+".state")
		}
		return configFile + ".state"
	}
	return c.Handoff.StateFile
}

// restore has the proxy go on from the state file, if there is one. A file that
// can't be used is reported and does not stop the start.
func (a *app) restore() {
	file := stateFile(a.config, a.file)
	if file == "" {
		return
	}
	data, err := statefile.Load(file)
	if err == nil && data == nil {
		return
	}
	if err == nil {
		err = a.restoreFrom(data)
		if err != nil {
			err = statefile.SetAside(file, err.Error())
		}
	}
	if err != nil {
		a.log.Error().Err(err).Msg("state file not used: sessions that were on the move may not be found")
		return
	}
	a.stateMu.Lock()
	a.saved = data
	a.stateMu.Unlock()
	a.log.Info().Str("file", file).Msg("handoffs under way restored")
}

func (a *app) restoreFrom(data []byte) error {
	var s savedState
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	return a.proxy.Restore(s.Proxy)
}

// saveState writes the state file if its content has changed.
func (a *app) saveState() {
	a.stateMu.Lock()
	defer a.stateMu.Unlock()
	file := a.stateFile
	if file == "" {
		return
	}
	data, err := json.Marshal(savedState{Proxy: a.proxy.Snapshot()})
	if err == nil && string(data) == string(a.saved) {
		return
	}
	if err == nil {
		err = statefile.Save(file, data)
	}
	if err != nil {
		if a.saveFailed == nil { // once, until it works again
			a.log.Error().Err(err).Msg("state file not written: a restart now would forget handoffs under way")
		}
		a.saveFailed = err
		return
	}
	a.saved, a.saveFailed = data, nil
}

// watchEvacuations logs when a backend begins to be emptied, when all that is
// known of it has been moved, and when it may be shut down.
func (a *app) watchEvacuations() {
	stages := map[string]int{}
	for _, e := range a.proxy.Status().Evacuations {
		stage := 1
		switch {
		case e.Safe:
			stage = 3
		case e.Left == 0 && e.Moved > 0:
			stage = 2
		}
		stages[e.Backend] = max(stage, a.stages[e.Backend])
		if stage <= a.stages[e.Backend] {
			continue
		}
		l := a.log.Info().Str("backend", e.Backend).Int("moved", e.Moved).Int("left", e.Left)
		if !e.BlindUntil.IsZero() {
			l.Time("may_hold_unknown_sessions_until", e.BlindUntil)
		}
		l.Msg([]string{"", "emptying backend", "all known sessions have left the backend", "backend is empty: safe to shut down"}[stage])
		if stage == 3 {
			a.admin.Note(admin.Event{Kind: admin.BackendEmptied, Backend: e.Backend, Text: fmt.Sprintf("it is empty and may be shut down; %d sessions were brought over", e.Moved)})
		}
	}
	a.stages = stages
}

// logKept tells which servers must run on, though the config does not name them
// any more, and until when. a.mu is held.
func (a *app) logKept(c proxy.Change) {
	for _, k := range c.Kept {
		msg := "backend removed, but kept as former owner: it may still hold sessions"
		if slices.ContainsFunc(a.config.Backends, func(b config.Backend) bool { return b.Name == k.Name }) {
			msg = "backend at a new address; the old one is kept as former owner: it may still hold sessions"
		}
		a.log.Info().Str("backend", k.Name).Str("address", k.Address).Time("until", k.Until).Msg(msg)
		a.admin.Note(admin.Event{Kind: admin.BackendFormer, Backend: k.Name, Text: msg + ", until " + k.Until.UTC().Format(time.RFC3339)})
	}
}

// saveInterval is how often a change is looked for that came from neither the
// config nor health, such as a session that was overtaken.
const saveInterval = time.Second

func (a *app) keepState(ctx context.Context) {
	tick := time.NewTicker(saveInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.saveState()
			a.watchEvacuations()
			a.token() // tells of trouble with it before somebody needs it
		case <-ctx.Done():
			return
		}
	}
}
