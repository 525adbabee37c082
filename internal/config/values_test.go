package config

import (
	"testing"
	"time"
)

func TestFormatDuration(t *testing.T) {
	tests := []struct {
		in   time.Duration
		want string
	}{
		{0, "0s"},
		{250 * time.Millisecond, "250ms"},
		{10 * time.Second, "10s"},
		{2 * time.Minute, "2m"},
		{10 * time.Minute, "10m"},
		{2*time.Minute + 5*time.Second, "2m5s"},
		{20 * time.Hour, "20h"},
		{time.Hour + 30*time.Minute, "1h30m"},
		{time.Hour + time.Second, "1h0m1s"},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			got := formatDuration(tt.in)
			if got != tt.want {
				t.Errorf("formatDuration(%d) = %s; want %s", tt.in, got, tt.want)
			}
			if back, err := time.ParseDuration(got); err != nil || back != tt.in {
				t.Errorf("ParseDuration(%s) = %d, %v; want %d", got, back, err, tt.in)
			}
		})
	}
}

func TestFormatSize(t *testing.T) {
	tests := []struct {
		in   int64
		want string
	}{
		{0, "0"},
		{1, "1B"},
		{1000, "1000B"},
		{1024, "1KiB"},
		{1536, "1536B"},
		{10 * mib, "10MiB"},
		{3 * gib, "3GiB"},
		{2*gib - 1, "2147483647B"},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			if got := formatSize(tt.in); got != tt.want {
				t.Errorf("formatSize(%d) = %s; want %s", tt.in, got, tt.want)
			}
		})
	}
}

func TestFormatShare(t *testing.T) {
	tests := []struct {
		in   float64
		want string
	}{
		{0, "0%"},
		{1, "100%"},
		{0.5, "50%"},
		{0.29, "29%"},
		{0.125, "12.5%"},
		{1.0 / 3, "0.3333333333333333"},
		{1e-9, "0.000000001"},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			if got := formatShare(tt.in); got != tt.want {
				t.Errorf("formatShare(%v) = %s; want %s", tt.in, got, tt.want)
			}
		})
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"fall", "fall", 0},
		{"fall", "fal", 1},
		{"fall", "falls", 1},
		{"fall", "fill", 1},
		{"rise", "raise", 1},
		{"health", "haelth", 2},
		{"kitten", "sitting", 3},
		{"log", "a far longer key", 19},
	}
	for _, tt := range tests {
		t.Run(tt.a+" "+tt.b, func(t *testing.T) {
			if got := distance(tt.a, tt.b); got != tt.want {
				t.Errorf("distance(%q, %q) = %d; want %d", tt.a, tt.b, got, tt.want)
			}
			if got := distance(tt.b, tt.a); got != tt.want {
				t.Errorf("distance(%q, %q) = %d; want %d", tt.b, tt.a, got, tt.want)
			}
		})
	}
}

func TestProblemString(t *testing.T) {
	tests := []struct {
		name string
		in   Problem
		want string
	}{
		{"all", Problem{"c.yaml", 14, 7, "backends[2].weight", "want 1..1000, got 0"},
			"c.yaml:14:7: backends[2].weight: want 1..1000, got 0"},
		{"no column", Problem{File: "c.yaml", Line: 3, Message: "not valid YAML"}, "c.yaml:3: not valid YAML"},
		{"no line", Problem{File: "c.yaml", Message: "too large"}, "c.yaml: too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.in.String(); got != tt.want {
				t.Errorf("String(%+v) = %s; want %s", tt.in, got, tt.want)
			}
		})
	}
}
