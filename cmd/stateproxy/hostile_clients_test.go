//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"time"

	"stateproxy/wire"
)

// attacks are the ways of hostile clients. Each kind comes from an address of its
// own, so many at a time, and rests a little between two attacks. What it is there
// for must come of some of them.
var attacks = []struct {
	kind    string
	clients int
	pause   time.Duration
	attack  func(*villain)
	want    string
}{
	{"half-open", 40, time.Millisecond, (*villain).halfOpen, closed},
	{"slow head", 40, time.Millisecond, (*villain).slowHead, closed},
	{"slow body", 20, time.Millisecond, func(v *villain) { v.slowBody(200) }, closed},
	{"slow stream", 20, time.Millisecond, func(v *villain) { v.slowBody(200 << 10) }, closed},
	{"slow reader", 20, time.Millisecond, (*villain).slowReader, ""},
	{"connect storm", 4, time.Millisecond, (*villain).connectStorm, ""},
	{"reset storm", 4, time.Millisecond, (*villain).resetStorm, ""},
	{"hoard", 1, time.Second, (*villain).hoard, closed},
	{"flood", 4, time.Millisecond, (*villain).flood, "answered"},
	{"endless head", 2, 50 * time.Millisecond, (*villain).endlessHead, closed},
	{"pipeline", 2, 20 * time.Millisecond, (*villain).pipeline, "answered in turn"},
	{"smuggle", 2, 10 * time.Millisecond, (*villain).smuggle, "hidden save not done"},
	{"fuzz", 4, 2 * time.Millisecond, (*villain).fuzz, closed},
	{"lock and leave", 2, 10 * time.Millisecond, (*villain).lockAndLeave, "lock free again"},
	{"no time", 2, 10 * time.Millisecond, (*villain).noTime, "answered"},
}

// closed is that the proxy ended the connection.
const closed = "closed by the proxy"

// villain is one hostile client.
type villain struct {
	*hostile
	ctx  context.Context
	kind string
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

// saw counts what came of an attack.
func (v *villain) saw(what string) { v.met(v.kind, what, 1) }

// gone reads until the proxy closes the connection, or a deadline or the run is
// over. It returns how much came.
func (v *villain) gone(c net.Conn) int64 {
	n, err := io.Copy(io.Discard, c)
	v.ended(err)
	return n
}

// ended counts the proxy's end of a connection, if err is one.
func (v *villain) ended(err error) {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		v.saw(closed)
	}
}

// halfOpen sends nothing, or half a head, and stays.
func (v *villain) halfOpen() {
	c := v.dial()
	if c == nil {
		return
	}
	defer c.Close()
	text := getText(v.session(), "")
	_, _ = io.WriteString(c, text[:v.rng.IntN(len(text))])
	v.gone(c)
}

// drip writes one byte a second until somebody has enough.
func (v *villain) drip(c net.Conn, text string) {
	for i := range len(text) {
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			v.ended(err)
			return
		}
		if !v.pause(time.Second) {
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

// slowReader asks for a large session again and again and reads little of it. What
// the system still holds for it hides that the proxy has cut it off.
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
	for range 8 {
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
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		v.gone(c)
		c.Close()
	}
}

// flood sends requests as fast as the proxy takes them.
func (v *villain) flood() {
	c := v.dial()
	if c == nil {
		return
	}
	const n = 5000
	target := v.session()
	poured := make(chan struct{})
	go func() {
		defer close(poured)
		for range n / 100 {
			if _, err := io.WriteString(c, strings.Repeat(getText(target, ""), 100)); err != nil {
				return
			}
		}
	}()
	r := wire.NewReader(c, 4<<10, wire.DefaultMaxHead)
	for range n {
		var resp wire.Response
		if err := r.ReadResponse(&resp); err != nil {
			v.ended(err)
			break
		}
		if resp.Status == wire.StatusNotFound {
			v.saw("answered")
		} else {
			v.saw(fmt.Sprint("answered with ", resp.Status))
		}
	}
	c.Close()
	<-poured
}

// endlessHead sends headers without an end.
func (v *villain) endlessHead() {
	c := v.dial()
	if c == nil {
		return
	}
	defer c.Close()
	_, err := io.WriteString(c, strings.TrimSuffix(getText(v.session(), ""), "\r\n"))
	for line := strings.Repeat("X: y\r\n", 1000); err == nil; {
		_, err = io.WriteString(c, line)
	}
	v.ended(err)
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
			switch {
			case err != nil || verb != wire.GET || resp.Status != wire.StatusOK:
			case string(body) != target:
				v.t.Errorf("a pipelined GET got the body %q; want %q", body, target)
			default:
				v.saw("answered in turn")
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
	v.gone(c)
	switch status := v.status(getText(hidden, "")); status {
	case wire.StatusOK:
		v.t.Errorf("what was hidden behind %q was taken for a request", beginning)
	case wire.StatusNotFound:
		v.saw("hidden save not done")
	}
}

// status returns the status of the answer to a GET on a connection of its own, 0
// if there is none.
func (v *villain) status(text string) int {
	c := v.dial()
	if c == nil {
		return 0
	}
	defer c.Close()
	_, _ = io.WriteString(c, text)
	var resp wire.Response
	if err := wire.NewReader(c, 4<<10, wire.DefaultMaxHead).ReadResponse(&resp); err != nil {
		return 0
	}
	return resp.Status
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
	if v.gone(c) > 0 {
		v.saw("answered")
	}
}

// lockAndLeave takes a lock and is gone before the answer comes. Then it looks how
// long nobody else gets the lock.
func (v *villain) lockAndLeave() {
	c := v.dial()
	if c == nil {
		return
	}
	_ = c.SetLinger(0)
	target := v.session()
	_, _ = io.WriteString(c, putText(target, "x"))
	var resp wire.Response
	if err := wire.NewReader(c, 4<<10, wire.DefaultMaxHead).ReadResponse(&resp); err != nil {
		c.Close()
		return
	}
	_, _ = io.WriteString(c, getText(target, "Exclusive: acquire\r\n"))
	if v.rng.IntN(2) == 0 {
		v.pause(time.Duration(v.rng.IntN(1000)) * time.Microsecond)
	}
	c.Close()
	v.pause(50 * time.Millisecond)
	switch v.status(getText(target, "Exclusive: acquire\r\n")) {
	case wire.StatusOK:
		v.saw("lock free again")
	case wire.StatusLocked:
		v.saw("locked")
	}
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
	if v.gone(c) > 0 {
		v.saw("answered")
	}
}
