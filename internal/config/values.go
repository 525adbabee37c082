package config

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Units of size, in bytes.
const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// What is wanted of a value, for messages.
const (
	wantDuration = "a duration with a unit such as 8s"
	wantInteger  = "a whole number"
	wantName     = "a name of 1..64 characters, each a letter, a digit, a dot, _ or -"
	wantFile     = "the name of a file, of at most 4096 printable characters"
	wantPath     = "a file name of at most 4096 printable characters"
	wantPattern  = "a pattern of 1..256 printable characters such as /LM/W3SVC/2/*"
	wantShare    = "a share such as 50% or 0.5"
	wantSize     = "a size with a unit such as 64KiB"
	wantTruth    = "true or false"
	wantVersion  = "a version such as 4.0.30319 with a major of 2 or more"
)

var (
	bareNumber = regexp.MustCompile(`^[-+]?[0-9.]*$`)
	decimal    = regexp.MustCompile(`^([0-9]+(\.[0-9]*)?|\.[0-9]+)$`)
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	version    = regexp.MustCompile(`^([0-9]{1,5})(\.[0-9]{1,5}){1,3}$`)
	sizeForm   = regexp.MustCompile(`^([0-9]{1,19})(B|KB|MB|GB|KiB|MiB|GiB)$`)
)

var sizeUnits = map[string]int64{
	"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": kib, "MiB": mib, "GiB": gib,
}

// text is a setting whose value is the text itself, if it is as wanted.
func text(to *string, want string, valid func(string) bool) setting {
	return scalar[string]{
		to: to, want: want, tag: "!!str", format: asIs,
		parse: func(n *yaml.Node) (string, string) {
			if !valid(n.Value) {
				return "", want
			}
			return n.Value, ""
		},
	}
}

func asIs(s string) string { return s }

func name(to *string) setting {
	return text(to, wantName, nameForm.MatchString)
}

func pattern(to *string) setting {
	return text(to, wantPattern, func(s string) bool {
		n := utf8.RuneCountInString(s)
		unprintable := strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
		return n >= 1 && n <= 256 && !unprintable
	})
}

func path(to *string) setting { return text(to, wantPath, isPath) }

// file is a path that may not be left empty.
func file(to *string) setting {
	return text(to, wantFile, func(s string) bool { return s != "" && isPath(s) })
}

func isPath(s string) bool {
	return len(s) <= 4096 && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func aspnetVersion(to *string) setting {
	return text(to, wantVersion, func(s string) bool {
		parts := version.FindStringSubmatch(s)
		if parts == nil {
			return false
		}
		major, err := strconv.Atoi(parts[1])
		return err == nil && major >= 2
	})
}

func oneOf[T ~string](to *T, values ...T) setting {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	last := len(names) - 1
	want := strings.Join(names[:last], ", ") + " or " + names[last]
	return scalar[T]{
		to: to, want: want, tag: "!!str",
		format: func(v T) string { return string(v) },
		parse: func(n *yaml.Node) (T, string) {
			if !slices.Contains(values, T(n.Value)) {
				return "", want
			}
			return T(n.Value), ""
		},
	}
}

func truth(to *bool) setting {
	return scalar[bool]{
		to: to, want: wantTruth, format: strconv.FormatBool,
		parse: func(n *yaml.Node) (bool, string) {
			if n.Value != "true" && n.Value != "false" {
				return false, wantTruth
			}
			return n.Value == "true", ""
		},
	}
}

func integer(to *int, least, most int) setting {
	bounds := fmt.Sprintf("%d..%d", least, most)
	return scalar[int]{
		to: to, want: bounds, format: strconv.Itoa,
		parse: func(n *yaml.Node) (int, string) {
			digits := strings.TrimPrefix(n.Value, "-")
			// Decimal is what people read; YAML would take 010 for 8.
			if n.Tag != "!!int" || !decimal.MatchString(digits) || len(digits) > 1 && digits[0] == '0' {
				return 0, wantInteger + ", " + bounds
			}
			v, err := strconv.Atoi(n.Value)
			if err != nil || v < least || v > most {
				return 0, bounds
			}
			return v, ""
		},
	}
}

func duration(to *time.Duration, least, most time.Duration) setting {
	bounds := formatDuration(least) + ".." + formatDuration(most)
	return scalar[time.Duration]{
		to: to, want: wantDuration, format: formatDuration,
		parse: func(n *yaml.Node) (time.Duration, string) {
			v, err := time.ParseDuration(n.Value)
			if err != nil || bareNumber.MatchString(n.Value) {
				return 0, wantDuration
			}
			if v < least || v > most {
				return 0, bounds
			}
			return v, ""
		},
	}
}

// formatDuration is the shortest form: 2m rather than 2m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func size(to *int64, least, most int64) setting {
	bounds := formatSize(least) + ".." + formatSize(most)
	return scalar[int64]{
		to: to, want: wantSize, format: formatSize,
		parse: func(n *yaml.Node) (int64, string) {
			v, form, fits := parseSize(n.Value)
			switch {
			case !form:
				return 0, wantSize
			case !fits || v < least || v > most:
				return 0, bounds
			}
			return v, ""
		},
	}
}

// ParseSize reads a number of bytes as the config spells it: 0, or a whole
// number with one of the units B, KiB, MiB, GiB, KB, MB, GB.
func ParseSize(s string) (int64, error) {
	v, form, fits := parseSize(s)
	switch {
	case !form:
		return 0, fmt.Errorf("want %s, got %q", wantSize, s)
	case !fits:
		return 0, fmt.Errorf("%s is too large", s)
	}
	return v, nil
}

// parseSize tells whether s has the form of a size, and whether it fits into 63
// bits.
func parseSize(s string) (v int64, form, fits bool) {
	if s == "0" {
		return 0, true, true
	}
	parts := sizeForm.FindStringSubmatch(s)
	if parts == nil {
		return 0, false, false
	}
	unit := sizeUnits[parts[2]]
	v, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || v > math.MaxInt64/unit {
		return 0, true, false
	}
	return v * unit, true, true
}

// formatSize uses the largest unit that leaves a whole number.
func formatSize(v int64) string {
	switch {
	case v == 0:
		return "0"
	case v%gib == 0:
		return fmt.Sprintf("%dGiB", v/gib)
	case v%mib == 0:
		return fmt.Sprintf("%dMiB", v/mib)
	case v%kib == 0:
		return fmt.Sprintf("%dKiB", v/kib)
	}
	return fmt.Sprintf("%dB", v)
}

func share(to *float64, least, most float64) setting {
	bounds := formatShare(least) + ".." + formatShare(most)
	return scalar[float64]{
		to: to, want: wantShare, format: formatShare,
		parse: func(n *yaml.Node) (float64, string) {
			digits, percent := strings.CutSuffix(n.Value, "%")
			v, err := strconv.ParseFloat(digits, 64)
			// A bare 1 could mean all or a hundredth.
			unclear := !percent && v != 0 && !strings.Contains(digits, ".")
			if err != nil || !decimal.MatchString(digits) || unclear {
				return 0, wantShare
			}
			if percent {
				v /= 100
			}
			if v < least || v > most {
				return 0, bounds
			}
			return v, ""
		},
	}
}

// formatShare is a percentage where that is exact and short, else a fraction.
func formatShare(v float64) string {
	percent := strconv.FormatFloat(v*100, 'f', 6, 64)
	percent = strings.TrimRight(strings.TrimRight(percent, "0"), ".")
	if back, err := strconv.ParseFloat(percent, 64); err == nil && back/100 == v {
		return percent + "%"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}
