package config

import (
	"cmp"
	"fmt"
	"strings"
)

// Diff tells in lines for people what changes from old to new, in the order of
// the schema:
//
//	backends: s4 added (10.0.0.14:42424, weight 1)
//	backends: s2 weight 1 -> 3
//	timeouts.budget 8s -> 6s
//
// The order of backends means nothing, so a change of it is no line. Equal
// configs give nil.
func Diff(old, new *Config) []string {
	return diffSection("", schema(old), schema(new))
}

func diffSection(key string, old, new section) []string {
	var lines []string
	for i, f := range old {
		key := join(key, f.key)
		switch was, is := f.setting, new[i].setting; was := was.(type) {
		case section:
			lines = append(lines, diffSection(key, was, is.(section))...)
		case list[Backend]:
			lines = append(lines, diffItems(key, *was.to, *is.(list[Backend]).to, backendItem)...)
		case list[Pool]:
			lines = append(lines, diffNamed(key, *was.to, *is.(list[Pool]).to, poolItem)...)
		case list[Application]:
			lines = append(lines, diffNamed(key, *was.to, *is.(list[Application]).to, applicationItem)...)
		default:
			if was.text() != is.text() {
				lines = append(lines, fmt.Sprintf("%s %s -> %s", key, cmp.Or(was.text(), "none"), cmp.Or(is.text(), "none")))
			}
		}
	}
	return lines
}

// item is one element of a list whose elements are told apart by name.
type item struct {
	name  string
	keys  section // but the name
	about string  // for one that is added or removed
}

func backendItem(b *Backend) item {
	about := fmt.Sprintf("%s, weight %d", b.Address, b.Weight)
	if b.State != Active {
		about += ", state " + string(b.State)
	}
	if b.TLS {
		about += ", TLS"
	}
	return item{b.Name, backendSchema(b).(section)[1:], about}
}

func poolItem(p *Pool) item {
	keys := poolSchema(p).(section)[1:]
	return item{p.Name, keys, keys.text()}
}

func applicationItem(a *Application) item {
	keys := applicationSchema(a).(section)[:1]
	return item{a.To, keys, keys.text()}
}

// diffNamed is diffItems for a list whose order means something.
func diffNamed[T any](key string, old, new []T, itemOf func(*T) item) []string {
	lines := diffItems(key, old, new, itemOf)
	was, is := sharedNames(old, new, itemOf), sharedNames(new, old, itemOf)
	if was != is { // matters, as the first that matches wins
		lines = append(lines, fmt.Sprintf("%s: order %s -> %s", key, was, is))
	}
	return lines
}

// sharedNames lists those items of a that b has too, in the order of a.
func sharedNames[T any](a, b []T, itemOf func(*T) item) string {
	inB := map[string]bool{}
	for i := range b {
		inB[itemOf(&b[i]).name] = true
	}
	var names []string
	for i := range a {
		if name := itemOf(&a[i]).name; inB[name] {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// diffItems lists what was added or changed in the order of new, then what was
// removed in the order of old.
func diffItems[T any](key string, old, new []T, itemOf func(*T) item) []string {
	var lines []string
	gone := map[string]item{}
	for i := range old {
		was := itemOf(&old[i])
		gone[was.name] = was
	}
	for i := range new {
		is := itemOf(&new[i])
		was, known := gone[is.name]
		if !known {
			lines = append(lines, fmt.Sprintf("%s: %s added (%s)", key, is.name, is.about))
			continue
		}
		delete(gone, is.name)
		for _, change := range diffSection("", was.keys, is.keys) {
			lines = append(lines, fmt.Sprintf("%s: %s %s", key, is.name, change))
		}
	}
	for i := range old {
		if was := itemOf(&old[i]); gone[was.name].name != "" {
			lines = append(lines, fmt.Sprintf("%s: %s removed (%s)", key, was.name, was.about))
		}
	}
	return lines
}
