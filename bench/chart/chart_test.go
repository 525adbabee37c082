package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestWrite(t *testing.T) {
	c := Chart{Title: `a < b & "c"`, X: "connections", Y: "µs", LogX: true, Lines: []Line{
		{Name: "measured", Points: []Point{{X: 16, Y: 10, Low: 9, High: 12}, {X: 10_000, Y: 30}}},
		{Name: "linear", Dashed: true, Points: []Point{{X: 16, Y: 10}, {X: 10_000, Y: 40}}},
	}}
	var b bytes.Buffer
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	var texts []string
	circles := 0
	for d := xml.NewDecoder(bytes.NewReader(b.Bytes())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("Write = %s; want well-formed XML: %v", b.String(), err)
		}
		switch e := token.(type) {
		case xml.CharData:
			texts = append(texts, string(e))
		case xml.StartElement:
			if e.Name.Local == "circle" {
				circles++
			}
		}
	}
	if circles != 2 {
		t.Errorf("circles = %d; want 2, none for the dashed line", circles)
	}
	all := strings.Join(texts, "|")
	for _, want := range []string{c.Title, "connections", "µs", "measured", "linear", "16", "10k"} {
		if !strings.Contains(all, want) {
			t.Errorf("texts = %q; want %q among them", all, want)
		}
	}
}

func TestWriteFails(t *testing.T) {
	tests := []struct {
		name  string
		chart Chart
	}{
		{"no points", Chart{Lines: []Line{{Name: "empty"}}}},
		{"0 on a logarithmic axis", Chart{LogX: true, Lines: []Line{{Points: []Point{{X: 0, Y: 1}}}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := tt.chart.Write(&b); err == nil || b.Len() > 0 {
				t.Errorf("Write() = %q, %v; want an error alone", b.String(), err)
			}
		})
	}
}

func TestScale(t *testing.T) {
	c := Chart{LogX: true, Lines: []Line{{Points: []Point{{X: 1, Y: 0}, {X: 10, Y: 50}, {X: 100, Y: 95}}}}}
	s, err := c.scale()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name      string
		got, want float64
	}{
		{"x of the least", s.x(1), left},
		{"x of the middle", s.x(10), (left + width - right) / 2},
		{"x of the most", s.x(100), width - right},
		{"y of 0", s.y(0), height - bottom},
		{"top of the y axis", s.maxY, 100},
		{"y of the top", s.y(100), top},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s = %g; want %g", tt.name, tt.got, tt.want)
		}
	}
}

func TestRoundUp(t *testing.T) {
	tests := []struct{ in, want float64 }{{0, 1}, {0.97, 1}, {1, 1.2}, {9.9, 20}, {31, 40}, {16_020, 20_000}}
	for _, tt := range tests {
		if got := roundUp(tt.in); got != tt.want {
			t.Errorf("roundUp(%g) = %g; want %g", tt.in, got, tt.want)
		}
	}
}

func TestNumber(t *testing.T) {
	tests := []struct {
		in   float64
		want string
	}{{0, "0"}, {0.2, "0.2"}, {256, "256"}, {2000, "2000"}, {10_000, "10k"}, {1_000_000, "1M"}}
	for _, tt := range tests {
		if got := number(tt.in); got != tt.want {
			t.Errorf("number(%g) = %q; want %q", tt.in, got, tt.want)
		}
	}
}
