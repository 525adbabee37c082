package xray

import (
	"cmp"
	"slices"
	"time"

	"stateproxy/wire"
)

// Report is what is known of all applications at one moment. Times are in UTC.
type Report struct {
	At      time.Time `json:"at"`
	Sample  int       `json:"sample"`  // of so many sessions one is followed
	Apps    []App     `json:"apps"`    // by name, Other last; at most 100
	All     App       `json:"all"`     // of them together, without a name, single sessions and time-outs
	Locks   []Lock    `json:"locks"`   // that are held now, the oldest first; at most ten
	Waiting int       `json:"waiting"` // sessions whose lock others wait for now, estimated if not all are followed
	Slow    int64     `json:"slow"`    // requests that took 80 % of their budget or longer
}

// App is what is known of one application. Counts begin with its first request;
// an application that nobody uses for an hour may be forgotten.
type App struct {
	Name  string    `json:"name"` // application part, printable; "" for requests without one
	Since time.Time `json:"since,omitzero"`

	Ops      []Op    `json:"ops"`       // that there were
	Polls    int64   `json:"polls"`     // reads that met a lock; each of them comes again some 500 ms later
	PollRate float64 `json:"poll_rate"` // per second, in the last minute

	Sizes   Histogram `json:"sizes"`   // bytes of each save
	Largest []Session `json:"largest"` // of the last ten minutes, at most ten
	Busiest []Session `json:"busiest"` // at most ten

	// Of the sessions that are followed:
	Compared  int64     `json:"compared"`  // saves that were compared with the save before
	Identical int64     `json:"identical"` // of them those with the same body
	Waits     Histogram `json:"waits"`     // seconds from the first refusal to the next grant, where there was a refusal
	Holds     Histogram `json:"holds"`     // seconds from a lock's grant to the save or release that ended it
	Timeouts  []Timeout `json:"timeouts"`  // that saves set, the most frequent first
}

// Op counts the requests of one operation.
type Op struct {
	Op    string  `json:"op"`
	Count int64   `json:"count"`
	Rate  float64 `json:"rate"` // per second, in the last minute
}

// Session is a session by its hash, which is the same while the proxy runs.
type Session struct {
	Session   string `json:"session"`
	Bytes     int64  `json:"bytes,omitempty"`      // if it is one of the largest
	PerMinute int64  `json:"per_minute,omitempty"` // requests, estimated, if it is one of the busiest
}

// Timeout is a time-out that saves set. Those beyond the first eight of an
// application are together under Minutes 0.
type Timeout struct {
	Minutes int64   `json:"minutes"`
	Share   float64 `json:"share"` // 0 to 1
}

// Lock is a session's lock that is held.
type Lock struct {
	Session string    `json:"session"`
	App     string    `json:"app"`
	Since   time.Time `json:"since"`
	Waited  bool      `json:"waited"` // others wait for it
}

// Report returns what is known now. Rates are of the last minute if Report or
// Findings is called meanwhile, as an Admin does each second.
func (x *XRay) Report() Report {
	now := time.Now()
	x.tick(now)
	r := Report{At: now.UTC(), Sample: x.sessions.share(), Apps: []App{}, Slow: x.slow.Load()}
	r.Locks, r.Waiting = x.locks(now)
	x.mu.Lock()
	before := x.lastMinute(now)
	x.mu.Unlock()
	busiest := x.busiestSessions(now)
	apps := x.apps.all()
	for i, a := range apps {
		if i > 0 && a != nil {
			r.Apps = append(r.Apps, a.report(now, before, busiest[i]))
		}
	}
	slices.SortFunc(r.Apps, func(a, b App) int { return cmp.Compare(a.Name, b.Name) })
	if rest := apps[0]; rest != nil && rest.totals() != (totals{}) {
		r.Apps = append(r.Apps, rest.report(now, before, busiest[0]))
	}
	r.All = together(r.Apps)
	return r
}

func (a *app) report(now time.Time, before *sample, busiest []Session) App {
	t := a.totals()
	old, since := before.of(a)
	seconds := max(now.Sub(since).Seconds(), 1)
	r := App{
		Name: a.shown, Since: a.since.UTC(), Ops: []Op{}, Polls: t.polls, PollRate: float64(t.polls-old.polls) / seconds,
		Sizes: a.sizes(), Largest: []Session{}, Busiest: busiest,
		Compared: a.judged.Load(), Identical: a.same.Load(),
		Waits: a.waits.histogram(), Holds: a.holds.histogram(), Timeouts: a.timeouts.shares(),
	}
	for op, n := range t.requests {
		if n > 0 {
			r.Ops = append(r.Ops, Op{wire.Op(op).String(), n, float64(n-old.requests[op]) / seconds})
		}
	}
	for _, s := range a.largest.sorted(now) {
		r.Largest = append(r.Largest, Session{Session: hash(s.session), Bytes: s.size})
	}
	return r
}

// shares returns the time-outs that saves set.
func (t *timeouts) shares() []Timeout {
	list := []Timeout{}
	sum := 0.0
	add := func(minutes, saves int64) {
		if saves > 0 {
			list = append(list, Timeout{minutes, float64(saves)})
			sum += float64(saves)
		}
	}
	for i := range t.places {
		add(t.places[i].minutes.Load(), t.places[i].saves.Load())
	}
	add(0, t.rest.Load())
	for i := range list {
		list[i].Share /= sum
	}
	slices.SortStableFunc(list, func(a, b Timeout) int { return cmp.Compare(b.Share, a.Share) })
	return list
}

// busiestSessions returns the busiest sessions by application.
func (x *XRay) busiestSessions(now time.Time) (lists [maxApps][]Session) {
	for i := range lists {
		lists[i] = []Session{}
	}
	x.busy.each(now, func(p *busySession) {
		s := Session{Session: hash(p.session), PerMinute: p.perMinute(now)}
		if s.PerMinute > 0 {
			lists[p.app] = append(lists[p.app], s)
		}
	})
	for i, list := range lists {
		slices.SortFunc(list, func(a, b Session) int {
			return cmp.Or(cmp.Compare(b.PerMinute, a.PerMinute), cmp.Compare(a.Session, b.Session))
		})
		lists[i] = list[:min(len(list), topN)]
	}
	return lists
}

// locks returns the locks that have been held for longest: those of which
// clients were told, and those that sessions which are followed have. Besides it
// returns how many sessions are waited for.
func (x *XRay) locks(now time.Time) (locks []Lock, waiting int) {
	at := now.UnixNano()
	locks = []Lock{}
	told := map[uint64]bool{}
	for _, l := range x.held.present(at) {
		told[l.session] = true
		locks = append(locks, Lock{hash(l.session), x.appName(l.app), time.Unix(0, l.since).UTC(), true})
	}
	x.sessions.each(func(_ uint64, s *seat) {
		if s.refused != 0 && at-s.polled <= waitingNow {
			waiting += x.sessions.share()
		}
		if s.locked != 0 && s.alive(at) && !told[s.session] {
			waited := s.refused != 0 && at-s.polled <= patience
			locks = append(locks, Lock{hash(s.session), x.appName(s.app), time.Unix(0, s.locked).UTC(), waited})
		}
	})
	slices.SortFunc(locks, func(a, b Lock) int { return a.Since.Compare(b.Since) })
	return locks[:min(len(locks), topN)], max(waiting, len(told))
}

// Rates are made from totals that are kept for a minute.
const (
	samplePeriod = 5 * time.Second
	sampleMemory = time.Minute
	rotatePeriod = 30 * time.Minute // of clients and applications
	tunePeriod   = time.Minute
)

// sample is the counters at one moment.
type sample struct {
	at   time.Time
	slow int64
	apps map[*app]totals
}

// of returns an application's counters in the sample and since when they count
// on from there.
func (s *sample) of(a *app) (totals, time.Time) {
	if t, ok := s.apps[a]; ok {
		return t, s.at
	}
	return totals{}, a.since
}

// lastMinute returns the sample that is a minute old or, if there is none, the
// oldest one. It is empty, so that rates are of all the time, if none is old
// enough to tell a rate. x.mu is held; tick has been called.
func (x *XRay) lastMinute(now time.Time) *sample {
	best := &sample{}
	for i := range x.samples {
		age := now.Sub(x.samples[i].at)
		if best.apps == nil && age >= samplePeriod || age >= sampleMemory {
			best = &x.samples[i]
		}
	}
	return best
}

// tick does what is due from time to time.
func (x *XRay) tick(now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := len(x.samples); n > 0 && now.Sub(x.samples[n-1].at) < samplePeriod {
		return
	}
	x.sample(now)
	x.doctor.tidy(now.UnixNano()-x.memory(), &x.apps)
	if now.Sub(x.tuned) >= tunePeriod {
		x.tuned = now
		x.sessions.tune(now.UnixNano())
	}
	if x.rotated.IsZero() {
		x.rotated = now
	}
	if now.Sub(x.rotated) >= rotatePeriod {
		x.rotated = now
		x.rotate()
	}
}

// sample keeps the counters of now, and of the older ones the last that is a
// minute old.
func (x *XRay) sample(now time.Time) {
	s := sample{at: now, slow: x.slow.Load(), apps: map[*app]totals{}}
	for _, a := range x.apps.all() {
		if a != nil {
			s.apps[a] = a.totals()
		}
	}
	for len(x.samples) > 1 && now.Sub(x.samples[1].at) >= sampleMemory {
		x.samples = x.samples[1:]
	}
	x.samples = append(x.samples, s)
}

// rotate forgets applications and clients that have not been seen for long.
func (x *XRay) rotate() {
	x.apps.tidy()
	var used clientBits
	for _, a := range x.apps.all() {
		if a != nil {
			bits := a.clients.bits()
			used.add(&bits)
		}
	}
	x.clients.keep(&used)
}
