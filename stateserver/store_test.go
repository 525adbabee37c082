package stateserver

import (
	"fmt"
	"testing"
	"time"
)

// check verifies what must hold between two operations. It wants every item
// gone that expired before the last full tick of swept, the time of the last
// sweep.
func (st *store) check(swept time.Duration) error {
	var used int64
	for i := range st.shards {
		sh := &st.shards[i]
		listed := 0
		for slot, it := range sh.wheel {
			for prev := (*item)(nil); it != nil; prev, it = it, it.next {
				if it.prev != prev || int(it.slot) != slot || sh.items[it.key] != it {
					return fmt.Errorf("shard %d: list %d is broken", i, slot)
				}
				listed++
			}
		}
		var bodies int64
		locked := 0
		for _, it := range sh.items {
			used += it.cost()
			bodies += int64(len(it.body))
			if it.locked {
				locked++
			}
			if it.expires == neverExpires {
				listed++
			}
			if it.expires < swept.Truncate(wheelTick) {
				return fmt.Errorf("an item that expired at %v is there after the sweep at %v", it.expires, swept)
			}
		}
		if listed != len(sh.items) || bodies != sh.bodies || locked != sh.locked {
			return fmt.Errorf("shard %d: %d listed, %d body bytes, %d locked; counted %d, %d, %d",
				i, listed, bodies, locked, len(sh.items), sh.bodies, sh.locked)
		}
	}
	if got := st.used.Load(); got != used {
		return fmt.Errorf("used = %d; want %d", got, used)
	}
	return nil
}

func (st *store) len() (n int) {
	for i := range st.shards {
		n += len(st.shards[i].items)
	}
	return n
}

// TestSweepBatches: a bucket of more items than one batch is emptied as well.
func TestSweepBatches(t *testing.T) {
	st := newStore(0)
	const items = numShards * sweepBatch * 3 / 2
	for i := range items {
		text := send{body: "b", timeout: 1 + i%2}.text("PUT", fmt.Sprint(i))
		doText(t, st, 0, text)
	}
	for _, tt := range []struct {
		at   time.Duration
		want int
	}{{wheelTick, items}, {time.Minute + wheelTick, items / 2}, {2*time.Minute + wheelTick, 0}} {
		st.sweep(tt.at)
		if got := st.len(); got != tt.want {
			t.Errorf("items left at %v = %d; want %d", tt.at, got, tt.want)
		}
		if err := st.check(tt.at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSweep(t *testing.T) {
	const year = 525600
	tests := []struct {
		name    string
		timeout int
		sweeps  []time.Duration // times of sweeps
		want    int             // items left of 1000
	}{
		{"not yet", 20, []time.Duration{20 * time.Minute}, 1000},
		{"soon after", 20, []time.Duration{20*time.Minute + wheelTick}, 0},
		{"tick by tick", 1, []time.Duration{20e9, 40e9, 60e9, 80e9}, 0},
		{"beyond the wheel", year, []time.Duration{time.Hour, 24 * time.Hour, year*time.Minute - 1}, 1000},
		{"beyond the wheel, after it", year, []time.Duration{time.Hour, year*time.Minute + wheelTick}, 0},
		{"no expiry", 0, []time.Duration{100 * year * time.Minute}, 1000},
		{"first sweep late", 1, []time.Duration{100 * time.Hour}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := newStore(0)
			for i := range 1000 {
				doText(t, st, 0, send{body: "body", timeout: tt.timeout}.text("PUT", fmt.Sprint(testTarget, i)))
			}
			for _, at := range tt.sweeps {
				st.sweep(at)
				if err := st.check(at); err != nil {
					t.Fatalf("after the sweep at %v: %v", at, err)
				}
			}
			if got := st.len(); got != tt.want {
				t.Errorf("items left = %d; want %d", got, tt.want)
			}
			if got := st.used.Load(); (got == 0) != (tt.want == 0) {
				t.Errorf("used = %d with %d items left", got, tt.want)
			}
		})
	}
}

// TestRenewal: a touched item outlives the bucket it lies in, and renewals
// below a second are skipped.
func TestRenewal(t *testing.T) {
	st := newStore(0)
	head := send{}.text("HEAD", testTarget)
	doText(t, st, 0, send{body: "b", timeout: 1}.text("PUT", testTarget))
	doText(t, st, minRenewal-1, head)
	if got, want := state(st), "unlocked K=1 T=1 b until 1m0s"; got != want {
		t.Errorf("touched too early to matter: %q; want %q", got, want)
	}
	for at := 30 * time.Second; at < 10*time.Minute; at += 30 * time.Second {
		if resp, _ := doText(t, st, at, head); resp.Status != 200 {
			t.Fatalf("HEAD at %v = %d; want 200", at, resp.Status)
		}
		st.sweep(at)
		if err := st.check(at); err != nil {
			t.Fatal(err)
		}
	}
	last := 9*time.Minute + 30*time.Second
	if resp, _ := doText(t, st, last+time.Minute, head); resp.Status != 404 {
		t.Errorf("HEAD one minute after the last = %d; want 404, swept or not", resp.Status)
	}
	if got := st.len(); got != 0 {
		t.Errorf("items left = %d; want 0", got)
	}
}

func TestMemoryLimit(t *testing.T) {
	const bodyLen = 1000
	body := func(n int) string { return string(make([]byte, n)) }
	st := newStore(2 * cost(len(testKey)+1, bodyLen))
	put := func(suffix string, s send) string {
		return describe(doText(t, st, 0, s.text("PUT", testTarget+suffix)))
	}
	steps := []struct {
		name   string
		suffix string
		send   send
		want   string
	}{
		{"first", "1", send{body: body(bodyLen)}, "200"},
		{"second fills it", "2", send{body: body(bodyLen)}, "200"},
		{"third is refused", "3", send{body: body(1)}, "400"},
		{"create if absent is refused too", "3", send{body: body(1), flags: 1}, "400"},
		{"create if absent of a present one needs nothing", "1", send{body: body(1), flags: 1}, "200"},
		{"growth is refused", "1", send{body: body(bodyLen + 1)}, "400"},
		{"growth by another timeout is refused", "1", send{body: body(bodyLen + 1), timeout: 30}, "400"},
		{"same size is fine", "1", send{body: body(bodyLen)}, "200"},
		{"shrinking is fine", "1", send{body: body(bodyLen / 2)}, "200"},
		{"and makes room", "2", send{body: body(bodyLen + bodyLen/2)}, "200"},
	}
	for _, tt := range steps {
		if got := put(tt.suffix, tt.send); got != tt.want {
			t.Errorf("%s: %q; want %q", tt.name, got, tt.want)
		}
		if err := st.check(0); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if got := st.refused.Load(); got != 4 {
		t.Errorf("refused = %d; want 4", got)
	}
	if got := describe(doText(t, st, 0, send{}.text("GET", testTarget+"1"))); got != "200 timeout=20 "+body(bodyLen/2) {
		t.Errorf("GET of the one refused = %q; want its last stored body", got)
	}
}
