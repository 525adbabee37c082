package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"stateproxy/internal/xray"
	"stateproxy/proxy"
)

// Kinds of findings, besides those about sessions, which are xray's. An Admin's
// caller may add others of its own.
const (
	NotReady        Kind = "not_ready"        // what /readyz says
	BackendDown     Kind = "backend_down"     // out of service by its health
	BackendByHand   Kind = "backend_by_hand"  // out of service by an operator
	BackendFailing  Kind = "backend_failing"  // in service, but fails
	RequestsFailing Kind = "requests_failing" // some in the last minute
	ClientsRefused  Kind = "clients_refused"  // a limit of connections was reached in the last minute
	ClientsShutOut  Kind = "clients_shut_out" // connections that no limit is against, in the last minute
	RefusedConfig   Kind = "refused_config"   // the file is not what is in force
	BackendDraining Kind = "backend_draining" // is being emptied
	CertExpires     Kind = "cert_expires"     // a certificate does soon, or has expired
	CertRefused     Kind = "cert_refused"     // its files were changed and can't be used
	RoutingIsToCome Kind = "routing_to_come"  // a change of owners that is not in force yet
)

// kinds lists them all, those of xray, too.
var kinds = func() []Kind {
	list := []Kind{NotReady, BackendDown, BackendByHand, BackendFailing, RequestsFailing, ClientsRefused, ClientsShutOut,
		RefusedConfig, BackendDraining, CertExpires, CertRefused, RoutingIsToCome}
	for _, k := range xray.Kinds {
		list = append(list, Kind(k))
	}
	return list
}()

// Finding is something that is so now and that people should know.
type Finding struct {
	Level   Level
	Kind    Kind
	Backend string    // "" if it is about none in particular
	App     string    // application part, printable; likewise
	Text    string    // for people; never a session ID
	Since   time.Time // zero: since it was first seen
}

// findingStatus is a finding as JSON shows it.
type findingStatus struct {
	Level   Level     `json:"level"` // error: look at it now; warn: look at it; info: for information
	Kind    Kind      `json:"kind"`
	Backend string    `json:"backend,omitempty"`
	App     string    `json:"app,omitempty"`
	Text    string    `json:"text"`
	Since   time.Time `json:"since,omitzero"`
}

// findingKey tells findings apart. Their texts may change while they last.
type findingKey struct {
	kind         Kind
	backend, app string
}

func (f *Finding) key() findingKey { return findingKey{f.Kind, f.Backend, f.App} }

// about names what the finding is about, for a sentence; "" if it is nothing in
// particular.
func (k findingKey) about() string {
	switch {
	case k.backend != "":
		return " of " + k.backend
	case k.app != "":
		return " of " + k.app
	}
	return ""
}

// findings returns all that people should know, the most pressing first.
func (s *snapshot) findings() []Finding {
	list := []Finding{}
	if problems := s.problems(); len(problems) > 0 {
		list = append(list, Finding{Level: Error, Kind: NotReady, Text: strings.Join(problems, "\n")})
	}
	for _, b := range s.proxy.Backends {
		if f, ok := s.backendFinding(b); ok {
			list = append(list, f)
		}
	}
	if l := s.loads.last; !l.At.IsZero() && !l.OK {
		list = append(list, Finding{Level: Warn, Kind: RefusedConfig, Since: s.loads.refusedSince,
			Text: "the config file was refused, an older config is in force:\n" + l.Error})
	}
	list = append(list, s.trafficFindings()...)
	list = append(list, s.certificateFindings()...)
	if i := slices.IndexFunc(s.proxy.Pools, func(p proxy.PoolStatus) bool { return p.Next != nil }); i >= 0 {
		list = append(list, Finding{Level: Info, Kind: RoutingIsToCome, Text: "a change of owners comes into force soon"})
	}
	if s.Findings != nil {
		list = append(list, s.Findings()...)
	}
	for i := range list {
		if f := &list[i]; f.Since.IsZero() {
			f.Since = s.firstSeen[f.key()]
		}
	}
	slices.SortStableFunc(list, func(a, b Finding) int { return cmp.Compare(rank(a.Level), rank(b.Level)) })
	return list
}

func rank(l Level) int { return slices.Index([]Level{Error, Warn, Info}, l) }

// backendFinding tells what is to be known of one backend, if anything is.
func (s *snapshot) backendFinding(b proxy.BackendStatus) (Finding, bool) {
	h := s.health[b.Name]
	f := Finding{Level: Warn, Backend: b.Name, Since: h.Since}
	switch {
	case b.State == proxy.Down && h.ByHand:
		f.Kind, f.Text = BackendByHand, "taken out of service by hand: "+h.Reason
	case b.State == proxy.Down && h.Unfit:
		f.Level, f.Kind, f.Text = Error, BackendLoop, h.Reason
	case b.State == proxy.Down && b.Weight == 0: // no session's owner any more
		f.Kind, f.Text = BackendDown, "former backend out of service: "+cmp.Or(h.Reason, "its health checks failed")
	case b.State == proxy.Down:
		f.Level, f.Kind, f.Text = Error, BackendDown, "out of service: "+cmp.Or(h.Reason, "its health checks failed")
	case h.Kept:
		f.Level, f.Kind, f.Since = Error, BackendFailing, h.FailingSince
		f.Text = "fails, and is kept in service because too many others are out: " + h.Reason
	case !b.FailingSince.IsZero():
		f.Kind, f.Since, f.Text = BackendFailing, b.FailingSince, "answers no requests"
	case b.State == proxy.Draining:
		f.Level, f.Kind, f.Since, f.Text = Info, BackendDraining, time.Time{}, "is draining: "+s.drainText(b.Name)
	default:
		return f, false
	}
	return f, true
}

// drainText says how far the emptying of a backend is.
func (s *snapshot) drainText(name string) string {
	for _, e := range s.proxy.Evacuations {
		if e.Backend != name {
			continue
		}
		if e.Safe {
			return "it is empty and may be shut down"
		}
		return fmt.Sprintf("%s brought over, %d known to be left", several(int64(e.Moved), "session"), e.Left)
	}
	return "its sessions are brought over when they are used"
}

// trafficFindings tells of requests that failed in the last minute.
func (s *snapshot) trafficFindings() (list []Finding) {
	failed, refused, shut := s.history.lately()
	n, most := int64(0), 0
	for i, v := range failed {
		if slices.Contains(clientReasons, proxy.Reason(reasons[i])) {
			continue
		}
		n += int64(v)
		if v > failed[most] || slices.Contains(clientReasons, proxy.Reason(reasons[most])) {
			most = i
		}
	}
	if n > 0 {
		list = append(list, Finding{Level: Error, Kind: RequestsFailing,
			Text: fmt.Sprintf("%s failed in the last minute, mostly for %s", several(n, "request"), reasons[most])})
	}
	if n := refused - shut; n > 0 {
		list = append(list, Finding{Level: Error, Kind: ClientsRefused,
			Text: fmt.Sprintf("%s refused in the last minute: a limit is reached", several(n, "client connection"))})
	}
	if shut > 0 {
		list = append(list, Finding{Level: Warn, Kind: ClientsShutOut,
			Text: fmt.Sprintf("%s shut out in the last minute, for their address or how they began", several(shut, "client connection"))})
	}
	return list
}

// several tells a number of things.
func several(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// told are the findings that events and log lines of the caller's tell of.
var told = []Kind{BackendDown, BackendByHand, RefusedConfig, BackendDraining, RoutingIsToCome}

// follow remembers since when each finding is there, and tells of those that
// come and go and that nobody else tells of. It is called each second.
func (a *Admin) follow(s *snapshot, list []Finding) {
	seen := make(map[findingKey]time.Time, len(list))
	well := true
	var news []change
	for _, f := range list {
		since, before := s.firstSeen[f.key()]
		if !before {
			since = cmp.Or(f.Since, s.now)
			f.Since = since
			news = append(news, change{f, true})
		}
		seen[f.key()] = since
		well = well && f.Level == Info
	}
	for k, since := range s.firstSeen {
		if _, still := seen[k]; !still {
			news = append(news, change{Finding{Level: Info, Kind: k.kind, Backend: k.backend, App: k.app, Since: since}, false})
		}
	}
	a.mu.Lock()
	a.firstSeen, s.firstSeen = seen, seen
	switch {
	case !well:
		a.wellSince = time.Time{}
	case a.wellSince.IsZero():
		a.wellSince = s.now
	}
	s.wellSince = a.wellSince
	a.mu.Unlock()
	for _, c := range news {
		if !slices.Contains(told, c.finding.Kind) {
			a.tell(c, s.now)
		}
	}
}

// change is a finding that is there now, or is there no more.
type change struct {
	finding Finding
	began   bool
}

// tell makes an event of a change and hands it on.
func (a *Admin) tell(c change, now time.Time) {
	f := &c.finding
	e := Event{Time: now, Level: f.Level, Kind: FindingBegan, Finding: f.Kind, Backend: f.Backend, Text: f.Text}
	if !c.began {
		e.Kind = FindingEnded
		e.Text = fmt.Sprintf("%s%s; it was there for %v", strings.ReplaceAll(string(f.Kind), "_", " "), f.key().about(),
			now.Sub(f.Since).Round(time.Second))
	}
	a.Note(e)
	if a.OnFinding != nil {
		a.OnFinding(*f, c.began)
	}
}

func findingStatuses(list []Finding) []findingStatus {
	all := make([]findingStatus, 0, len(list))
	for _, f := range list {
		since := f.Since
		if !since.IsZero() {
			since = since.UTC()
		}
		all = append(all, findingStatus{f.Level, f.Kind, f.Backend, f.App, clip(f.Text), since})
	}
	return all
}
