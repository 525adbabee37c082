package wire_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"testing"
	"unicode/utf8"

	"stateproxy/wire"
)

// The grammar of heads a second time, as plainly as can be. Values may hold any
// byte above 0x7f, and the class of what they may not hold lets those through.
var (
	headerLines  = "(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\\x00-\\x08\\x0a-\\x1f\\x7f]*\\r\\n)*\\r\\n"
	requestHead  = regexp.MustCompile(`^(?:GET|PUT|DELETE|HEAD) [!-~]+ HTTP/1\.[01]\r\n` + headerLines)
	responseHead = regexp.MustCompile(`^(?:HTTP/1\.[0-9] )?[1-9][0-9]{2}(?: [^\x00-\x08\x0a-\x1f\x7f]*)?\r\n` + headerLines)
	lengthLine   = regexp.MustCompile(`(?i)\r\ncontent-length:`)
	codingLine   = regexp.MustCompile(`(?i)\r\ntransfer-encoding:`)
)

// tails are things that may come behind a head, or be the rest of one.
var tails = []string{"\n", "\r\n", "\r\n\r\n", "\x00", "x: y\r\n\r\n", getHead, okHead}

func FuzzParseRequest(f *testing.F) {
	for _, v := range loadVectors(f).Requests {
		f.Add(v.B64)
	}
	f.Add([]byte("GET %2fa HTTP/1.1\r\nHost: a\r\nStateproxy-Budget: 7750\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var req wire.Request
		parse := func(b []byte) (int, error) { return wire.ParseRequest(b, &req) }
		checkParser(t, b, parse)
		checkGrammar(t, b, requestHead, parse, []wire.Reason{wire.BadLineEnding, wire.BadRequestLine, wire.BadVerb, wire.BadTarget})

		n, err := parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(req.Head, b[:n]) {
			t.Fatalf("Head = %q; want the first %d bytes", req.Head, n)
		}
		if req.BodyLen() > 0 && req.CloseAfter() {
			t.Fatalf("BodyLen = %d and CloseAfter; want one of them at most", req.BodyLen())
		}
		checkRequestAgain(t, &req)
		if req.HasBudget() {
			checkWithoutBudget(t, bytes.Clone(b[:n]), req)
		}
	})
}

// checkWithoutBudget takes the budget out of head, from which r was parsed, and
// wants the rest to be the same request.
func checkWithoutBudget(t *testing.T, head []byte, r wire.Request) {
	t.Helper()
	want := wire.AppendRequest(nil, &r)
	rest := r.WithoutBudget(head)
	var again wire.Request
	if n, err := wire.ParseRequest(rest, &again); err != nil || n != len(rest) || again.HasBudget() {
		t.Fatalf("ParseRequest(%q) = %d, %v, HasBudget %v; want all of it, without a budget", rest, n, err, again.HasBudget())
	}
	if got := wire.AppendRequest(nil, &again); !bytes.Equal(got, want) {
		t.Fatalf("without the budget the request is %q; want %q", got, want)
	}
}

// checkRequestAgain writes req, reads that, and wants the same fields.
func checkRequestAgain(t *testing.T, req *wire.Request) {
	t.Helper()
	written := wire.AppendRequest(nil, req)
	var again wire.Request
	if n, err := wire.ParseRequest(written, &again); err != nil || n != len(written) {
		t.Fatalf("ParseRequest(%q) = %d, %v; want %d, nil", written, n, err, len(written))
	}
	if len(req.Host) == 0 {
		req.Host = []byte("localhost") // what is written for none
	}
	type fields struct {
		verb                                    wire.Verb
		op                                      wire.Op
		target, host                            string
		exclusive                               wire.Exclusive
		cookie, timeout, extraFlags, contentLen wire.Int
	}
	of := func(r *wire.Request) fields {
		return fields{r.Verb, r.Op(), string(r.Target), string(r.Host), r.Exclusive, r.LockCookie, r.Timeout, r.ExtraFlags, r.ContentLength}
	}
	if got, want := of(&again), of(req); got != want {
		t.Fatalf("request written and read again = %+v; want %+v", got, want)
	}
	if twice := wire.AppendRequest(nil, &again); !bytes.Equal(twice, written) {
		t.Fatalf("request written twice = %q; want %q", twice, written)
	}
}

func FuzzParseResponse(f *testing.F) {
	for _, v := range loadVectors(f).Responses {
		f.Add(v.B64)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var resp wire.Response
		parse := func(b []byte) (int, error) { return wire.ParseResponse(b, &resp) }
		checkParser(t, b, parse)
		checkGrammar(t, b, responseHead, parse, []wire.Reason{wire.BadStatusLine})

		n, err := parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(resp.Head, b[:n]) {
			t.Fatalf("Head = %q; want the first %d bytes", resp.Head, n)
		}
		written := wire.AppendResponse(nil, &resp)
		var again wire.Response
		if n, err := wire.ParseResponse(written, &again); err != nil || n != len(written) {
			t.Fatalf("ParseResponse(%q) = %d, %v; want %d, nil", written, n, err, len(written))
		}
		if len(resp.Reason) == 0 {
			resp.Reason = again.Reason // the usual one is written for none
		}
		if got, want := fieldsOf(&again), fieldsOf(&resp); got != want {
			t.Fatalf("response written and read again = %+v; want %+v", got, want)
		}
	})
}

type responseFields struct {
	status                                    int
	reason, version                           string
	flags, date, age, cookie, timeout, length wire.Int
	versionCheck                              bool
	asGet, asSet                              wire.Effect
	bodyOfGet, bodyOfHead                     int
}

func fieldsOf(r *wire.Response) responseFields {
	return responseFields{
		r.Status, string(r.Reason), string(r.AspNetVersion),
		r.ActionFlags, r.LockDate, r.LockAge, r.LockCookie, r.Timeout, r.ContentLength,
		r.PassesVersionCheck(), r.Effect(wire.OpGet), r.Effect(wire.OpSet), r.BodyLen(wire.GET), r.BodyLen(wire.HEAD),
	}
}

// checkParser checks what holds for any parser of heads: its result depends on
// the head's bytes alone, whatever follows and wherever reads cut it.
func checkParser(t *testing.T, b []byte, parse func([]byte) (int, error)) {
	t.Helper()
	n, err := parse(b)
	var syntax *wire.SyntaxError
	refused := errors.As(err, &syntax)
	switch {
	case err == nil && (n <= 0 || n > len(b)):
		t.Fatalf("parse = %d, nil; want a length of 1 to %d", n, len(b))
	case err != nil && n != 0:
		t.Fatalf("parse = %d, %v; want nothing beside an error", n, err)
	case refused && (syntax.Offset < 0 || syntax.Offset > len(b)):
		t.Fatalf("parse fails at byte %d; want 0 to %d", syntax.Offset, len(b))
	case err != nil && !refused && err != wire.ErrIncomplete:
		t.Fatalf("parse = %v; want ErrIncomplete or a *SyntaxError", err)
	}
	whole := b
	if err == nil {
		whole = b[:n]
	}
	for k := range whole {
		switch _, prefixErr := parse(whole[:k]); {
		case refused && prefixErr == nil:
			t.Fatalf("parse(first %d bytes) = nil; want no success before %v", k, err)
		case !refused && prefixErr != wire.ErrIncomplete:
			t.Fatalf("parse(first %d bytes) = %v; want ErrIncomplete", k, prefixErr)
		}
	}
	if err == wire.ErrIncomplete {
		return
	}
	for _, tail := range tails {
		tailN, tailErr := parse(append(slices.Clip(whole), tail...))
		if refused != errors.As(tailErr, &syntax) || tailN != n {
			t.Fatalf("parse with %q behind = %d, %v; want %d, %v", tail, tailN, tailErr, n, err)
		}
	}
}

// checkGrammar holds the parser against the expression for a head. byGrammar are
// the reasons that can't be given for a head that fits it.
func checkGrammar(t *testing.T, b []byte, head *regexp.Regexp, parse func([]byte) (int, error), byGrammar []wire.Reason) {
	t.Helper()
	n, err := parse(b)
	match := head.Find(b)
	var syntax *wire.SyntaxError
	switch {
	case err == nil && len(match) != n:
		t.Fatalf("parse = %d; want %d, as the grammar has it", n, len(match))
	case err == nil && (len(lengthLine.FindAll(match, -1)) > 1 || codingLine.Match(match)):
		t.Fatalf("parse takes %q; want no second length and no transfer coding", match)
	case err == wire.ErrIncomplete && match != nil:
		t.Fatalf("parse = %v; want a verdict on the %d bytes of a head", err, len(match))
	case errors.As(err, &syntax) && match != nil && slices.Contains(byGrammar, syntax.Reason):
		t.Fatalf("parse = %v; want no such fault in a head that fits the grammar", err)
	}
}

func FuzzTarget(f *testing.F) {
	for _, v := range loadVectors(f).Requests {
		var req wire.Request
		if _, err := wire.ParseRequest(v.B64, &req); err == nil {
			f.Add(req.Target)
		}
	}
	for _, s := range []string{"%ud83d%ude00", "%ude00%ud83d%u0041", "//%2", "%c3%u00e9%a9", "%ed%a0%bd%ude00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, target []byte) {
		key := wire.ParseTarget(nil, target)
		checkDecoded(t, target, key.Full)
		checkParts(t, key)

		encoded := wire.AppendEncoded(nil, key.Full)
		if i := bytes.IndexFunc(encoded, func(r rune) bool { return r <= ' ' || r >= 0x7f }); i >= 0 {
			t.Fatalf("AppendEncoded = %q; want no byte that a target can't have", encoded)
		}
		if again := wire.ParseTarget(nil, encoded); utf8.Valid(key.Full) && !bytes.Equal(again.Full, key.Full) {
			t.Fatalf("key encoded and decoded again = %q; want %q", again.Full, key.Full)
		}
	})
}

var loneSurrogate = regexp.MustCompile(`%u[dD][89a-fA-F]`)

// checkDecoded holds the decoding of target against what other code makes of it.
func checkDecoded(t *testing.T, target, got []byte) {
	t.Helper()
	if behind := wire.AppendDecoded([]byte("\xed\xa0\xbd"), target); string(behind) != "\xed\xa0\xbd"+string(got) {
		t.Fatalf("AppendDecoded behind other bytes = %q; want %q at its end", behind, got)
	}
	if !utf8.Valid(got) && !loneSurrogate.Match(target) {
		t.Fatalf("AppendDecoded(%q) = %q; want valid UTF-8 where no surrogate is", target, got)
	}
	if bytes.HasPrefix(target, []byte("//")) {
		target = target[1:]
	}
	if want, err := url.QueryUnescape(string(target)); err == nil && utf8.ValidString(want) && string(got) != want {
		t.Fatalf("AppendDecoded(%q) = %q; want %q", target, got, want)
	}
}

// checkParts wants the first group that decodes to a digest, and nothing lost.
func checkParts(t *testing.T, key wire.Key) {
	t.Helper()
	at, n := digestGroup(key.Full)
	if n == 0 {
		if key.App != nil || key.Digest != nil || key.SessionID != nil || !bytes.Equal(key.RoutingKey(), key.Full) {
			t.Fatalf("parts of %q = %q; want none", key.Full, key)
		}
		return
	}
	want := []string{string(key.Full[:at]), string(key.Full[at+1 : at+1+n]), string(key.Full[at+1+n+2:])}
	got := []string{string(key.App), string(key.Digest), string(key.SessionID)}
	if !slices.Equal(got, want) || !bytes.Equal(key.RoutingKey(), key.SessionID) {
		t.Fatalf("parts of %q = %q; want %q", key.Full, got, want)
	}
}

// digestGroup returns where in key the bracket of the digest is, and the length
// of the digest; 0 if there is none.
func digestGroup(key []byte) (at, n int) {
	sizes := map[int]int{24: 16, 28: 20, 44: 32, 64: 48, 88: 64}
	for at, c := range key {
		if c != '(' {
			continue
		}
		for n, size := range sizes {
			end := at + 1 + n
			if end > len(key) || !bytes.HasPrefix(key[end:], []byte(")/")) {
				continue
			}
			if digest, err := base64.StdEncoding.DecodeString(string(key[at+1 : end])); err == nil && len(digest) == size {
				return at, n
			}
		}
	}
	return 0, 0
}
