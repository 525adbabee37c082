package xray

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Kind says what sort of finding it is. Its text is stable and fit for a label.
type Kind string

// The kinds of findings.
const (
	AppMismatch    Kind = "app_mismatch"     // web servers call one application by different names: users lose sessions
	AppPathDiffers Kind = "app_path_differs" // the same, or different applications that share session IDs
	KeyMismatch    Kind = "key_mismatch"     // web servers make different digests of one name: users lose sessions
	LargeSession   Kind = "large_session"    // every page carries it to and fro
	LockHeld       Kind = "lock_held"        // users wait for it
	NearTimeout    Kind = "near_timeout"     // requests took nearly all of the time they may
	BadVersion     Kind = "bad_version"      // a server answers as clients refuse it
	ClockOff       Kind = "clock_off"        // a server's clock is wrong
)

// Kinds lists them all.
var Kinds = [...]Kind{AppMismatch, AppPathDiffers, KeyMismatch, LargeSession, LockHeld, NearTimeout, BadVersion, ClockOff}

// Finding is something that is so now and that people should know. It never
// holds a session ID.
type Finding struct {
	Kind    Kind
	Since   time.Time    // zero: it is not known since when
	Backend string       // that it is about; "" if it is about none in particular
	App     string       // application part that tells it from others of its kind, printable; "" if there is but one
	Text    string       // for people, may have several lines
	Apps    []string     // application parts concerned, printable
	Clients []netip.Addr // that use them; empty if it is not about clients
	Advice  string       // what to do about it
}

// How many client addresses and application parts a text names.
const (
	maxClients = 8
	maxParts   = 10
)

// Slow requests make a finding if there are as many within a minute.
const enoughSlow = 3

// Findings returns what is to be known now, the most harmful first. An Admin
// calls it each second; to call it less often than each minute makes rates and
// findings lag behind.
func (x *XRay) Findings() []Finding {
	now := time.Now()
	x.tick(now)
	var list []Finding
	for _, g := range x.doctor.diagnose(now.UnixNano() - x.memory()) {
		list = append(list, x.mismatch(g))
	}
	slices.SortStableFunc(list, func(a, b Finding) int {
		return slices.Index(Kinds[:], a.Kind) - slices.Index(Kinds[:], b.Kind)
	})
	list = append(list, x.longLocks(now)...)
	list = append(list, x.largeSessions(now)...)
	list = append(list, x.slowRequests(now)...)
	return append(list, x.servers.findings(now.UnixNano())...)
}

// mismatch puts what the doctor has found into words.
func (x *XRay) mismatch(g *diagnosis) Finding {
	f := Finding{Since: time.Unix(0, g.since), App: g.apps[0].display()}
	if g.hows[0] == inDigest {
		f.Kind, f.Apps, f.Clients = KeyMismatch, []string{f.App}, x.clients.list(&g.used)
		f.Text = fmt.Sprintf("users of %s lose their sessions as they move between web servers that make different digests of its name "+
			"(seen with %s): %s", f.App, sessionIDs(g.count), names(f.Clients))
		f.Advice = advice[inDigest] + otherwise
		return f
	}
	f.Kind = AppMismatch
	text := "users lose their sessions as they move between web servers that call one application by different names"
	if g.hows[0] == inDepth {
		f.Kind = AppPathDiffers
		text = "web servers use session IDs under different application parts; if these are one application, users lose their sessions"
	}
	text += fmt.Sprintf(" (seen with %s):", sessionIDs(g.count))
	var all clientBits
	for _, a := range g.apps {
		used := a.clients.bits()
		all.add(&used)
		f.Apps = append(f.Apps, a.display())
		if len(f.Apps) <= maxParts {
			text += fmt.Sprintf("\n%s is used by %s", a.display(), names(x.clients.list(&used)))
		}
	}
	if more := len(f.Apps) - maxParts; more > 0 {
		text += fmt.Sprintf("\nand %d more", more)
	}
	if f.Kind == AppMismatch {
		text += "\nThis is as it should be only if they are different applications that share a host name."
	}
	f.Text, f.Clients = text, x.clients.list(&all)
	var todo []string
	for _, how := range g.hows {
		todo = append(todo, advice[how])
	}
	f.Advice = strings.Join(todo, " ") + otherwise
	return f
}

func sessionIDs(n int) string { return fmt.Sprintf("%d or more session IDs", n) }

// names lists addresses for a sentence.
func names(list []netip.Addr) string {
	var texts []string
	for _, a := range list[:min(len(list), maxClients)] {
		texts = append(texts, a.String())
	}
	if more := len(list) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(texts, ", ")
}

// longLocks tells of the lock that has been held for longest, if that is long.
func (x *XRay) longLocks(now time.Time) []Finding {
	locks := x.held.present(now.UnixNano())
	var oldest *heldLock
	var apps []string
	n := 0
	for i := range locks {
		l := &locks[i]
		if now.UnixNano()-l.since < int64(x.longLock()) {
			continue
		}
		n++
		apps = append(apps, x.appName(l.app))
		if oldest == nil || l.since < oldest.since {
			oldest = l
		}
	}
	if n == 0 {
		return nil
	}
	slices.Sort(apps)
	since := time.Unix(0, oldest.since)
	text := fmt.Sprintf("session %s of %s has been locked for %d s and others wait for it",
		hash(oldest.session), x.appName(oldest.app), int(now.Sub(since).Seconds()))
	if n > 1 {
		text += fmt.Sprintf("; so have %d more", n-1)
	}
	return []Finding{{Kind: LockHeld, Since: since, Text: text, Apps: slices.Compact(apps),
		Advice: "A page of that user is slow or hangs, or its web server died. Web servers take such a lock over after the page's " +
			"executionTimeout, 110 s by default; if its page is surely dead, stateproxy unlock " + hash(oldest.session) + " releases it. Pages that only read the session should say EnableSessionState=\"ReadOnly\"."}}
}

// largeSessions tells of the largest session, if that is large.
func (x *XRay) largeSessions(now time.Time) []Finding {
	var top sized
	var apps []string
	n := 0
	name := ""
	for _, a := range x.apps.all() {
		if a == nil {
			continue
		}
		for i, s := range a.largest.sorted(now) {
			if s.size < x.largeSession() {
				break
			}
			n++
			if i == 0 {
				apps = append(apps, a.display())
			}
			if s.size > top.size {
				top, name = s, a.display()
			}
		}
	}
	if n == 0 {
		return nil
	}
	text := fmt.Sprintf("session %s of %s has %.1f MiB", hash(top.session), name, float64(top.size)/(1<<20))
	if n > 1 {
		text += fmt.Sprintf("; at least %d others are large, too", n-1)
	}
	return []Finding{{Kind: LargeSession, Text: text, Apps: apps,
		Advice: "Every page of such a user carries the whole session from the state server and back. Keep less in it, or turn on compressionEnabled."}}
}

// slowRequests tells that requests of the last minute came close to the budget.
func (x *XRay) slowRequests(now time.Time) []Finding {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.slow.Load() - x.lastMinute(now).slow
	if n < enoughSlow {
		x.slowAt = time.Time{}
		return nil
	}
	if x.slowAt.IsZero() {
		x.slowAt = now
	}
	return []Finding{{Kind: NearTimeout, Since: x.slowAt,
		Text: fmt.Sprintf("%d requests of the last minute took %v or longer; at %v they fail, and web servers give up after "+
			"their stateNetworkTimeout, 10 s by default", n, x.nearBudget(), x.budget()),
		Advice: "See which backend is slow and why: its processor, its memory, the network to it."}}
}

// appName returns the name for people of the application at an index.
func (x *XRay) appName(index uint16) string {
	if a := x.apps.slots[index].Load(); a != nil {
		return a.display()
	}
	return Other
}

// hash is a session as people see it, the same as in the live request log.
func hash(session uint64) string { return fmt.Sprintf("%016x", session) }
