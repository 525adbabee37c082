package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// openWindows makes a proxy that has just started look at that many former rings
// besides the one in force, by as many reloads of its config with other weights.
// It returns when sessions need be looked for once only.
func openWindows(n int, config, addr string, backends []string, proxy *process) error {
	b, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	for i := range n {
		heavier := strings.Replace(string(b), "{name: s1,", fmt.Sprintf("{name: s1, weight: %d,", i+2), 1)
		if err := os.WriteFile(config, []byte(heavier), 0o644); err != nil {
			return err
		}
		if err := syscall.Kill(proxy.pid(), syscall.SIGHUP); err != nil {
			return err
		}
		if err := awaitWindows(i+1, proxy); err != nil {
			return fmt.Errorf("handoff window %d: %w", i+1, err)
		}
	}
	select {
	case <-time.After(earlyTime):
		return nil
	case <-proxy.done:
		return errors.New("the proxy ended")
	}
}

// awaitWindows waits until the proxy says that it has n handoffs under way.
func awaitWindows(n int, proxy *process) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(10 * time.Second)
	for {
		open, err := windowsOf("http://" + proxyAdmin + "/api/v1/status")
		if err != nil || open == n {
			return err
		}
		select {
		case <-tick.C:
		case <-proxy.done:
			return errors.New("the proxy ended")
		case <-end:
			return fmt.Errorf("the proxy has %d", open)
		}
	}
}

func windowsOf(status string) (int, error) {
	resp, err := http.Get(status)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var s struct {
		Pools []struct{ Windows []json.RawMessage }
	}
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return 0, fmt.Errorf("%s: %w", status, err)
	}
	if len(s.Pools) != 1 {
		return 0, fmt.Errorf("%s: %d pools", status, len(s.Pools))
	}
	return len(s.Pools[0].Windows), nil
}
