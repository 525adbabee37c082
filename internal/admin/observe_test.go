package admin

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stateproxy/proxy"
	"stateproxy/wire"
)

// sample is the outcome of a usual request of the n-th client.
func sample(n int) *proxy.Outcome {
	return &proxy.Outcome{
		Client:       netip.AddrPortFrom(netip.MustParseAddr("10.1.2.3"), uint16(49152+2*n)),
		Op:           wire.OpGetExclusive,
		App:          []byte("/LM/W3SVC/2/ROOT"),
		Pool:         "default",
		Backend:      "s1",
		Status:       wire.StatusOK,
		Duration:     700 * time.Microsecond,
		Wait:         600 * time.Microsecond,
		RequestBytes: 300, ResponseBytes: 4300,
	}
}

func TestObserve(t *testing.T) {
	a := &Admin{}
	o := sample(0)
	a.Observe(o)
	o.Status, o.Reason, o.LockReleased = 0, proxy.ClientGone, true
	o.Client = sample(1).Client
	a.Observe(o)
	a.Observe(&proxy.Outcome{Status: wire.StatusBadRequest, Reason: proxy.Malformed, RequestBytes: 7})
	a.Observe(&proxy.Outcome{Op: wire.OpSet, Pool: "default", Backend: "s2", Status: 423, Reason: "brand_new", Moved: true, Duration: time.Hour})
	a.Observe(&proxy.Outcome{Op: 77, Pool: "default", Status: 503})

	c := &a.counts
	counters := []struct {
		name string
		got  float64
		want float64
	}{
		{"get_exclusive 200 at s1", c.known()["s1"].requests(int(wire.OpGetExclusive), 0), 1},
		{"get_exclusive closed at s1", c.known()["s1"].requests(int(wire.OpGetExclusive), 4), 1},
		{"none 400 nowhere", c.none.requests(int(wire.OpNone), 1), 1},
		{"set 423 at s2", c.known()["s2"].requests(int(wire.OpSet), 3), 1},
		{"unknown op and status nowhere", c.none.requests(wire.NumOps, 5), 1},
		{"request bytes", c.total(func(s *shard) *atomic.Int64 { return &s.requestBytes }), 607},
		{"answer bytes", c.total(func(s *shard) *atomic.Int64 { return &s.answerBytes }), 8600},
		{"locks released", c.total(func(s *shard) *atomic.Int64 { return &s.released }), 1},
		{"moved", c.total(func(s *shard) *atomic.Int64 { return &s.moved }), 1},
		{"malformed", c.total(func(s *shard) *atomic.Int64 { return &s.failures[reasonIndex(proxy.Malformed)] }), 1},
		{"client gone", c.total(func(s *shard) *atomic.Int64 { return &s.failures[reasonIndex(proxy.ClientGone)] }), 1},
		{"unknown reason", c.total(func(s *shard) *atomic.Int64 { return &s.failures[len(reasons)-1] }), 1},
		{"durations of get_exclusive", float64(c.durations(int(wire.OpGetExclusive)).count), 2},
		{"durations of what was not routed", float64(c.durations(int(wire.OpNone)).count), 0},
		{"waits at s1", float64(c.known()["s1"].wait().count), 2},
		{"waits nowhere", float64(c.none.wait().count), 0},
	}
	for _, tt := range counters {
		if tt.got != tt.want {
			t.Errorf("%s = %v; want %v", tt.name, tt.got, tt.want)
		}
	}
}

func TestHistogram(t *testing.T) {
	tests := []struct {
		d      time.Duration
		atMost float64 // the bucket's upper end; 0: beyond the last
	}{
		{0, .00025},
		{-time.Second, .00025},
		{250 * time.Microsecond, .00025},
		{250*time.Microsecond + 1, .0005},
		{3 * time.Millisecond, .005},
		{10 * time.Second, 10},
		{10*time.Second + 1, 0},
		{time.Hour, 0},
	}
	for _, tt := range tests {
		t.Run(tt.d.String(), func(t *testing.T) {
			var hs [numShards]histogram
			hs[numShards-1].observe(tt.d)
			d := distributionOf(func(i int) *histogram { return &hs[i] })
			if d.count != 1 || d.seconds != tt.d.Seconds() {
				t.Errorf("count, sum of %v = %d, %v; want 1, %v", tt.d, d.count, d.seconds, tt.d.Seconds())
			}
			for _, b := range bounds {
				want := uint64(0)
				if tt.atMost > 0 && b.Seconds() >= tt.atMost {
					want = 1
				}
				if got := d.atMost[b.Seconds()]; got != want {
					t.Errorf("bucket %v of %v = %d; want %d", b, tt.d, got, want)
				}
			}
		})
	}
	if !slices.IsSorted(bounds[:]) {
		t.Errorf("bounds = %v; want them sorted", bounds)
	}
}

func TestShardOf(t *testing.T) {
	const clients = 16 * numShards
	var hits [numShards]int
	for n := range clients {
		hits[shardOf(sample(n).Client)]++
	}
	for i, n := range hits {
		if n < clients/numShards/4 {
			t.Errorf("clients of shard %d = %d of %d; want about %d", i, n, clients, clients/numShards)
		}
	}
	if got := shardOf(netip.AddrPort{}); got != 0 {
		t.Errorf("shardOf(zero) = %d; want 0", got)
	}
}

// proxy.Reasons is held against the constants in the sources.
func TestReasonsComplete(t *testing.T) {
	for _, file := range []string{"../../proxy/outcome.go", "../backend/error.go"} {
		found := 0
		for _, text := range reasonConstants(t, file) {
			found++
			if reasonIndex(proxy.Reason(text)) == len(reasons)-1 {
				t.Errorf("reason %q of %s is not in the list of reasons", text, file)
			}
		}
		if found == 0 {
			t.Errorf("%s has no constants of type Reason; want some", file)
		}
	}
}

// reasonConstants returns the values of the constants of type Reason in a file.
func reasonConstants(t *testing.T, file string) (values []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Reason" {
			for _, v := range spec.Values {
				text, err := strconv.Unquote(v.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				values = append(values, text)
			}
		}
		return true
	})
	return values
}

func TestObserveAllocatesNothing(t *testing.T) {
	a := &Admin{}
	good, bad := sample(0), sample(1)
	bad.Status, bad.Reason, bad.LockReleased = 0, "cut_answer", true
	a.Observe(good)
	if n := testing.AllocsPerRun(1000, func() { a.Observe(good); a.Observe(bad) }); n != 0 {
		t.Errorf("allocations of Observe = %v; want 0", n)
	}
}

func TestBackendsBounded(t *testing.T) {
	a := &Admin{}
	o := sample(0)
	for _, name := range []string{other, "\xff"} {
		o.Backend = name
		a.Observe(o)
	}
	nearlyFull := backendMap{}
	for i := range maxBackends - 2 {
		nearlyFull[fmt.Sprintf("a%d", i)] = &a.counts.none
	}
	a.counts.backends.Store(&nearlyFull)
	for i := range 5 {
		o.Backend = fmt.Sprintf("b%d", i)
		a.Observe(o)
	}
	if n := len(a.counts.known()); n != maxBackends {
		t.Errorf("backends told apart = %d; want %d", n, maxBackends)
	}
	if n := a.counts.other.requests(int(o.Op), 0); n != 5 {
		t.Errorf("requests of others = %v; want 5", n)
	}
}

func TestForget(t *testing.T) {
	a := showing(farm())
	o := sample(0)
	for _, name := range []string{"s1", "gone"} {
		o.Backend = name
		a.Observe(o)
	}
	a.collect()
	if m := a.counts.known(); m["gone"] != nil || m["s1"] == nil || m["s1"].requests(int(o.Op), 0) != 1 {
		t.Errorf("known backends = %v; want s1 with its count, without gone", m)
	}
	o.Backend = "gone"
	a.Observe(o)
	if n := a.counts.known()["gone"].requests(int(o.Op), 0); n != 1 {
		t.Errorf("requests of a backend that came back = %v; want 1", n)
	}
}

func TestObserveConcurrent(t *testing.T) {
	a := showing(farm())
	const clients, each = 8, 500
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			o := sample(n)
			for i := range each {
				o.Backend = []string{"s1", "s2", "s3"}[i%3]
				a.Observe(o)
				if i%100 == 0 {
					a.collect()
				}
			}
		})
	}
	wg.Wait()
	sum := 0.0
	for _, b := range a.counts.named() {
		sum += b.requests(int(wire.OpGetExclusive), 0)
	}
	if sum != clients*each {
		t.Errorf("requests = %v; want %d", sum, clients*each)
	}
	if d := a.counts.durations(int(wire.OpGetExclusive)); d.count != clients*each || d.atMost[.001] != clients*each {
		t.Errorf("durations = %+v; want %d, all up to 1 ms", d, clients*each)
	}
}

func BenchmarkObserve(b *testing.B) {
	b.Run("alone", func(b *testing.B) {
		a, o := &Admin{}, sample(0)
		b.ReportAllocs()
		for b.Loop() {
			a.Observe(o)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		a := &Admin{}
		var n atomic.Int32
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			o := sample(int(n.Add(1)))
			for pb.Next() {
				a.Observe(o)
			}
		})
	})
}
