package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// probe sends one request after the other and prints what comes back, to
// record how a proxy treats real traffic. Each goes over its own connection
// unless it continues the one before.

func cmdProbe(args []string) error {
	fs := flag.NewFlagSet("probe", flag.ExitOnError)
	addr := fs.String("addr", "127.0.0.1:42424", "address to ask")
	form := fs.String("form", "slashless", "slashless or slash")
	only := fs.String("only", "", "send just this method (GET, PUT, HEAD, DELETE), to sessions that may not exist")
	count := fs.Int("n", 1, "with -only: sessions to ask for, summed up by answer")
	wait := fs.Duration("wait", 15*time.Second, "time to wait for an answer")
	fs.Parse(args)

	name := func() string {
		if *form == "slash" {
			return "/" + appPath + randomID()
		}
		return appPath + randomID()
	}
	if *only != "" {
		sums := map[string]int{}
		for range *count {
			text := *only + " " + name() + " HTTP/1.1\r\nHost: 10.0.0.5\r\n"
			if *only == "PUT" {
				text += "Timeout:20\r\nContent-Length:5\r\nExtraFlags:0\r\n\r\nhello"
			} else {
				text += "\r\n"
			}
			begin := time.Now()
			answer, err := ask(nil, *addr, text, *wait)
			line, _, _ := strings.Cut(answer, "\r\n")
			if err != nil {
				line += " [" + err.Error() + "]"
			}
			sums[fmt.Sprintf("%q after about %v", line, time.Since(begin).Round(500*time.Millisecond))]++
		}
		for s, n := range sums {
			fmt.Printf("%s x%d: %s\n", *only, n, s)
		}
		return nil
	}

	t := name()
	binary := "\x00\xff\r\n\r\nGET x HTTP/1.1\r\n\r\n\x01\x02"
	steps := []struct{ what, text string }{
		{"GET of a session that does not exist", "GET " + t + " HTTP/1.1\r\nHost: 10.0.0.5\r\n\r\n"},
		{"PUT with a binary body", fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: 10.0.0.5\r\nTimeout:20\r\nContent-Length:%d\r\nExtraFlags:0\r\n\r\n%s", t, len(binary), binary)},
		{"GET", "GET " + t + " HTTP/1.1\r\nHost: 10.0.0.5\r\n\r\n"},
		{"HEAD", "HEAD " + t + " HTTP/1.1\r\nHost: 10.0.0.5\r\n\r\n"},
		{"GET acquire", "GET " + t + " HTTP/1.1\r\nHost: 10.0.0.5\r\nExclusive: acquire\r\n\r\n"},
		{"GET acquire of the locked session", "GET " + t + " HTTP/1.1\r\nHost: 10.0.0.5\r\nExclusive: acquire\r\n\r\n"},
		{"GET release", "GET " + t + " HTTP/1.1\r\nHost: 10.0.0.5\r\nExclusive: release\r\nLockCookie:1\r\n\r\n"},
		{"GET without Host", "GET " + t + " HTTP/1.1\r\n\r\n"},
		{"DELETE", "DELETE " + t + " HTTP/1.1\r\nHost: 10.0.0.5\r\n\r\n"},
	}
	fmt.Printf("target form: %s\n", t)
	for _, s := range steps {
		answer, err := ask(nil, *addr, s.text, *wait)
		fmt.Printf("%s:\n  %q", s.what, answer)
		if err != nil {
			fmt.Printf(" [%v]", err)
		}
		fmt.Println()
	}

	conn, err := net.Dial("tcp", *addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	for i := range 3 {
		answer, err := ask(conn, *addr, "HEAD "+t+" HTTP/1.1\r\nHost: 10.0.0.5\r\n\r\n", *wait)
		line, _, _ := strings.Cut(answer, "\r\n")
		fmt.Printf("HEAD number %d on a kept connection: %q", i+1, line)
		if err != nil {
			fmt.Printf(" [%v]", err)
		}
		fmt.Println()
		if err != nil {
			break
		}
	}
	return nil
}

// ask sends text and returns the answer: its head and what Content-Length
// announces, or all until the connection ends if nothing is announced.
func ask(conn net.Conn, addr, text string, wait time.Duration) (string, error) {
	if conn == nil {
		var err error
		if conn, err = net.Dial("tcp", addr); err != nil {
			return "", err
		}
		defer conn.Close()
	}
	conn.SetDeadline(time.Now().Add(wait))
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	var got []byte
	buf := make([]byte, 64<<10)
	for {
		if h, ok := parseHead(got); ok && (strings.HasPrefix(text, "HEAD ") || h.length >= 0 && len(got) >= h.size+h.length) {
			return string(got), nil
		}
		n, err := conn.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("closed")
			}
			return string(got), err
		}
	}
}
