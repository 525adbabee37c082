package health_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stateproxy/health"
)

func Example() {
	events := make(chan health.Event, 1)
	c := &health.Checker{
		Probe: func(_ context.Context, t health.Target) error {
			if t.Address == "10.0.0.12:42424" {
				return errors.New("dial 10.0.0.12:42424: connection refused")
			}
			return nil
		},
		OnEvent: func(e health.Event) { events <- e },
	}
	c.SetParams(health.Params{Interval: time.Millisecond, Fall: 3})
	c.SetTargets([]health.Target{
		{Name: "s1", Address: "10.0.0.11:42424"},
		{Name: "s2", Address: "10.0.0.12:42424"},
	})

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()

	e := <-events
	fmt.Printf("%s up=%v: %s\n", e.Name, e.Up, e.Reason)
	cancel()
	fmt.Println("run:", <-done)
	// Output:
	// s2 up=false: 3 probes failed in a row, the last: dial 10.0.0.12:42424: connection refused
	// run: <nil>
}
