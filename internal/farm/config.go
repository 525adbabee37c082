package farm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"stateproxy/wire"
)

// Config says what a farm looks like and where it sends its requests. The zero
// value of a field means its default; only Targets has none.
type Config struct {
	// Targets are the connection strings, host:port. Worker process n uses
	// Targets[n mod len(Targets)], so that several proxies can be tried at once.
	Targets []string

	Apps     int // applications; default 2. Session IDs are shared among them, as browsers share the cookie
	Workers  int // worker processes, dealt out to the applications in turn; default 4, at least Apps
	Pages    int // pages in flight in each worker process at most; default 8
	Sessions int // browsers, each with at most one session at a time; default 1000, at least Apps

	PagesPerSecond float64       // in all; 0 is as fast as it goes
	Duration       time.Duration // of Run; 0 is until its context ends

	ExecutionTimeout time.Duration // of a page (httpRuntime executionTimeout); default 110 s
	NetworkTimeout   time.Duration // of one exchange (stateNetworkTimeout); default 10 s
	PollInterval     time.Duration // between two tries to get a locked session; default 500 ms
	Timeout          int           // minutes a session lives unused; default 20

	Mix   Mix   // the zero value means DefaultMix
	Sizes Sizes // the zero value means DefaultSizes

	// Seed makes the choice of pages and the session IDs repeatable. 0 draws
	// one. Two runs against one server need two seeds: the second would take
	// the first one's sessions for phantoms.
	Seed uint64

	// Dial connects to a target; nil dials TCP. It must be safe for concurrent use.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Mix says which pages are asked for: relative weights of the kinds, and shares
// from 0 to 1.
type Mix struct {
	ReadWrite int // pages that lock their session
	ReadOnly  int
	Head      int // pages that want no session but come with an ID
	Visitor   int // new visitors, as long as there are browsers without a session
	Abandon   int // pages that call Session.Abandon
	Error     int // pages that lock their session and then fail

	Changed  float64       // read-write pages that change the session
	Parallel float64       // pages asked for beside another page of the same session
	Slow     float64       // pages that keep their lock for SlowTime
	SlowTime time.Duration // on average; from half to one and a half of it
	Leave    float64       // abandoning browsers that never use the session ID again
}

// DefaultMix returns the mix of a busy shop.
func DefaultMix() Mix {
	return Mix{
		ReadWrite: 60, ReadOnly: 22, Head: 10, Visitor: 4, Abandon: 2, Error: 2,
		Changed: 0.7, Parallel: 0.05, Slow: 0.01, SlowTime: 200 * time.Millisecond, Leave: 0.5,
	}
}

// Sizes is the distribution of body sizes in bytes: most lie between Min and
// Max, evenly on a logarithmic scale, and a share has the size Large.
type Sizes struct {
	Min, Max   int
	Large      int
	LargeShare float64 // 0 to 1
}

// DefaultSizes returns 200 bytes to 16 KiB, and one body in 1000 of 256 KiB.
func DefaultSizes() Sizes {
	return Sizes{Min: 200, Max: 16 << 10, Large: 256 << 10, LargeShare: 0.001}
}

// largest returns the size of the longest body.
func (s Sizes) largest() int {
	if s.LargeShare > 0 {
		return max(s.Max, s.Large)
	}
	return s.Max
}

// maxBody bounds the sizes that may be asked for.
const maxBody = 1 << 30

// withDefaults returns c with every zero field set to its default.
func (c Config) withDefaults() Config {
	setInt := func(field *int, def int) {
		if *field == 0 {
			*field = def
		}
	}
	setDuration := func(field *time.Duration, def time.Duration) {
		if *field == 0 {
			*field = def
		}
	}
	setInt(&c.Apps, 2)
	setInt(&c.Workers, max(4, c.Apps))
	setInt(&c.Pages, 8)
	setInt(&c.Sessions, max(1000, c.Apps))
	setInt(&c.Timeout, 20)
	setDuration(&c.ExecutionTimeout, 110*time.Second)
	setDuration(&c.NetworkTimeout, 10*time.Second)
	setDuration(&c.PollInterval, 500*time.Millisecond)
	if c.Mix == (Mix{}) {
		c.Mix = DefaultMix()
	}
	if c.Sizes == (Sizes{}) {
		c.Sizes = DefaultSizes()
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	return c
}

// validate reports every problem of a config that has its defaults.
func (c Config) validate() error {
	var problems []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Errorf(format, args...))
		}
	}
	want(len(c.Targets) > 0, "targets: want at least one host:port")
	for i, target := range c.Targets {
		_, _, err := net.SplitHostPort(target)
		want(err == nil, "targets[%d]: want host:port, got %q", i, target)
	}
	want(c.Apps >= 1 && c.Apps <= 1000, "apps: want 1..1000, got %d", c.Apps)
	want(c.Workers >= c.Apps, "workers: want at least one for each of %d apps, got %d", c.Apps, c.Workers)
	want(c.Pages >= 1, "pages: want at least 1, got %d", c.Pages)
	want(c.Sessions >= c.Apps && c.Sessions <= 1<<30, "sessions: want %d..%d, got %d", c.Apps, 1<<30, c.Sessions)
	want(c.PagesPerSecond >= 0 && c.PagesPerSecond <= 1e6, "pages per second: want 0..1000000, got %v", c.PagesPerSecond)
	want(c.Timeout >= 1 && c.Timeout <= wire.MaxTimeout, "timeout: want 1..%d minutes, got %d", wire.MaxTimeout, c.Timeout)
	want(c.Duration >= 0, "duration: want 0 or more, got %v", c.Duration)
	want(c.ExecutionTimeout > 0, "execution timeout: want more than 0, got %v", c.ExecutionTimeout)
	want(c.NetworkTimeout > 0, "network timeout: want more than 0, got %v", c.NetworkTimeout)
	want(c.PollInterval > 0, "poll interval: want more than 0, got %v", c.PollInterval)
	problems = append(problems, c.Mix.validate(), c.Sizes.validate())
	return errors.Join(problems...)
}

func (m Mix) validate() error {
	var problems []error
	sum := 0
	for kind, weight := range m.weights() {
		if weight < 0 {
			problems = append(problems, fmt.Errorf("mix: weight of %v: want 0 or more, got %d", Page(kind), weight))
		}
		sum += weight
	}
	if sum == 0 {
		problems = append(problems, errors.New("mix: want at least one weight above 0"))
	}
	shares := []struct {
		name  string
		value float64
	}{{"changed", m.Changed}, {"parallel", m.Parallel}, {"slow", m.Slow}, {"leave", m.Leave}}
	for _, s := range shares {
		if !isShare(s.value) {
			problems = append(problems, fmt.Errorf("mix: share %s: want 0..1, got %v", s.name, s.value))
		}
	}
	if m.SlowTime < 0 {
		problems = append(problems, fmt.Errorf("mix: slow time: want 0 or more, got %v", m.SlowTime))
	}
	return errors.Join(problems...)
}

func (s Sizes) validate() error {
	var problems []error
	if s.Min < minBody || s.Max < s.Min || s.Max > maxBody {
		problems = append(problems, fmt.Errorf("sizes: want %d <= min <= max <= %d, got min %d, max %d", minBody, maxBody, s.Min, s.Max))
	}
	if !isShare(s.LargeShare) {
		problems = append(problems, fmt.Errorf("sizes: large share: want 0..1, got %v", s.LargeShare))
	}
	if s.LargeShare > 0 && (s.Large < minBody || s.Large > maxBody) {
		problems = append(problems, fmt.Errorf("sizes: large: want %d..%d, got %d", minBody, maxBody, s.Large))
	}
	return errors.Join(problems...)
}

// isShare is false for NaN too.
func isShare(x float64) bool { return x >= 0 && x <= 1 }
