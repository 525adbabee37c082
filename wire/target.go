package wire

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// Key is a decoded target and its parts (protocol.md section 4). The zero value
// is an empty key. Slices share the memory that the key was decoded into.
type Key struct {
	Full      []byte // what a state server looks the session up by
	App       []byte // application part, such as /LM/W3SVC/2/ROOT; nil without a digest
	Digest    []byte // base64 of the application's digest; nil without one
	SessionID []byte // nil without a digest
}

// RoutingKey returns the bytes that decide routing: the session ID, or the
// whole key where none can be told.
func (k *Key) RoutingKey() []byte {
	if k.Digest == nil {
		return k.Full
	}
	return k.SessionID
}

// ParseTarget decodes target into dst[:0], which it grows if need be, and
// splits the result. It allocates nothing if dst has room for len(target)
// bytes and target is valid UTF-8.
func ParseTarget(dst, target []byte) Key {
	full := AppendDecoded(dst[:0], target)
	k := Key{Full: full}
	for i := 0; i < len(full); i++ {
		j := bytes.IndexByte(full[i:], '(')
		if j < 0 {
			break
		}
		i += j
		if n := digestLen(full[i+1:]); n > 0 {
			k.App, k.Digest, k.SessionID = full[:i], full[i+1:i+1+n], full[i+1+n+2:]
			break
		}
	}
	return k
}

// digestLen returns the length of the base64 digest at the start of b if one is
// there and ")/" follows it, else 0.
func digestLen(b []byte) int {
	end := bytes.IndexByte(b[:min(len(b), 89)], ')')
	if end < 0 || end+1 >= len(b) || b[end+1] != '/' {
		return 0
	}
	var padding int
	switch end {
	case 24, 88: // 16 and 64 bytes
		padding = 2
	case 28, 44: // 20 and 32 bytes
		padding = 1
	case 64: // 48 bytes
	default:
		return 0
	}
	for i, c := range b[:end] {
		if i >= end-padding {
			if c != '=' {
				return 0
			}
		} else if !isBase64(c) {
			return 0
		}
	}
	return end
}

func isBase64(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '+' || c == '/'
}

// AppendDecoded appends the decoded target to dst, by the rules of the
// Microsoft server (protocol.md section 4): of two leading raw slashes one is
// dropped; then one pass in which + is a blank, % with two hexadecimal digits a
// byte, %u with four a UTF-16 unit, and any other % stands for itself. Invalid
// UTF-8 becomes U+FFFD; a lone surrogate from %u keeps its three-byte form, so that
// different keys stay different.
func AppendDecoded(dst, target []byte) []byte {
	return decode(dst, foldSlashes(target))
}

func foldSlashes(target []byte) []byte {
	if len(target) > 1 && target[0] == '/' && target[1] == '/' {
		return target[1:]
	}
	return target
}

func decode(dst, target []byte) []byte {
	base := len(dst)
	run := base   // start of the bytes that are to be UTF-8 together
	ascii := true // all of them are less than that
	for i := 0; i < len(target); i++ {
		if n := plainLen(target[i:]); n > 0 {
			dst = append(dst, target[i:i+n]...)
			i += n - 1
			continue
		}
		c := target[i]
		switch {
		case c == '+':
			dst = append(dst, ' ')
		case c != '%':
			ascii = false
			dst = append(dst, c)
		case i+2 >= len(target):
			dst = append(dst, c)
		case target[i+1] == 'u' && i+5 < len(target):
			unit, ok := hex4(target[i+2 : i+6])
			if !ok {
				dst = append(dst, c)
				continue
			}
			dst = appendUnit(validate(dst, run), base, unit)
			run = len(dst)
			i += 5
		default:
			hi, lo := unhex[target[i+1]], unhex[target[i+2]]
			if hi < 0 || lo < 0 {
				dst = append(dst, c)
				continue
			}
			ascii = ascii && hi < 8
			dst = append(dst, byte(hi)<<4|byte(lo))
			i += 2
		}
	}
	if ascii {
		return dst
	}
	return validate(dst, run)
}

// plainLen returns how many bytes at the start of b are ASCII and stand for
// themselves.
func plainLen(b []byte) int {
	for i, c := range b {
		if coded[c] {
			return i
		}
	}
	return len(b)
}

// coded marks the bytes that do not, or are not ASCII.
var coded = func() (t [256]bool) {
	t['%'], t['+'] = true, true
	for c := 0x80; c < 0x100; c++ {
		t[c] = true
	}
	return t
}()

// validate replaces invalid UTF-8 in b[from:] by U+FFFD, one for each byte.
func validate(b []byte, from int) []byte {
	if utf8.Valid(b[from:]) {
		return b
	}
	for _, r := range string(b[from:]) { // the conversion copies
		b = utf8.AppendRune(b[:from], r)
		from = len(b)
	}
	return b
}

// appendUnit appends one UTF-16 unit. A low surrogate right behind a high one
// makes one character of the two. That high one can only be a unit too, for
// dst[base:] has been validated and UTF-8 knows no surrogates.
func appendUnit(dst []byte, base int, unit uint16) []byte {
	if n := len(dst); unit >= 0xdc00 && unit <= 0xdfff && n-base >= 3 && dst[n-3] == 0xed && dst[n-2]&0xf0 == 0xa0 {
		high := 0xd000 | rune(dst[n-2]&0x3f)<<6 | rune(dst[n-1]&0x3f)
		return utf8.AppendRune(dst[:n-3], utf16.DecodeRune(high, rune(unit)))
	}
	if utf16.IsSurrogate(rune(unit)) {
		return append(dst, 0xe0|byte(unit>>12), 0x80|byte(unit>>6)&0x3f, 0x80|byte(unit)&0x3f)
	}
	return utf8.AppendRune(dst, rune(unit))
}

func hex4(b []byte) (n uint16, ok bool) {
	for _, c := range b {
		d := unhex[c]
		if d < 0 {
			return 0, false
		}
		n = n<<4 | uint16(d)
	}
	return n, true
}

// unhex maps a hexadecimal digit to its value, anything else to -1.
var unhex = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range int8(10) {
		t['0'+i] = i
	}
	for i := range int8(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()

// AppendEncoded appends the target that the real client sends for key: letters,
// digits and -_.!*() as they are, a blank as +, all else as %xx in lower case
// (protocol.md section 3). AppendDecoded gives key back if it is valid UTF-8, as
// whatever the real client sends is.
func AppendEncoded(dst, key []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range key {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', bytes.IndexByte([]byte("-_.!*()"), c) >= 0:
			dst = append(dst, c)
		case c == ' ':
			dst = append(dst, '+')
		default:
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		}
	}
	return dst
}
