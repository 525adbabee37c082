package stateserver

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"

	"stateproxy/wire"
)

// FuzzConn sends any bytes to a server. It must answer in well-formed answers,
// close when the client does, and leave the store sound.
func FuzzConn(f *testing.F) {
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		f.Fatal(err)
	}
	var file struct {
		Requests []struct{ B64 string }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		f.Fatal(err)
	}
	if len(file.Requests) == 0 {
		f.Fatal("no seeds")
	}
	for _, r := range file.Requests {
		b, err := base64.StdEncoding.DecodeString(r.B64)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	acquire := send{exclusive: "acquire"}.text("GET", testTarget)
	f.Add([]byte(send{body: "b", flags: 1}.text("PUT", testTarget) + acquire + acquire))
	f.Fuzz(func(t *testing.T, sent []byte) {
		synctest.Test(t, func(t *testing.T) {
			s := &Server{MaxMemory: 1 << 20, MaxBody: 1 << 16}
			c := servePiped(t, s).dial(t)
			go c.nc.Write(sent) // fails where the server closes before the end
			checkAnswers(t, c)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := s.store.check(0); err != nil {
				t.Error(err)
			}
		})
	})
}

// checkAnswers reads answers until the server closes; moved time makes it do so
// when it waits for more. A HEAD's answer has no body, whatever was asked, for
// its length is 0.
func checkAnswers(t *testing.T, c *client) {
	for {
		var resp wire.Response
		err := c.r.ReadResponse(&resp)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("answer: %v; want whole answers, then the end", err)
		}
		if !bytes.Equal(resp.AspNetVersion, []byte(wire.DefaultAspNetVersion)) {
			t.Errorf("X-AspNet-Version = %q; want the default", resp.AspNetVersion)
		}
		if _, err := c.r.ReadBody(nil, resp.BodyLen(wire.GET)); err != nil {
			t.Fatalf("body of an answer: %v", err)
		}
	}
}
