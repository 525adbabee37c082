package backend

import (
	"errors"
	"strings"

	"stateproxy/wire"
)

// Reason says why an exchange gave no answer that a client may see. Its text is
// stable and fit for a label.
type Reason string

// The reasons.
const (
	DialRefused    Reason = "dial_refused"     // nobody listens
	DialTimeout    Reason = "dial_timeout"     // no connection in time
	DialError      Reason = "dial_error"       // any other trouble in connecting
	TLSName        Reason = "tls_name"         // its certificate is for another name
	TLSUntrusted   Reason = "tls_untrusted"    // its certificate is of no CA that is trusted
	TLSExpired     Reason = "tls_expired"      // its certificate is not valid at this time
	TLSPlain       Reason = "tls_plain"        // it does not speak TLS
	TLSRefused     Reason = "tls_refused"      // it refused the handshake, or the certificate shown to it
	TLSHandshake   Reason = "tls_handshake"    // any other trouble in the handshake, such as silence
	QueueFull      Reason = "queue_full"       // too many requests wait for a connection
	WaitTimeout    Reason = "wait_timeout"     // no connection became free in time
	SendError      Reason = "send_error"       // the request could not be sent
	RelayError     Reason = "relay_error"      // the rest of a long body did not get from client to backend; either may be at fault
	Closed         Reason = "closed"           // closed or reset before a byte of the answer
	CutAnswer      Reason = "cut_answer"       // closed or reset within the answer
	Timeout        Reason = "timeout"          // silent until the deadline
	OddStatus      Reason = "odd_status"       // a status the protocol does not know, such as 503
	BadAnswer      Reason = "bad_answer"       // unreadable, chunked or without length
	EmptyAnswer    Reason = "empty_answer"     // 200 to a GET without a body
	LongAnswer     Reason = "long_answer"      // more bytes than announced
	AnswerTooLarge Reason = "answer_too_large" // a body above the limit
)

// Error is the error of a failed exchange.
type Error struct {
	Address string
	Reason  Reason
	Sent    bool  // bytes of the request may have reached the backend
	Status  int   // with OddStatus
	Err     error // the cause, may be nil

	// Lock is the cookie of a lock that the answer granted although it can't be
	// passed on. It is nobody's, so it should be released.
	Lock wire.Int
}

// Error tells backend, reason and cause. It holds nothing of the request.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("backend " + e.Address + ": " + string(e.Reason))
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// BackendFault reports whether the failure speaks against the backend: it was
// refused, reset, silent, or spoke something else.
func (e *Error) BackendFault() bool {
	switch e.Reason {
	case QueueFull, WaitTimeout, RelayError, EmptyAnswer, AnswerTooLarge:
		return false
	}
	return true
}

// TimedOut reports whether there was no answer in the time that was given.
func (e *Error) TimedOut() bool { return e.Reason == Timeout || e.Reason == DialTimeout }

func dialReason(err error) Reason {
	var handshake *TLSError
	switch {
	case errors.As(err, &handshake):
		return handshake.Reason
	case errors.Is(err, errRefused):
		return DialRefused
	case isTimeout(err):
		return DialTimeout
	}
	return DialError
}
