package proxy

import (
	"path"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMatch(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "/LM/W3SVC/2/ROOT", true},
		{"?", "", false},
		{"?", "a", true},
		{"?", "ab", false},
		{"/LM/W3SVC/2/ROOT", "/LM/W3SVC/2/ROOT", true},
		{"/LM/W3SVC/2/ROOT", "/lm/w3svc/2/root", true},
		{"/lm/w3svc/2/root", "/LM/W3SVC/2/ROOT", true},
		{"/LM/W3SVC/2/ROOT", "/LM/W3SVC/2/ROOT/shop", false},
		{"/LM/W3SVC/2/*", "/LM/W3SVC/2/ROOT/shop", true},
		{"/LM/W3SVC/2/*", "/LM/W3SVC/22/ROOT", false},
		{"/LM/W3SVC/?/ROOT", "/LM/W3SVC/7/ROOT", true},
		{"/LM/W3SVC/?/ROOT", "/LM/W3SVC/17/ROOT", false},
		{"*/shop", "/LM/W3SVC/2/ROOT/shop", true},
		{"*/shop", "/LM/W3SVC/2/ROOT/shop/cart", false},
		{"*shop*", "/LM/W3SVC/2/ROOT/shop/cart", true},
		{"*a*b", "aXbXaXb", true},
		{"*a*b", "aXbXaX", false},
		{"a**b", "ab", true},
		{"*?", "", false},
		{"@", "`", false}, // neighbours of the letters are none
		{"[", "{", false},
		{"é", "É", false}, // beyond ASCII case counts
		{strings.Repeat("a*", 50) + "b", strings.Repeat("a", 2000), false},
	}
	for _, tt := range tests {
		if got := match(tt.pattern, []byte(tt.s)); got != tt.want {
			t.Errorf("match(%q, %q) = %t; want %t", tt.pattern, tt.s, got, tt.want)
		}
	}
}

// On what path.Match understands in the same way, both agree.
func TestMatchAgreesWithPathMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.RuneFrom([]rune("ab*?")), 0, 8, -1).Draw(t, "pattern")
		s := rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 0, 12, -1).Draw(t, "s")
		want, err := path.Match(pattern, s)
		if err != nil {
			t.Fatal(err)
		}
		if got := match(pattern, []byte(s)); got != want {
			t.Errorf("match(%q, %q) = %t; want %t", pattern, s, got, want)
		}
		if got := match(strings.ToUpper(pattern), []byte(s)); got != want {
			t.Errorf("match(%q, %q) = %t; want %t", strings.ToUpper(pattern), s, got, want)
		}
	})
}
