package sock_test

import (
	"bytes"
	"testing"

	"stateproxy/internal/sock"
)

func TestBufferClasses(t *testing.T) {
	const tiny, small, middle, large, huge = 1 << 10, 4 << 10, 18 << 10, 36 << 10, 72 << 10
	tests := []struct{ n, want int }{
		{0, tiny}, {1, tiny}, {tiny, tiny},
		{tiny + 1, small}, {small, small},
		{small + 1, middle}, {16 << 10, middle}, {middle, middle},
		{middle + 1, large}, {32 << 10, large}, {large, large},
		{large + 1, huge}, {64 << 10, huge}, {huge, huge},
		{huge + 1, huge + 1}, {1 << 20, 1 << 20},
	}
	for _, tt := range tests {
		b := sock.Buffer(tt.n)
		if len(b) != tt.want || cap(b) != tt.want {
			t.Errorf("Buffer(%d) has len %d, cap %d; want %d", tt.n, len(b), cap(b), tt.want)
		}
		sock.Recycle(b)
	}
}

func TestRecycleTakesAnything(t *testing.T) {
	for _, b := range [][]byte{nil, {}, make([]byte, 10), make([]byte, 4<<10)[:3], make([]byte, 100<<10)} {
		sock.Recycle(b)
	}
	for _, n := range []int{1, 10, 4 << 10} {
		if b := sock.Buffer(n); len(b) < n || len(b) != cap(b) {
			t.Errorf("Buffer(%d) after odd Recycles has len %d, cap %d; want %d or more, both the same", n, len(b), cap(b), n)
		}
	}
}

func TestGrow(t *testing.T) {
	tests := []struct{ from, used, n, want int }{
		{1, 100, 1 << 10, 1 << 10}, // has room already
		{1, 1 << 10, 1<<10 + 1, 4 << 10},
		{1, 7, 20 << 10, 36 << 10},
		{18 << 10, 18 << 10, 64 << 10, 72 << 10},
		{72 << 10, 72 << 10, 1 << 20, 1 << 20},
		{1, 0, 5 << 10, 18 << 10},
	}
	for _, tt := range tests {
		b := sock.Buffer(tt.from)
		for i := range tt.used {
			b[i] = byte(i * 7)
		}
		want := bytes.Clone(b[:tt.used])
		got := sock.Grow(b, tt.used, tt.n)
		if len(got) != tt.want || !bytes.Equal(got[:tt.used], want) {
			t.Errorf("Grow(%d bytes, %d, %d) has len %d; want %d and the same beginning",
				len(b), tt.used, tt.n, len(got), tt.want)
		}
		if same := &got[0] == &b[0]; same != (tt.n <= len(b)) {
			t.Errorf("Grow(%d bytes, %d, %d) kept the buffer: %v", len(b), tt.used, tt.n, same)
		}
	}
}

func TestGrowFromNothing(t *testing.T) {
	if b := sock.Grow(nil, 0, 10); len(b) != 1<<10 {
		t.Errorf("Grow(nil, 0, 10) has len %d; want %d", len(b), 1<<10)
	}
}

func TestFit(t *testing.T) {
	tests := []struct{ from, used, want int }{
		{18 << 10, 1, 1 << 10},
		{18 << 10, 1 << 10, 1 << 10},
		{72 << 10, 1<<10 + 1, 4 << 10},
		{18 << 10, 4 << 10, 4 << 10},
		{18 << 10, 4<<10 + 1, 18 << 10}, // too much to move
		{4 << 10, 1, 4 << 10},           // small already
	}
	for _, tt := range tests {
		b := sock.Buffer(tt.from)
		for i := range tt.used {
			b[i] = byte(i * 7)
		}
		want := bytes.Clone(b[:tt.used])
		if got := sock.Fit(b, tt.used); len(got) != tt.want || !bytes.Equal(got[:tt.used], want) {
			t.Errorf("Fit(%d bytes, %d) has len %d; want %d and the same beginning", len(b), tt.used, len(got), tt.want)
		}
	}
	if b := sock.Fit(nil, 0); b != nil {
		t.Errorf("Fit(nil, 0) = %d bytes; want none", len(b))
	}
}

// A stream of small messages forgets the large one that was among them.
func TestExpect(t *testing.T) {
	n := sock.Expect(0, 64<<10)
	if n != 64<<10 {
		t.Errorf("Expect(0, 64 Ki) = %d; want 64 Ki", n)
	}
	if n = sock.Expect(n, 300); n <= 36<<10 {
		t.Errorf("after one small message: Expect = %d; want what takes the large one", n)
	}
	for range 40 {
		n = sock.Expect(n, 300)
	}
	if n > 400 {
		t.Errorf("after many small messages: Expect = %d; want about 300", n)
	}
}

func TestBufferFor(t *testing.T) {
	tests := []struct{ expected, want int }{
		{0, sock.FirstRead}, // nothing is known
		{1, 4 << 10},
		{4 << 10, 4 << 10},
		{4<<10 + 1, 18 << 10},
		{72 << 10, 72 << 10}, // a long body's beginning
		{100 << 10, 100 << 10},
	}
	for _, tt := range tests {
		if b := sock.BufferFor(tt.expected); len(b) != tt.want {
			t.Errorf("BufferFor(%d) has len %d; want %d", tt.expected, len(b), tt.want)
		}
	}
}
