package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"syscall"
	"time"
)

const (
	opPut = iota
	opSave
	opGet
	opAcquire
	opHead
	opDelete
)

var opNames = [...]string{"PUT", "PUT with cookie", "GET", "GET acquire", "HEAD", "DELETE"}

func storing(op int) bool { return op == opPut || op == opSave }
func loading(op int) bool { return op == opGet || op == opAcquire }

// next sends the connection's next request, or ends it if it has none.
func (l *loadLoop) next(c *lconn) {
	if !l.choose(c) {
		l.end(c)
		return
	}
	c.data, c.tail = nil, nil
	size := 0
	if storing(c.op) {
		c.cur.turn++
		c.stamp, c.data = l.r.content(c.cur)
		size = l.r.cfg.body
	}
	if l.r.cfg.form == "resp" {
		c.hdr = appendCommand(c.hdr[:0], c.op, c.cur.target, size)
		if size > 0 {
			c.tail = lineEnd
		}
	} else {
		c.hdr = l.r.appendHead(c.hdr[:0], c.op, c.cur, size)
	}
	c.off, c.total = 0, len(c.hdr)+size+len(c.tail)
	c.in, c.inBody, c.got, c.wrong = c.in[:0], false, 0, false
	c.started = l.r.now()
	c.busy = true
	l.active++
	l.flush(c)
}

// choose picks session and verb; false means that nothing is left to do.
func (l *loadLoop) choose(c *lconn) bool {
	switch {
	case c.cur != nil && c.cur.cookie >= 0:
		c.op = opSave
		return true
	case l.r.phase.Load() >= phaseStop:
		if len(c.sessions) == 0 || l.r.cfg.keep {
			return false
		}
		c.cur, c.op = c.sessions[0], opDelete
		c.sessions = c.sessions[1:]
		return true
	case c.filling < len(c.sessions):
		c.cur = c.sessions[c.filling]
	default:
		c.cur = c.sessions[l.rng.IntN(len(c.sessions))]
	}
	switch {
	case !c.cur.stored || l.r.cfg.mix == "put":
		c.op = opPut
	case l.r.cfg.mix == "page":
		c.op = opAcquire
	case l.r.cfg.mix == "get":
		c.op = opGet
	default:
		c.op = opHead
	}
	return true
}

func (r *loadRun) appendHead(b []byte, op int, se *lsession, size int) []byte {
	b = append(b, [...]string{"PUT ", "PUT ", "GET ", "GET ", "HEAD ", "DELETE "}[op]...)
	b = append(b, se.target...)
	b = append(b, " HTTP/1.1\r\nHost: 10.0.0.5\r\n"...)
	switch {
	case op == opAcquire:
		b = append(b, "Exclusive: acquire\r\n"...)
	case storing(op):
		b = append(b, "Timeout:"...)
		b = strconv.AppendInt(b, int64(r.cfg.minutes), 10)
		b = append(b, "\r\nContent-Length:"...)
		b = strconv.AppendInt(b, int64(size), 10)
		b = append(b, "\r\nExtraFlags:0\r\n"...)
		if op == opSave {
			b = append(b, "LockCookie:"...)
			b = strconv.AppendInt(b, int64(se.cookie), 10)
			b = append(b, "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// content returns the stamp and the rest of the session's body.
func (r *loadRun) content(se *lsession) (stamp [stampSize]byte, rest []byte) {
	mixed := (uint64(se.number)<<32 | uint64(se.turn)) + r.cfg.seed
	mixed ^= mixed >> 31
	mixed *= 0x9E3779B97F4A7C15
	mixed ^= mixed >> 29
	copy(stamp[:], "SBDY\r\n\r\n")
	binary.LittleEndian.PutUint32(stamp[8:], se.number)
	binary.LittleEndian.PutUint32(stamp[12:], se.turn)
	binary.LittleEndian.PutUint64(stamp[16:], uint64(r.cfg.body))
	binary.LittleEndian.PutUint64(stamp[24:], mixed)
	at := int(mixed % (64 << 10))
	return stamp, r.pool[at : at+r.cfg.body-stampSize]
}

func (l *loadLoop) flush(c *lconn) bool {
	var stamp []byte
	if c.data != nil {
		stamp = c.stamp[:]
	}
	off, err := writeParts(c.fd, c.off, c.hdr, stamp, c.data, c.tail)
	if err != nil {
		l.fail(c, err.Error())
		return false
	}
	if c.off = off; off < c.total && !c.full {
		c.full = true
		l.p.mod(c.fd, syscall.EPOLLIN|syscall.EPOLLOUT)
	}
	return true
}

// answer is the head of a response, of either protocol.
type answer struct {
	line   []byte
	size   int // bytes of the head
	status int // in the state protocol's terms
	length int // of the body, -1 if it is not told
	cookie int
	tail   []byte // what follows the body
}

// parseAnswer reads the head of a response. ok is false while it is incomplete.
func (l *loadLoop) parseAnswer(b []byte) (a answer, ok bool) {
	if l.r.cfg.form == "resp" {
		return parseReply(b)
	}
	h, ok := parseHead(b)
	if !ok {
		return answer{}, false
	}
	return answer{line: h.line, size: h.size, status: status(h.line), length: h.length, cookie: h.lockCookie}, true
}

// input takes bytes of a response and reports whether the connection goes on
// with the same response or the next one.
func (l *loadLoop) input(c *lconn, b []byte) bool {
	l.bytes += uint64(len(b))
	if !c.inBody {
		if len(c.in) > 0 {
			c.in = append(c.in, b...)
			b = c.in
		}
		a, ok := l.parseAnswer(b)
		if !ok {
			if len(c.in) == 0 {
				c.in = append(c.in, b...)
			}
			if len(c.in) > 64<<10 {
				l.fail(c, "response head without end")
				return false
			}
			return true
		}
		if !l.judge(c, a) {
			return false
		}
		b = b[a.size:]
	}
	want := c.length + len(c.tail)
	if len(b) > want-c.got {
		l.mismatches++
		l.fail(c, "bytes after the response")
		return false
	}
	if want > 0 && loading(c.op) {
		c.wrong = c.wrong || !same(b, c.got, c.stamp[:], c.data, c.tail)
	}
	if c.got += len(b); c.got < want {
		return true
	}
	return l.done(c)
}

// judge takes in the head of a response and reports whether it is as it should
// be.
func (l *loadLoop) judge(c *lconn, a answer) bool {
	l.statuses[a.status]++
	c.length, c.cookie, c.tail = a.length, a.cookie, a.tail
	if c.op == opHead {
		c.length = 0
	}
	switch {
	case a.status != 200:
		l.fail(c, fmt.Sprintf("%s: %q", opNames[c.op], a.line))
		return false
	case c.length < 0:
		l.fail(c, "response without Content-Length")
		return false
	case loading(c.op) && c.length != l.r.cfg.body:
		l.mismatches++
		l.fail(c, fmt.Sprintf("body of %d bytes", c.length))
		return false
	case loading(c.op):
		c.stamp, c.data = l.r.content(c.cur)
	}
	c.inBody = true
	return true
}

// same reports whether b are the bytes from offset at on of the parts.
func same(b []byte, at int, parts ...[]byte) bool {
	for _, p := range parts {
		if at >= len(p) {
			at -= len(p)
			continue
		}
		n := min(len(b), len(p)-at)
		if !bytes.Equal(b[:n], p[at:at+n]) {
			return false
		}
		b, at = b[n:], 0
	}
	return len(b) == 0
}

// done ends a response that came in whole.
func (l *loadLoop) done(c *lconn) bool {
	if c.off < c.total {
		l.fail(c, "answer before the request was sent")
		return false
	}
	l.settle(c)
	if l.r.phase.Load() == phaseMeasure {
		l.count(c)
	}
	if c.wrong {
		l.mismatches++
		l.fail(c, "body of another session or turn")
		return false
	}
	se := c.cur
	switch {
	case storing(c.op):
		se.stored, se.cookie = true, -1
		if c.filling < len(c.sessions) && se == c.sessions[c.filling] {
			if c.filling++; c.filling == len(c.sessions) {
				l.r.connFilled()
			}
		}
	case c.op == opAcquire:
		if c.cookie < 0 {
			l.fail(c, "GET acquire without LockCookie")
			return false
		}
		se.cookie = c.cookie
	}
	l.turn(c)
	return true
}

// count notes the latency of a response, in the second that it came in.
func (l *loadLoop) count(c *lconn) {
	now := l.r.now()
	second := max(0, int((now-l.r.measured.Load())/int64(time.Second)))
	for second >= len(l.seconds) {
		l.seconds = append(l.seconds, &hist{})
	}
	l.seconds[second].add(now - c.started)
	l.requests++
}
