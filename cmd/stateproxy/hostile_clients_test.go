//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"stateproxy/wire"
)

// attacks are the ways of hostile clients. Each kind comes from an address of its
// own, so many at a time, and rests a little between two attacks.
var attacks = []struct {
	kind    string
	clients int
	pause   time.Duration
	attack  func(*villain)
}{
	{"half-open", 40, time.Millisecond, (*villain).halfOpen},
	{"slow head", 40, time.Millisecond, (*villain).slowHead},
	{"slow body", 20, time.Millisecond, func(v *villain) { v.slowBody(200) }},
	{"slow stream", 20, time.Millisecond, func(v *villain) { v.slowBody(200 << 10) }},
	{"slow reader", 20, time.Millisecond, (*villain).slowReader},
	{"connect storm", 2, 2 * time.Millisecond, (*villain).connectStorm},
	{"reset storm", 2, 2 * time.Millisecond, (*villain).resetStorm},
	{"hoard", 1, time.Second, (*villain).hoard},
	{"pipeline", 2, 20 * time.Millisecond, (*villain).pipeline},
	{"smuggle", 2, 5 * time.Millisecond, (*villain).smuggle},
	{"fuzz", 4, 2 * time.Millisecond, (*villain).fuzz},
	{"lock and leave", 2, 10 * time.Millisecond, (*villain).lockAndLeave},
	{"no time", 2, 10 * time.Millisecond, (*villain).noTime},
}

// villain is one hostile client.
type villain struct {
	*hostile
	ctx  context.Context
	from string
	rng  *rand.Rand
	id   string
	n    int
}

func newRandom(i, j int) *rand.Rand { return rand.New(rand.NewPCG(uint64(i), uint64(j))) }

// pause waits. It returns false when the run is over.
func (v *villain) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-v.ctx.Done():
		return false
	}
}

// dial connects, nil if that fails or the run is over. The connection ends with
// the run.
func (v *villain) dial() *net.TCPConn {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(v.from)}, Timeout: 5 * time.Second}
	c, err := d.DialContext(v.ctx, "tcp", v.target)
	if err != nil {
		if end, _ := v.ctx.Deadline(); time.Now().Before(end) {
			v.t.Errorf("connect from %s: %v", v.from, err)
		}
		return nil
	}
	context.AfterFunc(v.ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	return c.(*net.TCPConn)
}

// session returns the target of another session of the villain's own.
func (v *villain) session() string {
	v.n++
	const app = "/LM/W3SVC/666/ROOT(oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5/HxWS854=)/"
	return string(wire.AppendEncoded(nil, fmt.Appendf(nil, "%s%sn%d", app, v.id, v.n)))
}

func putText(target, body string) string {
	return fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: h\r\nTimeout:1\r\nContent-Length:%d\r\nExtraFlags:0\r\n\r\n%s", target, len(body), body)
}

func getText(target, lines string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: h\r\n" + lines + "\r\n"
}

// gone reads until the proxy closes the connection, or the run is over.
func gone(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// halfOpen sends nothing, or half a head, and stays.
func (v *villain) halfOpen() {
	c := v.dial()
	if c == nil {
		return
	}
	defer c.Close()
	text := getText(v.session(), "")
	_, _ = io.WriteString(c, text[:v.rng.IntN(len(text))])
	gone(c)
}

// drip writes one byte a second until somebody has enough.
func (v *villain) drip(c net.Conn, text string) {
	for i := range len(text) {
		if _, err := io.WriteString(c, text[i:i+1]); err != nil || !v.pause(time.Second) {
			return
		}
	}
}

func (v *villain) slowHead() {
	if c := v.dial(); c != nil {
		defer c.Close()
		v.drip(c, getText(v.session(), ""))
	}
}

// slowBody drips the body of a save of n bytes.
func (v *villain) slowBody(n int) {
	c := v.dial()
	if c == nil {
		return
	}
	defer c.Close()
	head := putText(v.session(), "")
	_, _ = io.WriteString(c, strings.Replace(head, "Content-Length:0", fmt.Sprint("Content-Length:", n), 1))
	v.drip(c, strings.Repeat("x", n))
}

// slowReader asks for a large session again and again and reads little of it.
func (v *villain) slowReader() {
	c := v.dial()
	if c == nil {
		return
	}
	defer c.Close()
	_ = c.SetReadBuffer(4 << 10)
	target := v.session()
	_, _ = io.WriteString(c, putText(target, strings.Repeat("x", 512<<10)))
	_, _ = io.WriteString(c, strings.Repeat(getText(target, ""), 20)) // more than the system holds for it
	b := make([]byte, 1)
	for {
		if _, err := c.Read(b); err != nil || !v.pause(time.Second) {
			return
		}
	}
}

func (v *villain) connectStorm() {
	if c := v.dial(); c != nil {
		c.Close()
	}
}

// resetStorm goes away without a farewell, with or without a request.
func (v *villain) resetStorm() {
	c := v.dial()
	if c == nil {
		return
	}
	_ = c.SetLinger(0)
	if v.rng.IntN(2) == 0 {
		_, _ = io.WriteString(c, putText(v.session(), "x"))
	}
	c.Close()
}

// hoard opens more connections than a client may have.
func (v *villain) hoard() {
	var open []net.Conn
	for range 300 {
		if c := v.dial(); c != nil {
			open = append(open, c)
		}
	}
	v.pause(2 * time.Second)
	for _, c := range open {
		c.Close()
	}
}

// pipeline sends many requests at once, and wants each answered in its turn.
func (v *villain) pipeline() {
	c := v.dial()
	if c == nil {
		return
	}
	defer c.Close()
	var text strings.Builder
	const n = 50
	for range n {
		target := v.session()
		text.WriteString(putText(target, target) + getText(target, ""))
	}
	_, _ = io.WriteString(c, text.String())
	r := wire.NewReader(c, 4<<10, wire.DefaultMaxHead)
	v.n -= n
	for range n {
		target := v.session()
		for _, verb := range []wire.Verb{wire.PUT, wire.GET} {
			var resp wire.Response
			if err := r.ReadResponse(&resp); err != nil {
				return // the run is over, or the backend was slow for a moment
			}
			body, err := r.ReadBody(nil, resp.BodyLen(verb))
			if err == nil && verb == wire.GET && resp.Status == wire.StatusOK && string(body) != target {
				v.t.Errorf("a pipelined GET got the body %q; want %q", body, target)
			}
		}
	}
}

// smuggled are beginnings that may hide what comes behind them. %s is a target.
var smuggled = []string{
	"PUT %s HTTP/1.1\r\nContent-Length:5\r\nContent-Length:0\r\n\r\n",
	"PUT %s HTTP/1.1\r\nContent-Length:0,5\r\n\r\n",
	"PUT %s HTTP/1.1\r\nContent-Length:-1\r\n\r\n",
	"PUT %s HTTP/1.1\r\nContent-Length:+0\r\n\r\n",
	"PUT %s HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n",
	"PUT %s HTTP/1.1\r\nContent-Length:99999999999999999999\r\n\r\n",
	"PUT %s HTTP/1.1\r\nContent-Length:2147483647\r\n\r\n",
	"PUT %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"PUT %s HTTP/1.1\r\nContent-Length:0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"GET %s HTTP/1.1\r\nContent-Length:1000000\r\n\r\n",
	"GET %s HTTP/1.1\nHost: h\n\n",
	"GET %s HTTP/1.1\r\nHost: h\n\r\n",
	"GET %s HTTP/1.1\r\nHost: h\r\r\n\r\n",
	"GET %s HTTP/1.1\r\n Host: h\r\n\r\n",
	"GET %s HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n",
	"GET %s HTTP/1.1\r\nHost: h\x00\r\n\r\n",
	"GET %s HTTP/1.1\r\nExclusive: acquire\r\nExclusive: release\r\n\r\n",
	"GET %s HTTP/1.1\r\nStateproxy-Budget: 9\r\nStateproxy-Budget: 9\r\n\r\n",
	"GET %s  HTTP/1.1\r\n\r\n",
	"POST %s HTTP/1.1\r\nContent-Length:0\r\n\r\n",
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03%s\r\n\r\n",
}

// smuggle sends a save behind a beginning after which nothing may be read as a
// request, and then looks whether it was.
func (v *villain) smuggle() {
	c := v.dial()
	if c == nil {
		return
	}
	defer c.Close()
	hidden := v.session()
	beginning := smuggled[v.rng.IntN(len(smuggled))]
	_, _ = io.WriteString(c, fmt.Sprintf(beginning, v.session())+putText(hidden, "smuggled"))
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	gone(c)
	clean := v.dial()
	if clean == nil {
		return
	}
	defer clean.Close()
	_, _ = io.WriteString(clean, getText(hidden, ""))
	b := make([]byte, 512)
	if n, err := clean.Read(b); err == nil && bytes.HasPrefix(b[:n], []byte("200 ")) {
		v.t.Errorf("what was hidden behind %q was taken for a request", beginning)
	}
}

// fuzz sends requests that chance has changed.
func (v *villain) fuzz() {
	c := v.dial()
	if c == nil {
		return
	}
	defer c.Close()
	target := v.session()
	b := []byte(putText(target, "body of it") + getText(target, "Exclusive: acquire\r\n") + getText(target, "Exclusive: release\r\nLockCookie:2\r\n"))
	for range 1 + v.rng.IntN(4) {
		at := v.rng.IntN(len(b))
		switch v.rng.IntN(4) {
		case 0:
			b[at] = byte(v.rng.IntN(256))
		case 1:
			b = append(b[:at], b[min(len(b), at+1+v.rng.IntN(8)):]...)
		case 2:
			b = append(b, b[at:]...)
		case 3:
			b = append(b[:at], append([]byte("\r\n"), b[at:]...)...)
		}
		if len(b) == 0 {
			return
		}
	}
	_, _ = c.Write(b)
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	gone(c)
}

// lockAndLeave takes a lock and is gone before the answer comes.
func (v *villain) lockAndLeave() {
	c := v.dial()
	if c == nil {
		return
	}
	_ = c.SetLinger(0)
	target := v.session()
	_, _ = io.WriteString(c, putText(target, "x")+getText(target, "Exclusive: acquire\r\n"))
	c.Close()
}

// noTime asks as a proxy would that leaves hardly any time, for sessions and for
// what is none.
func (v *villain) noTime() {
	c := v.dial()
	if c == nil {
		return
	}
	defer c.Close()
	for _, target := range []string{v.session(), "%2fstateproxy%2fproxy", "%2fstateproxy%2fsentinel"} {
		_, _ = io.WriteString(c, getText(target, fmt.Sprintf("Stateproxy-Budget: %d\r\n", v.rng.IntN(10))))
	}
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	gone(c)
}
