package admin

import (
	"fmt"
	"strings"
	"time"
)

// Certificate is one in force.
type Certificate struct {
	Listener string // its address in the config; "": it is for backends
	CA       bool   // it stands for those who are trusted; else it is the own one
	File     string
	Name     string // its subject
	NotAfter time.Time
	Trouble  string // why the files of this use, changed since, can't be used; for people
}

// expiresSoon is for how long before its end a certificate is a finding. Whoever
// renews them by hand needs some working days.
const expiresSoon = 14 * 24 * time.Hour

// use is what the certificate is for, as a label.
func (c *Certificate) use() string {
	use := "listener"
	if c.Listener == "" {
		use = "backend"
	}
	if c.CA {
		use += "_ca"
	}
	return use
}

// String says what the certificate is for, and where it is.
func (c *Certificate) String() string {
	use := "certificate"
	if c.CA {
		use = "CA"
	}
	if c.Listener == "" {
		use += " for backends"
	} else {
		use += " of listener " + c.Listener
	}
	return fmt.Sprintf("%s (%s, %s)", use, c.Name, c.File)
}

// certificateStatus is a certificate as JSON shows it.
type certificateStatus struct {
	Use      string    `json:"use"`                // listener, listener_ca, backend or backend_ca
	Listener string    `json:"listener,omitempty"` // its address in the config
	File     string    `json:"file"`
	Name     string    `json:"name"` // its subject
	Expires  time.Time `json:"expires"`
	Trouble  string    `json:"trouble,omitempty"` // why its files, changed since, can't be used
}

func (s *snapshot) certificates() []Certificate {
	if s.Certificates == nil {
		return nil
	}
	return s.Certificates()
}

func (s *snapshot) certificateStatuses() []certificateStatus {
	all := []certificateStatus{}
	for _, c := range s.certificates() {
		all = append(all, certificateStatus{c.use(), c.Listener, c.File, c.Name, c.NotAfter.UTC(), clip(c.Trouble)})
	}
	return all
}

// certificateFindings tells of certificates that expire, and of files that can't
// be used.
func (s *snapshot) certificateFindings() (list []Finding) {
	var ended, soon, refused []string
	for _, c := range s.certificates() {
		at := c.NotAfter.UTC().Format(time.RFC3339)
		switch left := c.NotAfter.Sub(s.now); {
		case left <= 0:
			ended = append(ended, fmt.Sprintf("%s has expired at %s", &c, at))
		case left < expiresSoon:
			soon = append(soon, fmt.Sprintf("%s expires in %s, at %s", &c, several(int64(left/(24*time.Hour)), "day"), at))
		}
		if c.Trouble != "" {
			refused = append(refused, c.Trouble)
		}
	}
	add := func(level Level, kind Kind, before string, lines []string) {
		if len(lines) > 0 {
			list = append(list, Finding{Level: level, Kind: kind, Text: before + strings.Join(lines, "\n")})
		}
	}
	if len(ended) > 0 {
		add(Error, CertExpires, "", append(ended, soon...))
	} else {
		add(Warn, CertExpires, "", soon)
	}
	add(Warn, CertRefused, "changed certificate files can't be used, the old ones stay in force:\n", refused)
	return list
}

// expiries collects the first end of each use.
func expiries(s *snapshot, to *sink) {
	type key struct{ use, listener string }
	first := map[key]time.Time{}
	for _, c := range s.certificates() {
		k := key{c.use(), c.Listener}
		if end, ok := first[k]; !ok || c.NotAfter.Before(end) {
			first[k] = c.NotAfter
		}
	}
	for k, end := range first {
		to.add(unix(end), k.use, k.listener)
	}
}
