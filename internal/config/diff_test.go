package config

import (
	"slices"
	"testing"
)

func TestDiff(t *testing.T) {
	const (
		farm = `
backends:
  - {name: s1, address: 10.0.0.11}
  - {name: s2, address: 10.0.0.12}
  - {name: s3, address: 10.0.0.13}
`
		pools = farm + `
pools:
  - {name: a, applications: [/a/*], backends: [s1]}
  - {name: b, applications: [/b/*, /c/*], backends: [s2]}
`
		aliases = farm + `
applications:
  - {alias: [/a, /b], to: /A}
  - {alias: /c*, to: /C}
`
	)
	tests := []struct {
		name, old, new string
		want           []string
	}{
		{"nothing", farm, farm, nil},
		{"the same said otherwise", farm, farm + "health: {jitter: 0.2, interval: 2000ms}\nlimits: {head: 8192B}", nil},
		{"backends in another order", farm, `
backends:
  - {name: s3, address: 10.0.0.13}
  - {name: s1, address: 10.0.0.11}
  - {name: s2, address: 10.0.0.12}
`, nil},
		{"backends", farm, `
backends:
  - {name: s4, address: 10.0.0.14}
  - {name: s3, address: 10.0.0.33, state: drain}
  - {name: s2, address: 10.0.0.12, weight: 3, tls: true, server_name: central}
  - {name: s5, address: 10.0.0.15, weight: 2, state: drain}
  - {name: s6, address: 10.0.0.16, tls: true}
`, []string{
			"backends: s4 added (10.0.0.14:42424, weight 1)",
			"backends: s3 address 10.0.0.13:42424 -> 10.0.0.33:42424",
			"backends: s3 state active -> drain",
			"backends: s2 weight 1 -> 3",
			"backends: s2 tls false -> true",
			"backends: s2 server_name none -> central",
			"backends: s5 added (10.0.0.15:42424, weight 2, state drain)",
			"backends: s6 added (10.0.0.16:42424, weight 1, TLS)",
			"backends: s1 removed (10.0.0.11:42424, weight 1)",
		}},
		{"values", farm, farm + `
listen: [127.0.0.1:1, 127.0.0.1:2]
on_unavailable: wait
timeouts: {budget: 6s}
limits: {body: 1GiB}
health: {max_ejected: 34%}
admin: {listen: off, hosts: [a, B.example]}
handoff: {state_file: x}
`, []string{
			"listen 127.0.0.1:42424 -> 127.0.0.1:1, 127.0.0.1:2",
			"on_unavailable fail -> wait",
			"health.max_ejected 50% -> 34%",
			"timeouts.budget 8s -> 6s",
			"limits.body 128MiB -> 1GiB",
			"handoff.state_file none -> x",
			"admin.listen 127.0.0.1:42480 -> off",
			"admin.hosts none -> a, b.example",
		}},
		{"TLS of a listener", farm, farm + "listen: [{address: 127.0.0.1:42424, tls: {cert_file: c.pem, key_file: k.pem}}]", []string{
			`listen 127.0.0.1:42424 -> 127.0.0.1:42424 (tls cert_file c.pem, key_file k.pem, client_ca_file , min_version 1.2)`,
		}},
		{"who may come in", farm + `
listen: [{address: 127.0.0.1:42424, allow: [10.0.0.0/8]}]
access: [{applications: [/a/*], allow: [10.1.0.0/16]}]
`, farm + `
listen: [{address: 127.0.0.1:42424, allow: [10.0.0.0/8, 192.168.1.7/32], deny: [10.9.0.1], proxy_protocol: [10.0.0.5]}]
access: [{applications: [/a/*], allow: [10.1.0.0/16], deny: [10.1.2.3]}, {applications: ["*"]}]
`, []string{
			"listen 127.0.0.1:42424 (allow 10.0.0.0/8) -> 127.0.0.1:42424 (allow 10.0.0.0/8, 192.168.1.7, deny 10.9.0.1, proxy_protocol 10.0.0.5)",
			"access applications /a/*, allow 10.1.0.0/16 -> applications /a/*, allow 10.1.0.0/16, deny 10.1.2.3, applications *",
		}},
		{"pools added", farm, pools, []string{
			"pools: a added (applications /a/*, backends s1)",
			"pools: b added (applications /b/*, /c/*, backends s2)",
		}},
		{"pools changed", pools, farm + `
pools:
  - {name: b, applications: [/b/*], backends: [s2, s1]}
  - {name: a, applications: [/a/*], backends: [s1]}
`, []string{
			"pools: b applications /b/*, /c/* -> /b/*",
			"pools: b backends s2 -> s2, s1",
			"pools: order a, b -> b, a",
		}},
		{"pool removed", pools, farm + "pools: [{name: b, applications: [/b/*, /c/*], backends: [s2]}]", []string{
			"pools: a removed (applications /a/*, backends s1)",
		}},
		{"aliases added", farm, aliases, []string{
			"applications: /A added (alias /a, /b)",
			"applications: /C added (alias /c*)",
		}},
		{"aliases changed", aliases, farm + `
applications:
  - {alias: /c*, to: /C}
  - {alias: /a, to: /A}
`, []string{
			"applications: /A alias /a, /b -> /a",
			"applications: order /A, /C -> /C, /A",
		}},
		{"alias removed", aliases, farm + "applications: [{alias: [/a, /b], to: /A}]", []string{
			"applications: /C removed (alias /c*)",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Diff(mustParse(t, tt.old), mustParse(t, tt.new))
			if !slices.Equal(got, tt.want) {
				t.Errorf("Diff = %q; want %q", got, tt.want)
			}
		})
	}
}

// TestDiffSeesEverySetting compares a file that changes every setting.
func TestDiffSeesEverySetting(t *testing.T) {
	old := Default()
	old.Backends = []Backend{{Name: "s1", Address: "db.example.com:42424", Weight: 1, State: Drain}}
	got := Diff(old, mustParse(t, readTest(t, "testdata/good/full.yaml")))
	const (
		settings = 47 // that are not of a list
		backends = 6  // four changes, two added
		pools    = 2
		aliases  = 2
	)
	if want := settings + backends + pools + aliases; len(got) != want {
		t.Errorf("Diff has %d lines; want %d: %q", len(got), want, got)
	}
}
