package wire

import (
	"errors"
	"io"
)

// Reader reads messages from one connection through one buffer. The heads it
// returns point into the buffer and stay valid until the next call of
// ReadRequest, ReadResponse or Fill. Bytes behind a head wait in the buffer.
// It is not safe for concurrent use.
//
// Errors of the source are passed on as they are, but for io.EOF inside a
// message, which becomes io.ErrUnexpectedEOF; io.EOF itself means that the
// source ended between two messages.
type Reader struct {
	src        io.Reader
	buf        []byte
	start, end int // the bytes in the buffer that nobody has taken yet
	maxHead    int
}

// NewReader returns a reader with a buffer of size bytes, which grows to
// maxHead bytes when a head needs it. A longer head is refused.
func NewReader(src io.Reader, size, maxHead int) *Reader {
	return &Reader{src: src, buf: make([]byte, min(size, maxHead)), maxHead: maxHead}
}

// Reset forgets what is buffered and reads from src from now on.
func (r *Reader) Reset(src io.Reader) {
	r.src, r.start, r.end = src, 0, 0
}

// Buffered returns the bytes that were read and not taken yet.
func (r *Reader) Buffered() []byte { return r.buf[r.start:r.end] }

// ReadRequest reads the head of the next request.
func (r *Reader) ReadRequest(req *Request) error {
	for {
		n, err := ParseRequest(r.buf[r.start:r.end], req)
		if err == nil {
			r.start += n
			return nil
		}
		if err := r.more(err); err != nil {
			return err
		}
	}
}

// ReadResponse reads the head of the next response.
func (r *Reader) ReadResponse(resp *Response) error {
	for {
		n, err := ParseResponse(r.buf[r.start:r.end], resp)
		if err == nil {
			r.start += n
			return nil
		}
		if err := r.more(err); err != nil {
			return err
		}
	}
}

// more gets further bytes of an incomplete head.
func (r *Reader) more(err error) error {
	if !errors.Is(err, ErrIncomplete) {
		return err
	}
	return r.Fill()
}

// Fill reads once from the source into the buffer, behind what it holds. It
// refuses with HeadTooLong if maxHead bytes wait there already.
func (r *Reader) Fill() error {
	if r.end-r.start >= r.maxHead {
		return &SyntaxError{HeadTooLong, r.maxHead}
	}
	r.makeRoom()
	for range 100 { // as bufio does, for sources that return 0, nil
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		switch {
		case n > 0:
			return nil
		case err == io.EOF && r.start < r.end:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// makeRoom makes space behind end: by moving the bytes to the front, or if they
// fill the buffer by doubling it.
func (r *Reader) makeRoom() {
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.end < len(r.buf) {
		return
	}
	to := r.buf
	if r.start == 0 {
		to = make([]byte, max(min(2*len(r.buf), r.maxHead), len(r.buf)+1))
	}
	r.end = copy(to, r.buf[r.start:r.end])
	r.buf, r.start = to, 0
}

// Read reads from the buffer, or if that is empty from the source. With a
// length set by the caller, as io.LimitReader does, it streams a body. It knows
// no lengths, so the source's io.EOF comes as it is, even inside a body.
func (r *Reader) Read(p []byte) (int, error) {
	if r.start == r.end {
		return r.src.Read(p)
	}
	n := copy(p, r.buf[r.start:r.end])
	r.start += n
	return n, nil
}

// ReadBody appends n bytes of body to dst. It trusts n: the caller checks the
// length against its limit before. If the source ends early the error is
// io.ErrUnexpectedEOF and dst comes back as it was.
func (r *Reader) ReadBody(dst []byte, n int) ([]byte, error) {
	have := len(dst)
	if cap(dst)-have < n {
		grown := make([]byte, have, have+n)
		copy(grown, dst)
		dst = grown
	}
	dst = dst[:have+n]
	if _, err := io.ReadFull(r, dst[have:]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return dst[:have], err
	}
	return dst, nil
}
