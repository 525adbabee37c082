package main

import (
	"context"
	"strings"
	"testing"

	"stateproxy/stateserver"
)

// tailed runs tail against the app until stop, which returns its exit status.
func tailed(t *testing.T, r *running, args ...string) (out, errs *logText, stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	out, errs = &logText{}, &logText{}
	ended := make(chan int, 1)
	go func() {
		ended <- dispatch(ctx, stdio{out, errs}, append([]string{"tail", "-admin", r.app.adminAddress()}, args...))
	}()
	return out, errs, func() int { cancel(); return <-ended }
}

func TestTailCommand(t *testing.T) {
	r := runApp(t, text(stateserver.RunT(t)))
	out, errs, stop := tailed(t, r, "-app", "w3svc/2", "-status", "200")
	jsonOut, _, stopJSON := tailed(t, r, "-json", "-op", "get,remove")
	r.eventually("requests", func() bool { // the streams begin at some time
		r.ask(putOne)
		r.ask(getOne)
		return strings.Contains(out.String(), " get  ") && strings.Contains(jsonOut.String(), `"op":"get"`)
	})
	if status := stop(); status != exitOK || errs.String() != "" {
		t.Errorf("tail = %d, stderr %q; want %d, nothing", status, errs, exitOK)
	}
	if status := stopJSON(); status != exitOK {
		t.Errorf("tail -json = %d; want %d", status, exitOK)
	}
	if !strings.HasPrefix(out.String(), "TIME ") || !strings.Contains(out.String(), "/LM/W3SVC/2/ROOT") || !strings.Contains(out.String(), " s1 ") {
		t.Errorf("tail shows\n%s\nwant a heading, application and backend", out)
	}
	if strings.Contains(jsonOut.String(), `"op":"set"`) || strings.Contains(jsonOut.String(), "\n\n") {
		t.Errorf("tail -op get,remove -json shows\n%s", jsonOut)
	}
	if strings.Contains(out.String()+jsonOut.String(), "bpr4mimb2vjnvtn2jc4yp3uo") {
		t.Error("tail shows a session ID")
	}
}

// TestTailEndsWithTheProxy: the stream does not hold up the proxy's end.
func TestTailEndsWithTheProxy(t *testing.T) {
	r := runApp(t, text(stateserver.RunT(t)))
	out, errs, stop := tailed(t, r)
	r.eventually("the heading", func() bool { return strings.HasPrefix(out.String(), "TIME") })
	r.stop()
	r.eventually("a word on the end", func() bool { return strings.Contains(errs.String(), "stateproxy tail: ") })
	if status := stop(); status == exitUsage {
		t.Errorf("tail = %d", status)
	}
}

func TestTailErrors(t *testing.T) {
	r := runApp(t, text(stateserver.RunT(t)))
	tests := []struct {
		name string
		args []string
		err  string
	}{
		{"bad operation", []string{"-op", "put"}, "400 Bad Request: op: want none, get"},
		{"bad status", []string{"-status", "good"}, "status: want a number"},
		{"nobody", []string{"-admin", "127.0.0.1:1"}, "refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, _, errText := run(append([]string{"tail", "-admin", r.app.adminAddress()}, tt.args...)...)
			if status != exitError || !strings.Contains(errText, tt.err) {
				t.Errorf("tail %v = %d, %q; want %d, %q", tt.args, status, errText, exitError, tt.err)
			}
		})
	}
}

func TestTailText(t *testing.T) {
	tests := []struct {
		name string
		line string
		want string // its end
	}{
		{"good", `{"client":"10.0.0.1:5","op":"get","session":"00000000000000ff","app":"/LM","backend":"s1","status":200,"ms":1.26,"wait_ms":1,"request_bytes":120,"response_bytes":90}`,
			"  10.0.0.1:5             get                00000000000000ff  200     s1                 1.3       1.0       120        90  /LM\n"},
		{"failed", `{"op":"set","status":0,"reason":"no_backend","error":"pool x"}`, "closed  -                  0.0       0.0         0         0    no_backend: pool x\n"},
		{"marks", `{"op":"get","status":423,"moved":true,"lock_released":true}`, "moved here  lock given back\n"},
		{"phases", `{"op":"get","status":200,"moved":true,"ms":103,"delay_ms":3,"wait_ms":90,"handoff_ms":40,"queue_ms":20,"connect_ms":0.04,"body_ms":5}`,
			"  delay 3.0  handoff 40.0  queue 20.0  answer 25.0  body 5.0  reply 10.0  moved here\n"},
		{"hostile", `{"app":"\u001b[2J\nx","status":200}`, "\\x1b[2J\\nx\n"},
		{"dropped", `{"dropped":12,"status":200}`, "... 12 requests left out: more came than could be shown\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			if err := copyTail(&out, strings.NewReader("\n"+tt.line+"\n"), false, tt.name == "phases"); err != nil {
				t.Fatal(err)
			}
			if tt.name == "dropped" {
				if !strings.HasPrefix(out.String(), tt.want) {
					t.Errorf("text = %q; want %q first", out.String(), tt.want)
				}
			} else if !strings.HasSuffix(out.String(), tt.want) {
				t.Errorf("text = %q; want it to end in %q", out.String(), tt.want)
			}
		})
	}
	if err := copyTail(&strings.Builder{}, strings.NewReader("<html>\n"), false, false); err == nil {
		t.Error("copyTail takes a line that is no JSON")
	}
}
