package main

import "bytes"

// What the harness needs of the wire format, for requests and responses alike.

type head struct {
	line       []byte // start line
	size       int    // bytes of the head with its blank line
	length     int    // Content-Length, -1 if absent
	lockCookie int    // LockCookie, -1 if absent
	exclusive  byte   // first letter of Exclusive in lower case, 0 if absent
}

var blankLine = []byte("\r\n\r\n")

// parseHead reads a head from the start of b. ok is false while it is
// incomplete. Numbers that do not parse count as absent.
func parseHead(b []byte) (h head, ok bool) {
	end := bytes.Index(b, blankLine)
	if end < 0 {
		return head{}, false
	}
	h = head{size: end + 4, length: -1, lockCookie: -1}
	rest := b[:end+2]
	i := bytes.IndexByte(rest, '\r')
	h.line, rest = rest[:i], rest[i+2:]
	for len(rest) > 0 {
		i = bytes.IndexByte(rest, '\r')
		line := rest[:i]
		rest = rest[i+2:]
		c := bytes.IndexByte(line, ':')
		switch {
		case c == 14 && equalFold(line[:c], "content-length"):
			h.length = number(line[c+1:])
		case c == 10 && equalFold(line[:c], "lockcookie"):
			h.lockCookie = number(line[c+1:])
		case c == 9 && equalFold(line[:c], "exclusive"):
			if v := bytes.TrimLeft(line[c+1:], " "); len(v) > 0 {
				h.exclusive = v[0] | 0x20
			}
		}
	}
	return h, true
}

// status returns the status of a response's start line, with or without the
// HTTP version in front; 0 if there is none.
func status(line []byte) int {
	if bytes.HasPrefix(line, []byte("HTTP/1.")) && len(line) > 9 {
		line = line[9:]
	}
	if len(line) < 3 {
		return 0
	}
	return max(number(line[:3]), 0)
}

func equalFold(b []byte, lower string) bool {
	for i := range b {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func number(b []byte) int {
	b = bytes.TrimSpace(b)
	if len(b) == 0 || len(b) > 9 {
		return -1
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// target returns the request target: the second word of a request line.
func target(line []byte) []byte {
	i := bytes.IndexByte(line, ' ')
	if i < 0 {
		return nil
	}
	line = line[i+1:]
	if i = bytes.IndexByte(line, ' '); i >= 0 {
		line = line[:i]
	}
	return line
}

// sessionID returns the part of a target after its last separator, plain or
// percent-encoded. The application part before it has separators of its own.
func sessionID(target []byte) []byte {
	for i := len(target) - 1; i >= 0; i-- {
		if target[i] == '/' {
			return target[i+1:]
		}
		if target[i] == '%' && i+2 < len(target) && target[i+1] == '2' && target[i+2]|0x20 == 'f' {
			return target[i+3:]
		}
	}
	return target
}
