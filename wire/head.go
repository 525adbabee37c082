package wire

import (
	"bytes"
	"math"
	"slices"
)

// nextLine finds the line that begins at b[at:] and returns it without its CRLF.
// A plain line has nothing but visible ASCII and blanks; one that has may still
// be called not plain. end is 0 while the line is not complete. A CR or LF that
// is not half of a CRLF is reported by its offset, -1 if there is none.
func nextLine(b []byte, at int) (line []byte, plain bool, end, badEnding int) {
	plain = true
	for i := at; ; i++ {
		var ascii bool
		i, ascii = control(b, i)
		plain = plain && ascii
		switch {
		case i == len(b):
			return nil, plain, 0, -1
		case b[i] == '\n':
			return nil, plain, 0, i
		case b[i] != '\r':
			plain = false
		case i+1 == len(b): // its LF may be still to come
			return nil, plain, 0, -1
		case b[i+1] == '\n':
			return b[at:i], plain, i + 2, -1
		default:
			return nil, plain, 0, i
		}
	}
}

// header splits a header line. ok is false if there is no name, or the value
// has a control character. Whether a name that nobody knows is one at all, the
// caller asks isTokens.
func header(line []byte, plain bool) (name, value []byte, ok bool) {
	i := bytes.IndexByte(line, ':')
	if i <= 0 {
		return nil, nil, false
	}
	name, value = line[:i], line[i+1:]
	for len(value) > 0 && isBlank(value[0]) {
		value = value[1:]
	}
	for len(value) > 0 && isBlank(value[len(value)-1]) {
		value = value[:len(value)-1]
	}
	return name, value, plain || !slices.ContainsFunc(value, isControl)
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// isControl reports whether c is a control character other than a tab.
func isControl(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

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
