// Package chart draws line charts as SVG, on a white ground and without scripts
// or fonts of their own, for documents.
//
//	c := chart.Chart{Title: "Latency", X: "connections", Y: "ms", LogX: true}
//	c.Lines = append(c.Lines, chart.Line{Name: "p99", Points: points})
//	err := c.Write(w)
package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
)

// Chart is a drawing of lines over a common x axis. The y axis begins at 0.
type Chart struct {
	Title string
	X, Y  string // what the axes show
	LogX  bool   // a logarithmic x axis; all X must be above 0
	Lines []Line
}

// Line is one line of a chart, with a mark at each point.
type Line struct {
	Name   string
	Dashed bool // for something to compare with, without marks
	Points []Point
}

// Point is a value and the range that it was seen in, drawn as a bar. Low and
// High are both 0 if there is none.
type Point struct {
	X, Y      float64
	Low, High float64
}

// Size of a drawing and of the margins around the area of the lines.
const (
	width, height = 720, 400
	left, right   = 70, 30
	top, bottom   = 50, 90
)

// colors tell up to five lines apart, also for readers who see few of them.
var colors = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555"}

// Write draws the chart. It fails if there is no point, or w does.
func (c *Chart) Write(w io.Writer) error {
	s, err := c.scale()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13" fill="#222">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	text(&b, width/2, 26, "middle", `font-size="16"`, c.Title)
	c.axes(&b, s)
	for i, l := range c.Lines {
		l.draw(&b, s, colors[i%len(colors)])
		c.legend(&b, i, l)
	}
	b.WriteString("</svg>\n")
	_, err = w.Write(b.Bytes())
	return err
}

// scale turns values into places on the drawing.
type scale struct {
	log        bool
	minX, maxX float64
	maxY       float64
	xs         []float64 // where the x axis is labelled
}

func (c *Chart) scale() (scale, error) {
	s := scale{log: c.LogX, minX: math.Inf(1), maxX: math.Inf(-1)}
	for _, l := range c.Lines {
		for _, p := range l.Points {
			if c.LogX && p.X <= 0 {
				return s, fmt.Errorf("chart %q: %g on a logarithmic axis", c.Title, p.X)
			}
			s.minX, s.maxX = min(s.minX, p.X), max(s.maxX, p.X)
			s.maxY = max(s.maxY, p.Y, p.High)
			s.xs = append(s.xs, p.X)
		}
	}
	if len(s.xs) == 0 {
		return s, errors.New("chart " + strconv.Quote(c.Title) + ": no points")
	}
	slices.Sort(s.xs)
	s.xs = slices.Compact(s.xs)
	s.maxY = roundUp(s.maxY)
	return s, nil
}

// roundUp returns a round number of at least x, with room above.
func roundUp(x float64) float64 {
	if x <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(x)))
	for _, m := range []float64{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10} {
		if m*unit >= x*1.02 {
			return m * unit
		}
	}
	return 20 * unit
}

func (s scale) x(v float64) float64 {
	from, to := s.minX, s.maxX
	if s.log {
		v, from, to = math.Log(v), math.Log(from), math.Log(to)
	}
	if from == to {
		return (left + width - right) / 2
	}
	return left + (v-from)/(to-from)*(width-left-right)
}

func (s scale) y(v float64) float64 {
	return height - bottom - v/s.maxY*(height-top-bottom)
}

func (c *Chart) axes(b *bytes.Buffer, s scale) {
	const steps = 5
	for i := range steps + 1 {
		v := s.maxY * float64(i) / steps
		y := s.y(v)
		fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="#ddd"/>`+"\n", left, y, width-right)
		text(b, left-8, y+4, "end", "", number(v))
	}
	for _, v := range s.xs {
		x := s.x(v)
		fmt.Fprintf(b, `<path d="M%.1f %dv5" stroke="#222"/>`+"\n", x, height-bottom)
		text(b, x, height-bottom+20, "middle", "", number(v))
	}
	fmt.Fprintf(b, `<path d="M%d %dV%dH%d" fill="none" stroke="#222"/>`+"\n", left, top, height-bottom, width-right)
	text(b, (left+width-right)/2, height-bottom+40, "middle", "", c.X)
	text(b, 0, 0, "middle", fmt.Sprintf(`transform="translate(18 %d) rotate(-90)"`, (top+height-bottom)/2), c.Y)
}

func (l *Line) draw(b *bytes.Buffer, s scale, color string) {
	path := ""
	for i, p := range l.Points {
		path += string("ML"[min(i, 1)]) + fmt.Sprintf("%.1f %.1f", s.x(p.X), s.y(p.Y))
	}
	l.stroke(b, path, color)
	for _, p := range l.Points {
		if l.Dashed {
			break
		}
		if p.Low != 0 || p.High != 0 {
			fmt.Fprintf(b, `<path d="M%.1f %.1fV%.1f" stroke="%s"/>`+"\n", s.x(p.X), s.y(p.Low), s.y(p.High), color)
		}
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`+"\n", s.x(p.X), s.y(p.Y), color)
	}
}

func (l *Line) stroke(b *bytes.Buffer, path, color string) {
	dash := ""
	if l.Dashed {
		dash = ` stroke-dasharray="6 5"`
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", path, color, dash)
}

// legend names the i-th line below the axes.
func (c *Chart) legend(b *bytes.Buffer, i int, l Line) {
	share := float64(width-left-right) / float64(len(c.Lines))
	x := left + share*float64(i)
	l.stroke(b, fmt.Sprintf("M%.1f %dh22", x, height-18), colors[i%len(colors)])
	text(b, x+28, height-14, "start", "", l.Name)
}

func text(b *bytes.Buffer, x, y float64, anchor, more, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" %s>`, x, y, anchor, more)
	xml.EscapeText(b, []byte(s)) // a bytes.Buffer takes everything
	b.WriteString("</text>\n")
}

// number writes large numbers short: 10k, 1M.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + "M"
	case v >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + "k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
