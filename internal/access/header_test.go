package access

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pires/go-proxyproto"
)

// v2 makes a header of version 2.
func v2(command, family byte, rest string) string {
	return "\r\n\r\n\x00\r\nQUIT\n" + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + rest
}

const (
	ports  = "\xd4\x31\xa5\xb8" // 54321 to 42424
	fourTo = "\x0a\x01\x02\x03\x0a\x00\x00\x05" + ports
	sixTo  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05" + ports
	mappedTo = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x01\x02\x03" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x05" + ports
	noop = "\x04\x00\x05hello" // a TLV to be skipped
)

var goodHeaders = []struct {
	name, header string
	client       string // "" if it is not known
}{
	{"v1 IPv4", "PROXY TCP4 10.1.2.3 10.0.0.5 54321 42424\r\n", "10.1.2.3:54321"},
	{"v1 IPv6", "PROXY TCP6 2001:db8::7 2001:db8::5 54321 42424\r\n", "[2001:db8::7]:54321"},
	{"v1 mapped", "PROXY TCP6 ::ffff:10.1.2.3 ::ffff:10.0.0.5 54321 42424\r\n", "10.1.2.3:54321"},
	{"v1 unknown", "PROXY UNKNOWN\r\n", ""},
	{"v1 unknown, longest", "PROXY UNKNOWN " + strings.Repeat("f", 107-16) + "\r\n", ""},
	{"v2 IPv4", v2(0x21, 0x11, fourTo), "10.1.2.3:54321"},
	{"v2 IPv6", v2(0x21, 0x21, sixTo), "[2001:db8::7]:54321"},
	{"v2 mapped", v2(0x21, 0x21, mappedTo), "10.1.2.3:54321"},
	{"v2 with more", v2(0x21, 0x11, fourTo+noop), "10.1.2.3:54321"},
	{"v2 with much more", v2(0x21, 0x11, fourTo+"\x04\x0f\xf1"+strings.Repeat("x", 4096-15)), "10.1.2.3:54321"},
	{"v2 local", v2(0x20, 0, ""), ""},
	{"v2 local with an address", v2(0x20, 0x11, fourTo), ""},
	{"v2 local with bytes", v2(0x20, 0, "whatever"), ""},
	{"v2 no family", v2(0x21, 0, ""), ""},
	{"v2 no family with bytes", v2(0x21, 0, "whatever"), ""},
	{"v2 Unix socket", v2(0x21, 0x31, strings.Repeat("x", 216)), ""},
}

// TestReadHeader reads each header in one piece and byte by byte, with a request
// behind it that must stay.
func TestReadHeader(t *testing.T) {
	for _, tt := range goodHeaders {
		for _, how := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
			t.Run(tt.name, func(t *testing.T) {
				const request = "GET / HTTP/1.1\r\n\r\n"
				in := strings.NewReader(tt.header + request)
				client, known, err := ReadHeader(how(in))
				if err != nil || known != (tt.client != "") || known && client != netip.MustParseAddrPort(tt.client) {
					t.Errorf("ReadHeader = %v, %t, %v; want %q", client, known, err, tt.client)
				}
				if left, _ := io.ReadAll(in); string(left) != request {
					t.Errorf("what is left = %q; want the request %q", left, request)
				}
			})
		}
	}
}

func TestReadHeaderRefuses(t *testing.T) {
	tests := []struct {
		name, input string
		want        error // nil: any
	}{
		{"nothing", "", io.EOF},
		{"the beginning of one", "PROXY", io.ErrUnexpectedEOF},
		{"v1 cut", "PROXY TCP4 10.1.2.3 10.0", io.ErrUnexpectedEOF},
		{"v2 cut in its mark", "\r\n\r\n\x00\r\nQUI", io.ErrUnexpectedEOF},
		{"v2 cut behind its mark", v2(0x21, 0x11, fourTo)[:12], io.ErrUnexpectedEOF},
		{"v2 cut in its addresses", v2(0x21, 0x11, fourTo)[:20], io.ErrUnexpectedEOF},
		{"a request", "GET /secret HTTP/1.1\r\n\r\n", ErrNoHeader},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh", ErrNoHeader},
		{"lower case", "proxy TCP4 10.1.2.3 10.0.0.5 54321 42424\r\n", ErrNoHeader},
		{"v1 without its blank", "PROXYTCP4 10.1.2.3 10.0.0.5 54321 42424\r\n", nil},
		{"v1 without a protocol", "PROXY \r\nGET / HTTP/1.1\r\n", nil},
		{"v1 of another protocol", "PROXY UDP4 10.1.2.3 10.0.0.5 54321 42424\r\n", nil},
		{"v1 with another address", "PROXY TCP4 2001:db8::7 10.0.0.5 54321 42424\r\n", nil},
		{"v1 with a mistaken address", "PROXY TCP4 10.1.2.300 10.0.0.5 54321 42424\r\n", nil},
		{"v1 with a mistaken port", "PROXY TCP4 10.1.2.3 10.0.0.5 65536 42424\r\n", nil},
		{"v1 with a port too little", "PROXY TCP4 10.1.2.3 10.0.0.5 54321\r\n", nil},
		{"v1 with a word too much", "PROXY TCP4 10.1.2.3 10.0.0.5 54321 42424 x\r\n", nil},
		{"v1 without CR", "PROXY TCP4 10.1.2.3 10.0.0.5 54321 42424\n", nil},
		{"v1 too long", "PROXY UNKNOWN " + strings.Repeat("f", 107) + "\r\n", nil},
		{"v1 without an end", "PROXY TCP4 " + strings.Repeat("1", 1000), nil},
		{"v2 of version 3", v2(0x31, 0x11, fourTo), nil},
		{"v2 of an unknown command", v2(0x22, 0x11, fourTo), nil},
		{"v2 of an unknown family", v2(0x21, 0x41, fourTo), nil},
		{"v2 UDP", v2(0x21, 0x12, fourTo), nil},
		{"v2 too short for its family", v2(0x21, 0x21, fourTo), nil},
		{"v2 too long", v2(0x21, 0x11, strings.Repeat("x", 4097)), nil},
		{"v2 of the longest length", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, known, err := ReadHeader(strings.NewReader(tt.input))
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Fatalf("ReadHeader(%q) = %v, %t, %v; want an error, %v", tt.input, client, known, err, tt.want)
			}
			if client.IsValid() || known {
				t.Errorf("ReadHeader(%q) = %v, %t beside the error %v", tt.input, client, known, err)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("error %q holds what was read", err)
			}
		})
	}
}

func TestReadHeaderTellsOfReadErrors(t *testing.T) {
	broken := errors.New("broken")
	if _, _, err := ReadHeader(iotest.ErrReader(broken)); err != io.EOF {
		t.Errorf("ReadHeader(an error) = %v; want io.EOF", err)
	}
	if _, _, err := ReadHeader(iotest.ErrReader(os.ErrDeadlineExceeded)); err != os.ErrDeadlineExceeded {
		t.Errorf("ReadHeader(silence) = %v; want %v", err, os.ErrDeadlineExceeded)
	}
	for _, begin := range []string{"PROXY TC", "PROXY TCP4 10.1", v2(0x21, 0x11, fourTo)[:14], v2(0x21, 0x11, fourTo)[:20]} {
		r := io.MultiReader(strings.NewReader(begin), iotest.ErrReader(broken))
		if _, _, err := ReadHeader(r); !errors.Is(err, broken) {
			t.Errorf("ReadHeader(%q and an error) = %v; want it", begin, err)
		}
	}
}

// FuzzReadHeader: what is taken is a header that the library takes too, with the
// same client, and not a byte more is read.
func FuzzReadHeader(f *testing.F) {
	for _, tt := range goodHeaders {
		f.Add([]byte(tt.header + "GET / HTTP/1.1\r\n"))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("PROXY UNKNOWN\n\r\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		in := bytes.NewReader(input)
		client, known, err := ReadHeader(in)
		used := input[:len(input)-in.Len()]
		if len(used) > fixedHeader+maxRest {
			t.Errorf("%d bytes were read; want at most %d", len(used), fixedHeader+maxRest)
		}
		if err != nil {
			if known || client.IsValid() {
				t.Errorf("client %v, %t beside the error %v", client, known, err)
			}
			return
		}
		all := bufio.NewReaderSize(bytes.NewReader(input), 8<<10)
		h, err := proxyproto.Read(all)
		if err != nil {
			if !known && input[0] == '\r' && input[13] == 0 {
				return // a client that is not known: the library leaves it to its user
			}
			t.Fatalf("taken, but the library refuses %q: %v", used, err)
		}
		left, _ := io.ReadAll(all)
		if !bytes.Equal(left, input[len(used):]) {
			t.Errorf("%d bytes read of %q; the library reads %d", len(used), input, len(input)-len(left))
		}
		a, isTCP := h.SourceAddr.(*net.TCPAddr)
		if want := isTCP && !h.Command.IsLocal(); known != want {
			t.Errorf("client known: %t; want %t for %q", known, want, used)
		} else if known && (client.Addr() != a.AddrPort().Addr().Unmap() || int(client.Port()) != a.Port) {
			t.Errorf("client = %v; the library says %v", client, a)
		}
	})
}
