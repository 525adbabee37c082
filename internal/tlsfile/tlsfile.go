// Package tlsfile makes TLS configs from certificates, keys and CAs in PEM files,
// and says what is wrong with these:
//
//	server, err := tlsfile.Server{Cert: "server.pem", Key: "server.key", ClientCA: "ca.pem"}.Load()
//	ln = tls.NewListener(ln, server.Config)
//	...
//	again, err := server.Again()   // the files may have changed
//	if err == nil && again != server { … }
//
// When to look at the files again, and what becomes of a set that can't be used,
// is the caller's.
package tlsfile

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Server is the files of a listener.
type Server struct {
	Cert, Key  string // PEM; the own certificate comes first, then those between it and the CA
	ClientCA   string // PEM; clients need a certificate of one of these; "": they need none
	MinVersion string // "1.2", "1.3"; "" is 1.2
}

// Client is the files of those who connect.
type Client struct {
	CA         string // PEM; servers need a certificate of one of these; "": of one that the system trusts
	Cert, Key  string // PEM; "": no certificate is shown
	MinVersion string // "1.2", "1.3"; "" is 1.2
}

// Loaded is what was made from a set of files. Nothing in it changes, so it may be
// read from several goroutines.
type Loaded struct {
	Config *tls.Config
	// Certs are the own certificate, if there is one, and the CAs.
	Certs []Cert
	// Warnings are things that are likely wrong, in words for people.
	Warnings []string

	files source
	sum   [sha256.Size]byte // of what the files hold
}

// Cert is what people should know of a certificate.
type Cert struct {
	File     string
	CA       bool   // it stands for those who are trusted; else it is the own one
	Name     string // its subject
	NotAfter time.Time

	notBefore time.Time
}

// source is a Server or a Client. Both can be compared.
type source interface {
	load(r *reader) (*Loaded, error)
}

// Load reads the files. The error names the file that is at fault.
func (s Server) Load() (*Loaded, error) { return load(s) }

// Load reads the files. The error names the file that is at fault.
func (c Client) Load() (*Loaded, error) { return load(c) }

// Is reports whether l was made from these files; a nil one was made from none.
func (l *Loaded) Is(files any) bool { return l != nil && any(l.files) == files }

// Again reads the files again. It returns l itself if they hold the same.
func (l *Loaded) Again() (*Loaded, error) {
	again, err := load(l.files)
	if err != nil {
		return nil, err
	}
	if again.sum == l.sum {
		return l, nil
	}
	return again, nil
}

// Expires returns when the first of the certificates expires, zero if there is
// none.
func (l *Loaded) Expires() (first time.Time) {
	for _, c := range l.Certs {
		if first.IsZero() || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	return first
}

// Valid returns what is wrong if the own certificate is not valid at that time. The
// other side then refuses it.
func (l *Loaded) Valid(at time.Time) error {
	for _, c := range l.Certs {
		switch {
		case c.CA:
		case at.After(c.NotAfter):
			return fmt.Errorf("%s: the certificate has expired at %s", c.File, c.NotAfter.UTC().Format(time.RFC3339))
		case at.Before(c.notBefore):
			return fmt.Errorf("%s: the certificate is valid from %s only", c.File, c.notBefore.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

func load(s source) (*Loaded, error) {
	r := &reader{}
	l, err := s.load(r)
	if err != nil {
		return nil, err
	}
	l.files, l.sum = s, sha256.Sum256(r.all.Bytes())
	return l, nil
}

func (s Server) load(r *reader) (*Loaded, error) {
	l := &Loaded{Config: &tls.Config{MinVersion: version(s.MinVersion)}}
	if err := l.addPair(r, s.Cert, s.Key, x509.ExtKeyUsageServerAuth); err != nil {
		return nil, err
	}
	if leaf := l.Config.Certificates[0].Leaf; len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		l.warn("%s: the certificate names no host (subjectAltName), so no client will accept it", s.Cert)
	}
	if s.ClientCA == "" {
		return l, nil
	}
	var err error
	l.Config.ClientAuth = tls.RequireAndVerifyClientCert
	l.Config.ClientCAs, err = l.addCAs(r, s.ClientCA)
	return l, err
}

func (c Client) load(r *reader) (*Loaded, error) {
	l := &Loaded{Config: &tls.Config{MinVersion: version(c.MinVersion), Renegotiation: tls.RenegotiateNever}}
	if c.Cert != "" {
		if err := l.addPair(r, c.Cert, c.Key, x509.ExtKeyUsageClientAuth); err != nil {
			return nil, err
		}
		// It is shown whatever CAs the server asks for, so that the server's log
		// tells what is wrong with it, and not that there is none.
		own := &l.Config.Certificates[0]
		l.Config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	if c.CA == "" {
		return l, nil
	}
	var err error
	l.Config.RootCAs, err = l.addCAs(r, c.CA)
	return l, err
}

func version(text string) uint16 {
	if text == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

func (l *Loaded) warn(format string, args ...any) {
	l.Warnings = append(l.Warnings, fmt.Sprintf(format, args...))
}

// addPair takes the own certificate and its key.
func (l *Loaded) addPair(r *reader, certFile, keyFile string, usage x509.ExtKeyUsage) error {
	cert, err := r.read(certFile)
	if err != nil {
		return err
	}
	key, err := r.read(keyFile)
	if err != nil {
		return err
	}
	if bytes.Contains(key, []byte("ENCRYPTED")) {
		return fmt.Errorf("%s: the key is encrypted, want one without a password", keyFile)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s with the key %s: %w", certFile, keyFile, err)
	}
	l.Config.Certificates = []tls.Certificate{pair}
	l.Certs = append(l.Certs, certOf(certFile, pair.Leaf, false))
	if usages := pair.Leaf.ExtKeyUsage; len(usages) > 0 && !slices.Contains(usages, usage) && !slices.Contains(usages, x509.ExtKeyUsageAny) {
		l.warn("%s: the certificate is not for %s (extendedKeyUsage), so the other side will refuse it", certFile, usageNames[usage])
	}
	if open := openness(keyFile); open != "" {
		l.warn("%s: the key is not safe: %s", keyFile, open)
	}
	return nil
}

var usageNames = map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "servers", x509.ExtKeyUsageClientAuth: "clients"}

// addCAs takes those who are trusted.
func (l *Loaded) addCAs(r *reader, file string) (*x509.CertPool, error) {
	rest, err := r.read(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for n := 1; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if n == 1 {
				return nil, fmt.Errorf("%s: no certificate in it, want PEM: -----BEGIN CERTIFICATE-----", file)
			}
			return pool, nil
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: want certificates only, got %s as number %d", file, strings.ToLower(block.Type), n)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", file, n, err)
		}
		pool.AddCert(cert)
		l.Certs = append(l.Certs, certOf(file, cert, true))
	}
}

func certOf(file string, c *x509.Certificate, ca bool) Cert {
	return Cert{File: file, CA: ca, Name: c.Subject.String(), NotAfter: c.NotAfter, notBefore: c.NotBefore}
}

// maxFile is far above any real file; all CAs of the world take 300 KiB.
const maxFile = 4 << 20

// reader reads files and keeps all that it has read.
type reader struct{ all bytes.Buffer }

func (r *reader) read(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe would block for ever
		return nil, fmt.Errorf("%s is not a regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, errors.New(file + " is too large to be a certificate or a key")
	}
	sum := sha256.Sum256(data)
	r.all.Write(sum[:])
	return data, nil
}
