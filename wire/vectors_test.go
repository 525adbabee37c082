package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"stateproxy/wire"
)

// vectors is the part of testdata/vectors.json that a codec has to do with.
type vectors struct {
	Requests []struct {
		ID     string
		Origin string
		B64    []byte
		Expect requestResult
	}
	Responses []struct {
		ID      string
		Origin  string
		ForVerb string `json:"for_verb"`
		B64     []byte
		Expect  responseResult
	}
}

// requestResult has the fields of a request vector's "expect".
type requestResult struct {
	OK            bool    `json:"ok"`
	Error         string  `json:"error"`
	Verb          string  `json:"verb"`
	Op            string  `json:"op"`
	HTTPVersion   string  `json:"http_version"`
	Target        string  `json:"target"`
	Key           string  `json:"key"`
	App           *string `json:"app"`
	AppHash       *string `json:"app_hash"`
	SessionID     *string `json:"session_id"`
	Exclusive     *string `json:"exclusive"`
	LockCookie    *int64  `json:"lock_cookie"`
	Timeout       *int64  `json:"timeout"`
	ExtraFlags    *int64  `json:"extra_flags"`
	ContentLength *int64  `json:"content_length"`
	BodyLen       int     `json:"body_len"`
	Consumed      int     `json:"consumed"`
	CloseAfter    bool    `json:"close_after"`
}

// responseResult has the fields of a response vector's "expect".
type responseResult struct {
	OK                 bool    `json:"ok"`
	Error              string  `json:"error"`
	HTTPVersion        *string `json:"http_version"`
	Status             int     `json:"status"`
	Reason             string  `json:"reason"`
	AspNetVersion      *string `json:"aspnet_version"`
	Timeout            *int64  `json:"timeout"`
	LockCookie         *int64  `json:"lock_cookie"`
	LockAge            *int64  `json:"lock_age"`
	LockDate           *int64  `json:"lock_date"`
	ActionFlags        *int64  `json:"action_flags"`
	ContentLength      *int64  `json:"content_length"`
	BodyLen            int     `json:"body_len"`
	Consumed           int     `json:"consumed"`
	ClientEffect       string  `json:"client_effect"`
	PassesVersionCheck bool    `json:"passes_version_check"`
}

func loadVectors(tb testing.TB) vectors {
	tb.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		tb.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		tb.Fatal(err)
	}
	if len(v.Requests) == 0 || len(v.Responses) == 0 {
		tb.Fatalf("testdata/vectors.json has %d requests and %d responses; want some of both", len(v.Requests), len(v.Responses))
	}
	return v
}

func TestRequestVectors(t *testing.T) {
	for _, v := range loadVectors(t).Requests {
		t.Run(v.ID, func(t *testing.T) {
			if got := parsedRequest(v.B64); !reflect.DeepEqual(got, v.Expect) {
				t.Errorf("ParseRequest = %s; want %s", asJSON(got), asJSON(v.Expect))
			}
			if got := readRequest(t, v.B64); !reflect.DeepEqual(got, v.Expect) {
				t.Errorf("ReadRequest byte by byte = %s; want %s", asJSON(got), asJSON(v.Expect))
			}
		})
	}
}

func TestResponseVectors(t *testing.T) {
	for _, v := range loadVectors(t).Responses {
		t.Run(v.ID, func(t *testing.T) {
			verb := verbOf(t, v.ForVerb)
			if got := parsedResponse(v.B64, verb); !reflect.DeepEqual(got, v.Expect) {
				t.Errorf("ParseResponse = %s; want %s", asJSON(got), asJSON(v.Expect))
			}
			if got := readResponse(t, v.B64, verb); !reflect.DeepEqual(got, v.Expect) {
				t.Errorf("ReadResponse byte by byte = %s; want %s", asJSON(got), asJSON(v.Expect))
			}
		})
	}
}

// A head that is not all there yet is never refused, else slow links would
// break, and never accepted, else a value might be cut short.
func TestVectorPrefixes(t *testing.T) {
	vectors := loadVectors(t)
	for _, v := range vectors.Requests {
		var req wire.Request
		n, err := wire.ParseRequest(v.B64, &req)
		if err != nil {
			continue
		}
		for k := range n {
			if n, err := wire.ParseRequest(v.B64[:k], &req); n != 0 || err != wire.ErrIncomplete {
				t.Errorf("%s: ParseRequest(first %d bytes) = %d, %v; want 0, ErrIncomplete", v.ID, k, n, err)
			}
		}
	}
	for _, v := range vectors.Responses {
		var resp wire.Response
		n, err := wire.ParseResponse(v.B64, &resp)
		if err != nil {
			continue
		}
		for k := range n {
			if n, err := wire.ParseResponse(v.B64[:k], &resp); n != 0 || err != wire.ErrIncomplete {
				t.Errorf("%s: ParseResponse(first %d bytes) = %d, %v; want 0, ErrIncomplete", v.ID, k, n, err)
			}
		}
	}
}

// What was captured, or follows from captures, is written again byte by byte.
func TestVectorsRendered(t *testing.T) {
	otherForm := map[string]bool{
		"timeout-minus-one": true, // reads as absent, and an absent header is not written
		"503-get":           true, // the web runtime's answer, without Cache-Control
		"200-kestrel":       true, // another server's headers
	}
	vectors := loadVectors(t)
	rendered := 0
	for _, v := range vectors.Requests {
		var req wire.Request
		if _, err := wire.ParseRequest(v.B64, &req); err != nil || otherForm[v.ID] || req.Faults != 0 || v.Origin != "captured" && v.Origin != "derived" {
			continue
		}
		rendered++
		if got := wire.AppendRequest(nil, &req); !bytes.Equal(got, req.Head) {
			t.Errorf("%s: AppendRequest = %q; want %q", v.ID, got, req.Head)
		}
	}
	for _, v := range vectors.Responses {
		var resp wire.Response
		if _, err := wire.ParseResponse(v.B64, &resp); err != nil || otherForm[v.ID] || v.Origin != "captured" && v.Origin != "derived" {
			continue
		}
		rendered++
		if got := wire.AppendResponse(nil, &resp); !bytes.Equal(got, resp.Head) {
			t.Errorf("%s: AppendResponse = %q; want %q", v.ID, got, resp.Head)
		}
	}
	if rendered == 0 {
		t.Error("no vector is captured or derived")
	}
}

func parsedRequest(b []byte) requestResult {
	var req wire.Request
	n, err := wire.ParseRequest(b, &req)
	switch {
	case err != nil:
		return requestResult{Error: code(err)}
	case req.Faults != 0:
		return requestResult{Error: string(req.Faults.Reason())}
	case len(b)-n < req.BodyLen():
		return requestResult{Error: "incomplete"}
	}
	return resultOf(&req, n+req.BodyLen())
}

func readRequest(t *testing.T, b []byte) requestResult {
	r := wire.NewReader(iotest.OneByteReader(bytes.NewReader(b)), 16, wire.DefaultMaxHead)
	var req wire.Request
	if err := r.ReadRequest(&req); err != nil {
		return requestResult{Error: code(err)}
	}
	if req.Faults != 0 {
		return requestResult{Error: string(req.Faults.Reason())}
	}
	consumed, err := readBody(t, r, b, len(req.Head), req.BodyLen())
	if err != nil {
		return requestResult{Error: code(err)}
	}
	return resultOf(&req, consumed)
}

func parsedResponse(b []byte, verb wire.Verb) responseResult {
	var resp wire.Response
	n, err := wire.ParseResponse(b, &resp)
	switch {
	case err != nil:
		return responseResult{Error: code(err)}
	case len(b)-n < resp.BodyLen(verb):
		return responseResult{Error: "incomplete"}
	}
	return answerOf(&resp, verb, n+resp.BodyLen(verb))
}

func readResponse(t *testing.T, b []byte, verb wire.Verb) responseResult {
	r := wire.NewReader(iotest.OneByteReader(bytes.NewReader(b)), 16, wire.DefaultMaxHead)
	var resp wire.Response
	if err := r.ReadResponse(&resp); err != nil {
		return responseResult{Error: code(err)}
	}
	consumed, err := readBody(t, r, b, len(resp.Head), resp.BodyLen(verb))
	if err != nil {
		return responseResult{Error: code(err)}
	}
	return answerOf(&resp, verb, consumed)
}

// readBody reads the body behind a head of head bytes out of r, which reads all,
// and returns how much of all was used.
func readBody(t *testing.T, r *wire.Reader, all []byte, head, n int) (consumed int, err error) {
	t.Helper()
	body, err := r.ReadBody(nil, n)
	if err != nil {
		return 0, err
	}
	if want := all[head : head+n]; !bytes.Equal(body, want) {
		t.Errorf("ReadBody = %q; want %q", body, want)
	}
	rest, err := io.ReadAll(r)
	return len(all) - len(rest), err
}

func resultOf(req *wire.Request, consumed int) requestResult {
	key := wire.ParseTarget(nil, req.Target)
	return requestResult{
		OK:            true,
		Verb:          req.Verb.String(),
		Op:            req.Op().String(),
		HTTPVersion:   string(req.Version),
		Target:        string(req.Target),
		Key:           string(key.Full),
		App:           ifGiven(key.App),
		AppHash:       ifGiven(key.Digest),
		SessionID:     ifGiven(key.SessionID),
		Exclusive:     ifSet(req.Exclusive.String(), req.Exclusive != wire.NotExclusive),
		LockCookie:    ifSet(req.LockCookie.N, req.LockCookie.Set),
		Timeout:       ifSet(req.Timeout.N, req.Timeout.Set),
		ExtraFlags:    ifSet(req.ExtraFlags.N, req.ExtraFlags.Set),
		ContentLength: ifSet(req.ContentLength.N, req.ContentLength.Set),
		BodyLen:       req.BodyLen(),
		Consumed:      consumed,
		CloseAfter:    req.CloseAfter(),
	}
}

func answerOf(resp *wire.Response, verb wire.Verb, consumed int) responseResult {
	ops := map[wire.Verb]wire.Op{wire.GET: wire.OpGet, wire.PUT: wire.OpSet, wire.DELETE: wire.OpRemove, wire.HEAD: wire.OpResetTimeout}
	return responseResult{
		OK:                 true,
		HTTPVersion:        ifGiven(resp.Version),
		Status:             resp.Status,
		Reason:             string(resp.Reason),
		AspNetVersion:      ifGiven(resp.AspNetVersion),
		Timeout:            ifSet(resp.Timeout.N, resp.Timeout.Set),
		LockCookie:         ifSet(resp.LockCookie.N, resp.LockCookie.Set),
		LockAge:            ifSet(resp.LockAge.N, resp.LockAge.Set),
		LockDate:           ifSet(resp.LockDate.N, resp.LockDate.Set),
		ActionFlags:        ifSet(resp.ActionFlags.N, resp.ActionFlags.Set),
		ContentLength:      ifSet(resp.ContentLength.N, resp.ContentLength.Set),
		BodyLen:            resp.BodyLen(verb),
		Consumed:           consumed,
		ClientEffect:       resp.Effect(ops[verb]).String(),
		PassesVersionCheck: resp.PassesVersionCheck(),
	}
}

// code turns an error into the word that the vectors have for it.
func code(err error) string {
	var syntax *wire.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return string(syntax.Reason)
	case err == wire.ErrIncomplete, err == io.EOF, err == io.ErrUnexpectedEOF:
		return "incomplete"
	}
	return err.Error()
}

func verbOf(t *testing.T, name string) wire.Verb {
	t.Helper()
	for v := wire.GET; v <= wire.HEAD; v++ {
		if strings.EqualFold(v.String(), name) {
			return v
		}
	}
	t.Fatalf("no verb is called %q", name)
	return 0
}

func ifGiven(b []byte) *string { return ifSet(string(b), b != nil) }

func ifSet[T any](v T, set bool) *T {
	if !set {
		return nil
	}
	return &v
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
