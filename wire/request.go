package wire

import (
	"bytes"
	"strconv"
)

// Request is the head of a request. ParseRequest fills it; a caller that sends
// one sets the fields up to ContentLength. It may be used again and again.
// Slices point into the buffer that was parsed and share its lifetime.
type Request struct {
	Verb          Verb
	Target        []byte // as on the wire, still encoded
	Host          []byte
	Exclusive     Exclusive
	LockCookie    Int // 0 to MaxLockCookie
	Timeout       Int // minutes, 0 to MaxTimeout; a sent -1 reads as absent
	ExtraFlags    Int // bit 0: create only if absent; a sent -1 reads as absent
	ContentLength Int // bytes
	Budget        Int // milliseconds that a proxy before this one leaves for the answer, see WithBudget

	Version []byte // "HTTP/1.1" or "HTTP/1.0", as received
	Head    []byte // the head as received, blank line included
	Faults  Faults // values a server has to judge; their fields read as absent

	budgetAt, budgetLen int // where in Head the line with the budget is
}

// Op returns what the request asks for.
func (r *Request) Op() Op {
	switch r.Verb {
	case GET:
		switch r.Exclusive {
		case Acquire:
			return OpGetExclusive
		case Release:
			return OpRelease
		}
		return OpGet
	case PUT:
		if r.ExtraFlags.Set && r.ExtraFlags.N&1 != 0 {
			return OpSetUninitialized
		}
		return OpSet
	case DELETE:
		return OpRemove
	case HEAD:
		return OpResetTimeout
	}
	return OpNone
}

// BodyLen returns how many bytes of body follow the head. Only a PUT has a body.
func (r *Request) BodyLen() int {
	if r.Verb != PUT {
		return 0
	}
	return int(r.ContentLength.N)
}

// CloseAfter reports that the connection must be closed after the answer,
// because the request announced a body where none can be: bytes that do follow
// must not be read as another request (protocol.md section 3).
func (r *Request) CloseAfter() bool {
	return r.Verb != PUT && r.ContentLength.N > 0
}

// ParseRequest parses the request head at the start of b and returns its
// length. The error is ErrIncomplete if b ends before the head does, or a
// *SyntaxError; r is then of no use. Values that only a server can judge are
// no error but noted in r.Faults.
func ParseRequest(b []byte, r *Request) (int, error) {
	*r = Request{}
	var h requestHeaders
	var fault error // what is wrong with the line at fault, told when the head is whole
	for at := 0; ; {
		line, plain, end, bad := nextLine(b, at)
		switch {
		case bad >= 0:
			return 0, &SyntaxError{BadLineEnding, bad}
		case end == 0:
			if len(b) > 0 && !isToken[b[0]] {
				return 0, &SyntaxError{BadRequestLine, 0} // no need to wait for the rest of, say, a TLS hello
			}
			return 0, ErrIncomplete
		case fault == nil && at == 0:
			fault = r.parseLine(line, plain)
		case fault == nil && len(line) > 0:
			fault = r.parseHeader(&h, line, plain, at, end-at)
		}
		if len(line) > 0 {
			at = end
			continue
		}
		if fault == nil {
			fault = r.finish(&h, at)
		}
		if fault != nil {
			return 0, fault
		}
		r.Head = b[:end]
		return end, nil
	}
}

func (r *Request) parseLine(line []byte, plain bool) error {
	i := bytes.IndexByte(line, ' ')
	if i <= 0 {
		return &SyntaxError{BadRequestLine, 0}
	}
	j := bytes.IndexByte(line[i+1:], ' ')
	if j <= 0 {
		return &SyntaxError{BadRequestLine, i + 1}
	}
	j += i + 1
	verb, target, version := line[:i], line[i+1:j], line[j+1:]
	if string(version) != "HTTP/1.1" && string(version) != "HTTP/1.0" {
		return &SyntaxError{BadRequestLine, j + 1}
	}
	if r.Verb = parseVerb(verb); r.Verb == 0 {
		return &SyntaxError{BadVerb, 0}
	}
	if !plain { // else it is visible, for blanks end it
		for k, c := range target {
			if c <= ' ' || c >= 0x7f {
				return &SyntaxError{BadTarget, i + 1 + k}
			}
		}
	}
	r.Target, r.Version = target, version
	return nil
}

func parseVerb(b []byte) Verb {
	switch string(b) {
	case "GET":
		return GET
	case "PUT":
		return PUT
	case "DELETE":
		return DELETE
	case "HEAD":
		return HEAD
	}
	return 0
}

// requestHeaders collects what the header lines say until all are read, for the
// order in which faults are reported is not the order of the lines.
type requestHeaders struct {
	seen             [numHeaders]bool
	transferEncoding int // offset of the line at fault, 0 for none
	contentLength    int // likewise
	hyphenated       Int // value of Lock-Cookie
	hyphenatedBad    bool
}

const (
	hdrUnknown = iota
	hdrHost
	hdrExclusive
	hdrLockCookie
	hdrLockCookieHyphen
	hdrTimeout
	hdrExtraFlags
	hdrContentLength
	hdrTransferEncoding
	hdrBudget
	numHeaders
)

func requestHeader(name []byte) int {
	switch len(name) {
	case 4:
		if isName(name, "Host", "host") {
			return hdrHost
		}
	case 7:
		if isName(name, "Timeout", "timeout") {
			return hdrTimeout
		}
	case 9:
		if isName(name, "Exclusive", "exclusive") {
			return hdrExclusive
		}
	case 10:
		if isName(name, "LockCookie", "lockcookie") {
			return hdrLockCookie
		}
		if isName(name, "ExtraFlags", "extraflags") {
			return hdrExtraFlags
		}
	case 11:
		if isName(name, "Lock-Cookie", "lock-cookie") {
			return hdrLockCookieHyphen
		}
	case 14:
		if isName(name, "Content-Length", "content-length") {
			return hdrContentLength
		}
	case 17:
		if isName(name, "Transfer-Encoding", "transfer-encoding") {
			return hdrTransferEncoding
		}
		if isName(name, "Stateproxy-Budget", "stateproxy-budget") {
			return hdrBudget
		}
	}
	return hdrUnknown
}

// parseHeader takes a header line, which stands at an offset and has size bytes
// with its end.
func (r *Request) parseHeader(h *requestHeaders, line []byte, plain bool, at, size int) error {
	name, value, ok := header(line, plain)
	if !ok {
		return &SyntaxError{BadHeader, at}
	}
	id := requestHeader(name)
	switch {
	case id == hdrUnknown:
		if !isTokens(name) {
			return &SyntaxError{BadHeader, at}
		}
	case h.seen[id] && id != hdrContentLength: // the two ends might believe different lines
		return &SyntaxError{BadHeader, at}
	}
	r.setHeader(h, id, value, at)
	if id == hdrBudget {
		r.budgetAt, r.budgetLen = at, size
	}
	h.seen[id] = true
	return nil
}

// finish judges what all lines together say. The blank line stands at an offset.
func (r *Request) finish(h *requestHeaders, at int) error {
	switch {
	case h.transferEncoding > 0:
		return &SyntaxError{UnsupportedTransferEncoding, h.transferEncoding}
	case h.contentLength > 0:
		return &SyntaxError{BadContentLength, h.contentLength}
	case r.Verb == PUT && !r.ContentLength.Set:
		return &SyntaxError{MissingContentLength, at}
	}
	if !h.seen[hdrLockCookie] && h.seen[hdrLockCookieHyphen] {
		r.LockCookie = h.hyphenated
		if h.hyphenatedBad {
			r.Faults |= FaultLockCookie
		}
	}
	if r.Op() == OpRelease && !r.LockCookie.Set && !r.Faults.Has(FaultLockCookie) {
		r.Faults |= FaultNoLockCookie
	}
	return nil
}

func (r *Request) setHeader(h *requestHeaders, id int, value []byte, at int) {
	switch id {
	case hdrHost:
		r.Host = value
	case hdrExclusive:
		switch {
		case equalFold(value, "acquire"):
			r.Exclusive = Acquire
		case equalFold(value, "release"):
			r.Exclusive = Release
		default:
			r.Faults |= FaultExclusive
		}
	case hdrLockCookie:
		var ok bool
		if r.LockCookie, ok = boundedInt(value, 0, MaxLockCookie); !ok {
			r.Faults |= FaultLockCookie
		}
	case hdrLockCookieHyphen:
		var ok bool
		h.hyphenated, ok = boundedInt(value, 0, MaxLockCookie)
		h.hyphenatedBad = !ok
	case hdrTimeout:
		var ok bool
		if r.Timeout, ok = boundedInt(value, -1, MaxTimeout); !ok {
			r.Faults |= FaultTimeout
		} else if r.Timeout.N == -1 {
			r.Timeout = Int{}
		}
	case hdrExtraFlags:
		var ok bool
		if r.ExtraFlags, ok = boundedInt(value, -1<<31, 1<<31-1); !ok {
			r.Faults |= FaultExtraFlags
		} else if r.ExtraFlags.N == -1 {
			r.ExtraFlags = Int{}
		}
	case hdrContentLength:
		n, ok := contentLength(value)
		if !ok || h.seen[hdrContentLength] {
			h.contentLength = at
		}
		r.ContentLength = Some(n)
	case hdrTransferEncoding:
		h.transferEncoding = at
	case hdrBudget:
		r.Budget, _ = boundedInt(value, 0, MaxBudget)
	}
}

func boundedInt(b []byte, low, high int64) (Int, bool) {
	n, ok := parseInt(b)
	if !ok || n < low || n > high {
		return Int{}, false
	}
	return Some(n), true
}

// AppendRequest appends the head of r in the real client's form: its header
// order and blanks (protocol.md section 3). An empty Host is sent as localhost.
// Budget, Version, Head and Faults are not looked at.
func AppendRequest(dst []byte, r *Request) []byte {
	dst = append(dst, r.Verb.String()...)
	dst = append(dst, ' ')
	dst = append(dst, r.Target...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	if len(r.Host) > 0 {
		dst = append(dst, r.Host...)
	} else {
		dst = append(dst, "localhost"...)
	}
	dst = append(dst, "\r\n"...)
	if r.Exclusive != NotExclusive {
		dst = append(dst, "Exclusive: "...)
		dst = append(dst, r.Exclusive.String()...)
		dst = append(dst, "\r\n"...)
	}
	dst = appendInt(dst, "Timeout:", r.Timeout)
	dst = appendInt(dst, "Content-Length:", r.ContentLength)
	dst = appendInt(dst, "ExtraFlags:", r.ExtraFlags)
	dst = appendInt(dst, "LockCookie:", r.LockCookie)
	return append(dst, "\r\n"...)
}

func appendInt(dst []byte, name string, v Int) []byte {
	if !v.Set {
		return dst
	}
	dst = append(dst, name...)
	dst = strconv.AppendInt(dst, v.N, 10)
	return append(dst, "\r\n"...)
}
