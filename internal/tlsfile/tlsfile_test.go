package tlsfile_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"stateproxy/internal/certtest"
	"stateproxy/internal/tlsfile"
)

// folder is a folder with the files of a server, a client and their CA.
type folder struct {
	t    *testing.T
	path string
	ca   *certtest.CA
}

func newFolder(t *testing.T) *folder {
	f := &folder{t, t.TempDir(), certtest.NewCA("farm")}
	f.write("ca.pem", f.ca.PEM())
	f.pair("server", f.ca.Issue(certtest.Leaf{Name: "server", Hosts: []string{"central"}}))
	f.pair("client", f.ca.Issue(certtest.Leaf{Name: "client"}))
	return f
}

func (f *folder) file(name string) string { return filepath.Join(f.path, name) }

func (f *folder) write(name string, data []byte) {
	f.t.Helper()
	if err := os.WriteFile(f.file(name), data, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) pair(name string, p certtest.Pair) {
	f.write(name+".pem", p.CertPEM())
	f.write(name+".key", p.KeyPEM())
}

func (f *folder) server() tlsfile.Server {
	return tlsfile.Server{Cert: f.file("server.pem"), Key: f.file("server.key"), ClientCA: f.file("ca.pem")}
}

func (f *folder) client() tlsfile.Client {
	return tlsfile.Client{Cert: f.file("client.pem"), Key: f.file("client.key"), CA: f.file("ca.pem")}
}

func mustLoad(t *testing.T, s interface {
	Load() (*tlsfile.Loaded, error)
}) *tlsfile.Loaded {
	t.Helper()
	l, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pair returns both ends of a connection that holds what was written, as neither
// side of a handshake waits for the other to read.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if b, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if a, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// shake has both shake hands and returns their errors.
func shake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	a, b := pair(t)
	defer a.Close()
	defer b.Close()
	end := time.Now().Add(30 * time.Second)
	a.SetDeadline(end)
	b.SetDeadline(end)
	done := make(chan error, 1)
	go func() {
		s := tls.Server(a, server)
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		a.Close()
		done <- err
	}()
	config := client.Clone()
	config.ServerName = "central"
	c := tls.Client(b, config)
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	b.Close()
	return <-done, clientErr
}

func TestLoad(t *testing.T) {
	f := newFolder(t)
	server, client := mustLoad(t, f.server()), mustLoad(t, f.client())
	if len(server.Warnings)+len(client.Warnings) > 0 {
		t.Errorf("Warnings = %q, %q; want none", server.Warnings, client.Warnings)
	}
	if s, c := shake(t, server.Config, client.Config); s != nil || c != nil {
		t.Errorf("handshake = %v, %v; want nil, nil", s, c)
	}
	if got := server.Certs; len(got) != 2 || got[0].CA || got[0].Name != "CN=server" || !got[1].CA || got[1].File != f.file("ca.pem") {
		t.Errorf("Certs = %+v; want the own one and the CA", got)
	}
	if got, want := server.Expires(), server.Certs[1].NotAfter; got.After(want) || got.IsZero() {
		t.Errorf("Expires = %v; want the first of all, %v or before", got, want)
	}
	if client.Config.Renegotiation != tls.RenegotiateNever {
		t.Error("clients renegotiate; want never")
	}
	nobody := mustLoad(t, tlsfile.Client{CA: f.file("ca.pem")})
	if s, c := shake(t, server.Config, nobody.Config); s == nil || c == nil {
		t.Errorf("handshake without a certificate = %v, %v; want errors", s, c)
	}
	open := f.server()
	open.ClientCA = ""
	if s, c := shake(t, mustLoad(t, open).Config, nobody.Config); s != nil || c != nil {
		t.Errorf("handshake with a server that asks for none = %v, %v; want nil, nil", s, c)
	}
	if l := mustLoad(t, tlsfile.Client{}); l.Config.RootCAs != nil || !l.Expires().IsZero() {
		t.Errorf("no files = %+v; want the system's CAs and no certificate", l)
	}
}

func TestMinVersion(t *testing.T) {
	f := newFolder(t)
	tests := []struct {
		min    string
		client uint16 // the highest that it speaks
		ok     bool
	}{
		{"", tls.VersionTLS11, false},
		{"", tls.VersionTLS12, true},
		{"1.2", tls.VersionTLS12, true},
		{"1.3", tls.VersionTLS12, false},
		{"1.3", tls.VersionTLS13, true},
	}
	for _, tt := range tests {
		files := f.server()
		files.MinVersion = tt.min
		client := mustLoad(t, f.client()).Config.Clone()
		client.MinVersion, client.MaxVersion = tls.VersionTLS10, tt.client
		if s, c := shake(t, mustLoad(t, files).Config, client); (s == nil && c == nil) != tt.ok {
			t.Errorf("min version %q, client up to %s: %v, %v; want success %v", tt.min, tls.VersionName(tt.client), s, c, tt.ok)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(f *folder)
		want   string
	}{
		{"no certificate", func(f *folder) { os.Remove(f.file("server.pem")) }, "server.pem"},
		{"no key", func(f *folder) { os.Remove(f.file("server.key")) }, "server.key"},
		{"no CA", func(f *folder) { os.Remove(f.file("ca.pem")) }, "ca.pem"},
		{"a folder", func(f *folder) { os.Remove(f.file("ca.pem")); os.Mkdir(f.file("ca.pem"), 0o700) }, "not a regular file"},
		{"another key", func(f *folder) {
			f.write("server.key", f.ca.Issue(certtest.Leaf{}).KeyPEM())
		}, "private key does not match public key"},
		{"an encrypted key", func(f *folder) {
			f.write("server.key", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
		}, "encrypted, want one without a password"},
		{"no PEM", func(f *folder) { f.write("server.pem", []byte{0x30, 0x82}) }, "failed to find any PEM data"},
		{"half a certificate", func(f *folder) { f.write("server.pem", f.ca.PEM()[:200]) }, "server.pem"},
		{"an empty CA file", func(f *folder) { f.write("ca.pem", nil) }, "no certificate in it"},
		{"a key for a CA", func(f *folder) { f.write("ca.pem", f.ca.Issue(certtest.Leaf{}).KeyPEM()) }, "want certificates only, got private key as number 1"},
		{"rubbish for a CA", func(f *folder) {
			f.write("ca.pem", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
		}, "certificate 1: x509"},
		{"too large", func(f *folder) { f.write("ca.pem", make([]byte, 5<<20)) }, "too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFolder(t)
			key, err := os.ReadFile(f.file("server.key"))
			if err != nil {
				t.Fatal(err)
			}
			before := mustLoad(t, f.server())
			tt.change(f)
			l, err := f.server().Load()
			if l != nil || err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), f.path) {
				t.Fatalf("Load = %v, %v; want an error with %q that names the file", l, err, tt.want)
			}
			if secret := strings.Split(string(key), "\n")[1]; strings.Contains(err.Error(), secret) {
				t.Error("the error holds the key")
			}
			if l, err := before.Again(); l != nil || err == nil {
				t.Errorf("Again = %v, %v; want an error", l, err)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	f := newFolder(t)
	f.pair("server", f.ca.Issue(certtest.Leaf{Name: "nameless", Usage: x509.ExtKeyUsageClientAuth}))
	f.pair("client", f.ca.Issue(certtest.Leaf{Usage: x509.ExtKeyUsageServerAuth}))
	want := []string{"not for servers", "names no host"}
	if runtime.GOOS != "windows" {
		os.Chmod(f.file("server.key"), 0o644)
		want = append(want, "others can read it (mode 0644)")
	}
	got := strings.Join(mustLoad(t, f.server()).Warnings, "\n")
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("Warnings = %q; want %q in them", got, w)
		}
	}
	if got := mustLoad(t, f.client()).Warnings; len(got) != 1 || !strings.Contains(got[0], "not for clients") {
		t.Errorf("Warnings = %q; want one, not for clients", got)
	}
	if runtime.GOOS != "windows" {
		for mode, want := range map[os.FileMode]int{0o640: 1, 0o660: 2, 0o602: 2} {
			os.Chmod(f.file("client.key"), mode)
			if got := mustLoad(t, f.client()).Warnings; len(got) != want {
				t.Errorf("Warnings with mode %04o = %q; want %d", mode, got, want)
			}
		}
	}
}

func TestValid(t *testing.T) {
	f := newFolder(t)
	now := time.Now()
	f.pair("client", f.ca.Issue(certtest.Leaf{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}))
	l := mustLoad(t, f.client())
	tests := []struct {
		at   time.Duration
		want string
	}{
		{0, ""},
		{59 * time.Minute, ""},
		{2 * time.Hour, "has expired at"},
		{-2 * time.Hour, "is valid from"},
	}
	for _, tt := range tests {
		err := l.Valid(now.Add(tt.at))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Valid(in %v) = %v; want %q", tt.at, err, tt.want)
		}
	}
	if err := mustLoad(t, tlsfile.Client{CA: f.file("ca.pem")}).Valid(now.Add(100 * time.Hour)); err != nil {
		t.Errorf("Valid without an own certificate = %v; want nil", err)
	}
}

func TestAgain(t *testing.T) {
	f := newFolder(t)
	l := mustLoad(t, f.server())
	if !l.Is(f.server()) || l.Is(f.client()) || (*tlsfile.Loaded)(nil).Is(f.server()) {
		t.Error("Is tells the wrong files")
	}
	if again, err := l.Again(); again != l || err != nil {
		t.Errorf("Again with the same files = %p, %v; want %p itself", again, err, l)
	}
	f.write("server.pem", append([]byte("\n"), f.ca.PEM()...)) // half of a renewal
	if again, err := l.Again(); again != nil || err == nil {
		t.Errorf("Again with a key that does not fit = %v, %v; want an error", again, err)
	}
	f.pair("server", f.ca.Issue(certtest.Leaf{Name: "renewed", Hosts: []string{"central"}}))
	again, err := l.Again()
	if err != nil || again == l || again.Certs[0].Name != "CN=renewed" {
		t.Errorf("Again with other files = %+v, %v; want the renewed certificate", again, err)
	}
}

// A session that a client could resume is no way past a CA that was taken away.
func TestSessionsEndWithTheTrust(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			f := newFolder(t)
			l := mustLoad(t, f.server())
			resumed := false
			client := mustLoad(t, f.client()).Config.Clone()
			client.MaxVersion, client.ClientSessionCache = version, tls.NewLRUClientSessionCache(1)
			client.VerifyConnection = func(s tls.ConnectionState) error { resumed = s.DidResume; return nil }
			for _, want := range []bool{false, true} {
				if s, c := shake(t, l.Config, client); s != nil || c != nil || resumed != want {
					t.Fatalf("handshake = %v, %v, resumed %v; want nil, nil, %v", s, c, resumed, want)
				}
			}
			f.write("ca.pem", certtest.NewCA("another").PEM())
			again, err := l.Again()
			if err != nil {
				t.Fatal(err)
			}
			if s, c := shake(t, again.Config, client); s == nil || c == nil {
				t.Errorf("handshake without trust = %v, %v, resumed %v; want errors", s, c, resumed)
			}
		})
	}
}
