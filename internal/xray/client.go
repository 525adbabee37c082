package xray

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// addresses numbers the client addresses. Number 0 stands for all that found no
// room. The zero value is empty; it is safe for concurrent use.
type addresses struct {
	numbers atomic.Pointer[map[netip.Addr]uint16] // replaced, never changed
	mu      sync.Mutex                            // held to replace it
}

func (c *addresses) known() map[netip.Addr]uint16 {
	if m := c.numbers.Load(); m != nil {
		return *m
	}
	return nil
}

func (c *addresses) of(addr netip.Addr) uint16 {
	addr = addr.Unmap()
	m := c.known()
	if n, ok := m[addr]; ok || len(m) >= maxClient-1 {
		return n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m = c.known()
	if n, ok := m[addr]; ok || len(m) >= maxClient-1 {
		return n
	}
	var taken clientBits
	for _, n := range m {
		taken.set(n)
	}
	n := uint16(1)
	for taken.has(n) {
		n++
	}
	grown := make(map[netip.Addr]uint16, len(m)+1)
	maps.Copy(grown, m)
	grown[addr] = n
	c.numbers.Store(&grown)
	return n
}

// keep forgets the addresses that are not in used.
func (c *addresses) keep(used *clientBits) {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := maps.Clone(c.known())
	maps.DeleteFunc(left, func(_ netip.Addr, n uint16) bool { return !used.has(n) })
	c.numbers.Store(&left)
}

// list returns the addresses in set, in order.
func (c *addresses) list(set *clientBits) (list []netip.Addr) {
	for addr, n := range c.known() {
		if set.has(n) {
			list = append(list, addr)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}

// clientBits is a set of numbers of client addresses.
type clientBits [maxClient / 64]uint64

func (b *clientBits) set(n uint16)      { b[n/64] |= 1 << (n % 64) }
func (b *clientBits) has(n uint16) bool { return b[n/64]>>(n%64)&1 != 0 }

func (b *clientBits) add(other *clientBits) {
	for i := range b {
		b[i] |= other[i]
	}
}

func (b *clientBits) meets(other *clientBits) bool {
	for i := range b {
		if b[i]&other[i] != 0 {
			return true
		}
	}
	return false
}

// clientSet is the clients of an application in this period and the last. The
// zero value is empty; it is safe for concurrent use.
type clientSet struct {
	now, before    [maxClient / 64]atomic.Uint64
	calls, earlier atomic.Int64 // requests in this period, in the last
}

// mark takes a request of the client with number n.
func (s *clientSet) mark(n uint16) {
	s.calls.Add(1)
	if w, bit := &s.now[n/64], uint64(1)<<(n%64); w.Load()&bit == 0 {
		w.Or(bit)
	}
}

// age begins a new period.
func (s *clientSet) age() {
	for i := range s.now {
		s.before[i].Store(s.now[i].Swap(0))
	}
	s.earlier.Store(s.calls.Swap(0))
}

func (s *clientSet) bits() (b clientBits) {
	for i := range b {
		b[i] = s.now[i].Load() | s.before[i].Load()
	}
	return b
}
