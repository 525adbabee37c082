package access

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"github.com/pires/go-proxyproto"
)

// Bounds of a header of the PROXY protocol, in bytes.
const (
	firstHeader = 12      // what is read first: the mark of version 2, and less than any line of version 1
	lineHeader  = 107     // a line of version 1, with CR LF
	fixedHeader = 16      // of version 2, up to and with the length of the rest
	maxRest     = 4 << 10 // of version 2 behind that: addresses and what a balancer adds, such as a certificate
)

// ErrNoHeader says that a connection does not begin with a header of the PROXY
// protocol.
var ErrNoHeader = errors.New("no PROXY header")

// ReadHeader reads a header of the PROXY protocol, version 1 or 2, and not a byte
// of what follows it. known is false, and the client is nobody, if the header says
// that the connection is the sender's own (LOCAL), that its client is not known
// (UNKNOWN), or that it came by a Unix socket. IPv4 in IPv6 form is returned as
// IPv4.
//
// The error is io.EOF if the connection ends or breaks before the first byte, as it
// does when a balancer only looks whether somebody listens. No error holds anything
// of what was read but a mistaken address or port.
func ReadHeader(r io.Reader) (client netip.AddrPort, known bool, err error) {
	b, err := headerBytes(r)
	if err != nil {
		return client, false, err
	}
	if b[0] == '\r' && b[12] == 0x21 && b[13] == 0 { // PROXY of no family: the client is not known
		return client, false, nil
	}
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(b), len(b)))
	if err != nil {
		return client, false, fmt.Errorf("PROXY header: %w", err)
	}
	if h.Command.IsLocal() {
		return client, false, nil
	}
	switch a := h.SourceAddr.(type) {
	case *net.TCPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), true, nil
	case *net.UnixAddr:
		return client, false, nil
	}
	return client, false, errors.New("PROXY header: its client did not come by TCP")
}

// headerBytes reads a whole header and nothing behind it.
func headerBytes(r io.Reader) ([]byte, error) {
	b := make([]byte, firstHeader, lineHeader)
	if n, err := io.ReadFull(r, b); n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, io.EOF
	} else if err != nil {
		return nil, err
	}
	switch {
	case bytes.Equal(b, proxyproto.SIGV2):
		return rest(r, b)
	case bytes.HasPrefix(b, proxyproto.SIGV1):
		return line(r, b)
	}
	return nil, ErrNoHeader
}

// line reads on to the end of a header of version 1, byte by byte: how long it is
// shows only there.
func line(r io.Reader, b []byte) ([]byte, error) {
	for b[len(b)-1] != '\n' {
		if len(b) == lineHeader {
			return nil, fmt.Errorf("PROXY header: no end of line within %d bytes", lineHeader)
		}
		b = append(b, 0)
		if _, err := io.ReadFull(r, b[len(b)-1:]); err != nil {
			return nil, cut(err)
		}
	}
	return b, nil
}

// rest reads on to the end of a header of version 2.
func rest(r io.Reader, b []byte) ([]byte, error) {
	b = b[:fixedHeader]
	if _, err := io.ReadFull(r, b[firstHeader:]); err != nil {
		return nil, cut(err)
	}
	n := int(binary.BigEndian.Uint16(b[fixedHeader-2:]))
	if n > maxRest {
		return nil, fmt.Errorf("PROXY header: %d bytes, want at most %d", fixedHeader+n, fixedHeader+maxRest)
	}
	b = append(b, make([]byte, n)...)
	if _, err := io.ReadFull(r, b[fixedHeader:]); err != nil {
		return nil, cut(err)
	}
	return b, nil
}

// cut names the end of the stream within a header what it is.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
