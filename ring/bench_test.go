package ring

import (
	"fmt"
	"testing"
)

const keyCount = 1024 // a power of two, so that taking turns costs nothing

func BenchmarkOwner(b *testing.B) {
	for _, weighted := range []bool{false, true} {
		for _, n := range []int{5, 10, 20, 100} {
			b.Run(benchName("members", n, weighted), func(b *testing.B) {
				r := mustNew(b, fleet(n, weighted))
				keys := sessionIDs(keyCount)
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					r.Owner(keys[i%keyCount])
					i++
				}
			})
		}
	}
}

func BenchmarkOwners(b *testing.B) {
	for _, n := range []int{1, 2, 3, 100} {
		b.Run(benchName("ranks", n, true), func(b *testing.B) {
			r := mustNew(b, fleet(100, true))
			keys := sessionIDs(keyCount)
			dst := make([]int, 0, n)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				dst = r.Owners(dst[:0], keys[i%keyCount], n)
				i++
			}
		})
	}
}

func BenchmarkMoved(b *testing.B) {
	before, after := mustNew(b, fleet(100, true)), mustNew(b, fleet(99, true))
	for b.Loop() {
		Moved(before, after)
	}
}

func benchName(what string, n int, weighted bool) string {
	if weighted {
		return fmt.Sprintf("%s=%d/weighted", what, n)
	}
	return fmt.Sprintf("%s=%d/equal", what, n)
}
