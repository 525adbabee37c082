package config

import "time"

// schema is the file's shape: all keys in the order in which they are printed,
// with their bounds, tied to the fields of c that hold their values. Parse,
// Effective and Diff all walk it.
func schema(c *Config) section {
	return section{
		{key: "listen", setting: list[Listener]{
			to: &c.Listen, item: listenerSetting, want: "at least one " + wantListen, most: 100, orOne: true,
		}},
		{key: "backend_tls", setting: backendTLSSchema(&c.BackendTLS)},
		{key: "backends", need: wantBackend, setting: list[Backend]{
			to: &c.Backends, start: Backend{Weight: 1, State: Active}, item: backendSchema, want: wantBackend, most: 1000,
		}},
		{key: "pools", setting: list[Pool]{to: &c.Pools, item: poolSchema}},
		{key: "applications", setting: list[Application]{to: &c.Applications, item: applicationSchema, most: 100}},
		{key: "access", setting: list[AccessRule]{to: &c.Access, item: accessSchema, most: 1000}},
		{key: "on_unavailable", setting: oneOf(&c.OnUnavailable, Fail, Close, Wait)},
		{key: "wait_limit", setting: duration(&c.WaitLimit, time.Second, time.Hour)},
		{key: "aspnet_version", setting: aspnetVersion(&c.ASPNetVersion)},
		{key: "health", setting: healthSchema(&c.Health)},
		{key: "timeouts", setting: timeoutsSchema(&c.Timeouts)},
		{key: "limits", setting: limitsSchema(&c.Limits)},
		{key: "handoff", setting: handoffSchema(&c.Handoff)},
		{key: "log", setting: section{
			{key: "level", setting: oneOf(&c.Log.Level, "debug", "info", "warn", "error")},
			{key: "format", setting: oneOf(&c.Log.Format, "auto", "json", "text")},
			{key: "slow", setting: duration(&c.Log.Slow, 0, time.Hour)},
			{key: "access", setting: share(&c.Log.Access, 0, 1)},
		}},
		{key: "admin", setting: section{
			{key: "listen", setting: adminAddress(&c.Admin.Listen)},
			{key: "token_file", setting: path(&c.Admin.TokenFile)},
			{key: "hosts", setting: list[string]{to: &c.Admin.Hosts, item: hostName, most: 100}},
			{key: "min_up", setting: share(&c.Admin.MinUp, 0, 1)},
		}},
	}
}

const wantBackend = "at least one backend with name and address"

func backendSchema(b *Backend) setting {
	return section{
		{key: "name", setting: name(&b.Name), need: wantName},
		{key: "address", setting: backendAddress(&b.Address), need: wantAddress},
		{key: "weight", setting: integer(&b.Weight, 1, 1000)},
		{key: "state", setting: oneOf(&b.State, Active, Drain)},
		{key: "tls", setting: truth(&b.TLS)},
		{key: "server_name", setting: serverName(&b.ServerName)},
	}
}

func backendTLSSchema(t *BackendTLS) setting {
	return section{
		{key: "ca_file", setting: path(&t.CAFile)},
		{key: "cert_file", setting: path(&t.CertFile)},
		{key: "key_file", setting: path(&t.KeyFile)},
		{key: "min_version", setting: tlsVersion(&t.MinVersion)},
	}
}

func poolSchema(p *Pool) setting {
	const (
		patterns = "at least one pattern such as /LM/W3SVC/2/*"
		backends = "the name of at least one backend"
	)
	return section{
		{key: "name", setting: name(&p.Name), need: wantName},
		{key: "applications", need: patterns, setting: list[string]{to: &p.Applications, item: pattern, want: patterns}},
		{key: "backends", need: backends, setting: list[string]{to: &p.Backends, item: name, want: backends}},
	}
}

func applicationSchema(a *Application) setting {
	const patterns = "at least one pattern such as /LM/W3SVC/2/ROOT/shop"
	return section{
		{key: "alias", need: patterns, setting: list[string]{to: &a.Alias, item: pattern, want: patterns, most: 100, orOne: true}},
		{key: "to", need: wantApplication, setting: application(&a.To)},
	}
}

func healthSchema(h *Health) setting {
	return section{
		{key: "interval", setting: duration(&h.Interval, 100*time.Millisecond, time.Hour)},
		{key: "timeout", setting: duration(&h.Timeout, 10*time.Millisecond, time.Minute)},
		{key: "jitter", setting: share(&h.Jitter, 0, 0.5)},
		{key: "rise", setting: integer(&h.Rise, 1, 100)},
		{key: "fall", setting: integer(&h.Fall, 1, 100)},
		{key: "hold_down", setting: duration(&h.HoldDown, 0, time.Hour)},
		{key: "max_hold_down", setting: duration(&h.MaxHoldDown, 0, 24*time.Hour)},
		{key: "max_ejected", setting: share(&h.MaxEjected, 0, 1)},
	}
}

func timeoutsSchema(t *Timeouts) setting {
	return section{
		{key: "budget", setting: duration(&t.Budget, 100*time.Millisecond, time.Minute)},
		{key: "dial", setting: duration(&t.Dial, 10*time.Millisecond, time.Minute)},
		{key: "client_idle", setting: duration(&t.ClientIdle, time.Second, 24*time.Hour)},
		{key: "client_stall", setting: duration(&t.ClientStall, 100*time.Millisecond, 10*time.Minute)},
		{key: "backend_idle", setting: duration(&t.BackendIdle, 100*time.Millisecond, time.Hour)},
		{key: "drain", setting: duration(&t.Drain, 0, time.Hour)},
	}
}

func limitsSchema(l *Limits) setting {
	return section{
		{key: "connections", setting: integer(&l.Connections, 1, 1_000_000)},
		{key: "connections_per_client", setting: integer(&l.ConnectionsPerClient, 0, 1_000_000)},
		{key: "connection_rate_per_client", setting: integer(&l.ConnectionRate, 0, 1_000_000)},
		{key: "request_rate_per_client", setting: integer(&l.RequestRate, 0, 1_000_000)},
		{key: "head", setting: size(&l.Head, 1*kib, 64*kib)},
		{key: "body", setting: size(&l.Body, 1*kib, 2*gib-1)},
		{key: "buffer", setting: size(&l.Buffer, 0, 16*mib)},
		{key: "backend_connections", setting: integer(&l.BackendConnections, 1, 65535)},
		{key: "backend_queue", setting: integer(&l.BackendQueue, 0, 1_000_000)},
		{key: "backend_wait", setting: duration(&l.BackendWait, 0, time.Minute)},
	}
}

func handoffSchema(h *Handoff) setting {
	return section{
		{key: "delay", setting: duration(&h.Delay, 0, 10*time.Minute)},
		{key: "window", setting: duration(&h.Window, time.Second, 24*time.Hour)},
		{key: "state_file", setting: path(&h.StateFile)},
		{key: "max_move", setting: share(&h.MaxMove, 0, 1)},
		{key: "remember", setting: integer(&h.Remember, 0, 10_000_000)},
		{key: "rate", setting: integer(&h.Rate, 1, 100_000)},
	}
}
