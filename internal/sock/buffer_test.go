package sock_test

import (
	"bytes"
	"testing"

	"stateproxy/internal/sock"
)

func TestBufferClasses(t *testing.T) {
	const small, middle, large = 4 << 10, 16 << 10, 72 << 10
	tests := []struct{ n, want int }{
		{0, small}, {1, small}, {small, small},
		{small + 1, middle}, {middle, middle},
		{middle + 1, large}, {64 << 10, large}, {large, large},
		{large + 1, large + 1}, {1 << 20, 1 << 20},
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
		if b := sock.Buffer(n); len(b) != 4<<10 {
			t.Errorf("Buffer(%d) after odd Recycles has len %d; want %d", n, len(b), 4<<10)
		}
	}
}

func TestGrow(t *testing.T) {
	tests := []struct{ from, used, n, want int }{
		{1, 100, 4 << 10, 4 << 10}, // has room already
		{1, 4 << 10, 4<<10 + 1, 16 << 10},
		{1, 7, 20 << 10, 72 << 10},
		{16 << 10, 16 << 10, 64 << 10, 72 << 10},
		{72 << 10, 72 << 10, 1 << 20, 1 << 20},
		{1, 0, 5 << 10, 16 << 10},
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
	if b := sock.Grow(nil, 0, 10); len(b) != 4<<10 {
		t.Errorf("Grow(nil, 0, 10) has len %d; want %d", len(b), 4<<10)
	}
}
