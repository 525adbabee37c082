package xray

import "sync/atomic"

// lookedPerSec is the requests a second beyond which fewer are looked at, where
// looking takes longer than counting.
const lookedPerSec = 4096

// pace counts what is looked at in a second. The zero value is ready for use; it
// is safe for concurrent use.
type pace struct {
	second atomic.Int64 // Unix time that looked belongs to
	looked atomic.Int64
	before atomic.Int64 // what was looked at in the last second before with any
}

// verdict says whether more or fewer requests should be looked at.
type verdict int

const (
	fair    verdict = iota
	tooMany         // in this second already
	few             // in the last one, so that twice as many would be fair
)

// count takes a request that is looked at. It says few once a second at most,
// and tooMany once for every lookedPerSec in it.
func (p *pace) count(second int64) verdict {
	if last := p.second.Load(); second > last && p.second.CompareAndSwap(last, second) {
		n := p.looked.Swap(1)
		p.before.Store(n)
		if n < lookedPerSec/4 {
			return few
		}
		return fair
	}
	if p.looked.Add(1)%lookedPerSec == 0 {
		return tooMany
	}
	return fair
}

// idle reports whether twice as many could be looked at.
func (p *pace) idle(second int64) bool {
	return second > p.second.Load()+1 || p.before.Load() < lookedPerSec/4 && p.looked.Load() < lookedPerSec/4
}
