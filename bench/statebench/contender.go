package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// contender is a proxy or server to be measured, a line of a config: name,
// address it listens on, target form, and command line.
type contender struct {
	name    string
	addr    string
	form    string
	command []string // none: nothing to start, the load goes straight to addr
}

// placeholders are what the words of a command line may hold in braces. A ~
// stands for a blank.
type placeholders struct {
	backends   []string
	stateproxy string // the program
	scratch    string // a folder for this run alone
}

// readContenders reads a config, all of it or the names given.
func readContenders(path string, p placeholders, only string) ([]contender, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var list []contender
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0][0] == '#' {
			continue
		}
		if len(f) < 4 {
			return nil, fmt.Errorf("%s: want name, address, form and command: %q", path, line)
		}
		if only != "" && !slices.Contains(strings.Split(only, ","), f[0]) {
			continue
		}
		c := contender{name: f[0], addr: f[1], form: f[2]}
		fill := strings.NewReplacer("~", " ", "{self}", self, "{dir}", dir, "{scratch}", p.scratch, "{stateproxy}", p.stateproxy,
			"{backends}", strings.Join(p.backends, ","), "{config}", filepath.Join(p.scratch, c.name+".yaml"))
		if strings.Contains(line, "{config}") {
			if err := writeProxyConfig(filepath.Join(p.scratch, c.name+".yaml"), c.addr, p.backends, ""); err != nil {
				return nil, err
			}
		}
		for _, w := range f[3:] {
			if w != "-" {
				c.command = append(c.command, fill.Replace(w))
			}
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errors.New(path + ": no contenders")
	}
	return list, nil
}

const proxyAdmin = "127.0.0.1:19259" // the default's port may be in use

// writeProxyConfig writes a config of stateproxy in which all is as by default
// but for addresses, and more, which is YAML.
func writeProxyConfig(path, listen string, backends []string, more string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "listen: %s\nbackends:\n", listen)
	for i, addr := range backends {
		fmt.Fprintf(&b, "  - {name: s%d, address: \"%s\"}\n", i+1, addr)
	}
	fmt.Fprintf(&b, "admin: {listen: %s}\n%s", proxyAdmin, more)
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// bench is what runs have in common.
type bench struct {
	scratch string   // folder for logs
	self    string   // this program
	loadCPU string   // CPUs of load and backends as taskset takes them; "" is all
	hup     []string // names of contenders that get a SIGHUP every second
	during  func(c contender, p *process)
}

// newBench makes the scratch folder; close removes it.
func newBench(loadCPU, hup string) (*bench, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "statebench")
	if err != nil {
		return nil, err
	}
	return &bench{scratch: dir, self: self, loadCPU: loadCPU, hup: strings.Split(hup, ",")}, os.Chmod(dir, 0o755)
}

func (b *bench) close() { os.RemoveAll(b.scratch) }

// pinned returns this program's command line, kept to loadCPU.
func (b *bench) pinned(args ...string) []string {
	command := append([]string{b.self}, args...)
	if b.loadCPU == "" {
		return command
	}
	return append([]string{"taskset", "-c", b.loadCPU}, command...)
}

// startBackends starts state servers, one process for each group of addresses
// (commas between), and waits for them.
func (b *bench) startBackends(groups []string, more ...string) (list []*process, err error) {
	for _, group := range groups {
		p, err := start(filepath.Join(b.scratch, "backend"), b.pinned(append([]string{"backend", "-addr", group}, more...)...), nil)
		if err != nil {
			stopAll(list)
			return nil, err
		}
		list = append(list, p)
		for addr := range strings.SplitSeq(group, ",") {
			if err := p.listening(addr); err != nil {
				stopAll(list)
				return nil, err
			}
		}
	}
	return list, nil
}

func stopAll(list []*process) {
	for _, p := range list {
		p.stop()
	}
}

// startContender starts c, if there is something to start, and waits for it.
func (b *bench) startContender(c contender) (*process, error) {
	if c.command == nil {
		return nil, nil
	}
	p, err := start(filepath.Join(b.scratch, c.name+".log"), c.command, nil)
	if err != nil {
		return nil, err
	}
	if err := p.listening(c.addr); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// run starts fresh backends and the contender, loads it and stops all again.
// The contender's use is Watch["proxy"] of the result.
func (b *bench) run(ctx context.Context, c contender, groups, backendArgs, load []string) (*loadResult, error) {
	backends, err := b.startBackends(groups, backendArgs...)
	if err != nil {
		return nil, err
	}
	defer stopAll(backends)
	proxy, err := b.startContender(c)
	if err != nil {
		return nil, err
	}
	var watch []string
	for i, p := range backends {
		watch = append(watch, fmt.Sprintf("backend%d:%d", i+1, p.pid()))
	}
	if proxy != nil {
		defer proxy.stop()
		watch = append(watch, fmt.Sprintf("proxy:%d", proxy.pid()))
		if slices.Contains(b.hup, c.name) {
			defer proxy.signalEvery(syscall.SIGHUP, time.Second)()
		}
		if b.during != nil {
			b.during(c, proxy)
		}
	}
	args := b.pinned(append([]string{"load", "-watch", strings.Join(watch, ","), "-form", c.form, "-addr", c.addr}, load...)...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("load on %s: %w", c.name, err)
	}
	res := &loadResult{Contender: c.name}
	if err := json.Unmarshal(out, res); err != nil {
		return nil, err
	}
	if proxy != nil && proxy.ended() {
		res.Errors++
		res.Notes = append(res.Notes, "the proxy ended")
	}
	return res, nil
}
