package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

const (
	wantApplication = "an application part of 1..512 bytes such as /LM/W3SVC/1/ROOT/shop, with one slash in front, no * or ? and no digest"
	maxApplication  = 512
)

// digestForm is what follows an application part in a session's key
// (protocol.md section 4).
var digestForm = regexp.MustCompile(`\([A-Za-z0-9+/]{22,88}={0,2}\)/`)

// application is a setting that names one application part.
func application(to *string) setting {
	return text(to, wantApplication, func(s string) bool {
		unfit := strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == '*' || r == '?' })
		return strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") && len(s) <= maxApplication && !unfit && !digestForm.MatchString(s+"/")
	})
}

// checkApplications refuses rules that take no effect, and those that an
// earlier rule cuts in two: an application is renamed once.
func checkApplications(c *Config, d *decoder) {
	names, patterns := uniques{}, uniques{}
	var earlier []aliasPattern
	for i, a := range c.Applications {
		key := fmt.Sprintf("applications[%d]", i)
		names.add(d, a.To, key+".to")
		for _, p := range earlier {
			if d.ok(key+".to") && p.form.MatchString(a.To) {
				d.rejectKey(key+".to", "want one that %s, which comes first, does not take, got %q", p.key, a.To)
			}
		}
		for j, pattern := range a.Alias {
			p := aliasPattern{key: aliasKey(d, i, j)}
			patterns.addPattern(d, pattern, p.key)
			for k, before := range c.Applications[:i] {
				if d.ok(p.key) && strings.EqualFold(pattern, before.To) {
					d.rejectKey(p.key, "never reached, since it is what applications[%d] makes of others", k)
				}
			}
			if d.ok(p.key) {
				p.form = patternForm(pattern)
				earlier = append(earlier, p)
			}
		}
	}
}

// aliasPattern is a pattern of a rule, made ready.
type aliasPattern struct {
	key  string
	form *regexp.Regexp
}

// aliasKey is the key of one pattern, which may be given without a list around it.
func aliasKey(d *decoder, i, j int) string {
	key := fmt.Sprintf("applications[%d].alias", i)
	if item := fmt.Sprintf("%s[%d]", key, j); d.at[item] != (position{}) {
		return item
	}
	return key
}

// patternForm turns a pattern that was found good into what it means.
func patternForm(pattern string) *regexp.Regexp {
	form := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
	return regexp.MustCompile("(?i)^" + form + "$")
}
