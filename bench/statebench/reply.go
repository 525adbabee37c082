package main

import (
	"bytes"
	"strconv"
	"syscall"
)

func (s *backend) locked(c *bconn, se *session) error {
	return s.replyWith(c, "423 Locked", "LockDate: 638000000000000000\r\nLockAge: 1\r\n", se.cookie, nil)
}

func (s *backend) reply(c *bconn, status string, cookie int, body *blob) error {
	return s.replyWith(c, status, "", cookie, body)
}

func (s *backend) replyWith(c *bconn, status, extra string, cookie int, body *blob) error {
	b := append(s.scratch[:0], "HTTP/1.1 "...)
	b = append(b, status...)
	b = append(b, "\r\nX-AspNet-Version: 4.0.30319\r\n"...)
	b = append(b, extra...)
	n := 0
	if body != nil {
		n = len(body.b)
		b = append(b, "Timeout: 20\r\n"...)
	}
	if cookie >= 0 {
		b = append(b, "LockCookie: "...)
		b = strconv.AppendInt(b, int64(cookie), 10)
		b = append(b, "\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, "\r\n\r\n"...)
	s.scratch = b
	var data []byte
	if body != nil {
		data = body.b
	}
	off, err := writeParts(c.fd, 0, b, data)
	if err != nil || off == len(b)+n {
		return err
	}
	c.out, c.off = bytes.Clone(b), off
	if c.tail = body; body != nil {
		body.pins++
	}
	return s.p.mod(c.fd, syscall.EPOLLOUT)
}

// flush sends on what replyWith could not.
func (s *backend) flush(c *bconn) (bool, error) {
	var data []byte
	if c.tail != nil {
		data = c.tail.b
	}
	off, err := writeParts(c.fd, c.off, c.out, data)
	if c.off = off; err != nil || off < len(c.out)+len(data) {
		return false, err
	}
	if c.tail != nil {
		c.tail.pins--
	}
	c.out, c.tail = nil, nil
	return true, nil
}
