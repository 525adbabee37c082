package wire

import (
	"bytes"
	"math"
)

// headLen returns the length of the head at the start of b, blank line
// included, and the length of its first line without CRLF. It is 0 while the
// blank line is not there. A CR or LF that is not half of a CRLF is reported by
// its offset, -1 if there is none.
func headLen(b []byte) (n, first, badEnding int) {
	for start := 0; ; {
		i := bytes.IndexByte(b[start:], '\n')
		if i < 0 {
			return 0, first, strayCR(b, start)
		}
		i += start
		if i == start || b[i-1] != '\r' {
			return 0, first, i
		}
		if cr := bytes.IndexByte(b[start:i-1], '\r'); cr >= 0 {
			return 0, first, start + cr
		}
		switch {
		case start == 0:
			first = i - 1
			if first == 0 { // a blank line is no first line
				return i + 1, 0, -1
			}
		case i == start+1:
			return i + 1, first, -1
		}
		start = i + 1
	}
}

// strayCR looks for a CR in b[start:], which holds no LF. The last byte may be
// one whose LF is still to come.
func strayCR(b []byte, start int) int {
	if i := bytes.IndexByte(b[start:], '\r'); i >= 0 && start+i < len(b)-1 {
		return start + i
	}
	return -1
}

// nextLine cuts the next line, without its CRLF, off head[at:]. The caller has
// checked the line endings.
func nextLine(head []byte, at int) (line []byte, next int) {
	i := bytes.IndexByte(head[at:], '\r')
	return head[at : at+i], at + i + 2
}

// header splits a header line. ok is false if there is no name, or the value
// has a control character. Whether a name that nobody knows is one at all, the
// caller asks isTokens.
func header(line []byte) (name, value []byte, ok bool) {
	i := bytes.IndexByte(line, ':')
	if i <= 0 {
		return nil, nil, false
	}
	name, value = line[:i], line[i+1:]
	for len(value) > 0 && (value[0] == ' ' || value[0] == '\t') {
		value = value[1:]
	}
	for len(value) > 0 && (value[len(value)-1] == ' ' || value[len(value)-1] == '\t') {
		value = value[:len(value)-1]
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, nil, false
		}
	}
	return name, value, true
}

// isTokens reports whether b may be the name of a header.
func isTokens(b []byte) bool {
	for _, c := range b {
		if !isToken[c] {
			return false
		}
	}
	return true
}

// isToken marks the bytes that a header name may have (RFC 9110 section 5.6.2).
var isToken = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// isName reports whether a header has the name that canonical is the usual
// spelling of, and lower the one in lower case.
func isName(name []byte, canonical, lower string) bool {
	return string(name) == canonical || equalFold(name, lower)
}

// equalFold reports whether b is lower in any letter case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// parseInt reads a decimal number of up to 19 digits, with an optional minus
// sign, that fits into 64 bits. No plus sign, no blanks.
func parseInt(b []byte) (n int64, ok bool) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	var u uint64 // has room for any 19 digits
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		u = u*10 + uint64(c-'0')
	}
	if u > math.MaxInt64 {
		return 0, false
	}
	n = int64(u)
	if neg {
		n = -n
	}
	return n, true
}

// contentLength reads the value of a Content-Length header: digits only.
func contentLength(b []byte) (n int64, ok bool) {
	n, ok = parseInt(b)
	return n, ok && b[0] != '-' && n <= MaxContentLength
}
