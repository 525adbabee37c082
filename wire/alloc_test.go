package wire_test

import (
	"testing"

	"stateproxy/wire"
)

const (
	realTarget = "%2fLM%2fW3SVC%2f2%2fROOT(oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5%2fHxWS854%3d)%2fbpr4mimb2vjnvtn2jc4yp3uo"
	realGet    = "GET " + realTarget + " HTTP/1.1\r\nHost: localhost\r\nExclusive: acquire\r\n\r\n"
	realPut    = "PUT " + realTarget + " HTTP/1.1\r\nHost: localhost\r\nTimeout:20\r\nContent-Length:30\r\nExtraFlags:0\r\nLockCookie:2\r\n\r\n"
	realAnswer = "200 OK\r\nX-AspNet-Version: 4.0.30319\r\nLockCookie: 2\r\nTimeout: 20\r\nCache-Control: private\r\nContent-Length: 30\r\n\r\n"
)

// repeat is a source that gives the same message for ever, one for each Read.
type repeat string

func (s repeat) Read(p []byte) (int, error) { return copy(p, s), nil }

func TestAllocatesNothing(t *testing.T) {
	var (
		get, put, answer = []byte(realGet), []byte(realPut), []byte(realAnswer)
		target           = []byte(realTarget)
		room             = make([]byte, 0, 512)
		reader           = wire.NewReader(repeat(realGet), 512, 512)
		answers          = wire.NewReader(repeat(realAnswer), 512, 512)
		req              wire.Request
		resp             wire.Response
		key              wire.Key
		err              error
	)
	tests := []struct {
		name string
		f    func()
	}{
		{"ParseRequest get", func() { _, err = wire.ParseRequest(get, &req) }},
		{"ParseRequest put", func() { _, err = wire.ParseRequest(put, &req) }},
		{"AppendRequest", func() { room = wire.AppendRequest(room[:0], &req) }},
		{"ParseResponse", func() { _, err = wire.ParseResponse(answer, &resp) }},
		{"AppendResponse", func() { room = wire.AppendResponse(room[:0], &resp) }},
		{"ParseTarget", func() { key = wire.ParseTarget(room, target) }},
		{"AppendEncoded", func() { room = wire.AppendEncoded(room[:0], target) }},
		{"ReadRequest", func() { err = reader.ReadRequest(&req) }},
		{"ReadResponse", func() { err = answers.ReadResponse(&resp) }},
		{"ReadBody", func() { room, err = reader.ReadBody(room[:0], len(realGet)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := testing.AllocsPerRun(100, tt.f); got != 0 || err != nil {
				t.Errorf("%s allocates %v times a run, error %v; want 0, nil", tt.name, got, err)
			}
		})
	}
	if string(key.SessionID) == "" {
		t.Error("ParseTarget found no session ID; want one")
	}
}

// Where more bytes are needed is the commonest outcome of all on slow links.
func TestIncompleteAllocatesNothing(t *testing.T) {
	var req wire.Request
	var resp wire.Response
	half, halfAnswer := []byte(realGet[:60]), []byte(realAnswer[:60])
	if got := testing.AllocsPerRun(100, func() {
		_, err1 := wire.ParseRequest(half, &req)
		_, err2 := wire.ParseResponse(halfAnswer, &resp)
		if err1 != wire.ErrIncomplete || err2 != wire.ErrIncomplete {
			t.Fatalf("errors = %v, %v; want ErrIncomplete", err1, err2)
		}
	}); got != 0 {
		t.Errorf("incomplete heads allocate %v times a run; want 0", got)
	}
}
