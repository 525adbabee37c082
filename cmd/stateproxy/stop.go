package main

import (
	"context"
	"sync"
)

// How an app ends.

// await waits for the end: ctx's, a fatal error, which it returns, or a successor.
func (a *app) await(ctx context.Context) (err error) {
	asking, stop := context.WithCancel(ctx)
	var upgrades sync.WaitGroup
	upgrades.Go(func() { a.forwardUpgrades(asking) })
	select {
	case <-ctx.Done():
	case err = <-a.fatal:
	case <-a.upgrade.done:
	}
	stop()
	upgrades.Wait()
	return err
}

// drain stops accepting and lets requests under way finish.
func (a *app) drain() {
	a.mu.Lock()
	a.draining = true
	limit := a.config.Timeouts.Drain
	a.mu.Unlock()
	a.told(a.supervisor.Stopping())
	a.admin.Drain()
	a.log.Info().Dur("limit_ms", limit).Msg("draining")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := a.proxy.Shutdown(ctx); err != nil {
		a.log.Warn().Err(err).Msg("some requests did not finish in time and were cut off")
	}
}

func (a *app) closeAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.proxy.Close()
	for _, ln := range a.listeners {
		ln.Close()
	}
	if a.adminLn != nil {
		a.adminLn.Close()
	}
}
