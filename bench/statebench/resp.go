package main

import (
	"bytes"
	"strconv"
)

// What the load generator needs of RESP, the Redis protocol, so that one engine
// with one set of costs loads both kinds of server. A page is GET and SET there:
// Redis has no lock, and a session no timeout.

var lineEnd = []byte("\r\n")

// appendCommand appends a command up to where the body of size bytes begins.
func appendCommand(b []byte, op int, key []byte, size int) []byte {
	words := "*2\r\n"
	if storing(op) {
		words = "*3\r\n"
	}
	b = append(b, words...)
	b = appendBulk(b, [...]string{"SET", "SET", "GET", "GET", "EXISTS", "DEL"}[op])
	b = appendBulk(b, key)
	if storing(op) {
		b = append(b, '$')
		b = strconv.AppendInt(b, int64(size), 10)
		b = append(b, lineEnd...)
	}
	return b
}

func appendBulk[T string | []byte](b []byte, s T) []byte {
	b = append(b, '$')
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, lineEnd...)
	b = append(b, s...)
	return append(b, lineEnd...)
}

// parseReply reads the first line of a reply and says it in the state protocol's
// terms: nothing there is 404, an error 400. ok is false while it is incomplete.
func parseReply(b []byte) (a answer, ok bool) {
	end := bytes.Index(b, lineEnd)
	if end < 1 {
		return answer{}, false
	}
	a = answer{line: b[:end], size: end + len(lineEnd), status: 200}
	n := number(a.line[1:])
	switch a.line[0] {
	case '+':
	case ':':
		if n <= 0 {
			a.status = 404
		}
	case '$':
		if a.length, a.tail = n, lineEnd; n < 0 {
			a.status, a.length, a.tail = 404, 0, nil
		}
	default:
		a.status = 400
	}
	return a, true
}
