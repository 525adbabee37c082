package wire_test

import (
	"math"
	"strings"
	"testing"

	"stateproxy/wire"
)

func TestParseResponseRefuses(t *testing.T) {
	const ok = "200 OK\r\n" // 8 bytes
	tests := []struct {
		name   string
		in     string
		reason wire.Reason
		offset int
	}{
		{"ssh", "SSH-2.0-x", wire.BadStatusLine, 0},
		{"blank line first", "\r\n" + ok, wire.BadStatusLine, 0},
		{"blank first", " 200 OK\r\n", wire.BadStatusLine, 0},
		{"lf alone behind the status", "200 OK\nContent-Length: 0\r\n\r\n", wire.BadStatusLine, 0},
		{"cr alone in the status line", "200 O\rK\r\n", wire.BadStatusLine, 0},
		{"nought first", "020 OK\r\n", wire.BadStatusLine, 0},
		{"two digits", "20 OK\r\n", wire.BadStatusLine, 0},
		{"four digits", "2000 OK\r\n", wire.BadStatusLine, 0},
		{"letters in the status", "2x0 OK\r\n", wire.BadStatusLine, 0},
		{"tab behind the status", "200\tOK\r\n", wire.BadStatusLine, 0},
		{"status below 100", "HTTP/1.1 099 OK\r\n", wire.BadStatusLine, 9},
		{"negative status", "HTTP/1.1 -99 OK\r\n", wire.BadStatusLine, 9},
		{"no status", "HTTP/1.1 \r\n", wire.BadStatusLine, 9},
		{"two blanks before the status", "HTTP/1.1  200 OK\r\n", wire.BadStatusLine, 9},
		{"version alone", "HTTP/1.1\r\n", wire.BadStatusLine, 0},
		{"version too long", "HTTP/1.10 200 OK\r\n", wire.BadStatusLine, 0},
		{"version with a letter", "HTTP/1.x 200 OK\r\n", wire.BadStatusLine, 0},
		{"version 2.0", "HTTP/2.0 200 OK\r\n", wire.BadStatusLine, 0},
		{"version in lower case", "http/1.1 200 OK\r\n", wire.BadStatusLine, 0},
		{"another version letter", "HTTQ/1.1 200 OK\r\n", wire.BadStatusLine, 0},
		{"nul in the reason", "200 O\x00K\r\n", wire.BadStatusLine, 5},
		{"delete character in the reason", "HTTP/1.1 200 \x7f\r\n", wire.BadStatusLine, 13},

		{"lf alone behind a header", ok + "Content-Length: 0\n\r\n", wire.BadHeader, 25},
		{"cr alone in a header", ok + "Timeout: 2\r0\r\n\r\n", wire.BadHeader, 18},
		{"blank before the colon", ok + "Content-Length : 0\r\n\r\n", wire.BadHeader, 8},
		{"folded line", ok + "Timeout: 20\r\n 1\r\n\r\n", wire.BadHeader, 21},
		{"nul in a value", ok + "Server: \x00\r\n\r\n", wire.BadHeader, 8},
		{"timeout of letters", ok + "Timeout: x\r\n\r\n", wire.BadHeader, 8},
		{"empty cookie", ok + "LockCookie:\r\n\r\n", wire.BadHeader, 8},
		{"age with a plus", ok + "LockAge: +1\r\n\r\n", wire.BadHeader, 8},
		{"date beyond 64 bits", ok + "LockDate: 9223372036854775808\r\n\r\n", wire.BadHeader, 8},
		{"flags twice", ok + "ActionFlags: 1\r\nActionFlags: 1\r\n\r\n", wire.BadHeader, 24},
		{"cookie twice", ok + "LockCookie: 1\r\nlockcookie: 2\r\n\r\n", wire.BadHeader, 23},

		{"chunked", ok + "Transfer-Encoding: chunked\r\n\r\n", wire.UnsupportedTransferEncoding, 8},
		{"chunked and length", ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", wire.UnsupportedTransferEncoding, 27},
		{"two equal lengths", ok + "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", wire.BadContentLength, 27},
		{"length, then bad length", ok + "Content-Length: 3\r\nContent-Length: x\r\n\r\n", wire.BadContentLength, 27},
		{"length with a plus", ok + "Content-Length: +3\r\n\r\n", wire.BadContentLength, 8},
		{"length with a minus", ok + "Content-Length: -3\r\n\r\n", wire.BadContentLength, 8},
		{"length of 2 GiB", ok + "Content-Length: 2147483648\r\n\r\n", wire.BadContentLength, 8},
		{"no length", ok + "Timeout: 20\r\n\r\n", wire.MissingContentLength, 21},
		{"no headers", ok + "\r\n", wire.MissingContentLength, 8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var resp wire.Response
			n, err := wire.ParseResponse([]byte(tt.in), &resp)
			want := wire.SyntaxError{Reason: tt.reason, Offset: tt.offset}
			if got := refusal(t, err); n != 0 || got != want {
				t.Errorf("ParseResponse(%q) = %d, %v; want 0, %v", tt.in, n, &got, &want)
			}
		})
	}
}

func TestParseResponseStatusLine(t *testing.T) {
	tests := []struct {
		line    string
		version string
		status  int
		reason  string
	}{
		{"200 OK", "", 200, "OK"},
		{"404", "", 404, ""},
		{"404 ", "", 404, ""},
		{"999 x", "", 999, "x"},
		{"503 Server Too Busy", "", 503, "Server Too Busy"},
		{"200  OK", "", 200, " OK"},
		{"200 \xfcber", "", 200, "\xfcber"},
		{"HTTP/1.1 423 Locked", "HTTP/1.1", 423, "Locked"},
		{"HTTP/1.0 100", "HTTP/1.0", 100, ""},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			in := tt.line + "\r\ncontent-length:\t0 \r\n\r\n"
			var resp wire.Response
			n, err := wire.ParseResponse([]byte(in), &resp)
			if n != len(in) || err != nil {
				t.Fatalf("ParseResponse(%q) = %d, %v; want %d, nil", in, n, err, len(in))
			}
			if string(resp.Version) != tt.version || resp.Status != tt.status || string(resp.Reason) != tt.reason {
				t.Errorf("ParseResponse(%q) gives %q, %d, %q; want %q, %d, %q",
					in, resp.Version, resp.Status, resp.Reason, tt.version, tt.status, tt.reason)
			}
		})
	}
}

func TestParseResponseNumbers(t *testing.T) {
	const in = "423 Locked\r\nLockDate: 3155378975999999999\r\nLockAge: -9223372036854775807\r\nLockCookie: -1\r\n" +
		"Timeout: 0\r\nActionFlags: 9223372036854775807\r\nContent-Length: 2147483647\r\n\r\n"
	var resp wire.Response
	if _, err := wire.ParseResponse([]byte(in), &resp); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		got  wire.Int
		want int64
	}{
		{"LockDate", resp.LockDate, 3155378975999999999}, // the last tick of year 9999
		{"LockAge", resp.LockAge, -math.MaxInt64},
		{"LockCookie", resp.LockCookie, -1},
		{"Timeout", resp.Timeout, 0},
		{"ActionFlags", resp.ActionFlags, math.MaxInt64},
		{"ContentLength", resp.ContentLength, wire.MaxContentLength},
	}
	for _, tt := range tests {
		if tt.got != wire.Some(tt.want) {
			t.Errorf("%s = %+v; want %d", tt.name, tt.got, tt.want)
		}
	}
}

func TestResponseBodyLen(t *testing.T) {
	resp := wire.Response{Status: wire.StatusOK, ContentLength: wire.Some(7)}
	for verb, want := range map[wire.Verb]int{wire.GET: 7, wire.PUT: 7, wire.DELETE: 7, wire.HEAD: 0} {
		if got := resp.BodyLen(verb); got != want {
			t.Errorf("BodyLen(%v) = %d; want %d", verb, got, want)
		}
	}
}

func TestEffect(t *testing.T) {
	body, empty := wire.Some(7), wire.Some(0)
	tests := []struct {
		name   string
		status int
		length wire.Int
		get    wire.Effect // of both gets
		other  wire.Effect // of the other operations
	}{
		{"200 with a body", 200, body, wire.EffectItem, wire.EffectAccepted},
		{"200 empty", 200, empty, wire.EffectNotFound, wire.EffectAccepted},
		{"400", 400, empty, wire.EffectException, wire.EffectException},
		{"404", 404, empty, wire.EffectNotFound, wire.EffectAccepted},
		{"423", 423, empty, wire.EffectLocked, wire.EffectAccepted},
		{"500 with a body", 500, body, wire.EffectNotFound, wire.EffectAccepted},
		{"503", 503, empty, wire.EffectNotFound, wire.EffectAccepted},
		{"201 with a body", 201, body, wire.EffectNotFound, wire.EffectAccepted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp := wire.Response{Status: tt.status, ContentLength: tt.length}
			for op := wire.OpGet; int(op) < wire.NumOps; op++ {
				want := tt.other
				if op == wire.OpGet || op == wire.OpGetExclusive {
					want = tt.get
				}
				if got := resp.Effect(op); got != want {
					t.Errorf("Effect(%v) = %v; want %v", op, got, want)
				}
			}
		})
	}
}

func TestPassesVersionCheck(t *testing.T) {
	tests := []struct {
		version string
		want    bool
	}{
		{"4.0.30319", true},
		{"2.0.50727", true},
		{"2", true},
		{"10.0", true},
		{"1.1.4322", false},
		{"0", false},
		{"-4.0", false},
		{"", false},
		{".4", false},
		{"v4.0", false},
	}
	for _, tt := range tests {
		resp := wire.Response{AspNetVersion: []byte(tt.version)}
		if got := resp.PassesVersionCheck(); got != tt.want {
			t.Errorf("PassesVersionCheck with %q = %t; want %t", tt.version, got, tt.want)
		}
	}
}

func TestAppendResponse(t *testing.T) {
	tests := []struct {
		name string
		resp wire.Response
		want string
	}{
		{"all headers in their order", wire.Response{
			Status: 423, AspNetVersion: []byte(wire.DefaultAspNetVersion), ActionFlags: wire.Some(1), LockDate: wire.Some(637090000000000000),
			LockAge: wire.Some(3), LockCookie: wire.Some(2), Timeout: wire.Some(20), ContentLength: wire.Some(7),
		}, "423 Locked\r\nX-AspNet-Version: 4.0.30319\r\nActionFlags: 1\r\nLockDate: 637090000000000000\r\nLockAge: 3\r\n" +
			"LockCookie: 2\r\nTimeout: 20\r\nCache-Control: private\r\nContent-Length: 7\r\n\r\n"},
		{"own reason", wire.Response{Status: 200, Reason: []byte("Fine")}, "200 Fine\r\nCache-Control: private\r\nContent-Length: 0\r\n\r\n"},
		{"200", wire.Response{Status: 200}, "200 OK\r\nCache-Control: private\r\nContent-Length: 0\r\n\r\n"},
		{"400", wire.Response{Status: 400}, "400 Bad Request\r\nCache-Control: private\r\nContent-Length: 0\r\n\r\n"},
		{"404", wire.Response{Status: 404}, "404 Not Found\r\nCache-Control: private\r\nContent-Length: 0\r\n\r\n"},
		{"status without a reason of its own", wire.Response{Status: 503}, "503 Status\r\nCache-Control: private\r\nContent-Length: 0\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(wire.AppendResponse([]byte("before"), &tt.resp)); got != "before"+tt.want {
				t.Errorf("AppendResponse = %q; want %q", got, "before"+tt.want)
			}
		})
	}
}

// What whole lines have told of an answer that broke off is known: whoever was
// granted a lock by it can give it back.
func TestParseResponseBrokenOff(t *testing.T) {
	const head = "200 OK\r\nLockCookie: 17\r\nTimeout: 20\r\n"
	for n := range len(head) {
		var r wire.Response
		if _, err := wire.ParseResponse([]byte(head[:n]), &r); err != wire.ErrIncomplete {
			t.Fatalf("ParseResponse(%q) = %v; want %v", head[:n], err, wire.ErrIncomplete)
		}
		whole := strings.Count(head[:n], "\r\n")
		if got, want := r.Status == wire.StatusOK, whole >= 1; got != want {
			t.Errorf("ParseResponse(%q): the status is known: %v; want %v", head[:n], got, want)
		}
		if got, want := r.LockCookie == wire.Some(17), whole >= 2; got != want || r.LockCookie.Set != want {
			t.Errorf("ParseResponse(%q): LockCookie = %v", head[:n], r.LockCookie)
		}
	}
}
