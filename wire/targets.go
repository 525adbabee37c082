package wire

import "bytes"

// TargetParser parses the targets that come over one connection. A client's
// connection belongs to one application, so most targets differ in the session
// ID alone, and no more than that is decoded again. The zero value is ready for
// use; it is not safe for concurrent use.
type TargetParser struct {
	raw   []byte // beginning of the last target, up to its session ID
	key   []byte // memory that keys are decoded into
	begin int    // bytes of key that raw stands for
	app   int    // bytes of them that are the application part
}

// maxKept bounds the memory that a parser keeps between two targets.
const maxKept = 1 << 10

// Parse returns what ParseTarget does. The result is valid until the next call.
func (p *TargetParser) Parse(target []byte) Key {
	if p.begin > 0 && bytes.HasPrefix(target, p.raw) {
		// Nothing behind the digest's group can change where the first one is,
		// and the slash that ends it ends a run of UTF-8.
		p.key = decode(p.key[:p.begin], target[len(p.raw):])
		full := p.key
		return Key{Full: full, App: full[:p.app], Digest: full[p.app+1 : p.begin-2], SessionID: full[p.begin:]}
	}
	p.begin = 0
	if cap(p.key) > maxKept {
		p.key = nil
	}
	k := ParseTarget(p.key, target)
	p.key = k.Full
	if k.Digest == nil {
		return k
	}
	begin := len(k.Full) - len(k.SessionID)
	if n := rawLen(target, k.Full[:begin]); n > 0 && n <= maxKept {
		p.raw = append(p.raw[:0], target[:n]...)
		p.begin, p.app = begin, len(k.App)
	}
	return k
}

// rawLen returns how many bytes of target the beginning of its decoded form
// stands for, 0 if that is not plain to see: where not every character is one
// byte of ASCII, written as itself, as + or as %XX.
func rawLen(target, decoded []byte) int {
	raw := foldSlashes(target)
	i := 0
	for _, c := range decoded {
		switch {
		case c >= 0x80:
			return 0
		case raw[i] != '%':
			i++
		case i+2 >= len(raw) || unhex[raw[i+1]] < 0 || unhex[raw[i+2]] < 0:
			return 0
		default:
			i += 3
		}
	}
	return len(target) - len(raw) + i
}
