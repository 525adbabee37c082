package certtest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"sync"
)

// Tap lies under one end of a TLS 1.2 connection and can say something there that
// crypto/tls never says, such as that it wants to shake hands again:
//
//	tap := &certtest.Tap{Conn: nc}
//	c := tls.Server(tap, tap.Config(config))
//	err := c.Handshake()
//	err = tap.Renegotiate()
//
// The connection can't be used any more then, but to see what the other end does.
type Tap struct {
	net.Conn

	client bool
	mu     sync.Mutex // guards what follows
	hello  []byte     // the beginning of what the server has sent
	keys   bytes.Buffer
}

// Config returns base for this connection, at the server's end.
func (t *Tap) Config(base *tls.Config) *tls.Config {
	c := base.Clone()
	c.MinVersion, c.MaxVersion, c.KeyLogWriter = tls.VersionTLS12, tls.VersionTLS12, &t.keys
	c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	return c
}

// ClientConfig is the same for the client's end.
func (t *Tap) ClientConfig(base *tls.Config) *tls.Config {
	t.client = true
	return t.Config(base)
}

// Read notes what the server says first.
func (t *Tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if t.client {
		t.note(b[:n])
	}
	return n, err
}

// Write notes what the server says first.
func (t *Tap) Write(b []byte) (int, error) {
	if !t.client {
		t.note(b)
	}
	return t.Conn.Write(b)
}

// Of the server's first record: its header, that of the message, and the version
// come before the random bytes.
const (
	randomAt  = 5 + 4 + 2
	randomLen = 32
)

func (t *Tap) note(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if more := randomAt + randomLen - len(t.hello); more > 0 {
		t.hello = append(t.hello, b[:min(more, len(b))]...)
	}
}

// Renegotiate asks the other end for another handshake, right behind the first: a
// server by a HelloRequest, a client by a ClientHello.
func (t *Tap) Renegotiate() error {
	const helloRequest, clientHello, handshake = 0, 1, 22
	message := []byte{helloRequest, 0, 0, 0}
	if t.client {
		body := append([]byte{3, 3}, make([]byte, randomLen)...) // version, random
		body = append(body, 0, 0, 2, 0xc0, 0x2b, 1, 0)           // no session, one cipher, no compression
		message = append([]byte{clientHello, 0, 0, byte(len(body))}, body...)
	}
	seal, nonce, err := t.sealer()
	if err != nil {
		return err
	}
	// The one record before it was the end of the handshake.
	number := binary.BigEndian.AppendUint64(nil, 1)
	header := []byte{handshake, 3, 3}
	about := binary.BigEndian.AppendUint16(append(bytes.Clone(number), header...), uint16(len(message)))
	sealed := seal.Seal(nil, append(nonce, number...), message, about)
	record := binary.BigEndian.AppendUint16(header, uint16(len(number)+len(sealed)))
	_, err = t.Conn.Write(append(append(record, number...), sealed...))
	return err
}

// sealer returns what this end's records are sealed with, and the part of the
// nonces that stays (RFC 5246 section 6.3, RFC 5288).
func (t *Tap) sealer() (cipher.AEAD, []byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var label, client, master string
	if _, err := fmt.Sscan(t.keys.String(), &label, &client, &master); err != nil || label != "CLIENT_RANDOM" || len(t.hello) < randomAt+randomLen {
		return nil, nil, fmt.Errorf("certtest: no TLS 1.2 handshake was seen: %q %v", label, err)
	}
	secret, err := hex.DecodeString(master)
	if err != nil {
		return nil, nil, err
	}
	clientRandom, err := hex.DecodeString(client)
	if err != nil {
		return nil, nil, err
	}
	const keyLen, fixedLen = 16, 4
	keys := expand(secret, append(append([]byte("key expansion"), t.hello[randomAt:]...), clientRandom...), 2*keyLen+2*fixedLen)
	key, fixed := keys[keyLen:2*keyLen], keys[2*keyLen+fixedLen:]
	if t.client {
		key, fixed = keys[:keyLen], keys[2*keyLen:2*keyLen+fixedLen]
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	seal, err := cipher.NewGCM(block)
	return seal, bytes.Clone(fixed), err
}

// expand is P_SHA256 of RFC 5246 section 5.
func expand(secret, seed []byte, n int) (out []byte) {
	mac := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, secret)
		for _, part := range parts {
			h.Write(part)
		}
		return h.Sum(nil)
	}
	for a := mac(seed); len(out) < n; a = mac(a) {
		out = append(out, mac(a, seed)...)
	}
	return out[:n]
}
