package main

import (
	"net/netip"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"stateproxy/proxy"
)

// refusals logs clients whose connections were closed before their first request:
// for each address and reason one line a minute, and no more than maxRefused of
// them, so that whoever knocks all day does not drown the log.
type refusals struct {
	log zerolog.Logger

	mu    sync.Mutex // guards what follows
	since time.Time  // when the present minute began
	told  map[refusalKind]bool
	more  int // since then, without a line
}

type refusalKind struct {
	reason proxy.Reason
	client netip.Addr
}

// Bounds of the lines of a minute.
const (
	refusalPause = time.Minute
	maxRefused   = 1000
)

// note takes a refusal.
func (f *refusals) note(r proxy.Refusal) {
	before, tell := f.tell(refusalKind{r.Reason, r.Client.Addr()}, time.Now())
	if !tell {
		return
	}
	e := f.log.Warn().Str("reason", string(r.Reason)).Str("client", r.Client.Addr().String()).Str("listen", r.Listener)
	if r.Peer != r.Client {
		e.Str("peer", r.Peer.Addr().String())
	}
	if r.Err != nil {
		e.Err(r.Err)
	}
	if before > 0 {
		e.Int("also_before", before)
	}
	e.Msg("client connection refused")
}

// tell reports whether a line is due. before is how many got none in the minute
// that is over, if this is the first of another one.
func (f *refusals) tell(k refusalKind, now time.Time) (before int, tell bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.told == nil || now.Sub(f.since) >= refusalPause {
		before, f.more = f.more, 0
		f.since, f.told = now, map[refusalKind]bool{}
	}
	if f.told[k] || len(f.told) >= maxRefused {
		f.more++
		return 0, false
	}
	f.told[k] = true
	return before, true
}
