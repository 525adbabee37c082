package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"stateproxy/internal/config"
	"stateproxy/internal/farm"
	"stateproxy/stateserver"
)

func runDemo(ctx context.Context, std stdio, args []string) int {
	fs := flags(std, "demo", "Runs the proxy before built-in state servers, all on loopback, with a simulated farm that makes\ntraffic. Ctrl-C ends it.")
	listen := fs.String("listen", "127.0.0.1:42424", "`ADDRESS` of the proxy; if this one is taken, a free port")
	adminAt := fs.String("admin", "127.0.0.1:42480", "`ADDRESS` of the admin listener; if this one is taken, a free port")
	servers := fs.Int("servers", 3, "state servers")
	duration := fs.Duration("duration", 0, "time to run; 0 is until Ctrl-C")
	every := fs.Duration("report", 5*time.Second, "time between progress lines; 0 is none")
	verbose := fs.Bool("v", false, "show the proxy's log")
	var c farm.Config
	farmFlags(fs, &c)
	fs.Lookup("rate").DefValue = "200"
	c.PagesPerSecond = 200
	if status, ok := parse(std, fs, args); !ok {
		return status
	}
	if *servers < 1 || *servers > 100 {
		fmt.Fprintf(std.err, "stateproxy demo: -servers: want 1..100, got %d\n", *servers)
		return exitUsage
	}
	c.Duration = *duration
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if !given["listen"] {
		*listen = orFree(*listen)
	}
	if !given["admin"] {
		*adminAt = orFree(*adminAt)
	}
	d := &demo{std: std, farm: c, every: *every}
	defer d.stopServers()
	if err := d.prepare(*servers, *listen, *adminAt); err != nil {
		return failed(std, "demo", err)
	}
	logTo := io.Discard
	if *verbose {
		logTo = std.err
	}
	if err := d.run(ctx, logTo); err != nil {
		return failed(std, "demo", err)
	}
	return exitOK
}

// orFree returns address, or if that is taken, one with a free port.
func orFree(address string) string {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return "127.0.0.1:0"
	}
	ln.Close()
	return address
}

// demo is the pieces of a running demo.
type demo struct {
	std     stdio
	farm    farm.Config
	every   time.Duration
	config  *config.Config
	servers []*stateserver.Server
	serving sync.WaitGroup
}

// prepare starts the state servers and makes the config for the proxy.
func (d *demo) prepare(n int, listen, adminAt string) error {
	d.config = config.Default()
	for i := range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		s := &stateserver.Server{}
		d.servers = append(d.servers, s)
		d.serving.Go(func() {
			if err := s.Serve(ln); !errors.Is(err, stateserver.ErrClosed) {
				fmt.Fprintln(d.std.err, "stateproxy demo:", err)
			}
		})
		d.config.Backends = append(d.config.Backends, config.Backend{
			Name: fmt.Sprintf("s%d", i+1), Address: ln.Addr().String(), Weight: 1, State: config.Active,
		})
	}
	d.config.Listen = []config.Listener{{Address: listen}}
	d.config.Admin.Listen = adminAt
	return nil
}

func (d *demo) stopServers() {
	for _, s := range d.servers {
		s.Close()
	}
	d.serving.Wait()
}

// run runs proxy and farm until ctx ends or the farm is done.
func (d *demo) run(ctx context.Context, logTo io.Writer) error {
	a := newApp(d.config, "", nil, newLogger(logTo, d.config.Log))
	proxyCtx, stopProxy := context.WithCancel(context.Background())
	defer stopProxy()
	ended := make(chan error, 1)
	go func() { ended <- a.run(proxyCtx) }()
	select {
	case <-a.started:
	case err := <-ended:
		return err
	}
	address := a.address()
	d.introduce(address, a.adminAddress())
	d.farm.Targets = []string{address}
	f, err := farm.New(d.farm)
	if err == nil {
		stop := reportEvery(ctx, d.std.out, d.every, func() string { return f.Report().Summary() })
		err = runFarmPhases(ctx, f)
		stop()
		fmt.Fprintf(d.std.out, "\n%s", f.Report().Text())
	}
	stopProxy()
	return errors.Join(err, <-ended)
}

// introduce prints what there is to look at.
func (d *demo) introduce(address, adminAt string) {
	w := d.std.out
	fmt.Fprintf(w, "stateproxy %s demo\n\n", version)
	fmt.Fprintf(w, "  proxy          %s   what web.config would name: stateConnectionString=\"tcpip=%s\"\n", address, address)
	for _, b := range d.config.Backends {
		fmt.Fprintf(w, "  state server   %s   %s\n", b.Address, b.Name)
	}
	fmt.Fprintf(w, "  dashboard      http://%s/\n", adminAt)
	fmt.Fprintf(w, "  status         http://%s/api/v1/status\n", adminAt)
	fmt.Fprintf(w, "  metrics        http://%s/metrics\n", adminAt)
	fmt.Fprintf(w, "  readiness      http://%s/readyz\n\n", adminAt)
	fmt.Fprintln(w, "A simulated farm asks for pages and checks every session it gets back. Ctrl-C ends it.")
	fmt.Fprintln(w)
}
