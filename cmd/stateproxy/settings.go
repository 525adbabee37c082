package main

import (
	"time"

	"stateproxy/health"
	"stateproxy/internal/config"
	"stateproxy/proxy"
)

// proxySettings turns the config into what the proxy takes.
func proxySettings(c *config.Config) proxy.Settings {
	s := proxy.Settings{
		WaitLimit:            c.WaitLimit,
		AspNetVersion:        c.ASPNetVersion,
		Budget:               c.Timeouts.Budget,
		ClientIdle:           c.Timeouts.ClientIdle,
		ClientStall:          c.Timeouts.ClientStall,
		MaxConns:             c.Limits.Connections,
		MaxConnsPerClient:    c.Limits.ConnectionsPerClient,
		ConnRatePerClient:    c.Limits.ConnectionRate,
		RequestRatePerClient: c.Limits.RequestRate,
		MaxHead:              int(c.Limits.Head),
		MaxBody:              int(c.Limits.Body),
		MaxWhole:             orNone(int(c.Limits.Buffer)),
		DialTimeout:          c.Timeouts.Dial,
		BackendIdle:          c.Timeouts.BackendIdle,
		BackendWait:          orNone(c.Limits.BackendWait),
		BackendConns:         c.Limits.BackendConnections,
		BackendQueue:         orNone(c.Limits.BackendQueue),
		HandoffWindow:        c.Handoff.Window,
		HandoffDelay:         orNone(c.Handoff.Delay),
		Remember:             c.Handoff.Remember,
		EvacuationRate:       c.Handoff.Rate,
	}
	switch c.OnUnavailable {
	case config.Close:
		s.OnUnavailable = proxy.CloseConn
	case config.Wait:
		s.OnUnavailable = proxy.Wait
	}
	for _, b := range c.Backends {
		s.Backends = append(s.Backends, proxy.Backend{Name: b.Name, Address: b.Address, Weight: b.Weight, Drain: b.State == config.Drain,
			TLS: b.TLS, ServerName: b.ServerName})
	}
	for _, p := range c.Pools {
		s.Pools = append(s.Pools, proxy.Pool{Name: p.Name, Applications: p.Applications, Backends: p.Backends})
	}
	for _, a := range c.Applications {
		s.Aliases = append(s.Aliases, proxy.Alias{To: a.To, From: a.Alias})
	}
	s.Listeners = map[string]proxy.Listener{}
	for _, l := range c.Listen {
		s.Listeners[l.Address] = proxy.Listener{Access: proxy.Access(l.Networks), ProxyProtocol: l.ProxyProtocol}
	}
	for _, r := range c.Access {
		s.Access = append(s.Access, proxy.AppAccess{Applications: r.Applications, Access: proxy.Access(r.Networks)})
	}
	return s
}

// orNone maps 0, which means none in the config, to -1, which does elsewhere.
func orNone[T int | time.Duration | float64](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// healthParams turns the config into what the checker takes, where zero stands
// for a default and a negative number for none.
func healthParams(c config.Health) health.Params {
	return health.Params{
		Interval: c.Interval, Timeout: c.Timeout, Jitter: orNone(c.Jitter), Rise: c.Rise, Fall: c.Fall,
		HoldDown: orNone(c.HoldDown), MaxHoldDown: c.MaxHoldDown, MaxEjected: orNone(c.MaxEjected),
	}
}

// healthTargets turns the proxy's places into what the checker takes.
func healthTargets(list []proxy.Target) (targets []health.Target) {
	for _, t := range list {
		targets = append(targets, health.Target{Name: t.Name, Address: t.Address})
	}
	return targets
}
