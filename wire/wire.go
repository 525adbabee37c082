// Package wire is the codec of the ASP.NET State Service protocol, one for
// client, proxy and server. The protocol looks like HTTP and is not: targets
// come without a leading slash and percent-encoded, status lines without an
// HTTP version (protocol.md sections 3 to 5).
//
// A server reads a request and answers it like this:
//
//	r := wire.NewReader(conn, 4<<10, wire.DefaultMaxHead)
//	var req wire.Request
//	err := r.ReadRequest(&req)              // the head; slices into r's buffer
//	body, err := r.ReadBody(nil, req.BodyLen())
//	out := wire.AppendResponse(nil, &wire.Response{Status: wire.StatusOK})
//
// Parsing allocates nothing. Framing is strict (CRLF, one Content-Length, no
// chunked coding, no folded lines, a bounded head), header spelling is liberal.
// The package knows no sockets, sets no deadlines and gives the body no
// meaning: these are left to the caller.
package wire

import "strconv"

// Bounds of the protocol's numbers (protocol.md section 3).
const (
	DefaultMaxHead   = 8 << 10 // bytes of a head that readers accept unless told otherwise
	MaxContentLength = 1<<31 - 1
	MaxTimeout       = 525600 // minutes: one year
	MaxLockCookie    = 1<<31 - 1
	MaxBudget        = 1<<31 - 1 // milliseconds
)

// Verb is the method of a request. The zero value is no verb.
type Verb uint8

// The four verbs of the protocol, upper case on the wire.
const (
	GET Verb = iota + 1
	PUT
	DELETE
	HEAD
)

var verbNames = [...]string{"", "GET", "PUT", "DELETE", "HEAD"}

// String returns the verb as it stands on the wire.
func (v Verb) String() string {
	if int(v) < len(verbNames) {
		return verbNames[v]
	}
	return "Verb(" + strconv.Itoa(int(v)) + ")"
}

// Exclusive is the value of the Exclusive header.
type Exclusive uint8

// Values of the Exclusive header. They mean something on a GET only.
const (
	NotExclusive Exclusive = iota
	Acquire
	Release
)

var exclusiveNames = [...]string{"", "acquire", "release"}

// String returns the value as the real client spells it, or "".
func (e Exclusive) String() string {
	if int(e) < len(exclusiveNames) {
		return exclusiveNames[e]
	}
	return "Exclusive(" + strconv.Itoa(int(e)) + ")"
}

// Op is what a request asks for: verb, Exclusive and ExtraFlags taken together
// (protocol.md section 6).
type Op uint8

// The operations of the protocol.
const (
	OpNone Op = iota
	OpGet
	OpGetExclusive
	OpRelease
	OpSet
	OpSetUninitialized
	OpRemove
	OpResetTimeout
)

var opNames = [...]string{"none", "get", "get_exclusive", "release", "set", "set_uninitialized", "remove", "reset_timeout"}

// NumOps is one more than the greatest Op, for tables indexed by Op.
const NumOps = len(opNames)

// String returns the operation's name in lower case with underscores.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "Op(" + strconv.Itoa(int(o)) + ")"
}

// Verb returns the verb that carries the operation.
func (o Op) Verb() Verb {
	switch o {
	case OpGet, OpGetExclusive, OpRelease:
		return GET
	case OpSet, OpSetUninitialized:
		return PUT
	case OpRemove:
		return DELETE
	case OpResetTimeout:
		return HEAD
	}
	return 0
}

// Int is the number in an optional header. The zero value is an absent header.
type Int struct {
	N   int64
	Set bool
}

// Some returns the value of a header that is present.
func Some(n int64) Int { return Int{N: n, Set: true} }

// Or returns the header's number, or def if the header is absent.
func (i Int) Or(def int64) int64 {
	if i.Set {
		return i.N
	}
	return def
}
