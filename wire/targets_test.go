package wire

import (
	"bytes"
	"fmt"
	"testing"
)

func sameKey(a, b Key) bool {
	return bytes.Equal(a.Full, b.Full) && bytes.Equal(a.App, b.App) && (a.Digest == nil) == (b.Digest == nil) &&
		bytes.Equal(a.Digest, b.Digest) && bytes.Equal(a.SessionID, b.SessionID)
}

const begin = "%2fLM%2fW3SVC%2f2%2fROOT(oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5%2fHxWS854%3d)%2f"

func TestTargetParserAgreesWithParseTarget(t *testing.T) {
	tests := []struct {
		name    string
		targets []string
	}{
		{"one application", []string{begin + "a", begin + "b", begin, begin + "a%2fb", begin + "c+%2b"}},
		{"two in turn", []string{begin + "a", "/app(NDbkwGi0191wFdDv0yOUOobtHns=)/x", begin + "b", "/app(NDbkwGi0191wFdDv0yOUOobtHns=)/y"}},
		{"no digest between", []string{begin + "a", "%2fhealth%2fprobe", begin + "b"}},
		{"folded slashes", []string{"/" + "/app(NDbkwGi0191wFdDv0yOUOobtHns=)/x", "//app(NDbkwGi0191wFdDv0yOUOobtHns=)/y"}},
		{"slashes in the ID", []string{begin + "x", begin + "//x", begin + "/x"}},
		{"digests in the ID", []string{begin + "x", begin + "(NDbkwGi0191wFdDv0yOUOobtHns=)/y"}},
		{"bad UTF-8 and surrogates in the ID", []string{begin + "%ff", begin + "%ud83d%ude00", begin + "%ude00"}},
		{"not ASCII before the ID", []string{"%c3%a9(NDbkwGi0191wFdDv0yOUOobtHns=)/x", "%c3%a9(NDbkwGi0191wFdDv0yOUOobtHns=)/y"}},
		{"%u before the ID", []string{"%u0041(NDbkwGi0191wFdDv0yOUOobtHns=)/x", "%u0041(NDbkwGi0191wFdDv0yOUOobtHns=)/y"}},
		{"bad escape before the ID", []string{"%zz(NDbkwGi0191wFdDv0yOUOobtHns=)/x", "%zz(NDbkwGi0191wFdDv0yOUOobtHns=)/y"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p TargetParser
			for range 2 {
				for _, target := range tt.targets {
					got, want := p.Parse([]byte(target)), ParseTarget(nil, []byte(target))
					if !sameKey(got, want) {
						t.Errorf("Parse(%q) = %q; want %q", target, got, want)
					}
				}
			}
		})
	}
}

func TestTargetParserAllocatesNothing(t *testing.T) {
	var p TargetParser
	targets := [][]byte{[]byte(begin + "bpr4mimb2vjnvtn2jc4yp3uo"), []byte(begin + "cpr4mimb2vjnvtn2jc4yp3uo")}
	i := 0
	if n := testing.AllocsPerRun(100, func() { i++; p.Parse(targets[i%2]) }); n != 0 {
		t.Errorf("Parse() allocates %v times; want 0", n)
	}
}

func TestTargetParserKeepsLittle(t *testing.T) {
	var p TargetParser
	p.Parse([]byte(begin + string(bytes.Repeat([]byte("x"), 8000))))
	p.Parse([]byte(fmt.Sprintf("%x", bytes.Repeat([]byte("y"), 10))))
	if cap(p.key) > maxKept {
		t.Errorf("keeps %d bytes after a long target; want %d or fewer", cap(p.key), maxKept)
	}
}

func FuzzTargetParser(f *testing.F) {
	f.Add([]byte(begin+"a"), []byte(begin+"b"))
	f.Add([]byte("%c3%a9(NDbkwGi0191wFdDv0yOUOobtHns=)/x"), []byte("//%c3(NDbkwGi0191wFdDv0yOUOobtHns=)/%ud83d%ude00"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var p TargetParser
		for _, target := range [][]byte{a, b, append(bytes.Clone(a), b...), a} {
			if got, want := p.Parse(target), ParseTarget(nil, target); !sameKey(got, want) {
				t.Errorf("Parse(%q) after others = %q; want %q", target, got, want)
			}
		}
	})
}

func BenchmarkTargetParser(b *testing.B) {
	var p TargetParser
	targets := [][]byte{[]byte(begin + "bpr4mimb2vjnvtn2jc4yp3uo"), []byte(begin + "cpr4mimb2vjnvtn2jc4yp3uo")}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		p.Parse(targets[i%2])
	}
}
