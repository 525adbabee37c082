package main

import "strings"

// isLicence tells whether a file of that name holds terms that must be passed
// on.
func isLicence(name string) bool {
	name = strings.ToUpper(name)
	if strings.HasSuffix(name, ".GO") {
		return false
	}
	for _, start := range []string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "PATENTS"} {
		if strings.HasPrefix(name, start) {
			return true
		}
	}
	return false
}

// licences are the ones that a module may have, each with phrases of its text
// that no other has together.
var licences = []struct {
	id      string // SPDX
	phrases []string
	without string
}{
	{"Apache-2.0", []string{"apache license", "version 2.0, january 2004"}, ""},
	{"Apache-2.0", []string{"licensed under the apache license, version 2.0"}, ""},
	{"BSD-2-Clause", []string{"redistribution and use in source and binary forms"}, "neither the name"},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms", "neither the name"}, ""},
	{"ISC", []string{"permission to use, copy, modify, and/or distribute this software for any purpose"}, ""},
	{"MIT", []string{"permission is hereby granted, free of charge", "to deal in the software without restriction"}, ""},
}

// identify returns the SPDX identifiers of the licences in text. A notice or a
// grant of patents has none of its own.
func identify(text string) (ids []string) {
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	for _, l := range licences {
		ok := l.without == "" || !strings.Contains(text, l.without)
		for _, p := range l.phrases {
			ok = ok && strings.Contains(text, p)
		}
		if ok {
			ids = append(ids, l.id)
		}
	}
	return ids
}
