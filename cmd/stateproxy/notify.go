package main

import "fmt"

// What the app tells the service manager that started it, if there is one.

// tellReady tells that all is in force, and warns of sockets that the manager
// opened for nothing.
func (a *app) tellReady() {
	a.told(a.supervisor.Ready(fmt.Sprintf("version %s, %s", version, count(len(a.config.Backends), "backend"))))
	for _, address := range a.supervisor.Unclaimed() {
		a.log.Warn().Str("address", address).Msg("the service manager passed a socket that the config does not name: who connects there waits in vain")
	}
}

// reloading tells that a reload begins, and returns what tells of its end.
func (a *app) reloading() (ended func()) {
	a.unlessDraining(func() { a.told(a.supervisor.Reloading()) })
	return func() { a.unlessDraining(a.tellReady) }
}

// unlessDraining calls f with a.mu held, unless the last word was said.
func (a *app) unlessDraining(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.draining {
		f()
	}
}

func (a *app) told(err error) {
	if err != nil {
		a.log.Warn().Err(err).Msg("service manager not told")
	}
}

// alive returns if the app is well: nobody keeps the locks that a reload, a
// change of health and the routing need.
func (a *app) alive() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.proxy.Targets()
}
