package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// A setting is a place in a Config together with its form in YAML.
type setting interface {
	decode(d *decoder, n *yaml.Node, key string)
	encode() *yaml.Node
	text() string // on one line, for people
}

// section is a mapping with known keys, in the order in which they are printed.
type section []field

type field struct {
	key     string
	setting setting
	need    string // what is wanted if the key is missing; empty: it may be
}

// list is a sequence of like settings.
type list[T any] struct {
	to    *[]T
	start T                   // an item before it is decoded
	item  func(to *T) setting // the form of one item
	want  string              // of a list that may not be empty
	most  int                 // items; 0: no limit but the file's size
	orOne bool                // a single value may stand for a list of one
}

// scalar is a single value.
type scalar[T any] struct {
	to     *T
	want   string // in general, for a value of another kind
	parse  func(n *yaml.Node) (value T, want string)
	format func(T) string
	tag    string // YAML's type of it, where the text alone could mislead
}

// optional is a section that may be left out. It is nil then, and not printed.
type optional[T any] struct {
	to    **T
	start T // before it is decoded
	item  func(to *T) setting
}

// optionalList is a list that is not printed if nothing is in it.
type optionalList[T any] struct{ list[T] }

// decoder collects, over one file, where keys are and what is wrong.
type decoder struct {
	file     string
	at       map[string]position // of the value of each key seen
	bad      map[string]bool     // keys with a problem
	problems Problems
}

type position struct{ line, col int }

func nodePosition(n *yaml.Node) position { return position{n.Line, n.Column} }

func (d *decoder) reject(at position, key, format string, args ...any) {
	d.bad[key] = true
	d.problems = append(d.problems, Problem{
		File: d.file, Line: at.line, Col: at.col,
		Key: key, Message: fmt.Sprintf(format, args...),
	})
}

// rejectKey reports a problem where the value of a key is that the file gives.
func (d *decoder) rejectKey(key, format string, args ...any) {
	d.reject(d.at[key], key, format, args...)
}

// rejectPair reports that two keys don't go together: at the first of them that
// the file gives, for the other is then a default.
func (d *decoder) rejectPair(key, other, format string, args ...any) {
	_, given := d.at[key]
	if at, ok := d.at[other]; ok && !given {
		d.reject(at, key, format+" by default", args...)
		return
	}
	d.rejectKey(key, format, args...)
}

// ok tells whether the keys are free of problems so far, so that a rule that
// joins them makes sense.
func (d *decoder) ok(keys ...string) bool {
	return !slices.ContainsFunc(keys, func(key string) bool { return d.bad[key] })
}

// okBelow tells whether neither key nor anything in it has a problem so far.
func (d *decoder) okBelow(key string) bool {
	for bad := range d.bad {
		if strings.HasPrefix(bad, key) {
			return false
		}
	}
	return true
}

// plain refuses the parts of YAML that make one place mean another, or a value
// something else than it looks.
func (d *decoder) plain(n *yaml.Node, key string) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.reject(nodePosition(n), key, "anchors and aliases are not supported, write the value out")
	case n.Style&yaml.TaggedStyle != 0:
		d.reject(nodePosition(n), key, "tags are not supported, got %s", clip(n.Tag, 40))
	default:
		return true
	}
	return false
}

func (s section) decode(d *decoder, n *yaml.Node, key string) {
	if isNull(n) { // a section whose lines are all commented out
		n = &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Column: n.Column}
	}
	if n.Kind != yaml.MappingNode {
		d.reject(nodePosition(n), key, "want the keys %s, got %s", s.keys(), got(n))
		return
	}
	lines := map[string]int{} // of keys seen
	for i := 0; i+1 < len(n.Content); i += 2 {
		s.decodeKey(d, n.Content[i], n.Content[i+1], key, lines)
	}
	for _, f := range s {
		if f.need != "" && lines[f.key] == 0 {
			d.reject(nodePosition(n), join(key, f.key), "missing, want %s", f.need)
		}
	}
}

func (s section) decodeKey(d *decoder, name, value *yaml.Node, parent string, lines map[string]int) {
	at := nodePosition(name)
	if name.Kind != yaml.ScalarNode || name.Tag == "!!merge" {
		d.reject(at, parent, "want one of the keys %s, got %s", s.keys(), got(name))
		return
	}
	key := join(parent, clip(name.Value, 40))
	if !d.plain(name, key) {
		return
	}
	i := slices.IndexFunc(s, func(f field) bool { return f.key == name.Value })
	if i < 0 {
		if like := s.closest(name.Value); like != "" {
			d.reject(at, key, "unknown key, did you mean %s?", like)
		} else {
			d.reject(at, key, "unknown key, want one of %s", s.keys())
		}
		return
	}
	if first := lines[name.Value]; first > 0 {
		d.reject(at, key, "given twice, first on line %d", first)
		return
	}
	lines[name.Value] = name.Line
	d.at[key] = nodePosition(value)
	if d.plain(value, key) {
		s[i].setting.decode(d, value, key)
	}
}

func (s section) encode() *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range s.given() {
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: f.key}, f.setting.encode())
	}
	return n
}

func (s section) text() string {
	var parts []string
	for _, f := range s.given() {
		parts = append(parts, f.key+" "+f.setting.text())
	}
	return strings.Join(parts, ", ")
}

// given is s without the sections that are left out.
func (s section) given() section {
	return slices.DeleteFunc(slices.Clone(s), func(f field) bool {
		o, ok := f.setting.(interface{ absent() bool })
		return ok && o.absent()
	})
}

func (s section) keys() string {
	keys := make([]string, len(s))
	for i, f := range s {
		keys[i] = f.key
	}
	return strings.Join(keys, ", ")
}

// closest is the key that a mistyped one was likely meant to be, or empty.
func (s section) closest(typed string) string {
	best, least := "", 3
	for _, f := range s {
		allowed := min(2, len(f.key)/3)
		if n := distance(strings.ToLower(typed), f.key); n <= allowed && n < least {
			best, least = f.key, n
		}
	}
	return best
}

func (l list[T]) decode(d *decoder, n *yaml.Node, key string) {
	items := n.Content
	switch {
	case n.Kind == yaml.SequenceNode:
	case isNull(n) && l.want == "":
	case n.Kind == yaml.ScalarNode && !isNull(n) && l.orOne:
		*l.to = []T{l.start}
		l.item(&(*l.to)[0]).decode(d, n, key)
		return
	default:
		d.reject(nodePosition(n), key, "want a list, got %s", got(n))
		return
	}
	if len(items) == 0 && l.want != "" {
		d.reject(nodePosition(n), key, "want %s, got an empty list", l.want)
		return
	}
	if l.most > 0 && len(items) > l.most {
		d.reject(nodePosition(n), key, "want at most %d, got %d", l.most, len(items))
		return
	}
	*l.to = nil
	for i, item := range items {
		itemKey := fmt.Sprintf("%s[%d]", key, i)
		d.at[itemKey] = nodePosition(item)
		*l.to = append(*l.to, l.start) // also for an item that fails, so that numbers match
		if d.plain(item, itemKey) {
			l.item(&(*l.to)[i]).decode(d, item, itemKey)
		}
	}
}

func (l list[T]) encode() *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range *l.to {
		n.Content = append(n.Content, l.item(&(*l.to)[i]).encode())
	}
	return n
}

func (l list[T]) text() string {
	parts := make([]string, len(*l.to))
	for i := range *l.to {
		parts[i] = l.item(&(*l.to)[i]).text()
	}
	return strings.Join(parts, ", ")
}

func (o optional[T]) decode(d *decoder, n *yaml.Node, key string) {
	value := o.start
	*o.to = &value
	o.item(&value).decode(d, n, key)
}

func (o optional[T]) absent() bool       { return *o.to == nil }
func (o optional[T]) encode() *yaml.Node { return o.item(*o.to).encode() }
func (o optional[T]) text() string       { return o.item(*o.to).text() }

func (l optionalList[T]) absent() bool { return len(*l.to) == 0 }

func (s scalar[T]) decode(d *decoder, n *yaml.Node, key string) {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.reject(nodePosition(n), key, "want %s, got %s", s.want, got(n))
		return
	}
	value, want := s.parse(n)
	if want != "" {
		d.reject(nodePosition(n), key, "want %s, got %s", want, got(n))
		return
	}
	*s.to = value
}

func (s scalar[T]) encode() *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: s.tag, Value: s.text()}
}

func (s scalar[T]) text() string { return s.format(*s.to) }

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

// got names a node's value for a message.
func got(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys and values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case isNull(n):
		return "nothing"
	case n.Tag == "!!str":
		return strconv.Quote(shorten(n.Value, 40))
	}
	return clip(n.Value, 40)
}

// clip makes text fit for one line of a message: short, and quoted if anything
// in it would not print.
func clip(text string, most int) string {
	text = shorten(text, most)
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` {
		return quoted
	}
	return text
}

func shorten(text string, most int) string {
	n := 0
	for i := range text {
		if n == most {
			return text[:i] + "…"
		}
		n++
	}
	return text
}

func join(parent, key string) string {
	if parent == "" {
		return key
	}
	return parent + "." + key
}

// distance counts the characters to insert, delete or replace to turn a into b
// (Levenshtein). Lengths too far apart to matter are not compared.
func distance(a, b string) int {
	if len(a) > len(b)+2 || len(b) > len(a)+2 {
		return len(a) + len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
