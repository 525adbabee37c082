package stateserver

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/wire"
)

type scenario struct {
	ID    string
	Slow  bool
	Steps []step
}

type step struct {
	WaitSeconds int `json:"wait_seconds"`
	Op          string
	Send        struct {
		Timeout, Cookie, Flags *int
		Body                   string
	}
	Expect map[string]any
}

// scenarios reads the conformance set that goes with the protocol reference.
func scenarios(t *testing.T) (list []scenario, bodies map[string]string) {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Conformance struct {
			BodiesHex map[string]string `json:"bodies_hex"`
			Scenarios []scenario
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	bodies = map[string]string{"": ""}
	for name, h := range file.Conformance.BodiesHex {
		b, err := hex.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		bodies[name] = string(b)
	}
	if n := len(file.Conformance.Scenarios); n < 58 {
		t.Fatalf("%d scenarios; want 58 or more", n)
	}
	return file.Conformance.Scenarios, bodies
}

// TestConformanceTCP plays what needs no waiting over real connections.
func TestConformanceTCP(t *testing.T) {
	list, bodies := scenarios(t)
	s := RunT(t)
	for _, sc := range list {
		if sc.Slow {
			continue // TestConformanceMovedTime plays these too
		}
		t.Run(sc.ID, func(t *testing.T) {
			play(t, dialTCP(t, s), sc, bodies)
		})
	}
}

func TestConformanceMovedTime(t *testing.T) {
	list, bodies := scenarios(t)
	for _, sc := range list {
		t.Run(sc.ID, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := servePiped(t, new(Server))
				play(t, ln.dial(t), sc, bodies)
			})
		})
	}
}

func play(t *testing.T, c *client, sc scenario, bodies map[string]string) {
	target := testTarget + sc.ID
	for i, st := range sc.Steps {
		if st.WaitSeconds > 0 {
			<-time.After(time.Duration(st.WaitSeconds) * time.Second)
			continue
		}
		verb, s := st.request(bodies)
		resp, body := c.do(verb, target, s)
		for field, want := range st.Expect {
			checkField(t, i, field, want, resp, body, bodies)
		}
	}
}

func (st *step) request(bodies map[string]string) (verb string, s send) {
	s.body = bodies[st.Send.Body]
	if p := st.Send.Timeout; p != nil {
		s.timeout = *p
	}
	if p := st.Send.Cookie; p != nil {
		s.cookie = *p
	}
	if p := st.Send.Flags; p != nil {
		s.flags = *p
	}
	switch st.Op {
	case "set":
		verb = "PUT"
	case "remove":
		verb = "DELETE"
	case "reset_timeout":
		verb = "HEAD"
	case "get":
		verb = "GET"
	case "get_exclusive":
		verb, s.exclusive = "GET", "acquire"
	case "release":
		verb, s.exclusive = "GET", "release"
	}
	return verb, s
}

func checkField(t *testing.T, i int, field string, want any, resp *wire.Response, body string, bodies map[string]string) {
	t.Helper()
	equal := func(got wire.Int) bool {
		n, isNumber := want.(float64)
		return got.Set == isNumber && got.N == int64(n)
	}
	var got any
	var ok bool
	switch field {
	case "status":
		got, ok = resp.Status, float64(resp.Status) == want
	case "got_cookie":
		got, ok = resp.LockCookie, equal(resp.LockCookie)
	case "got_timeout":
		got, ok = resp.Timeout, equal(resp.Timeout)
	case "got_action":
		got, ok = resp.ActionFlags, equal(resp.ActionFlags)
	case "got_body":
		got, ok = body, body == bodies[want.(string)]
	case "age_min":
		got, ok = resp.LockAge, resp.LockAge.Set && float64(resp.LockAge.N) >= want.(float64)
	case "age_max":
		got, ok = resp.LockAge, resp.LockAge.Set && float64(resp.LockAge.N) <= want.(float64)
	case "has_date":
		got, ok = resp.LockDate, resp.LockDate.Set == want
	}
	if !ok {
		t.Errorf("step %d: %s = %v; want %v", i, field, got, want)
	}
}
