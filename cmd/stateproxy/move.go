package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"stateproxy/internal/config"
)

// checkMove refuses a config that would move a larger share of a pool's sessions
// than it allows (handoff.max_move). Ejections are no change of the config and
// never refused.
func (a *app) checkMove(c *config.Config) error {
	change, err := a.proxy.Preview(proxySettings(c))
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range change.Pools {
		if exceeds(p.Moved, c.Handoff.MaxMove) {
			errs = append(errs, fmt.Errorf("pool %s: %s of its sessions would get another owner, and handoff.max_move is %s: raise it in the same change if that is wanted",
				p.Name, percent(p.Moved), percent(c.Handoff.MaxMove)))
		}
	}
	return errors.Join(errs...)
}

// exceeds reports whether a share is above a limit, but for rounding.
func exceeds(share, limit float64) bool { return share > limit+1e-9 }

// percent returns a share as people write it: 33.3333%, 50%.
func percent(share float64) string {
	digits := strconv.FormatFloat(100*share, 'f', 4, 64)
	return strings.TrimRight(strings.TrimRight(digits, "0"), ".") + "%"
}
