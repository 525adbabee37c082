package wire_test

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"stateproxy/wire"
)

const (
	getHead = "GET %2fa HTTP/1.1\r\nHost: localhost\r\n\r\n"
	putHead = "PUT %2fa HTTP/1.1\r\nHost: localhost\r\nContent-Length:7\r\n\r\n"
	okHead  = "200 OK\r\nContent-Length: 7\r\n\r\n"
	body    = "\x14\x00\x00\x00\x00\x00\xff"
)

// chunks is a source that gives one chunk for each Read, an empty one as 0, nil.
// At the end it gives err, or io.EOF.
type chunks struct {
	left  []string
	err   error
	reads int
}

func (c *chunks) Read(p []byte) (int, error) {
	c.reads++
	if len(c.left) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		return 0, io.EOF
	}
	n := copy(p, c.left[0])
	if c.left[0] = c.left[0][n:]; c.left[0] == "" {
		c.left = c.left[1:]
	}
	return n, nil
}

func TestReaderEnds(t *testing.T) {
	reset := errors.New("connection reset")
	tests := []struct {
		name string
		src  io.Reader
		want error // of the second head, or of the first if that is none
	}{
		{"no byte", strings.NewReader(""), io.EOF},
		{"between messages", strings.NewReader(getHead), io.EOF},
		{"between messages, told with the last bytes", iotest.DataErrReader(strings.NewReader(getHead)), io.EOF},
		{"inside the first head", strings.NewReader("GET"), io.ErrUnexpectedEOF},
		{"inside the second head", strings.NewReader(getHead + "G"), io.ErrUnexpectedEOF},
		{"before the last byte", strings.NewReader(getHead + getHead[:len(getHead)-1]), io.ErrUnexpectedEOF},
		{"error between messages", &chunks{left: []string{getHead}, err: reset}, reset},
		{"error inside a head", &chunks{left: []string{getHead, "GET"}, err: reset}, reset},
		{"closed pipe", &chunks{left: []string{getHead}, err: io.ErrClosedPipe}, io.ErrClosedPipe},
		{"nothing, again and again", &chunks{left: append([]string{getHead, "GET"}, make([]string, 1000)...)}, io.ErrNoProgress},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := wire.NewReader(tt.src, 64, wire.DefaultMaxHead)
			var req wire.Request
			err := r.ReadRequest(&req)
			if err == nil {
				err = r.ReadRequest(&req)
			}
			if err != tt.want {
				t.Errorf("ReadRequest = %v; want %v", err, tt.want)
			}
		})
	}
}

func TestReaderResponseEnds(t *testing.T) {
	tests := []struct {
		in   string
		want error
	}{
		{"", io.EOF},
		{"2", io.ErrUnexpectedEOF},
		{okHead[:len(okHead)-1], io.ErrUnexpectedEOF},
		{okHead, nil},
	}
	for _, tt := range tests {
		r := wire.NewReader(strings.NewReader(tt.in), 8, wire.DefaultMaxHead)
		var resp wire.Response
		if err := r.ReadResponse(&resp); err != tt.want {
			t.Errorf("ReadResponse of %q = %v; want %v", tt.in, err, tt.want)
		}
	}
}

// A source may give nothing some times before it gives something.
func TestReaderWaitsForEmptyReads(t *testing.T) {
	r := wire.NewReader(&chunks{left: []string{"", "GET", "", "", getHead[3:]}}, 64, wire.DefaultMaxHead)
	var req wire.Request
	if err := r.ReadRequest(&req); err != nil || string(req.Head) != getHead {
		t.Errorf("ReadRequest = %v with head %q; want %q", err, req.Head, getHead)
	}
}

func TestReaderKeepsPipelinedBytes(t *testing.T) {
	src := &chunks{left: []string{putHead + body + getHead + "HEAD"}}
	r := wire.NewReader(src, 1024, 1024)
	var req wire.Request
	if err := r.ReadRequest(&req); err != nil {
		t.Fatal(err)
	}
	if got, want := string(r.Buffered()), body+getHead+"HEAD"; got != want {
		t.Errorf("Buffered behind the first head = %q; want %q", got, want)
	}
	if got, err := r.ReadBody([]byte("x"), req.BodyLen()); err != nil || string(got) != "x"+body {
		t.Errorf("ReadBody = %q, %v; want %q", got, err, "x"+body)
	}
	if string(req.Head) != putHead {
		t.Errorf("head after ReadBody = %q; want %q", req.Head, putHead)
	}
	if err := r.ReadRequest(&req); err != nil || string(req.Head) != getHead {
		t.Errorf("second ReadRequest = %v with head %q; want %q", err, req.Head, getHead)
	}
	if got := string(r.Buffered()); got != "HEAD" || src.reads != 1 {
		t.Errorf("Buffered = %q after %d reads of the source; want HEAD after 1", got, src.reads)
	}
}

func TestReaderReset(t *testing.T) {
	r := wire.NewReader(strings.NewReader("GET left over"), 64, 64)
	if err := r.Fill(); err != nil {
		t.Fatal(err)
	}
	r.Reset(strings.NewReader(getHead))
	if got := r.Buffered(); len(got) != 0 {
		t.Errorf("Buffered after Reset = %q; want nothing", got)
	}
	var req wire.Request
	if err := r.ReadRequest(&req); err != nil || string(req.Head) != getHead {
		t.Errorf("ReadRequest after Reset = %v with head %q; want %q", err, req.Head, getHead)
	}
}

// Small buffers have to grow and to move their bytes. None may be lost, and no
// buffer may become larger than the longest head.
func TestReaderGrows(t *testing.T) {
	var stream []byte
	var want []string
	for i := range 50 {
		head := "GET %2f" + strings.Repeat("a", i*7%90) + strconv.Itoa(i) + " HTTP/1.1\r\n\r\n"
		stream, want = append(stream, head...), append(want, head)
	}
	sources := map[string]func(io.Reader) io.Reader{
		"whole":  func(r io.Reader) io.Reader { return r },
		"halves": iotest.HalfReader,
		"bytes":  iotest.OneByteReader,
	}
	for name, source := range sources {
		for _, size := range []int{0, 1, 7, 64, 4096} {
			t.Run(name+"/"+strconv.Itoa(size), func(t *testing.T) {
				const maxHead = 128
				r := wire.NewReader(source(bytes.NewReader(stream)), size, maxHead)
				var req wire.Request
				for i, head := range want {
					if err := r.ReadRequest(&req); err != nil || string(req.Head) != head {
						t.Fatalf("ReadRequest %d = %v with head %q; want %q", i, err, req.Head, head)
					}
					if got := cap(req.Head); got > maxHead {
						t.Fatalf("buffer behind head %d has %d bytes; want at most %d", i, got, maxHead)
					}
				}
				if err := r.ReadRequest(&req); err != io.EOF {
					t.Errorf("ReadRequest behind the last = %v; want EOF", err)
				}
			})
		}
	}
}

func TestReaderHeadTooLong(t *testing.T) {
	const maxHead = 100
	headOf := func(n int) string {
		const empty = "GET a HTTP/1.1\r\nX:\r\n\r\n"
		return strings.Replace(empty, "X:", "X:"+strings.Repeat("x", n-len(empty)), 1)
	}
	tests := []struct {
		name string
		in   string
		ok   bool
	}{
		{"one byte less", headOf(maxHead - 1), true},
		{"the bound", headOf(maxHead), true},
		{"one byte more", headOf(maxHead + 1), false},
		{"far more", headOf(100 * maxHead), false},
		{"no line ever ends", strings.Repeat("G", 100*maxHead), false},
		{"lines without end", "GET a HTTP/1.1\r\n" + strings.Repeat("X:\r\n", 100*maxHead), false},
	}
	for _, tt := range tests {
		for _, size := range []int{1, 64, maxHead, 4096} {
			t.Run(tt.name+"/"+strconv.Itoa(size), func(t *testing.T) {
				src := strings.NewReader(tt.in + body)
				r := wire.NewReader(src, size, maxHead)
				var req wire.Request
				err := r.ReadRequest(&req)
				if tt.ok {
					if err != nil || string(req.Head) != tt.in {
						t.Errorf("ReadRequest of %d bytes = %v; want nil", len(tt.in), err)
					}
					return
				}
				want := wire.SyntaxError{Reason: wire.HeadTooLong, Offset: maxHead}
				if got := refusal(t, err); got != want {
					t.Errorf("ReadRequest of %d bytes = %v; want %v", len(tt.in), &got, &want)
				}
				if read := int(src.Size()) - src.Len(); read > maxHead {
					t.Errorf("ReadRequest took %d bytes of a head without end; want at most %d", read, maxHead)
				}
			})
		}
	}
}

// The bound holds for responses too, and behind bytes that were taken.
func TestReaderBoundsLaterHeads(t *testing.T) {
	long := "200 OK\r\nX:" + strings.Repeat("x", 200)
	r := wire.NewReader(strings.NewReader(okHead+body+long), 16, 100)
	var resp wire.Response
	if err := r.ReadResponse(&resp); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadBody(nil, len(body)); err != nil {
		t.Fatal(err)
	}
	if got := refusal(t, r.ReadResponse(&resp)); got.Reason != wire.HeadTooLong {
		t.Errorf("ReadResponse = %v; want %v", &got, wire.HeadTooLong)
	}
}

func TestReaderFill(t *testing.T) {
	src := &chunks{left: []string{"ab", "c", "defgh"}}
	r := wire.NewReader(src, 2, 8)
	for _, want := range []string{"ab", "abc", "abcd", "abcdefgh"} {
		if err := r.Fill(); err != nil || string(r.Buffered()) != want {
			t.Fatalf("Fill = %v with %q buffered; want %q", err, r.Buffered(), want)
		}
	}
	reads := src.reads
	if got := refusal(t, r.Fill()); got.Reason != wire.HeadTooLong || src.reads != reads {
		t.Errorf("Fill of a full buffer = %v after %d reads; want %v without a read", &got, src.reads-reads, wire.HeadTooLong)
	}
}

func TestReadBodyEndsEarly(t *testing.T) {
	tests := []struct {
		name string
		src  *chunks
		want error
	}{
		{"at once", &chunks{left: []string{putHead}}, io.ErrUnexpectedEOF},
		{"one byte early", &chunks{left: []string{putHead + body[:6]}}, io.ErrUnexpectedEOF},
		{"one byte early, in two reads", &chunks{left: []string{putHead + body[:3], body[3:6]}}, io.ErrUnexpectedEOF},
		{"reset", &chunks{left: []string{putHead + body[:6]}, err: io.ErrClosedPipe}, io.ErrClosedPipe},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := wire.NewReader(tt.src, 256, 256)
			var req wire.Request
			if err := r.ReadRequest(&req); err != nil {
				t.Fatal(err)
			}
			got, err := r.ReadBody([]byte("kept"), req.BodyLen())
			if err != tt.want || string(got) != "kept" {
				t.Errorf("ReadBody = %q, %v; want kept, %v", got, err, tt.want)
			}
		})
	}
}

// A body without bytes asks nothing of the source, which may have none to give.
func TestReadBodyEmpty(t *testing.T) {
	src := &chunks{}
	r := wire.NewReader(src, 16, 16)
	if got, err := r.ReadBody(nil, 0); len(got) != 0 || err != nil || src.reads != 0 {
		t.Errorf("ReadBody(nil, 0) = %q, %v after %d reads; want nothing, nil, none", got, err, src.reads)
	}
}

func TestReadBodyUsesRoom(t *testing.T) {
	r := wire.NewReader(strings.NewReader(body), 4, 4)
	room := make([]byte, 0, len(body))
	got, err := r.ReadBody(room, len(body))
	if err != nil || string(got) != body || &got[0] != &room[:1][0] {
		t.Errorf("ReadBody = %q, %v; want %q in the room given", got, err, body)
	}
}

// A body streams through Read: what is buffered first, then the source's bytes
// past the buffer, and the next message is left alone.
func TestReaderStreams(t *testing.T) {
	large := strings.Repeat("0123456789", 1000)
	head := strings.Replace(putHead, ":7", ":10000", 1)
	r := wire.NewReader(iotest.DataErrReader(strings.NewReader(head+large+getHead)), 128, 256)
	var req wire.Request
	if err := r.ReadRequest(&req); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.LimitReader(r, int64(req.BodyLen())))
	if err != nil || string(got) != large {
		t.Errorf("stream = %d bytes, %v; want the %d of the body", len(got), err, len(large))
	}
	if string(req.Head) != head {
		t.Errorf("head after the stream = %q; want %q", req.Head, head)
	}
	if err := r.ReadRequest(&req); err != nil || string(req.Head) != getHead {
		t.Errorf("ReadRequest behind the stream = %v with head %q; want %q", err, req.Head, getHead)
	}
}

// Read passes the source's errors on, io.EOF inside a body included.
func TestReaderReadEnds(t *testing.T) {
	r := wire.NewReader(strings.NewReader(putHead+body[:3]), 128, 128)
	var req wire.Request
	if err := r.ReadRequest(&req); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 7)
	if n, err := r.Read(p); n != 3 || err != nil {
		t.Errorf("Read = %d, %v; want 3, nil", n, err)
	}
	if n, err := r.Read(p); n != 0 || err != io.EOF {
		t.Errorf("Read at the end = %d, %v; want 0, EOF", n, err)
	}
}
