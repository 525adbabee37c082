package proxy

import (
	"context"
	"slices"
	"sync"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/wire"
)

// EvacuationStatus tells how far a backend that owns no sessions any more has
// been emptied.
type EvacuationStatus struct {
	Backend string
	Began   time.Time
	Moved   int       // sessions brought over, by evacuation or at their use
	Left    int       // known sessions still to be moved, those in use included
	InUse   int       // of them, locked when last tried
	Failed  int       // of them, that could not be moved when last tried
	Ends    time.Time // estimate; zero if there is none
	// BlindUntil is until when there may be sessions that the proxy can't know of:
	// those that were not used since it began to remember, until the last of them
	// expires, and those that go there with requests and proxies that are a little
	// behind. Zero if there are none of those any more.
	BlindUntil time.Time
	Missed     int64 // sessions that the memory had no room for
	Safe       bool  // nothing is left that a client could miss: it may be shut down
}

// evacuation is a backend that is being emptied.
type evacuation struct {
	place *place

	mu     sync.Mutex // guards what follows
	began  time.Time
	done   map[uint64]struct{} // sessions that are not there any more
	left   int
	inUse  int
	failed int
	moved  int
	rate   float64 // sessions in a second, smoothed
	looked bool    // left is known
}

// evacuateInterval is the time between two looks for backends to be emptied,
// and between two rounds over what is left.
const evacuateInterval = time.Second

// Run does the proxy's work in the background until ctx ends: it empties
// backends that own no sessions any more. Without it sessions move only when
// they are asked for.
func (p *Proxy) Run(ctx context.Context) error {
	tick := time.NewTicker(evacuateInterval)
	defer tick.Stop()
	for {
		p.evacuateAll(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// evacuateAll makes one round over all backends that are to be emptied.
func (p *Proxy) evacuateAll(ctx context.Context) {
	t := p.table.Load()
	if t == nil || !p.census.on() {
		return
	}
	list := p.updateEvacuations(t)
	if len(list) == 0 {
		return
	}
	for _, e := range list {
		work := p.toMove(t, e)
		e.mu.Lock()
		e.left, e.inUse, e.failed, e.looked = len(work), 0, 0, true
		e.mu.Unlock()
		p.evacuate(ctx, t, e, work)
		p.closeIfSafe(e)
	}
}

// updateEvacuations keeps p.evacuations to the places of t that own nothing but
// may hold something, and returns them.
func (p *Proxy) updateEvacuations(t *table) []*evacuation {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*evacuation
	for _, place := range t.places() {
		if !t.isEmptied(place) || p.down[t.targetName(place)] {
			continue
		}
		i := slices.IndexFunc(p.evacuations, func(e *evacuation) bool { return e.place == place })
		if i >= 0 {
			list = append(list, p.evacuations[i])
		} else {
			list = append(list, &evacuation{place: place, began: time.Now(), done: map[uint64]struct{}{}})
		}
	}
	p.evacuations = list
	return list
}

// isEmptied reports whether no pool of t has the place as an owner, but one had.
func (t *table) isEmptied(p *place) bool {
	was := false
	for _, q := range t.pools {
		if slices.ContainsFunc(q.owners, func(o *place) bool { return sameServer(o, p) }) {
			return false
		}
		for _, f := range q.formers {
			was = was || slices.Contains(f.owners, p)
		}
	}
	return was
}

// toMove returns the keys of known sessions that may be at e's place.
func (p *Proxy) toMove(t *table, e *evacuation) (work []string) {
	e.mu.Lock()
	done := e.done
	e.mu.Unlock()
	p.census.each(time.Now(), func(h uint64, key string) bool {
		if _, ok := done[h]; ok {
			return true
		}
		_, c := p.candidatesFor(t, key)
		if c != nil && (slices.Contains(c.early, e.place) || slices.Contains(c.late, e.place)) {
			work = append(work, key)
		}
		return true
	})
	return work
}

// candidatesFor returns where the session with the key may be and the handoff
// that finds it, nil if it can be nowhere but at its owner.
func (p *Proxy) candidatesFor(t *table, key string) (*handoff, *candidates) {
	x := ownExchange(key)
	q := t.pool(x.key.App)
	if q == nil {
		return nil, nil
	}
	h, ok := q.via.(*handoff)
	if !ok {
		return nil, nil
	}
	owner := q.owner(x.key.RoutingKey())
	if owner == nil {
		return nil, nil
	}
	id := keyHash(p.salt, x.key.Full)
	if q.settled.in(h.early()).has(id) {
		return nil, nil
	}
	return h, h.candidates(x, id, owner)
}

// ownExchange returns an exchange that stands for a request of the proxy's own
// for the session with the key.
func ownExchange(key string) *exchange {
	target := wire.AppendEncoded(nil, []byte(key))
	req := &wire.Request{Verb: wire.GET, Target: target}
	return &exchange{Exchange: backend.Exchange{Op: wire.OpGet}, req: req, key: wire.ParseTarget(nil, target)}
}

// evacuateWorkers is how many sessions of a backend are moved at once.
const evacuateWorkers = 8

// evacuate moves the sessions, no faster than the settings allow.
func (p *Proxy) evacuate(ctx context.Context, t *table, e *evacuation, work []string) {
	rate := max(t.settings.EvacuationRate, 1)
	workers := min(evacuateWorkers, rate, len(work))
	if workers == 0 {
		return
	}
	jobs := make(chan string)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			pace := time.NewTicker(time.Second * time.Duration(workers) / time.Duration(rate))
			defer pace.Stop()
			for key := range jobs {
				p.evacuateOne(ctx, t, e, key)
				select {
				case <-pace.C:
				case <-ctx.Done():
				}
			}
		})
	}
	began := time.Now()
	sent := 0
	for _, key := range work {
		if ctx.Err() != nil || p.table.Load() != t { // another table, another list
			break
		}
		jobs <- key
		sent++
	}
	close(jobs)
	wg.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if took := time.Since(began).Seconds(); took > 0 && sent > 0 {
		e.rate = float64(sent) / took
	}
}

// closeIfSafe ends the look-ups at a backend that is seen to be empty.
func (p *Proxy) closeIfSafe(e *evacuation) {
	now := time.Now()
	if p.statusOf(e, now).Safe {
		e.place.emptied.Store(now.UnixNano())
	}
}

// evacuateOne moves one session to its owner.
func (p *Proxy) evacuateOne(ctx context.Context, t *table, e *evacuation, key string) {
	h, c := p.candidatesFor(t, key)
	if c == nil {
		e.count(keyHash(p.salt, []byte(key)), true, nil)
		return
	}
	x := ownExchange(key)
	x.Deadline = time.Now().Add(t.settings.Budget)
	unlock, err := h.lock(ctx, c.id, x.Deadline)
	if err != nil {
		e.count(c.id, false, err)
		return
	}
	at, err := h.find(ctx, x, c)
	unlock()
	e.count(c.id, err == nil && at != e.place, err)
}

func (e *evacuation) count(id uint64, gone bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case gone:
		e.done[id] = struct{}{}
		e.left--
	case err != nil:
		e.failed++
	default:
		e.inUse++
	}
}

// movedFrom counts a session that a request has brought over.
func (p *Proxy) movedFrom(place *place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.evacuations {
		if e.place == place {
			e.mu.Lock()
			e.moved++
			e.mu.Unlock()
		}
	}
}

func (p *Proxy) evacuationStatus(now time.Time) (list []EvacuationStatus) {
	p.mu.Lock()
	evacuations := p.evacuations
	p.mu.Unlock()
	for _, e := range evacuations {
		e.mu.Lock()
		looked := e.looked
		e.mu.Unlock()
		if looked {
			list = append(list, p.statusOf(e, now))
		}
	}
	return list
}

func (p *Proxy) statusOf(e *evacuation, now time.Time) EvacuationStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := EvacuationStatus{
		Backend: *e.place.target.Load(), Began: e.began, Moved: e.moved, Left: e.left, InUse: e.inUse, Failed: e.failed,
		Missed: p.census.missed.Load(),
	}
	if e.rate > 0 && e.left > 0 {
		s.Ends = now.Add(time.Duration(float64(e.left) / e.rate * float64(time.Second)))
	}
	known := time.Unix(p.census.known.Load(), 0)
	if began := fromNano(e.place.began.Load()); began.After(known) {
		known = began
	}
	minutes := max(p.longest.Load(), defaultMinutes)
	until := known.Add(time.Duration(minutes) * time.Minute)
	if late := e.began.Add(p.table.Load().settings.aftermath()); late.After(until) {
		until = late
	}
	if until.After(now) {
		s.BlindUntil = until
	}
	s.Safe = e.looked && e.left == 0 && s.BlindUntil.IsZero() && s.Missed == 0
	return s
}
