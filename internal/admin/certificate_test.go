package admin

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/proxy"
)

const day = 24 * time.Hour

// withCertificates is an Admin that is well but for the certificates, which end
// after so long.
func withCertificates(list ...Certificate) *Admin {
	a := showing(farm())
	a.Certificates = func() []Certificate { return list }
	return a
}

func ending(after time.Duration, listener string, ca bool) Certificate {
	return Certificate{Listener: listener, CA: ca, File: "a.pem", Name: "CN=a", NotAfter: time.Now().Add(after)}
}

func TestCertificateFindings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := ending(90*day, ":1", false)
		bad.Trouble = "a.key: no such file"
		tests := []struct {
			name  string
			admin *Admin
			level Level
			kind  Kind
			text  string
		}{
			{"soon", withCertificates(ending(90*day, "", false), ending(14*day-1, ":1", false)), Warn, CertExpires,
				"certificate of listener :1 (CN=a, a.pem) expires in 13 days, at 2000-01-14T23:59:59Z"},
			{"a CA for backends", withCertificates(ending(day, "", true)), Warn, CertExpires, "CA for backends (CN=a, a.pem) expires in 1 day, "},
			{"expired", withCertificates(ending(day, "", false), ending(0, ":1", false)), Error, CertExpires, "has expired at 2000-01-01T00:00:00Z\ncertificate for backends"},
			{"refused", withCertificates(bad), Warn, CertRefused, "the old ones stay in force:\na.key: no such file"},
		}
		for _, tt := range tests {
			list := tt.admin.snapshot().findings()
			if len(list) != 1 || list[0].Level != tt.level || list[0].Kind != tt.kind || !strings.Contains(list[0].Text, tt.text) {
				t.Errorf("%s: findings() = %+v; want one, %s %s with %q", tt.name, list, tt.level, tt.kind, tt.text)
			}
		}
		if list := withCertificates(ending(14*day, ":1", true)).snapshot().findings(); len(list) > 0 {
			t.Errorf("findings() = %+v two weeks before the end; want none", list)
		}
	})
}

func TestCertificateMetrics(t *testing.T) {
	at := time.Unix(1700000000, 0)
	end := func(after time.Duration, listener string, ca bool) Certificate {
		return Certificate{Listener: listener, CA: ca, NotAfter: at.Add(after)}
	}
	a := &Admin{Proxy: func() proxy.Status { return proxy.Status{} }, Certificates: func() []Certificate {
		return []Certificate{end(9*time.Second, ":1", true), end(2*time.Second, ":1", true), end(3*time.Second, ":1", false), end(4*time.Second, "", false), end(5*time.Second, "", true)}
	}}
	text := bodyOf(t, ask(t, a.Handler(), "GET /metrics"))
	for _, want := range []string{
		`stateproxy_certificate_expiry_timestamp_seconds{listener=":1",use="listener_ca"} 1.700000002e+09`,
		`stateproxy_certificate_expiry_timestamp_seconds{listener=":1",use="listener"} 1.700000003e+09`,
		`stateproxy_certificate_expiry_timestamp_seconds{listener="",use="backend"} 1.700000004e+09`,
		`stateproxy_certificate_expiry_timestamp_seconds{listener="",use="backend_ca"} 1.700000005e+09`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
}
