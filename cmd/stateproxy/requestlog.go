package main

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"stateproxy/internal/config"
	"stateproxy/proxy"
)

// requestLog logs single requests: those that were slow, and all of some
// sessions. What it wants can change while it works; it is safe for concurrent
// use. A request that it does not want costs two comparisons.
type requestLog struct {
	log   zerolog.Logger
	slow  atomic.Int64  // nanoseconds; 0: no request is slow
	below atomic.Uint64 // hashes of sessions whose requests are all logged; 0: none

	mu      sync.Mutex // guards what follows
	second  time.Time  // when the present one began
	lines   int        // on slow requests in it
	leftOut int        // slow requests without a line since the last line
}

// slowLines is how many slow requests are logged in a second.
const slowLines = 10

// set takes what the config wants.
func (r *requestLog) set(c config.Log) {
	r.slow.Store(int64(c.Slow))
	below := uint64(math.MaxUint64)
	if c.Access < 1 {
		below = uint64(c.Access * (1 << 64))
	}
	r.below.Store(below)
}

// note takes what became of a request.
func (r *requestLog) note(o *proxy.Outcome) {
	if slow := r.slow.Load(); slow > 0 && int64(o.Duration) >= slow {
		if leftOut, ok := r.turn(time.Now()); ok {
			e := r.log.Info() // one slow page is no trouble of the farm
			if leftOut > 0 {
				e.Int("also_slow", leftOut)
			}
			describe(e, o).Msg("slow request")
			return
		}
	}
	if below := r.below.Load(); below > 0 && o.Session <= below {
		describe(r.log.Info(), o).Msg("request")
	}
}

// turn reports whether there may be a line on a slow request now, and how many
// there could not be since the last one.
func (r *requestLog) turn(now time.Time) (leftOut int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.second) >= time.Second {
		r.second, r.lines = now, 0
	}
	if r.lines == slowLines {
		r.leftOut++
		return 0, false
	}
	r.lines++
	leftOut, r.leftOut = r.leftOut, 0
	return leftOut, true
}

// describe puts into a line what is to be told of a request.
func describe(e *zerolog.Event, o *proxy.Outcome) *zerolog.Event {
	e.Str("op", o.Op.String()).Str("client", o.Client.String()).Int("status", o.Status)
	optional := func(name, value string) {
		if value != "" {
			e.Str(name, value)
		}
	}
	if o.Session != 0 {
		e.Str("session", hex(o.Session))
	}
	optional("application", string(o.App[:min(len(o.App), maxApplication)]))
	optional("pool", o.Pool)
	optional("backend", o.Backend)
	optional("reason", string(o.Reason))
	if o.Err != nil {
		e.Err(o.Err)
	}
	e.Dur("duration_ms", o.Duration).Dur("wait_ms", o.Wait)
	p := &o.Phases
	for _, phase := range [...]struct {
		name string
		took time.Duration
	}{
		{"delay_ms", o.Delay}, {"handoff_ms", p.Handoff}, {"queue_ms", p.Queue}, {"connect_ms", p.Connect}, {"send_ms", p.Send},
		{"answer_ms", o.Answer()}, {"body_ms", p.Body}, {"reply_ms", o.Reply()},
	} {
		if phase.took > 0 {
			e.Dur(phase.name, phase.took)
		}
	}
	e.Int64("request_bytes", o.RequestBytes).Int64("response_bytes", o.ResponseBytes)
	if o.Moved {
		e.Bool("moved", true)
	}
	if o.LockReleased {
		e.Bool("lock_released", true)
	}
	return e
}

// maxApplication bounds the name of an application in a line, in bytes: clients
// choose it.
const maxApplication = 256
