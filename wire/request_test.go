package wire_test

import (
	"errors"
	"strings"
	"testing"

	"stateproxy/wire"
)

// refusal returns reason and offset of a SyntaxError, or fails the test.
func refusal(t *testing.T, err error) wire.SyntaxError {
	t.Helper()
	var syntax *wire.SyntaxError
	if !errors.As(err, &syntax) {
		t.Fatalf("error = %v; want a *SyntaxError", err)
	}
	return *syntax
}

func TestParseRequestRefuses(t *testing.T) {
	const get = "GET %2fa HTTP/1.1\r\n" // 19 bytes
	const put = "PUT %2fa HTTP/1.1\r\n" // 19 bytes
	tests := []struct {
		name   string
		in     string
		reason wire.Reason
		offset int
	}{
		{"lf alone", "GET %2fa HTTP/1.1\nHost: a\r\n\r\n", wire.BadLineEnding, 17},
		{"lf alone in a later line", get + "Host: a\n\r\n", wire.BadLineEnding, 26},
		{"lf alone for the blank line", get + "\n", wire.BadLineEnding, 19},
		{"lf first", "\n", wire.BadLineEnding, 0},
		{"cr alone in the request line", "GET %2fa\r HTTP/1.1\r\n\r\n", wire.BadLineEnding, 8},
		{"cr alone in a header", get + "Host: a\rb\r\n\r\n", wire.BadLineEnding, 26},
		{"cr twice at a line's end", get + "Host: a\r\r\n\r\n", wire.BadLineEnding, 26},
		{"cr twice for the blank line", get + "\r\r\n", wire.BadLineEnding, 19},
		{"cr alone before the head is complete", get + "Host: a\rb", wire.BadLineEnding, 26},

		{"blank line first", "\r\n" + get + "\r\n", wire.BadRequestLine, 0},
		{"two blank lines first", "\r\n\r\n" + get + "\r\n", wire.BadRequestLine, 0},
		{"cr first, rest to come", "\r", wire.BadRequestLine, 0},
		{"tls hello, rest to come", "\x16\x03\x01", wire.BadRequestLine, 0},
		{"nul first, rest to come", "\x00", wire.BadRequestLine, 0},
		{"blank first", " GET %2fa HTTP/1.1\r\n\r\n", wire.BadRequestLine, 0},
		{"one word", "GET\r\n\r\n", wire.BadRequestLine, 0},
		{"two words", "GET %2fa\r\n\r\n", wire.BadRequestLine, 4},
		{"four words", "GET %2fa b HTTP/1.1\r\n\r\n", wire.BadRequestLine, 9},
		{"two blanks before the version", "GET %2fa  HTTP/1.1\r\n\r\n", wire.BadRequestLine, 9},
		{"tabs for blanks", "GET\t%2fa\tHTTP/1.1\r\n\r\n", wire.BadRequestLine, 0},
		{"blank behind the version", "GET %2fa HTTP/1.1 \r\n\r\n", wire.BadRequestLine, 9},
		{"version too long", "GET %2fa HTTP/1.1x\r\n\r\n", wire.BadRequestLine, 9},
		{"version 2.0", "GET %2fa HTTP/2.0\r\n\r\n", wire.BadRequestLine, 9},
		{"version 1.2", "GET %2fa HTTP/1.2\r\n\r\n", wire.BadRequestLine, 9},
		{"version in lower case", "GET %2fa http/1.1\r\n\r\n", wire.BadRequestLine, 9},
		{"http/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", wire.BadRequestLine, 6},

		{"other verb", "POST %2fa HTTP/1.1\r\n\r\n", wire.BadVerb, 0},
		{"nul in the verb", "G\x00T %2fa HTTP/1.1\r\n\r\n", wire.BadVerb, 0},
		{"verb with a tail", "GETS %2fa HTTP/1.1\r\n\r\n", wire.BadVerb, 0},
		{"nul in the target", "GET %2f\x00 HTTP/1.1\r\n\r\n", wire.BadTarget, 7},
		{"tab in the target", "GET %2f\t HTTP/1.1\r\n\r\n", wire.BadTarget, 7},
		{"delete character in the target", "GET \x7f HTTP/1.1\r\n\r\n", wire.BadTarget, 4},
		{"high byte in the target", "GET %2fab\x80 HTTP/1.1\r\n\r\n", wire.BadTarget, 9},

		{"blank before the colon", get + "Host : a\r\n\r\n", wire.BadHeader, 19},
		{"tab before the colon", put + "Content-Length\t:7\r\n\r\n", wire.BadHeader, 19},
		{"blank before the name", get + " Host: a\r\n\r\n", wire.BadHeader, 19},
		{"folded line", get + "Host: a\r\n\tb\r\n\r\n", wire.BadHeader, 28},
		{"no name", get + ": a\r\n\r\n", wire.BadHeader, 19},
		{"no colon", get + "Host\r\n\r\n", wire.BadHeader, 19},
		{"high byte in a name", get + "H\xf6st: a\r\n\r\n", wire.BadHeader, 19},
		{"nul in a name", get + "Ho\x00st: a\r\n\r\n", wire.BadHeader, 19},
		{"nul in a value", get + "Host: a\x00\r\n\r\n", wire.BadHeader, 19},
		{"escape in a value", get + "Host: \x1b[m\r\n\r\n", wire.BadHeader, 19},
		{"delete character in a value", get + "Host: a\r\nX-A: \x7f\r\n\r\n", wire.BadHeader, 28},
		{"host twice", get + "Host: a\r\nHost: a\r\n\r\n", wire.BadHeader, 28},
		{"exclusive twice", get + "Exclusive: acquire\r\nexclusive: release\r\n\r\n", wire.BadHeader, 39},
		{"cookie twice", get + "LockCookie:1\r\nLOCKCOOKIE:1\r\n\r\n", wire.BadHeader, 33},
		{"hyphenated cookie twice", get + "Lock-Cookie:1\r\nLock-Cookie:2\r\n\r\n", wire.BadHeader, 34},
		{"timeout twice", put + "Timeout:1\r\nTimeout:1\r\n\r\n", wire.BadHeader, 30},
		{"extra flags twice", put + "ExtraFlags:1\r\nExtraFlags:0\r\n\r\n", wire.BadHeader, 33},
		{"transfer coding twice", put + "Transfer-Encoding: a\r\nTransfer-Encoding: b\r\n\r\n", wire.BadHeader, 41},

		{"chunked", put + "Transfer-Encoding: chunked\r\n\r\n", wire.UnsupportedTransferEncoding, 19},
		{"chunked on a get", get + "Host: a\r\ntransfer-ENCODING:chunked\r\n\r\n", wire.UnsupportedTransferEncoding, 28},
		{"identity is a transfer coding too", put + "Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n", wire.UnsupportedTransferEncoding, 19},
		{"empty transfer coding", put + "Transfer-Encoding:\r\nContent-Length: 0\r\n\r\n", wire.UnsupportedTransferEncoding, 19},
		{"length, then chunked", put + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", wire.UnsupportedTransferEncoding, 38},
		{"chunked, then length", put + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", wire.UnsupportedTransferEncoding, 19},

		{"two equal lengths", put + "Content-Length: 7\r\nContent-Length: 7\r\n\r\n", wire.BadContentLength, 38},
		{"two lengths on a get", get + "Content-Length: 0\r\ncontent-length: 9\r\n\r\n", wire.BadContentLength, 38},
		{"list of lengths", put + "Content-Length: 7, 7\r\n\r\n", wire.BadContentLength, 19},
		{"empty length", put + "Content-Length:\r\n\r\n", wire.BadContentLength, 19},
		{"length with a plus", put + "Content-Length: +7\r\n\r\n", wire.BadContentLength, 19},
		{"length with a minus", put + "Content-Length: -7\r\n\r\n", wire.BadContentLength, 19},
		{"length minus nought", put + "Content-Length: -0\r\n\r\n", wire.BadContentLength, 19},
		{"hexadecimal length", put + "Content-Length: 0x7\r\n\r\n", wire.BadContentLength, 19},
		{"length with a blank", put + "Content-Length: 1 0\r\n\r\n", wire.BadContentLength, 19},
		{"length with a point", put + "Content-Length: 7.0\r\n\r\n", wire.BadContentLength, 19},
		{"length with an underscore", put + "Content-Length: 1_0\r\n\r\n", wire.BadContentLength, 19},
		{"length in other digits", put + "Content-Length: \u0667\r\n\r\n", wire.BadContentLength, 19},
		{"length of 2 GiB", put + "Content-Length: 2147483648\r\n\r\n", wire.BadContentLength, 19},
		{"length of 64 bits", put + "Content-Length: 9223372036854775808\r\n\r\n", wire.BadContentLength, 19},
		{"length that wraps around to 7", put + "Content-Length: 18446744073709551623\r\n\r\n", wire.BadContentLength, 19},
		{"put without a length", put + "Host: a\r\n\r\n", wire.MissingContentLength, 28},

		{"line ending before all else", "POST \x00 HTTP/3\r\nbad\nContent-Length: x\r\n\r\n", wire.BadLineEnding, 18},
		{"line before headers", "POST %2fa HTTP/1.1\r\nbad\r\n\r\n", wire.BadVerb, 0},
		{"headers before lengths", put + "Content-Length: x\r\nbad\r\n\r\n", wire.BadHeader, 38},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var req wire.Request
			n, err := wire.ParseRequest([]byte(tt.in), &req)
			want := wire.SyntaxError{Reason: tt.reason, Offset: tt.offset}
			if got := refusal(t, err); n != 0 || got != want {
				t.Errorf("ParseRequest(%q) = %d, %v; want 0, %v", tt.in, n, &got, &want)
			}
		})
	}
}

func TestParseRequestNumbers(t *testing.T) {
	tests := []struct {
		name    string
		headers string
		want    wire.Request // its numbers and faults
	}{
		{"none", "", wire.Request{}},
		{"tabs and blanks around", "LockCookie:\t 7 \t\r\n", wire.Request{LockCookie: wire.Some(7)}},
		{"nought", "LockCookie:0\r\nTimeout:0\r\nExtraFlags:0\r\n", wire.Request{LockCookie: wire.Some(0), Timeout: wire.Some(0), ExtraFlags: wire.Some(0)}},
		{"noughts in front", "LockCookie:0000000007\r\n", wire.Request{LockCookie: wire.Some(7)}},
		{"greatest", "LockCookie:2147483647\r\nTimeout:525600\r\nExtraFlags:2147483647\r\n", wire.Request{LockCookie: wire.Some(1<<31 - 1), Timeout: wire.Some(525600), ExtraFlags: wire.Some(1<<31 - 1)}},
		{"one more than the greatest", "LockCookie:2147483648\r\nTimeout:525601\r\nExtraFlags:2147483648\r\n", wire.Request{Faults: wire.FaultLockCookie | wire.FaultTimeout | wire.FaultExtraFlags}},
		{"-1", "LockCookie:-1\r\nTimeout:-1\r\nExtraFlags:-1\r\n", wire.Request{Faults: wire.FaultLockCookie}},
		{"-2", "LockCookie:-2\r\nTimeout:-2\r\nExtraFlags:-2\r\n", wire.Request{ExtraFlags: wire.Some(-2), Faults: wire.FaultLockCookie | wire.FaultTimeout}},
		{"least flags", "ExtraFlags:-2147483648\r\n", wire.Request{ExtraFlags: wire.Some(-1 << 31)}},
		{"less than the least flags", "ExtraFlags:-2147483649\r\n", wire.Request{Faults: wire.FaultExtraFlags}},
		{"empty", "LockCookie:\r\nTimeout:\r\nExtraFlags:\r\nExclusive:\r\n", wire.Request{Faults: wire.FaultLockCookie | wire.FaultTimeout | wire.FaultExtraFlags | wire.FaultExclusive}},
		{"plus", "LockCookie:+7\r\n", wire.Request{Faults: wire.FaultLockCookie}},
		{"minus alone", "LockCookie:-\r\n", wire.Request{Faults: wire.FaultLockCookie}},
		{"two minuses", "Timeout:--1\r\n", wire.Request{Faults: wire.FaultTimeout}},
		{"wraps around to 7", "LockCookie:18446744073709551623\r\n", wire.Request{Faults: wire.FaultLockCookie}},
		{"hyphenated cookie", "Lock-Cookie:8\r\n", wire.Request{LockCookie: wire.Some(8)}},
		{"hyphenated cookie at fault", "Lock-Cookie:x\r\n", wire.Request{Faults: wire.FaultLockCookie}},
		{"plain cookie wins, coming last", "Lock-Cookie:8\r\nLockCookie:7\r\n", wire.Request{LockCookie: wire.Some(7)}},
		{"plain cookie wins, coming first", "LockCookie:7\r\nLock-Cookie:8\r\n", wire.Request{LockCookie: wire.Some(7)}},
		{"plain cookie wins over a bad one", "LockCookie:7\r\nLock-Cookie:x\r\n", wire.Request{LockCookie: wire.Some(7)}},
		{"bad plain cookie wins too", "LockCookie:x\r\nLock-Cookie:8\r\n", wire.Request{Faults: wire.FaultLockCookie}},
		{"release", "Exclusive: RELEASE\r\nLockCookie:7\r\n", wire.Request{Exclusive: wire.Release, LockCookie: wire.Some(7)}},
		{"release without a cookie", "Exclusive: release\r\n", wire.Request{Exclusive: wire.Release, Faults: wire.FaultNoLockCookie}},
		{"release with a bad cookie", "Exclusive: release\r\nLockCookie:-1\r\n", wire.Request{Exclusive: wire.Release, Faults: wire.FaultLockCookie}},
		{"exclusive that nobody knows", "Exclusive: transfer\r\n", wire.Request{Faults: wire.FaultExclusive}},
		{"exclusive with more behind", "Exclusive: acquired\r\n", wire.Request{Faults: wire.FaultExclusive}},
		{"exclusive in other letters", "Exclusive: acqu\xeere\r\n", wire.Request{Faults: wire.FaultExclusive}},
		{"unknown headers twice", "X-A: 1\r\nX-A: 2\r\nConnection: close\r\n", wire.Request{}},
		{"names of a known length", "Hose: 1\r\nTimeoux: 2\r\nExclusivf: 3\r\nExtraFlagz: 4\r\nLock_Cookie: 5\r\nContent_Length: 6\r\nTransfer_Encoding: 7\r\n", wire.Request{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := "GET %2fa HTTP/1.1\r\n" + tt.headers + "\r\n"
			var got wire.Request
			n, err := wire.ParseRequest([]byte(in), &got)
			if n != len(in) || err != nil {
				t.Fatalf("ParseRequest(%q) = %d, %v; want %d, nil", in, n, err, len(in))
			}
			if got.Exclusive != tt.want.Exclusive || got.LockCookie != tt.want.LockCookie || got.Timeout != tt.want.Timeout ||
				got.ExtraFlags != tt.want.ExtraFlags || got.Faults != tt.want.Faults || got.ContentLength.Set {
				t.Errorf("ParseRequest(%q) gives %+v; want %+v", in, got, tt.want)
			}
		})
	}
}

// A PUT is the one verb that announces a body; on the others a length means that
// the connection can't be used any longer.
func TestRequestBody(t *testing.T) {
	tests := []struct {
		verb       string
		length     string
		bodyLen    int
		closeAfter bool
	}{
		{"PUT", "Content-Length: 0\r\n", 0, false},
		{"PUT", "Content-Length: 7\r\n", 7, false},
		{"PUT", "Content-Length: 2147483647\r\n", wire.MaxContentLength, false},
		{"GET", "", 0, false},
		{"GET", "Content-Length: 0\r\n", 0, false},
		{"GET", "Content-Length: 7\r\n", 0, true},
		{"HEAD", "Content-Length: 7\r\n", 0, true},
		{"DELETE", "Content-Length: 7\r\n", 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.verb+" "+strings.TrimSpace(tt.length), func(t *testing.T) {
			var req wire.Request
			if _, err := wire.ParseRequest([]byte(tt.verb+" a HTTP/1.1\r\n"+tt.length+"\r\n"), &req); err != nil {
				t.Fatal(err)
			}
			if req.BodyLen() != tt.bodyLen || req.CloseAfter() != tt.closeAfter {
				t.Errorf("BodyLen, CloseAfter = %d, %t; want %d, %t", req.BodyLen(), req.CloseAfter(), tt.bodyLen, tt.closeAfter)
			}
		})
	}
}

// The errors end in logs, and a target carries a session ID.
func TestErrorsHoldNoBytesOfTheMessage(t *testing.T) {
	const secret = "bpr4mimb2vjnvtn2jc4yp3uo"
	tests := []string{
		secret + "\n",
		secret + "\r\n\r\n",
		"GET " + secret + "\r\n\r\n",
		"GET " + secret + "\x01 HTTP/1.1\r\n\r\n",
		secret + " a HTTP/1.1\r\n\r\n",
		"GET a HTTP/1.1\r\n" + secret + "\r\n\r\n",
		"PUT a HTTP/1.1\r\nContent-Length:" + secret + "\r\n\r\n",
	}
	for _, in := range tests {
		var req wire.Request
		_, err := wire.ParseRequest([]byte(in), &req)
		refusal(t, err)
		if strings.Contains(err.Error(), secret) {
			t.Errorf("ParseRequest(%q) fails with %q; want nothing of the message in it", in, err)
		}
	}
}

func TestParseRequestForgets(t *testing.T) {
	var req wire.Request
	full := "PUT a HTTP/1.0\r\nHost: h\r\nExclusive: acquire\r\nTimeout: x\r\nContent-Length: 7\r\nExtraFlags: 1\r\nLockCookie: 2\r\n\r\n"
	if _, err := wire.ParseRequest([]byte(full), &req); err != nil {
		t.Fatal(err)
	}
	if _, err := wire.ParseRequest([]byte("GET a HTTP/1.1\r\n\r\n"), &req); err != nil {
		t.Fatal(err)
	}
	if got := string(wire.AppendRequest(nil, &req)); req.Faults != 0 || got != "GET a HTTP/1.1\r\nHost: localhost\r\n\r\n" {
		t.Errorf("request parsed over another = %q with faults %b; want nothing of the other", got, req.Faults)
	}
}

func TestOp(t *testing.T) {
	tests := []struct {
		req  wire.Request
		want wire.Op
		name string
	}{
		{wire.Request{}, wire.OpNone, "none"},
		{wire.Request{Verb: wire.GET}, wire.OpGet, "get"},
		{wire.Request{Verb: wire.GET, Exclusive: wire.Acquire}, wire.OpGetExclusive, "get_exclusive"},
		{wire.Request{Verb: wire.GET, Exclusive: wire.Release}, wire.OpRelease, "release"},
		{wire.Request{Verb: wire.GET, ExtraFlags: wire.Some(1)}, wire.OpGet, "get"},
		{wire.Request{Verb: wire.PUT}, wire.OpSet, "set"},
		{wire.Request{Verb: wire.PUT, ExtraFlags: wire.Some(2)}, wire.OpSet, "set"},
		{wire.Request{Verb: wire.PUT, ExtraFlags: wire.Some(1)}, wire.OpSetUninitialized, "set_uninitialized"},
		{wire.Request{Verb: wire.PUT, ExtraFlags: wire.Some(-3)}, wire.OpSetUninitialized, "set_uninitialized"},
		{wire.Request{Verb: wire.PUT, Exclusive: wire.Release}, wire.OpSet, "set"},
		{wire.Request{Verb: wire.DELETE, Exclusive: wire.Acquire}, wire.OpRemove, "remove"},
		{wire.Request{Verb: wire.HEAD, Exclusive: wire.Acquire}, wire.OpResetTimeout, "reset_timeout"},
	}
	for _, tt := range tests {
		got := tt.req.Op()
		if got != tt.want || got.String() != tt.name {
			t.Errorf("Op of %v %v %v = %v; want %v", tt.req.Verb, tt.req.Exclusive, tt.req.ExtraFlags, got, tt.name)
		}
		if got.Verb() != tt.req.Verb {
			t.Errorf("%v.Verb() = %v; want %v", got, got.Verb(), tt.req.Verb)
		}
	}
}

func TestNamesOfNoValue(t *testing.T) {
	tests := []struct{ got, want string }{
		{wire.Verb(9).String(), "Verb(9)"},
		{wire.Exclusive(9).String(), "Exclusive(9)"},
		{wire.Op(99).String(), "Op(99)"},
		{wire.Effect(9).String(), "Effect(9)"},
		{wire.Verb(0).String(), ""},
		{string(wire.Faults(0).Reason()), ""},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("name = %q; want %q", tt.got, tt.want)
		}
	}
	if wire.NumOps != int(wire.OpResetTimeout)+1 {
		t.Errorf("NumOps = %d; want %d", wire.NumOps, int(wire.OpResetTimeout)+1)
	}
}

func TestFaultsReason(t *testing.T) {
	all := []struct {
		fault wire.Faults
		want  wire.Reason
	}{
		{wire.FaultExclusive, wire.BadExclusive},
		{wire.FaultLockCookie, wire.BadLockCookie},
		{wire.FaultTimeout, wire.BadTimeout},
		{wire.FaultExtraFlags, wire.BadExtraFlags},
		{wire.FaultNoLockCookie, wire.MissingLockCookie},
	}
	var together wire.Faults
	for i := len(all) - 1; i >= 0; i-- { // each goes before those reported later
		if together.Has(all[i].fault) {
			t.Errorf("%b.Has(%b) = true; want false", together, all[i].fault)
		}
		together |= all[i].fault
		if got := together.Reason(); got != all[i].want || !together.Has(all[i].fault) {
			t.Errorf("%b.Reason() = %v; want %v", together, got, all[i].want)
		}
	}
}

func TestAppendRequest(t *testing.T) {
	req := wire.Request{
		Verb: wire.PUT, Target: []byte("%2fa"), Host: []byte("h"), Exclusive: wire.Acquire,
		LockCookie: wire.Some(2), Timeout: wire.Some(20), ExtraFlags: wire.Some(-2), ContentLength: wire.Some(30),
	}
	const want = "before" + "PUT %2fa HTTP/1.1\r\nHost: h\r\nExclusive: acquire\r\n" +
		"Timeout:20\r\nContent-Length:30\r\nExtraFlags:-2\r\nLockCookie:2\r\n\r\n"
	if got := string(wire.AppendRequest([]byte("before"), &req)); got != want {
		t.Errorf("AppendRequest = %q; want %q", got, want)
	}
}

func TestIntOr(t *testing.T) {
	if got := (wire.Int{}).Or(20); got != 20 {
		t.Errorf("absent.Or(20) = %d; want 20", got)
	}
	if got := wire.Some(0).Or(20); got != 0 {
		t.Errorf("Some(0).Or(20) = %d; want 0", got)
	}
}
