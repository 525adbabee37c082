package main

import "testing"

func TestThreads(t *testing.T) {
	tests := []struct {
		name            string
		suggested, cpus int
		chosen          bool
		want            int
	}{
		{"one CPU", 1, 1, false, 3},
		{"eight", 8, 8, false, 10},
		{"a quota", 2, 8, false, 2},
		{"a small quota", 1, 8, false, 2},
		{"chosen", 8, 8, true, 8},
		{"a single one chosen", 1, 8, true, 2},
		{"more than CPUs chosen", 16, 8, true, 16},
	}
	for _, tt := range tests {
		if got := threads(tt.suggested, tt.cpus, tt.chosen); got != tt.want {
			t.Errorf("%s: threads(%d, %d, %t) = %d; want %d", tt.name, tt.suggested, tt.cpus, tt.chosen, got, tt.want)
		}
	}
}
