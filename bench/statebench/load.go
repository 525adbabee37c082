package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The load generator keeps one request in flight on each kept-alive
// connection, as ASP.NET does. Every session belongs to one connection, which
// thus knows the body it must get back: a stamp of 32 bytes naming session,
// turn and length, then a stretch of a random pool at an offset that session
// and turn decide. Each body byte is compared with it.
//
// By default it is a closed loop. With inflight only so many of the connections
// have a request under way and take turns; with rate requests fall due at fixed
// times, and their latency counts from then on.

const (
	stampSize = 32
	readSize  = 256 << 10
	appPath   = "%2flm%2fw3svc%2f1%2froot(8XkZ9q2m7Yp1tVb0sJ4cWfRnE3h%3d)%2f"
	stall     = 10 * time.Second
	drain     = 20 * time.Second
)

type loadConfig struct {
	addr        string
	conns       int
	sessions    int
	threads     int
	body        int
	mix         string
	form        string
	minutes     int // Timeout of the sessions
	seed        uint64
	fill        time.Duration // limit for storing all sessions once
	duration    time.Duration
	warmup      time.Duration
	inflight    int     // requests under way in all; 0 is one per connection
	rate        float64 // requests that fall due per second; 0 is a closed loop
	keep        bool    // leave the sessions behind
	watch       []watched
	givingUp    int
	printErrors int
}

type watched struct {
	name string
	pid  int
}

var (
	mixes = []string{"page", "get", "put", "head"}
	forms = []string{"slashless", "slash", "resp"}
)

func cmdLoad(args []string) error {
	fs := flag.NewFlagSet("load", flag.ExitOnError)
	var cfg loadConfig
	var watch string
	fs.StringVar(&cfg.addr, "addr", "127.0.0.1:42424", "address to load")
	fs.IntVar(&cfg.conns, "conns", 16, "kept-alive connections")
	fs.IntVar(&cfg.sessions, "sessions", 0, "sessions; at least one, by default four for each connection")
	fs.IntVar(&cfg.threads, "threads", 1, "event loops")
	fs.IntVar(&cfg.body, "body", 2048, "bytes of a session's body, 32 at least")
	fs.StringVar(&cfg.mix, "mix", "page", "page (GET acquire, then PUT), get, put or head")
	fs.StringVar(&cfg.form, "form", "slashless", "request target: slashless as ASP.NET sends it, slash for proxies that refuse that; or resp for a Redis server")
	fs.IntVar(&cfg.minutes, "timeout", 20, "minutes until an unused session expires")
	fs.DurationVar(&cfg.fill, "fill", time.Minute, "limit for storing every session once, before all else")
	fs.DurationVar(&cfg.duration, "duration", 5*time.Second, "measured time")
	fs.DurationVar(&cfg.warmup, "warmup", time.Second, "time under load before that")
	fs.IntVar(&cfg.inflight, "inflight", 0, "requests under way at a time, connections taking turns; 0 is one per connection")
	fs.Float64Var(&cfg.rate, "rate", 0, "requests per second that fall due; 0 is as many as are answered")
	fs.BoolVar(&cfg.keep, "keep", false, "leave the sessions behind instead of deleting them")
	fs.Uint64Var(&cfg.seed, "seed", 0, "names the sessions; 0 takes a random one")
	fs.StringVar(&watch, "watch", "", "name:pid,... of process trees whose CPU time and memory to report")
	fs.IntVar(&cfg.givingUp, "giveup", 1000, "errors before the run stops")
	fs.IntVar(&cfg.printErrors, "print", 3, "errors to put into the result as notes")
	fs.Parse(args)

	for _, w := range strings.FieldsFunc(watch, func(r rune) bool { return r == ',' }) {
		name, pid, _ := strings.Cut(w, ":")
		n, err := strconv.Atoi(pid)
		if err != nil {
			return errors.New("-watch wants name:pid")
		}
		cfg.watch = append(cfg.watch, watched{name, n})
	}
	res, err := runLoad(cfg)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(res)
}

// complete fills in defaults and checks the rest.
func (cfg *loadConfig) complete() error {
	if cfg.sessions == 0 {
		cfg.sessions = 4 * cfg.conns
	}
	cfg.sessions = max(cfg.sessions, cfg.conns)
	if cfg.seed == 0 {
		cfg.seed = rand.Uint64()
	}
	if cfg.fill == 0 {
		cfg.fill = time.Minute
	}
	switch {
	case cfg.body < stampSize || cfg.conns < 1 || cfg.threads < 1:
		return errors.New("need -body 32 or more, and one connection and thread or more")
	case !slices.Contains(mixes, cfg.mix):
		return errors.New("no such mix: " + cfg.mix)
	case !slices.Contains(forms, cfg.form):
		return errors.New("no such form: " + cfg.form)
	}
	return nil
}

// Phases of a run, in order. Sessions are filled in the first, and connections
// that are through with that go on to the mix at once.
const (
	phaseFill = iota
	phaseMeasure
	phaseStop
	phaseAbort
)

type loadRun struct {
	cfg      loadConfig
	pool     []byte
	phase    atomic.Int32
	unfilled atomic.Int64 // connections that have sessions to store
	errors   atomic.Int64
	begin    time.Time
	measured atomic.Int64  // when measuring began, in ns after begin
	filled   chan struct{} // closed when unfilled reaches 0
	aborted  chan struct{} // closed in phaseAbort
	abort    func()        // enters phaseAbort, once
}

func newLoadRun(cfg loadConfig) *loadRun {
	r := &loadRun{cfg: cfg, begin: time.Now(), filled: make(chan struct{}), aborted: make(chan struct{})}
	r.abort = sync.OnceFunc(func() {
		r.phase.Store(phaseAbort)
		close(r.aborted)
	})
	r.unfilled.Store(int64(cfg.conns))
	r.pool = make([]byte, cfg.body+64<<10)
	rng := rand.New(rand.NewPCG(cfg.seed, 1))
	for i := 0; i+8 <= len(r.pool); i += 8 {
		binary.LittleEndian.PutUint64(r.pool[i:], rng.Uint64())
	}
	// Bytes that look like the protocol, for parsers that peek into bodies.
	for i := 500; i+40 < len(r.pool); i += 1900 {
		copy(r.pool[i:], "\r\n\r\nGET %2f HTTP/1.1\r\nContent-Length: 3\r\n")
	}
	return r
}

// connFilled notes that a connection has stored all its sessions.
func (r *loadRun) connFilled() {
	if r.unfilled.Add(-1) == 0 {
		close(r.filled)
	}
}

// after waits for d, or less if the run is aborted.
func (r *loadRun) after(d time.Duration) {
	select {
	case <-r.aborted:
	case <-time.After(d):
	}
}

func (r *loadRun) now() int64 { return int64(time.Since(r.begin)) }

func runLoad(cfg loadConfig) (*loadResult, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	runtime.GOMAXPROCS(cfg.threads + 1)
	r := newLoadRun(cfg)
	loops := make([]*loadLoop, cfg.threads)
	for i := range loops {
		l, err := r.newLoop(i)
		if err != nil {
			return nil, err
		}
		loops[i] = l
	}
	var wg sync.WaitGroup
	for _, l := range loops {
		wg.Go(l.run)
	}
	select {
	case <-r.filled:
	case <-r.aborted:
	case <-time.After(cfg.fill):
		loops[0].lateFill.Store(true)
		r.abort()
	}
	r.after(cfg.warmup)

	m := newMeter(cfg.watch)
	r.measured.Store(r.now())
	r.phase.CompareAndSwap(phaseFill, phaseMeasure)
	r.after(cfg.duration)
	r.phase.CompareAndSwap(phaseMeasure, phaseStop)
	res := m.result()
	wg.Wait()

	res.Mix, res.Body, res.Conns, res.Sessions = cfg.mix, cfg.body, cfg.conns, cfg.sessions
	for _, l := range loops {
		res.add(l)
	}
	res.finish()
	return res, nil
}
