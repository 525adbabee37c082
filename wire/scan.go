package wire

import (
	"encoding/binary"
	"math/bits"
)

// Eight bytes are looked at together, one each in a byte of a 64-bit word.
const (
	each = 0x0101010101010101 // times a byte: that byte everywhere
	high = 0x80 * each
)

// control returns the offset of the first control character of ASCII in b[at:],
// DEL among them, len(b) if there is none. ascii is that none of the bytes before
// it is beyond ASCII; it may be false for one that stands behind.
func control(b []byte, at int) (i int, ascii bool) {
	all := uint64(0)
	for i = at; i <= len(b)-8; i += 8 {
		w := binary.LittleEndian.Uint64(b[i : i+8])
		all |= w
		// Below a blank the subtraction borrows, and DEL alone has 0x7f in its low
		// bits. A borrow goes on into the bytes above, so the lowest mark counts.
		if marks := ((w - ' '*each) | (w&^high + each)) &^ w & high; marks != 0 {
			return i + bits.TrailingZeros64(marks)/8, all&high == 0
		}
	}
	for ; i < len(b); i++ {
		c := b[i]
		if c < ' ' || c == 0x7f {
			break
		}
		all |= uint64(c)
	}
	return i, all&high == 0
}
