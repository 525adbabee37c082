package proxy

import (
	"net/netip"
	"time"

	"stateproxy/wire"
)

// Outcome is what became of one request. The proxy calls Done with it when the
// request is over; metrics and logs hear of requests only there.
type Outcome struct {
	Client  netip.AddrPort
	Op      wire.Op
	App     []byte // application part, valid during the call only; chosen by the client
	Session uint64 // stands for the session in logs and pages: a hash keyed by this process; 0 if the request was refused
	ID      uint64 // likewise for the session ID alone, which applications may share; 0 if it can't be told
	Pool    string // "" if the request was refused before it was routed
	Backend string // that the answer came from; "" if none was asked
	Status  int    // sent to the client; 0 if the connection was closed instead
	Reason  Reason // why it failed; "" if a backend's answer was passed on
	Err     error  // the cause, may be nil; never holds a session ID

	Start         time.Time
	Duration      time.Duration // from the whole request to the end of its answer
	Delay         time.Duration // of it, before all else, for a client over Settings.RequestRatePerClient
	Wait          time.Duration // of it, for the backend
	RequestBytes  int64
	ResponseBytes int64
	LockReleased  bool          // a lock whose grant could not be told to the client has been given back
	Timeout       int64         // minutes that the client gave or was told; 0 if none passed by
	LockAge       time.Duration // of the lock that a 423 tells of
	LockDate      int64         // when that was taken, in .NET ticks of the backend's clock and time zone; 0 if it is not told
	Body          []byte        // of a save up to 32 KiB or a read that was held whole; valid during the call only
	Moved         bool          // the session was brought over from a former owner
	BadVersion    bool          // the answer passed on has no X-AspNet-Version, or one that clients refuse
	Phases        Phases        // where Wait went
}

// Phases is where the time went that a request waited for the backend. It is
// noted only where something took time: each is 0 if it did not happen, or was
// over at once.
type Phases struct {
	Handoff time.Duration // looking for the session at former owners, bringing it over
	Queue   time.Duration // until one of the connections to the backend, all busy, was free
	Connect time.Duration // making connections to it
	Send    time.Duration // of a request that it did not take at once; with a long body also what the client took to send it
	Body    time.Duration // from the first bytes of the answer to the last that Wait includes
}

// Answer returns the rest of Wait: what the backend took to begin its answer.
func (o *Outcome) Answer() time.Duration {
	p := &o.Phases
	return max(o.Wait-p.Handoff-p.Queue-p.Connect-p.Send-p.Body, 0)
}

// Reply returns what came after Wait: sending the answer to the client, and
// fetching the rest of a long one meanwhile.
func (o *Outcome) Reply() time.Duration { return max(o.Duration-o.Delay-o.Wait, 0) }

// Reason says why a request got no backend's answer. Its text is stable and fit
// for a label. Beside those below there are the ones of the exchange with a
// backend, such as dial_refused, timeout or odd_status.
type Reason string

// Reasons on the client's side.
const (
	Malformed      Reason = "malformed"         // refused by the parser
	TooLarge       Reason = "request_too_large" // a body above the limit
	ClientStalled  Reason = "client_stalled"    // stopped within a request or an answer
	ClientGone     Reason = "client_gone"       // closed within a request, or before its answer was sent
	ClientTLS      Reason = "client_tls"        // no TLS handshake with the client, broken TLS after it, or TLS where none is
	NoBackend      Reason = "no_backend"        // the pool has no backend that may own sessions
	CutTail        Reason = "cut_tail"          // a long answer broke off after its beginning was sent
	HandoffBlocked Reason = "handoff_blocked"   // a former owner that may hold the session can't be asked
	NoTime         Reason = "no_time"           // a proxy before this one leaves no time for an answer; in a loop of proxies all requests end so

	AppNotAllowed     Reason = "app_access"              // Settings.Access does not let the client use the application
	ClientRequestRate Reason = "request_rate_per_client" // Settings.RequestRatePerClient is exceeded by far
)
