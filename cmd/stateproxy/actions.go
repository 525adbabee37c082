package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"stateproxy/health"
	"stateproxy/internal/admin"
	"stateproxy/internal/config"
)

// actions returns what operators can do through the admin listener.
func (a *app) actions() admin.Actions {
	acts := admin.Actions{
		Drain:   func(_ context.Context, name string) error { return a.setState(name, config.Drain) },
		Undrain: func(_ context.Context, name string) error { return a.setState(name, config.Active) },
		Weight:  func(_ context.Context, name string, weight int) error { return a.setWeight(name, weight) },
		Eject:   func(_ context.Context, name, reason string) error { return a.checker.Eject(name, reason) },
		Readmit: func(_ context.Context, name string) error { return a.checker.Readmit(name) },
		CloseWindow: func(_ context.Context, pool string) error {
			if !a.proxy.CloseWindows(pool) {
				return fmt.Errorf("pool %s: %w", pool, health.ErrUnknown)
			}
			a.saveState()
			return nil
		},
		LogLevel: func(_ context.Context, level string) error {
			a.level.set(logLevel(level))
			return nil
		},
		Lock: a.proxy.Lock,
		Unlock: func(ctx context.Context, session uint64, cookie int64) error {
			_, err := a.proxy.Unlock(ctx, session, cookie)
			return err
		},
	}
	if a.file != "" {
		acts.Reload = func(context.Context) error { return a.reloadNow() }
	}
	return acts
}

// acted logs what an operator has asked for.
func (a *app) acted(what, from string, err error) {
	if err != nil {
		a.log.Warn().Str("action", what).Str("from", from).Err(err).Msg("action refused")
		return
	}
	a.log.Info().Str("action", what).Str("from", from).Msg("action done")
}

// reloadNow reads the config file and takes it, even if it has not changed: what
// operators have set by hand since ends then.
func (a *app) reloadNow() error {
	data, err := os.ReadFile(a.file)
	if err != nil {
		return err
	}
	return a.take(data)
}

func (a *app) setState(name string, state config.State) error {
	return a.edit(name, func(b *config.Backend) { b.State = state })
}

func (a *app) setWeight(name string, weight int) error {
	return a.edit(name, func(b *config.Backend) { b.Weight = weight })
}

// edit changes one backend of the config in force, until the file changes.
func (a *app) edit(name string, change func(*config.Backend)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := *a.config
	c.Backends = slices.Clone(c.Backends)
	i := slices.IndexFunc(c.Backends, func(b config.Backend) bool { return b.Name == name })
	if i < 0 {
		return fmt.Errorf("backend %s: %w", name, health.ErrUnknown)
	}
	change(&c.Backends[i])
	if !slices.ContainsFunc(c.Backends, func(b config.Backend) bool { return b.State == config.Active }) {
		return fmt.Errorf("backend %s: no other would own sessions", name)
	}
	return a.change(&c)
}

// effectiveConfig returns the config in force as YAML. It holds no secrets, only
// names of files that do.
func (a *app) effectiveConfig() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return string(a.config.Effective())
}
