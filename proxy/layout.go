package proxy

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"stateproxy/ring"
)

// Layout tells where settings send sessions as long as every backend is up. It
// is immutable and safe for concurrent use. The zero Layout has no pools.
type Layout struct {
	pools []PoolLayout
	table []*pool // the same pools

	renames []rename
}

// PoolLayout is a pool as a Layout sees it.
type PoolLayout struct {
	Name         string
	Applications []string   // patterns; none: all that no other pool takes
	Ring         *ring.Ring // over the backends that own sessions
	Draining     []string   // names of those that own none any more, sorted
}

// NewLayout returns the layout of s. The error is what Reconfigure would return
// for s.
func NewLayout(s Settings) (*Layout, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	members := make([]*member, len(s.Backends))
	for i, b := range s.Backends {
		members[i] = &member{Backend: b, up: true}
	}
	slices.SortFunc(members, func(a, b *member) int { return cmp.Compare(a.Name, b.Name) })
	pools, err := poolsOf(s.routing(), members, time.Time{})
	if err != nil {
		return nil, err
	}
	l := &Layout{table: pools, renames: renames(s.Aliases)}
	for i, sp := range s.routing().withDefaultPool() {
		q := PoolLayout{Name: sp.Name, Applications: sp.Applications, Ring: pools[i].ring}
		for _, name := range sp.Backends {
			if memberNamed(members, name).Drain {
				q.Draining = append(q.Draining, name)
			}
		}
		slices.Sort(q.Draining)
		l.pools = append(l.pools, q)
	}
	return l, nil
}

// Pools returns the pools in the order in which they are tried. The caller must
// not modify them.
func (l *Layout) Pools() []PoolLayout { return l.pools }

// Alias returns the name that an application gets by the settings' aliases. It
// returns false if it keeps its own.
func (l *Layout) Alias(app []byte) (to string, ok bool) {
	i := slices.IndexFunc(l.renames, func(r rename) bool { return r.takes(app) })
	if i < 0 || len(app) == 0 || bytes.Equal(l.renames[i].to, app) {
		return "", false
	}
	return string(l.renames[i].to), true
}

// Pool returns the pool that serves the application and the pattern by which it
// does, "" if it takes whatever no other pool takes. The pool is nil if none
// serves the application. An alias counts as the application that it becomes.
func (l *Layout) Pool(app []byte) (q *PoolLayout, pattern string) {
	if to, ok := l.Alias(app); ok {
		app = []byte(to)
	}
	i := slices.Index(l.table, poolFor(l.table, app))
	if i < 0 {
		return nil, ""
	}
	q = &l.pools[i]
	if j := slices.IndexFunc(q.Applications, func(pattern string) bool { return match(pattern, app) }); j >= 0 {
		pattern = q.Applications[j]
	}
	return q, pattern
}

// A Passage is a set of applications that one pool serves before a change and
// one pool, often the same, after it. A pool is nil where none serves them.
type Passage struct {
	Patterns []string // of the applications; "" is those that match no pattern of before or after
	From, To *PoolLayout
}

// Passages returns from which pool to which each application goes if next takes
// the place of l, in the order of next's pools; one for each pair of pools.
//
// Applications are told apart by the patterns of both layouts, so what only the
// overlap of two patterns would show is not seen.
func (l *Layout) Passages(next *Layout) (list []Passage) {
	at := func(l *Layout, q *pool) *PoolLayout {
		if i := slices.Index(l.table, q); i >= 0 {
			return &l.pools[i]
		}
		return nil
	}
	for _, p := range passages(l.table, next.table) {
		list = append(list, Passage{p.patterns, at(l, p.from), at(next, p.to)})
	}
	return list
}

// passage is a Passage of pools.
type passage struct {
	patterns []string
	from, to *pool
}

func passages(old, next []*pool) (list []passage) {
	add := func(pattern string) {
		app := sample(cmp.Or(pattern, "*"))
		p := passage{[]string{pattern}, poolFor(old, app), poolFor(next, app)}
		i := slices.IndexFunc(list, func(o passage) bool { return o.from == p.from && o.to == p.to })
		switch {
		case p.from == nil && p.to == nil:
		case i < 0:
			list = append(list, p)
		case !slices.Contains(list[i].patterns, pattern):
			list[i].patterns = append(list[i].patterns, pattern)
		}
	}
	for _, q := range slices.Concat(next, old) {
		for _, pattern := range q.patterns {
			add(pattern)
		}
	}
	add("")
	rank := func(p passage) int {
		if i := slices.Index(next, p.to); i >= 0 {
			return i
		}
		return len(next)
	}
	slices.SortStableFunc(list, func(p, q passage) int { return cmp.Compare(rank(p), rank(q)) })
	return list
}

// sample returns an application that pattern takes, and another one only if its
// wildcards stand for no less.
func sample(pattern string) []byte {
	return []byte(strings.NewReplacer("*", strings.Repeat("\x00", 16), "?", "\x00").Replace(pattern))
}
