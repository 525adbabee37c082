// Package certtest makes certificates for tests, when they run:
//
//	ca := certtest.NewCA("farm")
//	server := ca.Issue(certtest.Leaf{Hosts: []string{"127.0.0.1"}})
//	config := &tls.Config{Certificates: []tls.Certificate{server.TLS()}}
//	client := &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1"}
//
// It panics where something can't be made. Nothing but tests may import it.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// CA is an authority that issues certificates. It is safe for concurrent use.
type CA struct{ pair Pair }

// Pair is a certificate with its key.
type Pair struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// Leaf says what to issue. Its zero value is valid from 1999 to 2099, for tests
// that move time begin in the year 2000, and names nobody.
type Leaf struct {
	Name      string           // common name; "" is leaf
	Hosts     []string         // names and addresses that it is for
	NotBefore time.Time        // zero: 1999
	NotAfter  time.Time        // zero: 2099
	Usage     x509.ExtKeyUsage // the only one; zero: servers and clients
}

// NewCA returns an authority whose certificate is valid from 1999 to 2099.
func NewCA(name string) *CA {
	t := template(Leaf{Name: name})
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	return &CA{sign(t, nil)}
}

// Issue returns a certificate that the CA has signed.
func (ca *CA) Issue(l Leaf) Pair { return sign(leafTemplate(l), &ca.pair) }

// SelfSigned returns a certificate that no CA has issued.
func SelfSigned(l Leaf) Pair { return sign(leafTemplate(l), nil) }

// Pool returns the set with this CA alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.pair.Cert)
	return pool
}

// PEM returns the CA's certificate as a file holds it.
func (ca *CA) PEM() []byte { return ca.pair.CertPEM() }

// TLS returns the pair as crypto/tls takes it.
func (p Pair) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.Cert.Raw}, PrivateKey: p.Key, Leaf: p.Cert}
}

// CertPEM returns the certificate as a file holds it.
func (p Pair) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Cert.Raw})
}

// KeyPEM returns the key as a file holds it.
func (p Pair) KeyPEM() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func leafTemplate(l Leaf) *x509.Certificate {
	t := template(l)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if l.Usage != 0 {
		t.ExtKeyUsage = []x509.ExtKeyUsage{l.Usage}
	}
	for _, host := range l.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	return t
}

func template(l Leaf) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	must(err)
	if l.Name == "" {
		l.Name = "leaf"
	}
	if l.NotBefore.IsZero() {
		l.NotBefore = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if l.NotAfter.IsZero() {
		l.NotAfter = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: l.Name}, NotBefore: l.NotBefore, NotAfter: l.NotAfter,
	}
}

// sign makes t's key and has issuer sign it, or itself if there is none.
func sign(t *x509.Certificate, issuer *Pair) Pair {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	if issuer == nil {
		issuer = &Pair{t, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, issuer.Cert, &key.PublicKey, issuer.Key)
	must(err)
	cert, err := x509.ParseCertificate(der)
	must(err)
	return Pair{cert, key}
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("certtest: %v", err))
	}
}
