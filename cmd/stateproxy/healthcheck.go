package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

func runHealthcheck(ctx context.Context, std stdio, args []string) int {
	fs := flags(std, "healthcheck", "Asks the admin listener whether the proxy is ready, and exits 0 if it is.")
	address := fs.String("admin", "127.0.0.1:42480", "`ADDRESS` of the admin listener")
	timeout := fs.Duration("timeout", 2*time.Second, "time to wait for the answer")
	if status, ok := parse(std, fs, args); !ok {
		return status
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+*address+"/readyz", nil)
	if err != nil {
		return failed(std, "healthcheck", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return failed(std, "healthcheck", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return failed(std, "healthcheck", err)
	}
	fmt.Fprintln(std.out, strings.TrimSpace(string(text)))
	if resp.StatusCode != http.StatusOK {
		return exitError
	}
	return exitOK
}
