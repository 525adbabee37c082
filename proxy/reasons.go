package proxy

import "stateproxy/internal/backend"

// Reasons lists them all: the proxy's own, then those of an exchange with a
// backend.
var Reasons = [...]Reason{
	Malformed, TooLarge, ClientStalled, ClientGone, ClientTLS, NoBackend, CutTail, HandoffBlocked, NoTime,
	AppNotAllowed, ClientRequestRate,

	Reason(backend.DialRefused), Reason(backend.DialTimeout), Reason(backend.DialError),
	Reason(backend.TLSName), Reason(backend.TLSUntrusted), Reason(backend.TLSExpired),
	Reason(backend.TLSPlain), Reason(backend.TLSRefused), Reason(backend.TLSHandshake),
	Reason(backend.QueueFull), Reason(backend.WaitTimeout),
	Reason(backend.SendError), Reason(backend.RelayError), Reason(backend.Closed), Reason(backend.CutAnswer),
	Reason(backend.Timeout), Reason(backend.OddStatus), Reason(backend.BadAnswer), Reason(backend.EmptyAnswer),
	Reason(backend.LongAnswer), Reason(backend.AnswerTooLarge),
}
