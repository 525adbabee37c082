package admin

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// other is the label for what is in none of the bounded sets.
const other = "other"

// numOps are the operations of the protocol and other.
const numOps = wire.NumOps + 1

func opIndex(op wire.Op) int { return min(int(op), wire.NumOps) }

func opName(i int) string {
	if i == wire.NumOps {
		return other
	}
	return wire.Op(i).String()
}

// statuses are what a request can end with, as labels.
var statuses = [...]string{"200", "400", "404", "423", "closed", other}

func statusIndex(status int) int {
	switch status {
	case wire.StatusOK:
		return 0
	case wire.StatusBadRequest:
		return 1
	case wire.StatusNotFound:
		return 2
	case wire.StatusLocked:
		return 3
	case 0:
		return 4
	}
	return 5
}

// reasons are those of failed requests, and other.
var reasons = func() (list [len(proxy.Reasons) + 1]string) {
	for i, r := range proxy.Reasons {
		list[i] = string(r)
	}
	list[len(proxy.Reasons)] = other
	return list
}()

var reasonIndexes = func() map[proxy.Reason]int {
	m := make(map[proxy.Reason]int, len(reasons))
	for i, r := range reasons {
		m[proxy.Reason(r)] = i
	}
	return m
}()

func reasonIndex(r proxy.Reason) int {
	if i, ok := reasonIndexes[r]; ok {
		return i
	}
	return len(reasons) - 1
}

// bounds are the upper ends of the histograms' buckets. Beyond the last there is
// one more.
var bounds = [...]time.Duration{
	250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// histogram counts durations. The zero value is empty.
type histogram struct {
	buckets [len(bounds) + 1]atomic.Int64
	sum     atomic.Int64 // nanoseconds
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// Counters are kept in shards, lest many cores write the same memory. A client's
// connection always counts in the same one.
const (
	shardBits = 4
	numShards = 1 << shardBits
)

// shardOf spreads ports, which systems hand out in steps of one or two.
func shardOf(client netip.AddrPort) int {
	return int(uint32(client.Port()) * 0x9E3779B1 >> (32 - shardBits))
}

// apart keeps what one core writes off the memory that its neighbour does.
type apart [128]byte

// counts are all counters of requests. The zero value is ready for use; it is
// safe for concurrent use.
type counts struct {
	shards [numShards]shard
	none   backendCounts // of requests that no backend was asked for
	other  backendCounts // of backends beyond maxBackends

	backends atomic.Pointer[backendMap]
	mu       sync.Mutex // held to replace backends
}

type shard struct {
	failures     [len(reasons)]atomic.Int64
	durations    [numOps]histogram
	requestBytes atomic.Int64
	answerBytes  atomic.Int64
	released     atomic.Int64
	moved        atomic.Int64
	_            apart
}

// backendMap goes by name and does not change once it is published.
type backendMap map[string]*backendCounts

// backendCounts are the counters of one backend.
type backendCounts struct {
	shards [numShards]backendShard
}

type backendShard struct {
	requests [numOps][len(statuses)]atomic.Int64
	wait     histogram
	_        apart
}

// Observe counts a finished request; it is meant for proxy.Proxy.Done. It
// allocates nothing, but for the first request of each backend.
func (a *Admin) Observe(o *proxy.Outcome) {
	c := &a.counts
	i := shardOf(o.Client)
	op := opIndex(o.Op)

	s := &c.shards[i]
	if o.Pool != "" {
		s.durations[op].observe(o.Duration)
	}
	if o.Reason != "" {
		s.failures[reasonIndex(o.Reason)].Add(1)
	}
	s.requestBytes.Add(o.RequestBytes)
	s.answerBytes.Add(o.ResponseBytes)
	if o.LockReleased {
		s.released.Add(1)
	}
	if o.Moved {
		s.moved.Add(1)
	}

	b := &c.backend(o.Backend).shards[i]
	b.requests[op][statusIndex(o.Status)].Add(1)
	if o.Backend != "" {
		b.wait.observe(o.Wait)
	}
	if a.tails.open.Load() > 0 {
		a.tap(o)
	}
}

// maxBackends is how many are told apart, but for a few more if several come at
// the same moment; a config may name 1000. Those that are gone make room when
// metrics are collected.
const maxBackends = 2000

// backend returns the counters of the backend of that name, "" for none.
func (c *counts) backend(name string) *backendCounts {
	if name == "" {
		return &c.none
	}
	if b := c.known()[name]; b != nil {
		return b
	}
	return c.learn(name)
}

func (c *counts) known() backendMap {
	if m := c.backends.Load(); m != nil {
		return *m
	}
	return nil
}

// learn adds counters for a name that was not known.
func (c *counts) learn(name string) *backendCounts {
	if len(c.known()) >= maxBackends || name == other || !utf8.ValidString(name) {
		return &c.other
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.known()
	if b := m[name]; b != nil {
		return b
	}
	grown := make(backendMap, len(m)+1)
	maps.Copy(grown, m)
	b := &backendCounts{}
	grown[name] = b
	c.backends.Store(&grown)
	return b
}

// forget drops the counters of those names.
func (c *counts) forget(names []string) {
	if len(names) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := maps.Clone(c.known())
	for _, name := range names {
		delete(rest, name)
	}
	c.backends.Store(&rest)
}

// namedCounts are the counters under a label.
type namedCounts struct {
	name string
	*backendCounts
}

// named returns all counters by backend: none first, then by name, other last.
func (c *counts) named() []namedCounts {
	m := c.known()
	list := []namedCounts{{"", &c.none}}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, namedCounts{name, m[name]})
	}
	return append(list, namedCounts{other, &c.other})
}

// total adds up one counter over the shards.
func (c *counts) total(pick func(*shard) *atomic.Int64) float64 {
	sum := int64(0)
	for i := range c.shards {
		sum += pick(&c.shards[i]).Load()
	}
	return float64(sum)
}

// requests adds up the requests of one operation and status.
func (b *backendCounts) requests(op, status int) float64 {
	sum := int64(0)
	for i := range b.shards {
		sum += b.shards[i].requests[op][status].Load()
	}
	return float64(sum)
}

// distribution is a histogram's content.
type distribution struct {
	count   uint64
	seconds float64
	atMost  map[float64]uint64 // by the bucket's upper end in seconds
}

// distributionOf adds up one histogram over the shards.
func distributionOf(pick func(shard int) *histogram) distribution {
	d := distribution{atMost: make(map[float64]uint64, len(bounds))}
	nanoseconds := int64(0)
	for i := range len(bounds) + 1 {
		for s := range numShards {
			d.count += uint64(pick(s).buckets[i].Load())
		}
		if i < len(bounds) {
			d.atMost[bounds[i].Seconds()] = d.count
		}
	}
	for s := range numShards {
		nanoseconds += pick(s).sum.Load()
	}
	d.seconds = time.Duration(nanoseconds).Seconds()
	return d
}

func (c *counts) durations(op int) distribution {
	return distributionOf(func(s int) *histogram { return &c.shards[s].durations[op] })
}

func (b *backendCounts) wait() distribution {
	return distributionOf(func(s int) *histogram { return &b.shards[s].wait })
}
