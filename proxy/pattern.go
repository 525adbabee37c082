package proxy

// matchAny reports whether s matches one of the patterns.
func matchAny(patterns []string, s []byte) bool {
	for _, p := range patterns {
		if match(p, s) {
			return true
		}
	}
	return false
}

// match reports whether s matches pattern, in which * stands for any run of
// bytes and ? for one. ASCII letters match in either case, as IIS paths do. It
// takes at most len(pattern)·len(s) steps.
func match(pattern string, s []byte) bool {
	p, i := 0, 0
	star, from := -1, 0 // the last * and where its run began to end
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || lower(pattern[p]) == lower(s[i])):
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c |= 0x20
	}
	return c
}
