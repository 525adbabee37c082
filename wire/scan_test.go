package wire

import (
	"bytes"
	"testing"
)

// Every byte at every place of a word and behind the last, with each kind of
// byte before and behind it, as a borrow could go wrong.
func TestControl(t *testing.T) {
	for size := 1; size <= 17; size++ {
		for at := range size {
			for c := range 256 {
				for _, rest := range []byte{' ', 'a', '~', 0x80, 0xff} {
					b := bytes.Repeat([]byte{rest}, size)
					b[at] = byte(c)
					if at+1 < size {
						b[at+1] = byte(^c)
					}
					want, ascii := len(b), true
					for i, c := range b {
						if c < ' ' || c == 0x7f {
							want = i
							break
						}
						ascii = ascii && c < 0x80
					}
					got, plain := control(b, 0)
					if got != want || plain && !ascii {
						t.Fatalf("control(%q, 0) = %d, %v; want %d, %v", b, got, plain, want, ascii)
					}
					if all := bytes.IndexFunc(b, func(r rune) bool { return r >= 0x80 }) < 0; all && !plain {
						t.Fatalf("control(%q, 0) = %d, false; all is ASCII", b, got)
					}
				}
			}
		}
	}
}

func TestControlFrom(t *testing.T) {
	b := []byte("\r123456789\n23456789\x7f")
	tests := []struct{ at, want int }{{0, 0}, {1, 10}, {10, 10}, {11, 19}, {19, 19}, {20, 20}}
	for _, tt := range tests {
		if got, _ := control(b, tt.at); got != tt.want {
			t.Errorf("control(%q, %d) = %d; want %d", b, tt.at, got, tt.want)
		}
	}
}
