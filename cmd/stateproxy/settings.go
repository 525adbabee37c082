package main

import (
	"stateproxy/health"
	"stateproxy/internal/config"
	"stateproxy/proxy"
)

// proxySettings turns the config into what the proxy takes.
func proxySettings(c *config.Config) proxy.Settings {
	s := proxy.Settings{
		WaitLimit:         c.WaitLimit,
		AspNetVersion:     c.ASPNetVersion,
		Budget:            c.Timeouts.Budget,
		ClientIdle:        c.Timeouts.ClientIdle,
		ClientStall:       c.Timeouts.ClientStall,
		MaxConns:          c.Limits.Connections,
		MaxConnsPerClient: c.Limits.ConnectionsPerClient,
		MaxHead:           int(c.Limits.Head),
		MaxBody:           int(c.Limits.Body),
		MaxWhole:          int(c.Limits.Buffer),
		DialTimeout:       c.Timeouts.Dial,
		BackendIdle:       c.Timeouts.BackendIdle,
		BackendWait:       c.Limits.BackendWait,
		BackendConns:      c.Limits.BackendConnections,
		BackendQueue:      c.Limits.BackendQueue,
	}
	switch c.OnUnavailable {
	case config.Close:
		s.OnUnavailable = proxy.CloseConn
	case config.Wait:
		s.OnUnavailable = proxy.Wait
	}
	for _, b := range c.Backends {
		s.Backends = append(s.Backends, proxy.Backend{Name: b.Name, Address: b.Address, Weight: b.Weight, Drain: b.State == config.Drain})
	}
	for _, p := range c.Pools {
		s.Pools = append(s.Pools, proxy.Pool{Name: p.Name, Applications: p.Applications, Backends: p.Backends})
	}
	return s
}

// healthParams turns the config into what the checker takes, where zero stands
// for a default and a negative number for none.
func healthParams(c config.Health) health.Params {
	p := health.Params{
		Interval: c.Interval, Timeout: c.Timeout, Jitter: c.Jitter, Rise: c.Rise, Fall: c.Fall,
		HoldDown: c.HoldDown, MaxHoldDown: c.MaxHoldDown, MaxEjected: c.MaxEjected,
	}
	if c.Jitter == 0 {
		p.Jitter = -1
	}
	if c.HoldDown == 0 {
		p.HoldDown = -1
	}
	if c.MaxEjected == 0 {
		p.MaxEjected = -1
	}
	return p
}

// healthTargets turns the proxy's places into what the checker takes.
func healthTargets(list []proxy.Target) (targets []health.Target) {
	for _, t := range list {
		targets = append(targets, health.Target{Name: t.Name, Address: t.Address})
	}
	return targets
}
