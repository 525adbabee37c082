package ring

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
)

var update = flag.Bool("update", false, "rewrite testdata/owners.golden: every session of every installation may move")

const goldenFile = "testdata/owners.golden"

// An upgrade must not reshuffle sessions, so the owners of many keys are on
// record. A ring that differs from them needs another scheme, and a release that
// says so.
func TestGoldenOwners(t *testing.T) {
	got := goldenOwners(t)
	if *update {
		if err := os.WriteFile(goldenFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	// A checkout on Windows may have added carriage returns.
	want = bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n"))
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	if len(gotLines) != len(wantLines) {
		t.Fatalf("%s has %d lines; want %d", goldenFile, len(wantLines), len(gotLines))
	}
	for i := range gotLines {
		if gotLines[i] != wantLines[i] {
			t.Fatalf("%s:%d: got %s; want %s", goldenFile, i+1, gotLines[i], wantLines[i])
		}
	}
}

// goldenOwners describes several rings: the fingerprint, the first ranks of some
// keys, and a hash over the whole rankings of many.
func goldenOwners(t *testing.T) []byte {
	rings := [][]Member{
		nil,
		fleet(1, false),
		fleet(2, false),
		fleet(5, false),
		fleet(10, true),
		fleet(17, true),
		fleet(100, true),
		lopsided(3),
		{{"state-a.example", 500}, {"state-b.example", 499}, {"Ünïcode", 1000}},
	}
	keys := append(sessionIDs(120), []byte{}, []byte("a"), []byte("s1"), []byte{0, 255}, bytes.Repeat([]byte("long"), 100))
	var out bytes.Buffer
	for _, members := range rings {
		r := mustNew(t, members)
		fmt.Fprintf(&out, "ring %016x", r.Fingerprint())
		for _, m := range r.Members() {
			fmt.Fprintf(&out, " %s=%d", m.Name, m.Weight)
		}
		fmt.Fprintln(&out)
		for _, key := range keys {
			ranked := ranking(r, key)
			fmt.Fprintf(&out, "%q %s\n", key, strings.Join(ranked[:min(3, len(ranked))], " "))
		}
		fmt.Fprintf(&out, "rankings %016x\n\n", hashRankings(r))
	}
	return out.Bytes()
}

// hashRankings returns a hash of the whole rankings of two thousand keys.
func hashRankings(r *Ring) uint64 {
	var digest xxhash.Digest
	digest.Reset()
	for _, key := range counters(2000) {
		fmt.Fprintln(&digest, ranking(r, key))
	}
	return digest.Sum64()
}
