package xray

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"maps"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stateproxy/wire"
)

// Bounds of what clients can make this package remember.
const (
	maxApps    = 100  // applications told apart, Other included
	maxName    = 512  // bytes of an application part; a longer one counts as Other
	maxShown   = 120  // bytes of a name as people see it
	maxMinutes = 8    // time-outs told apart in one application
	maxClient  = 1024 // client addresses told apart, all others being one
)

// Other stands for all applications beyond those that are told apart.
const Other = "other"

// app is what is known of one application. Its methods are safe for concurrent
// use.
type app struct {
	index uint16
	name  string // application part; "" for requests without one
	shown string // the same for people, unique among all
	since time.Time

	shards   [numShards]counts
	largest  largest
	waits    timeCounts
	holds    timeCounts
	judged   atomic.Int64 // saves that were compared with the one before
	same     atomic.Int64 // of them identical
	timeouts timeouts
	clients  clientSet

	known int64 // requests at the end of the last period; the directory's mutex guards it and quiet
	quiet int   // periods on end without a request
}

// counts are the counters that every request may write.
type counts struct {
	requests [wire.NumOps]atomic.Int64
	polls    atomic.Int64
	sizes    sizeCounts
	_        [128]byte // keeps what one core writes off the memory that its neighbour does
}

// totals returns the sums over all shards.
func (a *app) totals() (t totals) {
	for i := range a.shards {
		c := &a.shards[i]
		for op := range c.requests {
			t.requests[op] += c.requests[op].Load()
		}
		t.polls += c.polls.Load()
	}
	return t
}

func (a *app) sizes() Histogram {
	h := Histogram{AtMost: sizeBounds, Counts: make([]int64, sizeBuckets)}
	for i := range a.shards {
		s := &a.shards[i].sizes
		for b := range s.buckets {
			h.Counts[b] += s.buckets[b].Load()
		}
		h.Sum += float64(s.sum.Load())
	}
	return h
}

// totals are the counters that rates are made of.
type totals struct {
	requests [wire.NumOps]int64
	polls    int64
}

func (t *totals) all() (n int64) {
	for _, r := range t.requests {
		n += r
	}
	return n
}

// timeouts counts saves by the time-out they set. The first few that differ get
// a place of their own.
type timeouts struct {
	places [maxMinutes]struct{ minutes, saves atomic.Int64 } // minutes 0: free
	rest   atomic.Int64
}

func (t *timeouts) add(minutes int64) {
	if minutes <= 0 {
		return
	}
	for i := range t.places {
		p := &t.places[i]
		if m := p.minutes.Load(); m == minutes || m == 0 && p.minutes.CompareAndSwap(0, minutes) || p.minutes.Load() == minutes {
			p.saves.Add(1)
			return
		}
	}
	t.rest.Add(1)
}

// directory finds applications by name. The zero value is empty.
type directory struct {
	byName atomic.Pointer[map[string]*app] // replaced, never changed
	slots  [maxApps]atomic.Pointer[app]    // the same by index; 0 is Other
	mu     sync.Mutex                      // held to replace them

	// recent is whom clients asked for last, by a hash of their ports: nearly
	// always a client's connection asks for the same application again.
	recent [256]atomic.Pointer[app]
}

// recall returns the application of that name, as of does, for a client.
func (d *directory) recall(client netip.AddrPort, name []byte, now time.Time) *app {
	last := &d.recent[uint8(uint32(client.Port())*0x9E3779B1>>24)]
	if a := last.Load(); a != nil && a.name == string(name) && d.slots[a.index].Load() == a {
		return a
	}
	a := d.of(name, now)
	last.Store(a)
	return a
}

// of returns the application of that name, and takes it up if there is room.
func (d *directory) of(name []byte, now time.Time) *app {
	if m := d.byName.Load(); m != nil {
		if a := (*m)[string(name)]; a != nil {
			return a
		}
		if len(*m) >= maxApps || len(name) > maxName {
			return (*m)[Other]
		}
	}
	return d.learn(name, now)
}

func (d *directory) learn(name []byte, now time.Time) *app {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := map[string]*app{}
	if m := d.byName.Load(); m != nil {
		known = maps.Clone(*m)
	} else {
		known[Other] = &app{name: Other, shown: Other, since: now}
		d.slots[0].Store(known[Other])
	}
	a := known[string(name)]
	if a == nil && len(name) <= maxName {
		a = d.place(string(name), now)
	}
	if a == nil {
		a = known[Other]
	} else {
		known[a.name] = a
	}
	d.byName.Store(&known)
	return a
}

// place gives a new application the first free slot; nil if there is none. d.mu
// is held.
func (d *directory) place(name string, now time.Time) *app {
	for i := 1; i < maxApps; i++ {
		if d.slots[i].Load() == nil {
			a := &app{index: uint16(i), name: name, shown: Printable(name), since: now}
			d.slots[i].Store(a)
			return a
		}
	}
	return nil
}

// all returns the applications by index; nil where there is none.
func (d *directory) all() (list [maxApps]*app) {
	for i := range d.slots {
		list[i] = d.slots[i].Load()
	}
	return list
}

// tidy begins a new period. If more than half of the slots are taken it makes
// room by dropping the applications that nobody has used for a whole period.
func (d *directory) tidy() {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.byName.Load()
	if m == nil {
		return
	}
	left := maps.Clone(*m)
	for name, a := range *m {
		a.clients.age()
		a.quiet++
		if t := a.totals(); t.all() != a.known {
			a.known, a.quiet = t.all(), 0
		}
		if a.index > 0 && a.quiet > 1 && len(*m) > maxApps/2 {
			delete(left, name)
			d.slots[a.index].Store(nil)
		}
	}
	d.byName.Store(&left)
}

// Printable returns an application part as people may see it: on one line, at
// most 120 bytes long, with whatever is not plain text escaped as in Go. Names
// that differ stay different.
func Printable(name string) string {
	shown := strconv.QuoteToGraphic(name)
	shown = shown[1 : len(shown)-1]
	if len(shown) <= maxShown {
		return shown
	}
	const end = "…12345678"
	head := strings.ToValidUTF8(shown[:maxShown-len(end)], "")
	return fmt.Sprintf("%s…%08x", head, uint32(maphash.String(seed, name)))
}

// display returns the name for a sentence, where none must not read as nothing.
func (a *app) display() string { return cmp.Or(a.shown, "(no application part)") }
