package wire

import (
	"errors"
	"strconv"
)

// ErrIncomplete reports that the bytes so far are the beginning of a message:
// read more, do not fail.
var ErrIncomplete = errors.New("message is incomplete")

// Reason classifies a SyntaxError. Its text is stable and fit for a label.
type Reason string

// Reasons for which a head is refused.
const (
	BadRequestLine              Reason = "bad_request_line"
	BadStatusLine               Reason = "bad_status_line"
	BadVerb                     Reason = "bad_verb"
	BadTarget                   Reason = "bad_target"
	BadHeader                   Reason = "bad_header"
	BadLineEnding               Reason = "bad_line_ending"
	BadContentLength            Reason = "bad_content_length"
	MissingContentLength        Reason = "missing_content_length"
	UnsupportedTransferEncoding Reason = "unsupported_transfer_encoding"
	HeadTooLong                 Reason = "head_too_long"

	// The framing is sound in the five that follow: a proxy may pass such a
	// request on and leave the verdict to the server. ParseRequest notes them
	// in Request.Faults.
	BadExclusive      Reason = "bad_exclusive"
	BadLockCookie     Reason = "bad_lock_cookie"
	BadTimeout        Reason = "bad_timeout"
	BadExtraFlags     Reason = "bad_extra_flags"
	MissingLockCookie Reason = "missing_lock_cookie"
)

// SyntaxError says why a head can't be accepted and where. It holds none of
// the message's bytes, for a target carries a session ID.
type SyntaxError struct {
	Reason Reason
	Offset int // bytes from the start of the head
}

// Error returns reason and offset.
func (e *SyntaxError) Error() string {
	return string(e.Reason) + " at byte " + strconv.Itoa(e.Offset)
}

// Faults is the set of header values of a well-framed request that a server
// must refuse or ignore depending on the session's state (protocol.md section
// 6). The zero value is no fault.
type Faults uint8

// The faults, in the order in which they are reported.
const (
	FaultExclusive Faults = 1 << iota
	FaultLockCookie
	FaultTimeout
	FaultExtraFlags
	FaultNoLockCookie
)

var faultReasons = [...]Reason{BadExclusive, BadLockCookie, BadTimeout, BadExtraFlags, MissingLockCookie}

// Has reports whether any of the faults in x is in f.
func (f Faults) Has(x Faults) bool { return f&x != 0 }

// Reason returns the first fault's reason, or "" if there is none.
func (f Faults) Reason() Reason {
	for i, r := range faultReasons {
		if f&(1<<i) != 0 {
			return r
		}
	}
	return ""
}
