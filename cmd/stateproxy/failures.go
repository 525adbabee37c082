package main

import (
	"sync"
	"time"

	"github.com/rs/zerolog"

	"stateproxy/proxy"
)

// failures logs requests that failed: the first of a kind at once, the others
// of the next seconds as one line with their number, so that an outage does not
// drown the log.
type failures struct {
	log zerolog.Logger

	mu    sync.Mutex // guards kinds
	kinds map[failureKind]*failureCount
}

type failureKind struct {
	reason  proxy.Reason
	backend string
}

type failureCount struct {
	since time.Time
	more  int // since then
}

// failurePause is the time between two lines of one kind.
const failurePause = 10 * time.Second

// note takes what became of a request.
func (f *failures) note(o *proxy.Outcome) {
	if o.Reason == "" {
		return
	}
	now := time.Now()
	kind := failureKind{o.Reason, o.Backend}
	f.mu.Lock()
	if f.kinds == nil {
		f.kinds = map[failureKind]*failureCount{}
	}
	c := f.kinds[kind]
	if c != nil && now.Sub(c.since) < failurePause {
		c.more++
		f.mu.Unlock()
		return
	}
	before := 0
	if c != nil {
		before = c.more
	}
	f.kinds[kind] = &failureCount{since: now}
	f.mu.Unlock()
	e := f.log.Warn().Str("reason", string(o.Reason)).Str("op", o.Op.String()).Str("client", o.Client.String()).
		Int("status", o.Status).Dur("duration_ms", o.Duration)
	if o.Backend != "" {
		e.Str("backend", o.Backend)
	}
	if o.Session != 0 {
		e.Str("session", hex(o.Session))
	}
	if o.Err != nil {
		e.Err(o.Err)
	}
	if before > 0 {
		e.Int("also_before", before)
	}
	e.Msg("request failed")
}
