package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"stateproxy/internal/config"
	"stateproxy/stateserver"
)

func runServer(ctx context.Context, std stdio, args []string) int {
	fs := flags(std, "server", "Runs the built-in in-memory state server, which answers as aspnet_state.exe does. It has no\nauthentication: whoever reaches its port can read every session.")
	listen := fs.String("listen", "127.0.0.1:42424", "`ADDRESS` to listen on")
	memory := fs.String("max-memory", "0", "`SIZE` of all sessions above which new ones are refused, such as 2GiB; 0 is no limit")
	stop := fs.Duration("drain", 20*time.Second, "time that requests under way get to finish at the end")
	if status, ok := parse(std, fs, args); !ok {
		return status
	}
	limit, err := config.ParseSize(*memory)
	if err != nil {
		fmt.Fprintf(std.err, "stateproxy server: -max-memory: %v\n", err)
		return exitUsage
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return failed(std, "server", err)
	}
	log := newLogger(std.err, config.Default().Log)
	log.Info().Str("listen", ln.Addr().String()).Str("version", version).Msg("state server listens")
	s := &stateserver.Server{MaxMemory: limit}
	if err := serveUntil(ctx, s, ln, *stop); err != nil {
		return failed(std, "server", err)
	}
	log.Info().Int64("sessions", int64(s.Stats().Sessions)).Msg("state server has stopped; its sessions are gone")
	return exitOK
}

// serveUntil serves ln until ctx ends, then stops in order.
func serveUntil(ctx context.Context, s *stateserver.Server, ln net.Listener, drain time.Duration) error {
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	err := s.Shutdown(limit)
	if served := <-served; !errors.Is(served, stateserver.ErrClosed) {
		return served
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("requests still under way after %v were cut off", drain)
	}
	return err
}
