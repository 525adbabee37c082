package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"stateproxy/internal/admin"
	"stateproxy/internal/config"
	"stateproxy/internal/tlsfile"
	"stateproxy/proxy"
)

// certUse is what certificates are for: one listener, or all backends.
type certUse struct {
	listener string // address in the config; "" for backends
	key      string // of the config
}

func (u certUse) String() string {
	if u.listener == "" {
		return "backends"
	}
	return "listener " + u.listener
}

// certFiles are the files that certificates are made from: a tlsfile.Server or a
// tlsfile.Client.
type certFiles interface {
	Load() (*tlsfile.Loaded, error)
}

// certificates is what was made from files.
type certificates map[certUse]*tlsfile.Loaded

// certificateFiles returns the files that c names. Relative names start at the
// folder of the config file.
func certificateFiles(c *config.Config, configFile string) map[certUse]certFiles {
	at := func(name string) string {
		if name == "" || filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(filepath.Dir(configFile), name)
	}
	b := c.BackendTLS
	all := map[certUse]certFiles{
		{key: "backend_tls"}: tlsfile.Client{CA: at(b.CAFile), Cert: at(b.CertFile), Key: at(b.KeyFile), MinVersion: b.MinVersion},
	}
	for i, l := range c.Listen {
		if t := l.TLS; t != nil {
			use := certUse{l.Address, fmt.Sprintf("listen[%d].tls", i)}
			all[use] = tlsfile.Server{Cert: at(t.CertFile), Key: at(t.KeyFile), ClientCA: at(t.ClientCAFile), MinVersion: t.MinVersion}
		}
	}
	return all
}

// loadCertificates makes certificates from the files that c names. Where these can't
// be used and before has what they were, that is kept, and troubles says why. The
// error tells of all that can't be used and was not there before.
func loadCertificates(c *config.Config, configFile string, before certificates) (now certificates, troubles map[certUse]error, err error) {
	now, troubles = certificates{}, map[certUse]error{}
	var errs []error
	for use, files := range certificateFiles(c, configFile) {
		old := before.of(use.listener)
		if !old.Is(files) {
			old = nil
		}
		l, err := renew(old, files)
		switch {
		case err == nil:
			now[use] = l
		case old != nil:
			now[use], troubles[use] = old, err
		default:
			errs = append(errs, fmt.Errorf("%s: %w", use.key, err))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return now, troubles, errors.Join(errs...)
}

// of returns what is for a listener, or for backends if that is "".
func (c certificates) of(listener string) *tlsfile.Loaded {
	for use, l := range c {
		if use.listener == listener {
			return l
		}
	}
	return nil
}

// renew loads the files, which old was made from if it is not nil. A certificate
// that is not valid now does not take the place of one that is.
func renew(old *tlsfile.Loaded, files certFiles) (*tlsfile.Loaded, error) {
	if old == nil {
		return files.Load()
	}
	again, err := old.Again()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if err := again.Valid(now); err != nil && old.Valid(now) == nil {
		return nil, err
	}
	return again, nil
}

// into has the proxy use the certificates, beside what proxySettings says of the
// listeners.
func (c certificates) into(s *proxy.Settings) {
	for use, l := range c {
		if use.listener == "" {
			s.BackendTLS = l.Config
			continue
		}
		terms := s.Listeners[use.listener]
		terms.TLS = l.Config
		s.Listeners[use.listener] = terms
	}
}

// certState is the certificates in force.
type certState struct {
	inForce  certificates
	troubles map[certUse]certTrouble
	shown    atomic.Pointer[[]admin.Certificate]
}

// certTrouble is why the files of a use can't be used.
type certTrouble struct {
	text  string
	looks int // in a row that found it
}

// Files that are renewed one after the other don't fit together for a moment.
const (
	certificateInterval = 5 * time.Second // between two looks at the files
	certificatePatience = 2               // looks that must find the same trouble before it is told
)

// watchCertificates looks at the files now and then. Their content counts, by
// whatever means it has changed.
func (a *app) watchCertificates(ctx context.Context) {
	tick := time.NewTicker(certificateInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.renewCertificates()
		case <-ctx.Done():
			return
		}
	}
}

// renewCertificates looks at the files of the certificates in force.
func (a *app) renewCertificates() {
	a.mu.Lock()
	c, before := a.config, a.certs.inForce
	a.mu.Unlock()
	// The files may be on a drive that hangs; nobody else must.
	now, troubles, err := loadCertificates(c, a.file, before)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining || a.config != c {
		return // a reload came in between, which has looked itself
	}
	if err == nil && !maps.Equal(now, before) {
		s := proxySettings(c)
		now.into(&s)
		_, err = a.proxy.Reconfigure(s)
	}
	if err != nil { // neither: what is in force was taken before
		a.log.Error().Err(err).Msg("renewed certificates not taken")
		return
	}
	a.useCertificates(now, troubles)
}

// useCertificates notes what is in force from now on, and tells what is new. a.mu is
// held.
func (a *app) useCertificates(now certificates, troubles map[certUse]error) {
	before := a.certs.inForce
	for use, l := range now {
		if before.of(use.listener) != l && len(l.Certs) > 0 {
			a.tellLoaded(use, l, before.of(use.listener) != nil)
		}
	}
	a.certs.inForce = now
	a.countTroubles(troubles)
	shown := a.certificateList()
	a.certs.shown.Store(&shown)
}

func (a *app) tellLoaded(use certUse, l *tlsfile.Loaded, again bool) {
	a.log.Info().Str("for", use.String()).Str("certificate", l.Certs[0].Name).Time("expires", l.Expires()).Msg("certificates loaded")
	for _, w := range l.Warnings {
		a.log.Warn().Str("for", use.String()).Str("flaw", w).Msg("certificate files have a flaw")
	}
	if err := l.Valid(time.Now()); err != nil {
		a.log.Error().Str("for", use.String()).Err(err).Msg("certificate in force is not valid: the other side will refuse it")
	}
	if again {
		a.admin.Note(admin.Event{Kind: admin.CertRenewed, Text: fmt.Sprintf("of the %s, valid until %s", use, l.Expires().UTC().Format(time.RFC3339))})
	}
}

// countTroubles counts in how many looks in a row files could not be used. a.mu is
// held.
func (a *app) countTroubles(troubles map[certUse]error) {
	now := map[certUse]certTrouble{}
	for use, err := range troubles {
		t := a.certs.troubles[use]
		if t.text != err.Error() {
			t = certTrouble{text: err.Error()}
		}
		t.looks++
		now[use] = t
	}
	a.certs.troubles = now
}

// certificateList is what people should know of the certificates in force. a.mu is
// held.
func (a *app) certificateList() []admin.Certificate {
	list := []admin.Certificate{}
	for use, l := range a.certs.inForce {
		trouble := ""
		if t := a.certs.troubles[use]; t.looks >= certificatePatience {
			trouble = t.text
		}
		for _, c := range l.Certs {
			list = append(list, admin.Certificate{
				Listener: use.listener, File: c.File, CA: c.CA, Name: c.Name, NotAfter: c.NotAfter, Trouble: trouble,
			})
			trouble = "" // once is enough
		}
	}
	slices.SortStableFunc(list, func(a, b admin.Certificate) int { return strings.Compare(a.Listener, b.Listener) })
	return list
}

// shownCertificates returns the present list.
func (a *app) shownCertificates() []admin.Certificate {
	if list := a.certs.shown.Load(); list != nil {
		return *list
	}
	return nil
}
