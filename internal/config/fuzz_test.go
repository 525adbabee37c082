package config

import (
	"errors"
	"strings"
	"testing"
)

// FuzzParse holds that nothing makes Parse panic, that it returns a config or
// problems and never both, that problems are one line each, and that a config
// survives being printed.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*/*.yaml", "../../config.example.yaml"} {
		for _, file := range files(f, pattern) {
			f.Add(readTest(f, file))
		}
	}
	f.Fuzz(func(t *testing.T, data string) {
		c, err := Parse("config.yaml", []byte(data))
		if err == nil {
			checkRoundTrip(t, c)
			if lines := Diff(c, c); lines != nil {
				t.Errorf("Diff(c, c) = %q; want none", lines)
			}
			return
		}
		var problems Problems
		if c != nil || !errors.As(err, &problems) || len(problems) == 0 {
			t.Fatalf("Parse = %v, %v; want a config or problems", c, err)
		}
		for _, p := range problems {
			if p.Message == "" || strings.ContainsAny(p.String(), "\r\n") || p.Line < 0 {
				t.Errorf("problem %q; want one line with a message", p)
			}
		}
	})
}
