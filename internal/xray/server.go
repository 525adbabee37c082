package xray

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"stateproxy/proxy"
)

// What is remembered of state servers, and from when on it is a finding.
const (
	maxServers    = 1000
	versionMemory = int64(time.Minute) // since the last answer that clients refuse
	clockMemory   = int64(10 * time.Minute)
	clockOff      = 5 * time.Second // from which on a clock is wrong
	clockSlack    = 2 * time.Second // between two looks that agree: ages are in whole seconds
)

// servers is what unusual answers tell of the state servers behind the proxy.
// The zero value knows of none; it is safe for concurrent use.
type servers struct {
	mu     sync.Mutex // guards byName
	byName map[string]*server
}

// server is one of them. Times are Unix nanoseconds; 0 stands for never.
type server struct {
	refused, refusedFirst int64 // last answer whose version clients refuse; the first without a gap before it
	skew                  time.Duration
	looked                int64 // when skew was seen
	off                   int64 // since when skew has been too large; 0 if it is not, or only one look says so
}

// of returns what is known of a server; nil if there is no room. s.mu is held.
func (s *servers) of(name string) *server {
	v := s.byName[name]
	if v == nil && len(s.byName) < maxServers {
		if s.byName == nil {
			s.byName = map[string]*server{}
		}
		v = &server{}
		s.byName[name] = v
	}
	return v
}

// noteVersion takes an answer that clients refuse if it is the first they get.
func (s *servers) noteVersion(name string, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.of(name)
	if v == nil {
		return
	}
	if now-v.refused >= versionMemory {
		v.refusedFirst = now
	}
	v.refused = now
}

// noteLock takes an answer that tells of a lock.
func (s *servers) noteLock(o *proxy.Outcome) {
	at := o.Start.Add(o.Wait)
	skew, ok := clockSkew(o.LockDate, at.Add(-o.LockAge))
	if !ok {
		return
	}
	now := at.UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.of(o.Backend)
	if v == nil {
		return
	}
	agrees := v.looked != 0 && now-v.looked < clockMemory && (skew-v.skew).Abs() <= clockSlack
	switch {
	case skew.Abs() < clockOff:
		v.off = 0
	case agrees && v.off == 0:
		v.off = v.looked
	}
	v.skew, v.looked = skew, now
}

// Lock dates are counted in .NET ticks of 100 ns from the year 1.
const (
	ticksPerSecond = int64(time.Second / 100)
	ticksTo1970    = 62135596800 * ticksPerSecond
	zoneStep       = 15 * time.Minute // all time zones are whole multiples of it off UTC
	farthestZone   = 14 * time.Hour
)

// clockSkew returns by how much a server's clock is ahead, for a lock that it
// dates so and that was taken up to a second before at. Dates are in the server's
// own time zone (protocol.md section 5), which is unknown: the nearest one counts.
// It returns false for a date that can't be one.
func clockSkew(date int64, at time.Time) (ahead time.Duration, ok bool) {
	if date < ticksTo1970 {
		return 0, false // as of a lock that was free at the same moment (section 6)
	}
	date -= ticksTo1970
	local := time.Unix(date/ticksPerSecond, date%ticksPerSecond*100)
	ahead = local.Sub(at.Add(-time.Second / 2))
	if zone := ahead.Round(zoneStep); zone.Abs() <= farthestZone {
		ahead -= zone
	}
	return ahead, true
}

// findings returns what is wrong with servers, by name.
func (s *servers) findings(now int64) (list []Finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, v := range s.byName {
		if v.refused != 0 && now-v.refused < versionMemory {
			list = append(list, Finding{Kind: BadVersion, Backend: name, Since: time.Unix(0, v.refusedFirst),
				Text: "answers without X-AspNet-Version, or with one below 2: a web server that meets such an answer first " +
					"after an application starts shows an error",
				Advice: "Is it the ASP.NET State Service, and of .NET 2.0 or later? Does its machine-level web.config say enableVersionHeader=\"false\"?"})
		}
		if v.off != 0 && now-v.looked < clockMemory {
			list = append(list, Finding{Kind: ClockOff, Backend: name, Since: time.Unix(0, v.off),
				Text: "the dates of its locks say that its clock is " + ahead(v.skew),
				Advice: "Set its clock right. If all servers are off alike, it is the proxy's own clock. " +
					"While a clock jumps, web servers may take locks over from pages that still work."})
		}
	}
	slices.SortFunc(list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Backend, b.Backend))
	})
	return list
}

// ahead puts a skew into words.
func ahead(skew time.Duration) string {
	if skew < 0 {
		return fmt.Sprintf("%v behind", (-skew).Round(time.Second))
	}
	return fmt.Sprintf("%v ahead", skew.Round(time.Second))
}
