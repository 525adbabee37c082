package sock

import "sync"

// Sizes of the buffers that are used again: bodies of 16, 32 and 64 KiB with
// their heads, and what is much smaller.
const (
	tinyBuffer   = 1 << 10
	smallBuffer  = 4 << 10
	middleBuffer = 18 << 10
	largeBuffer  = 36 << 10
	hugeBuffer   = 72 << 10
)

var (
	tinyBuffers   = sync.Pool{New: func() any { return new([tinyBuffer]byte) }}
	smallBuffers  = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	middleBuffers = sync.Pool{New: func() any { return new([middleBuffer]byte) }}
	largeBuffers  = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	hugeBuffers   = sync.Pool{New: func() any { return new([hugeBuffer]byte) }}
)

// Buffer returns n bytes or more whose content is anything. Whoever is done
// with them may give them back by Recycle, once.
func Buffer(n int) []byte {
	switch {
	case n <= tinyBuffer:
		return tinyBuffers.Get().(*[tinyBuffer]byte)[:]
	case n <= smallBuffer:
		return smallBuffers.Get().(*[smallBuffer]byte)[:]
	case n <= middleBuffer:
		return middleBuffers.Get().(*[middleBuffer]byte)[:]
	case n <= largeBuffer:
		return largeBuffers.Get().(*[largeBuffer]byte)[:]
	case n <= hugeBuffer:
		return hugeBuffers.Get().(*[hugeBuffer]byte)[:]
	}
	return make([]byte, n)
}

// Recycle takes a buffer back that Buffer returned. nil is fine.
func Recycle(b []byte) {
	switch cap(b) {
	case tinyBuffer:
		tinyBuffers.Put((*[tinyBuffer]byte)(b[:tinyBuffer]))
	case smallBuffer:
		smallBuffers.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	case middleBuffer:
		middleBuffers.Put((*[middleBuffer]byte)(b[:middleBuffer]))
	case largeBuffer:
		largeBuffers.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	case hugeBuffer:
		hugeBuffers.Put((*[hugeBuffer]byte)(b[:hugeBuffer]))
	}
}

// FirstRead is the size of the buffer to read a message into of which nothing is
// known. It takes nearly every session in one read.
const FirstRead = middleBuffer

// Expect returns the size to expect of the next message of a stream, from what
// was expected of the last one, which turned out to have n bytes. Messages of one
// stream have few sizes, and a large one is worth a single read.
func Expect(last, n int) int { return max(last-last/8, n) }

// BufferFor returns the buffer to read a message into of which Expect has told
// the size; 0 is that of a stream's first.
func BufferFor(expected int) []byte {
	if expected == 0 {
		return Buffer(FirstRead)
	}
	return Buffer(max(expected, smallBuffer))
}

// Fit returns a buffer that begins with b[:used]: a small one in b's place if
// little has to be moved to it, else b. What is kept while a peer is waited for
// then takes little memory, and the large buffer is used again while it is still
// in the processor's cache.
func Fit(b []byte, used int) []byte {
	if used > smallBuffer || len(b) <= smallBuffer {
		return b
	}
	to := Buffer(used)
	copy(to, b[:used])
	Recycle(b)
	return to
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
