package main

import "testing"

func TestThreads(t *testing.T) {
	tests := []struct {
		name      string
		suggested int
		chosen    bool
		want      int
	}{
		{"one CPU", 1, false, 2},
		{"eight", 8, false, 9},
		{"chosen", 8, true, 8},
		{"a single one chosen", 1, true, 2},
	}
	for _, tt := range tests {
		if got := threads(tt.suggested, tt.chosen); got != tt.want {
			t.Errorf("%s: threads(%d, %t) = %d; want %d", tt.name, tt.suggested, tt.chosen, got, tt.want)
		}
	}
}
