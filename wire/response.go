package wire

import (
	"bytes"
	"slices"
	"strconv"
)

// Statuses that the protocol knows (protocol.md section 5).
const (
	StatusOK         = 200
	StatusBadRequest = 400
	StatusNotFound   = 404
	StatusLocked     = 423
)

// DefaultAspNetVersion is the X-AspNet-Version of every .NET 4.x state server.
const DefaultAspNetVersion = "4.0.30319"

// Response is the head of a response. ParseResponse fills it; a caller that
// sends one sets the fields up to ContentLength. It may be used again and
// again. Slices point into the buffer that was parsed and share its lifetime.
type Response struct {
	Status        int
	Reason        []byte
	AspNetVersion []byte // X-AspNet-Version
	ActionFlags   Int
	LockDate      Int // .NET ticks, local time of the server
	LockAge       Int // seconds
	LockCookie    Int
	Timeout       Int // minutes
	ContentLength Int // bytes

	Version []byte // "HTTP/1.1", or empty as Microsoft's server leaves it
	Head    []byte // the head as received, blank line included
}

// BodyLen returns how many bytes of body follow the head in answer to verb.
func (r *Response) BodyLen(verb Verb) int {
	if verb == HEAD {
		return 0
	}
	return int(r.ContentLength.N)
}

// PassesVersionCheck reports whether a client takes this as the first answer
// of a state server: X-AspNet-Version with a major number of 2 or more
// (protocol.md section 8.2).
func (r *Response) PassesVersionCheck() bool {
	if v := r.AspNetVersion; len(v) > 1 && v[1] == '.' && '2' <= v[0] && v[0] <= '9' {
		return true // nearly all
	}
	major, _, _ := bytes.Cut(r.AspNetVersion, []byte("."))
	n, ok := parseInt(major)
	return ok && n >= 2
}

// Effect is what System.Web makes of an answer (protocol.md section 8.1).
type Effect uint8

// The effects.
const (
	EffectException Effect = iota // the page fails
	EffectItem                    // the session is there
	EffectNotFound                // no such session
	EffectLocked                  // ask again in half a second
	EffectAccepted                // taken as done, whatever the status says
)

var effectNames = [...]string{"exception", "item", "not_found", "locked", "accepted_silently"}

// String returns the effect's name in lower case with underscores.
func (e Effect) String() string {
	if int(e) < len(effectNames) {
		return effectNames[e]
	}
	return "Effect(" + strconv.Itoa(int(e)) + ")"
}

// Effect returns what the client makes of r in answer to op.
func (r *Response) Effect(op Op) Effect {
	switch {
	case r.Status == StatusBadRequest:
		return EffectException
	case op != OpGet && op != OpGetExclusive:
		return EffectAccepted
	case r.Status == StatusOK && r.ContentLength.N > 0:
		return EffectItem
	case r.Status == StatusLocked:
		return EffectLocked
	}
	return EffectNotFound
}

// ParseResponse parses the response head at the start of b and returns its
// length. The error is ErrIncomplete if b ends before the head does, or a
// *SyntaxError; r then holds what the whole lines before have told, so that a
// lock granted by an answer that broke off is known. A response without
// Content-Length is refused: the protocol has no other way to end a body.
func ParseResponse(b []byte, r *Response) (int, error) {
	*r = Response{}
	line, _, at, bad := nextLine(b, 0)
	switch {
	case at > 0 && len(line) > 0:
		if err := r.parseLine(line); err != nil {
			return 0, err
		}
	case at > 0 || bad >= 0 || !couldBeStatus(b):
		return 0, &SyntaxError{BadStatusLine, 0}
	default:
		return 0, ErrIncomplete
	}
	var h responseHeaders
	var fault error // what is wrong with the line at fault, told when the head is whole
	for {
		line, plain, end, bad := nextLine(b, at)
		switch {
		case bad >= 0:
			return 0, &SyntaxError{BadHeader, bad}
		case end == 0:
			return 0, ErrIncomplete
		case len(line) > 0:
			if fault == nil {
				fault = r.parseHeader(&h, line, plain, at)
			}
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

// couldBeStatus reports whether b, which holds no whole line, may become a
// status line, so that nobody waits for the rest of what can't.
func couldBeStatus(b []byte) bool {
	return len(b) == 0 || b[0] == 'H' || '1' <= b[0] && b[0] <= '9'
}

func (r *Response) parseLine(line []byte) error {
	code := line
	if bytes.HasPrefix(line, []byte("HTTP/1.")) {
		i := bytes.IndexByte(line, ' ')
		if i != len("HTTP/1.1") || line[i-1] < '0' || line[i-1] > '9' {
			return &SyntaxError{BadStatusLine, 0}
		}
		r.Version, code = line[:i], line[i+1:]
	}
	at := len(line) - len(code)
	code, r.Reason, _ = bytes.Cut(code, []byte(" "))
	status, ok := parseInt(code)
	if !ok || len(code) != 3 || status < 100 || status > 999 {
		return &SyntaxError{BadStatusLine, at}
	}
	if i := slices.IndexFunc(r.Reason, isControl); i >= 0 {
		return &SyntaxError{BadStatusLine, at + 4 + i}
	}
	r.Status = int(status)
	return nil
}

// responseHeaders is where the lines at fault stand that are told of only when
// all are read; 0 for none.
type responseHeaders struct{ transferEncoding, contentLength int }

// parseHeader takes a header line, which stands at an offset.
func (r *Response) parseHeader(h *responseHeaders, line []byte, plain bool, at int) error {
	name, value, ok := header(line, plain)
	if !ok {
		return &SyntaxError{BadHeader, at}
	}
	switch {
	case isName(name, "Content-Length", "content-length"):
		n, ok := contentLength(value)
		if !ok || r.ContentLength.Set {
			h.contentLength = at
		}
		r.ContentLength = Some(n)
	case isName(name, "Transfer-Encoding", "transfer-encoding"):
		h.transferEncoding = at
	default:
		if !r.setHeader(name, value) {
			return &SyntaxError{BadHeader, at}
		}
	}
	return nil
}

// finish judges what all lines together say. The blank line stands at an offset.
func (r *Response) finish(h *responseHeaders, at int) error {
	switch {
	case h.transferEncoding > 0:
		return &SyntaxError{UnsupportedTransferEncoding, h.transferEncoding}
	case h.contentLength > 0:
		return &SyntaxError{BadContentLength, h.contentLength}
	case !r.ContentLength.Set:
		return &SyntaxError{MissingContentLength, at}
	}
	return nil
}

// setHeader reports false for a name that can be none, for a value that is no
// number where one is wanted, and for a number given twice.
func (r *Response) setHeader(name, value []byte) bool {
	var field *Int
	switch len(name) {
	case 7:
		if isName(name, "LockAge", "lockage") {
			field = &r.LockAge
		} else if isName(name, "Timeout", "timeout") {
			field = &r.Timeout
		}
	case 8:
		if isName(name, "LockDate", "lockdate") {
			field = &r.LockDate
		}
	case 10:
		if isName(name, "LockCookie", "lockcookie") {
			field = &r.LockCookie
		}
	case 11:
		if isName(name, "ActionFlags", "actionflags") {
			field = &r.ActionFlags
		}
	case 16:
		if isName(name, "X-AspNet-Version", "x-aspnet-version") {
			r.AspNetVersion = value
			return true
		}
	}
	if field == nil {
		return isTokens(name)
	}
	n, ok := parseInt(value)
	ok = ok && !field.Set
	*field = Some(n)
	return ok
}

// AppendResponse appends the head of r as Microsoft's server sends it: no HTTP
// version, its header order and blanks (protocol.md section 5). An empty Reason
// becomes the status's usual one. X-AspNet-Version is left out if empty.
// Version and Head are not looked at.
func AppendResponse(dst []byte, r *Response) []byte {
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	if len(r.Reason) > 0 {
		dst = append(dst, r.Reason...)
	} else {
		dst = append(dst, reasonPhrase(r.Status)...)
	}
	dst = append(dst, "\r\n"...)
	if len(r.AspNetVersion) > 0 {
		dst = append(dst, "X-AspNet-Version: "...)
		dst = append(dst, r.AspNetVersion...)
		dst = append(dst, "\r\n"...)
	}
	dst = appendInt(dst, "ActionFlags: ", r.ActionFlags)
	dst = appendInt(dst, "LockDate: ", r.LockDate)
	dst = appendInt(dst, "LockAge: ", r.LockAge)
	dst = appendInt(dst, "LockCookie: ", r.LockCookie)
	dst = appendInt(dst, "Timeout: ", r.Timeout)
	dst = append(dst, "Cache-Control: private\r\n"...)
	dst = appendInt(dst, "Content-Length: ", Some(r.ContentLength.N))
	return append(dst, "\r\n"...)
}

func reasonPhrase(status int) string {
	switch status {
	case StatusOK:
		return "OK"
	case StatusBadRequest:
		return "Bad Request"
	case StatusNotFound:
		return "Not Found"
	case StatusLocked:
		return "Locked"
	}
	return "Status"
}
