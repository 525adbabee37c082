package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stateproxy/internal/certtest"
	"stateproxy/internal/farm"
	"stateproxy/internal/tlsfile"
	"stateproxy/stateserver"
)

// chain is a proxy beside the web servers, which speaks mutual TLS to a central
// one before plain state servers.
type chain struct {
	t       *testing.T
	ca      *certtest.CA
	folders map[string]string // of "central" and "edge"
	central *running
	edge    *running
}

func newChain(t *testing.T, servers ...*stateserver.Server) *chain {
	t.Helper()
	c := &chain{t: t, ca: certtest.NewCA("farm"), folders: map[string]string{"central": t.TempDir(), "edge": t.TempDir()}}
	for who := range c.folders {
		c.trust(who, c.ca)
		c.issue(who)
	}
	c.central = c.run("central", strings.Replace(patient(text(servers...)), "listen: 127.0.0.1:0\n", `listen:
  - address: 127.0.0.1:0
    tls: {cert_file: own.pem, key_file: own.key, client_ca_file: ca.pem}
`, 1))
	c.edge = c.run("edge", c.edgeText(""))
	return c
}

// edgeText is the edge's config; more is more of the backend's keys.
func (c *chain) edgeText(more string) string {
	plain := strings.TrimSuffix(patient(text()), "backends:\n")
	return plain + fmt.Sprintf(`backend_tls: {ca_file: ca.pem, cert_file: own.pem, key_file: own.key}
backends:
  - {name: c1, address: "%s", tls: true%s}
`, c.central.app.address(), more)
}

// patient is a config that ejects no backend, for a machine that is busy is not a
// server that is down.
func patient(config string) string {
	return strings.Replace(config, "  timeout: 100ms\n", "  timeout: 100ms\n  max_ejected: 0%\n", 1)
}

func (c *chain) run(who, config string) *running {
	file := filepath.Join(c.folders[who], "config.yaml")
	replaceFile(c.t, file, config)
	return runAppFile(c.t, file)
}

// put replaces one file of a proxy.
func (c *chain) put(who, name string, data []byte) {
	c.t.Helper()
	replaceFile(c.t, filepath.Join(c.folders[who], name), string(data))
}

// issue gives a proxy a new certificate.
func (c *chain) issue(who string) {
	p := c.ca.Issue(certtest.Leaf{Name: who, Hosts: []string{"127.0.0.1", "central.example"}})
	c.put(who, "own.pem", p.CertPEM())
	c.put(who, "own.key", p.KeyPEM())
}

func (c *chain) trust(who string, ca *certtest.CA) { c.put(who, "ca.pem", ca.PEM()) }

// TestChainOverMutualTLS runs a farm through both proxies while the certificates
// of both are renewed again and again.
func TestChainOverMutualTLS(t *testing.T) {
	c := newChain(t, stateserver.RunT(t), stateserver.RunT(t))
	total := farmTime(t) / 2
	f, err := farm.New(farm.Config{
		Targets: []string{c.edge.app.address()}, Workers: 4, Pages: 6, Sessions: 200, PagesPerSecond: 200, Duration: total,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- f.Run(t.Context()) }()
	stop := repeat(300*time.Millisecond, func(round int) {
		who, r := "central", c.central
		if round%2 == 1 {
			who, r = "edge", c.edge
		}
		c.issue(who)
		r.app.renewCertificates()
	})
	err = <-ran
	stop()
	if err != nil {
		t.Fatal(err)
	}
	r := f.Report()
	if n := r.PageErrors(); n != 0 || !r.OK() || r.PagesServed() < 100 {
		t.Errorf("%d page errors in %d pages; want no errors and no damage in 100 or more:\n%s%s", n, r.PagesServed(), r.Text(), c.central.log)
	}
	for _, r := range []*running{c.central, c.edge} {
		if n := strings.Count(r.log.String(), "certificates loaded"); n < 3 {
			t.Errorf("certificates were loaded %d times; want some more:\n%s", n, r.log)
		}
	}
	if strings.Contains(c.edge.log.String(), "request failed") {
		t.Errorf("some requests failed:\n%s", c.edge.log)
	}
}

// Trust that is taken away refuses new connections, with a reason on both sides,
// and comes back with the file.
func TestTrustIsTakenAway(t *testing.T) {
	c := newChain(t, stateserver.RunT(t))
	if got := c.edge.ask(putOne); got != "200 OK" {
		t.Fatalf("PUT = %q; want 200 OK", got)
	}
	c.trust("central", certtest.NewCA("another"))
	c.central.app.renewCertificates()
	c.issue("edge") // has it connect anew
	c.edge.app.renewCertificates()
	if got := c.edge.ask(getOne); got != "400 Bad Request" {
		t.Errorf("GET without trust = %q; want the failure answer", got)
	}
	c.edge.logged("request failed", "tls_refused", `"backend":"c1"`)
	c.central.logged("request failed", "client_tls", "unknown authority", `"client":"127.0.0.1:`)
	c.edge.eventually("the probe's verdict", func() bool {
		_, body := c.edge.get("/api/v1/status")
		return strings.Contains(body, "refused the handshake")
	})
	c.trust("central", c.ca)
	c.central.app.renewCertificates()
	c.edge.eventually("the session", func() bool { return c.edge.ask(getOne) == "200 OK" })

	c.trust("edge", certtest.NewCA("another"))
	c.edge.app.renewCertificates()
	if got := c.edge.ask(getOne); got != "400 Bad Request" {
		t.Errorf("GET while the edge does not trust the central proxy = %q; want the failure answer", got)
	}
	c.edge.logged("request failed", "tls_untrusted", `"backend":"c1"`)
	c.trust("edge", c.ca)
	c.edge.app.renewCertificates()
	c.edge.eventually("the session", func() bool { return c.edge.ask(getOne) == "200 OK" })
}

// Files that can't be used leave those in force that were, and people are told;
// without being asked the proxy looks at them again.
func TestBadCertificateFilesAreNotTaken(t *testing.T) {
	c := newChain(t, stateserver.RunT(t))
	c.put("central", "own.key", c.ca.Issue(certtest.Leaf{}).KeyPEM())
	c.central.app.renewCertificates()
	c.central.app.renewCertificates()
	c.central.logged("finding began", "cert_refused", "private key does not match")
	if _, body := c.central.get("/api/v1/status"); !strings.Contains(body, "cert_refused") || !strings.Contains(body, `"trouble"`) {
		t.Errorf("status = %s; want the finding cert_refused", body)
	}
	replaceFile(t, c.central.file, strings.Replace(readFile(t, c.central.file), "delay: 0s", "delay: 1s", 1))
	c.central.logged("config reloaded", "handoff.delay") // other changes are taken all the same
	if got := c.edge.ask(putOne); got != "200 OK" {
		t.Errorf("PUT = %q; want 200 OK with the old certificate", got)
	}
	late := c.ca.Issue(certtest.Leaf{Hosts: []string{"127.0.0.1"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour)})
	c.put("central", "own.pem", late.CertPEM())
	c.put("central", "own.key", late.KeyPEM())
	c.central.app.renewCertificates()
	c.central.app.renewCertificates()
	c.central.eventually("the new trouble", func() bool {
		_, body := c.central.get("/api/v1/status")
		return strings.Contains(body, "the certificate has expired")
	})
	c.issue("central")
	c.central.logged("finding ended", "cert_refused")
	if _, body := c.central.get("/metrics"); !strings.Contains(body, `stateproxy_certificate_expiry_timestamp_seconds{listener="127.0.0.1:0",use="listener_ca"}`) {
		t.Error("/metrics lacks when the CA expires")
	}
}

func TestProbeOverTLS(t *testing.T) {
	c := newChain(t, stateserver.RunT(t))
	at := func(name string) string { return filepath.Join(c.folders["edge"], name) }
	args := []string{"probe", c.central.app.address(), "-idle", "0", "-slow", "1m", "-tls", "-ca", at("ca.pem")}
	status, out, errText := run(append(args, "-cert", at("own.pem"), "-key", at("own.key"), "-server-name", "central.example")...)
	if status != exitOK || !strings.Contains(out, "is for central.example and valid until") {
		t.Errorf("probe = %d\n%s%s; want a good handshake", status, out, errText)
	}
	if status, out, _ := run(args...); status != exitError || !strings.Contains(out, "certificate required") {
		t.Errorf("probe without a certificate = %d\n%s; want that one is required", status, out)
	}
}

// Files may be renewed one after the other, so trouble is told at the second look
// that finds it.
func TestTroubleIsToldAtTheSecondLook(t *testing.T) {
	folder := t.TempDir()
	ca := filepath.Join(folder, "ca.pem")
	if err := os.WriteFile(ca, certtest.NewCA("farm").PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := tlsfile.Client{CA: ca}.Load()
	if err != nil {
		t.Fatal(err)
	}
	use := certUse{key: "backend_tls"}
	a := &app{}
	a.certs.inForce = certificates{use: l}
	tests := []struct{ found, want string }{
		{"half", ""}, {"", ""}, {"half", ""}, {"half", "half"}, {"half", "half"}, {"other", ""}, {"other", "other"}, {"", ""},
	}
	for i, tt := range tests {
		troubles := map[certUse]error{}
		if tt.found != "" {
			troubles[use] = errors.New(tt.found)
		}
		a.countTroubles(troubles)
		if got := a.certificateList()[0].Trouble; got != tt.want {
			t.Errorf("look %d finds %q: trouble %q; want %q", i, tt.found, got, tt.want)
		}
	}
}

func TestServerName(t *testing.T) {
	c := newChain(t, stateserver.RunT(t))
	replaceFile(t, c.edge.file, c.edgeText(", server_name: other.example"))
	c.edge.logged("config reloaded", "server_name")
	c.edge.eventually("the failure", func() bool { return c.edge.ask(putOne) == "400 Bad Request" })
	c.edge.logged("request failed", "tls_name", "other.example")
	replaceFile(t, c.edge.file, c.edgeText(", server_name: central.example"))
	c.edge.eventually("the end of the failure", func() bool { return c.edge.ask(putOne) == "200 OK" })
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCheckCertificates(t *testing.T) {
	folder := t.TempDir()
	ca := certtest.NewCA("farm")
	now := time.Now()
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, leaf := range map[string]certtest.Leaf{
		"good": {Hosts: []string{"central"}}, "nameless": {},
		"old": {Hosts: []string{"central"}, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-24 * time.Hour)},
	} {
		p := ca.Issue(leaf)
		write(name+".pem", p.CertPEM())
		write(name+".key", p.KeyPEM())
	}
	tests := []struct {
		cert, key string
		status    int
		want      string // on standard error
	}{
		{"good.pem", "good.key", exitOK, ""},
		{"nameless.pem", "nameless.key", exitOK, "listen[0].tls: warning: " + filepath.Join(folder, "nameless.pem")},
		{"old.pem", "old.key", exitError, "the certificate has expired"},
		{"good.pem", "old.key", exitError, "listen[0].tls: "},
		{"absent.pem", "old.key", exitError, "absent.pem"},
	}
	for _, tt := range tests {
		t.Run(tt.cert+" "+tt.key, func(t *testing.T) {
			write("config.yaml", fmt.Appendf(nil, "listen: [{address: \"127.0.0.1:1\", tls: {cert_file: %s, key_file: %s}}]\nbackends: [{name: s1, address: 10.0.0.1}]\n", tt.cert, tt.key))
			status, out, errText := run("check", "-config", filepath.Join(folder, "config.yaml"))
			if status != tt.status || !strings.Contains(errText, tt.want) || (errText == "") != (tt.want == "") {
				t.Errorf("check = %d %s%s; want %d with %q", status, out, errText, tt.status, tt.want)
			}
			if tt.status != exitOK && tt.key == "old.key" && tt.cert != "old.pem" {
				if status, _, errText := run("run", "-config", filepath.Join(folder, "config.yaml")); status != exitError || !strings.Contains(errText, tt.want) {
					t.Errorf("run = %d %s; want %d with %q", status, errText, exitError, tt.want)
				}
			}
		})
	}
}

// TestTLSListenerKeepsItsTerms: who may not come in is cut off before a handshake,
// also when the certificate was renewed meanwhile.
func TestTLSListenerKeepsItsTerms(t *testing.T) {
	c := &chain{t: t, ca: certtest.NewCA("farm"), folders: map[string]string{"central": t.TempDir()}}
	c.issue("central")
	r := c.run("central", strings.Replace(text(stateserver.RunT(t)), "listen: 127.0.0.1:0\n", `listen:
  - address: 127.0.0.1:0
    allow: [10.1.0.0/16]
    proxy_protocol: [127.0.0.1]
    tls: {cert_file: own.pem, key_file: own.key}
`, 1))
	ask := func(client string) (string, error) {
		conn, err := net.Dial("tcp", r.app.address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, "PROXY TCP4 %s 10.0.0.5 40000 42424\r\n", client)
		tc := tls.Client(conn, &tls.Config{RootCAs: c.ca.Pool(), ServerName: "central.example"})
		if _, err := io.WriteString(tc, putOne); err != nil {
			return "", err
		}
		line, err := bufio.NewReader(tc).ReadString('\n')
		return strings.TrimSpace(line), err
	}
	for _, when := range []string{"at first", "with a renewed certificate"} {
		if got, err := ask("10.1.0.1"); got != "200 OK" || err != nil {
			t.Errorf("%s: PUT of a client that may come in = %q, %v; want 200 OK", when, got, err)
		}
		if got, err := ask("10.2.0.1"); err == nil {
			t.Errorf("%s: PUT of a client that may not = %q; want no handshake", when, got)
		}
		c.issue("central")
		r.app.renewCertificates()
	}
	r.logged("client connection refused", `"reason":"access"`, `"client":"10.2.0.1"`, `"peer":"127.0.0.1"`)
	if _, body := r.get("/metrics"); !strings.Contains(body, `stateproxy_client_connections_refused_total{reason="access"} 2`) {
		t.Error("/metrics does not count two refusals for access")
	}
}
