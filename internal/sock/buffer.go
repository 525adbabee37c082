package sock

import "sync"

// Sizes of the buffers that are used again. The middle one takes a request or
// an answer of nearly every session in one read; the large one a body of 64 KiB
// with its head.
const (
	smallBuffer  = 4 << 10
	middleBuffer = 16 << 10
	largeBuffer  = 72 << 10
)

var (
	smallBuffers  = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	middleBuffers = sync.Pool{New: func() any { return new([middleBuffer]byte) }}
	largeBuffers  = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// Buffer returns n bytes or more whose content is anything. Whoever is done
// with them may give them back by Recycle, once.
func Buffer(n int) []byte {
	switch {
	case n <= smallBuffer:
		return smallBuffers.Get().(*[smallBuffer]byte)[:]
	case n <= middleBuffer:
		return middleBuffers.Get().(*[middleBuffer]byte)[:]
	case n <= largeBuffer:
		return largeBuffers.Get().(*[largeBuffer]byte)[:]
	}
	return make([]byte, n)
}

// Recycle takes a buffer back that Buffer returned. nil is fine.
func Recycle(b []byte) {
	switch cap(b) {
	case smallBuffer:
		smallBuffers.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	case middleBuffer:
		middleBuffers.Put((*[middleBuffer]byte)(b[:middleBuffer]))
	case largeBuffer:
		largeBuffers.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	}
}

// Grow returns a buffer of n bytes or more that begins with b[:used], and
// recycles b.
func Grow(b []byte, used, n int) []byte {
	if len(b) >= n {
		return b
	}
	to := Buffer(n)
	copy(to, b[:used])
	Recycle(b)
	return to
}
