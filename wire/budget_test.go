package wire_test

import (
	"bytes"
	"testing"

	"stateproxy/wire"
)

func TestBudget(t *testing.T) {
	const body = "12345"
	head := func(lines string) string { return "PUT %2fa HTTP/1.1\r\n" + lines + "Content-Length:5\r\n\r\n" }
	tests := []struct {
		name, in string
		has      bool
		want     wire.Int
		without  string
	}{
		{"none", head("Host: a\r\n"), false, wire.Int{}, ""},
		{"first", head("Stateproxy-Budget: 7750\r\nHost: a\r\n"), true, wire.Some(7750), head("Host: a\r\n")},
		{"in the middle", head("Host: a\r\nstateproxy-budget:\t0 \r\nTimeout:20\r\n"), true, wire.Some(0), head("Host: a\r\nTimeout:20\r\n")},
		{"unreadable", head("Stateproxy-Budget: soon\r\n"), true, wire.Int{}, head("")},
		{"negative", head("Stateproxy-Budget: -1\r\n"), true, wire.Int{}, head("")},
		{"too much", head("Stateproxy-Budget: 2147483648\r\n"), true, wire.Int{}, head("")},
		{"another name", head("Stateproxy-Badget: 1\r\n"), false, wire.Int{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r wire.Request
			b := []byte(tt.in + body)
			if _, err := wire.ParseRequest(b, &r); err != nil {
				t.Fatalf("ParseRequest(%q) = %v", b, err)
			}
			if r.HasBudget() != tt.has || r.Budget != tt.want {
				t.Fatalf("ParseRequest(%q): HasBudget %v, Budget %v; want %v, %v", b, r.HasBudget(), r.Budget, tt.has, tt.want)
			}
			if !tt.has {
				return
			}
			if got := r.WithoutBudget(b); string(got) != tt.without+body {
				t.Errorf("WithoutBudget(%q) = %q; want %q", tt.in+body, got, tt.without+body)
			}
		})
	}
	var r wire.Request
	if got := refusalOf(t, head("Stateproxy-Budget: 1\r\nStateproxy-Budget: 2\r\n"), &r); got != wire.BadHeader {
		t.Errorf("two budgets are refused for %v; want %v", got, wire.BadHeader)
	}
}

func refusalOf(t *testing.T, in string, r *wire.Request) wire.Reason {
	t.Helper()
	_, err := wire.ParseRequest([]byte(in), r)
	return refusal(t, err).Reason
}

func TestAppendWithBudget(t *testing.T) {
	in := []byte("GET %2fa HTTP/1.1\r\nHost: a\r\n\r\n")
	told := wire.AppendWithBudget([]byte("x"), in, 7750)
	const want = "xGET %2fa HTTP/1.1\r\nStateproxy-Budget: 7750\r\nHost: a\r\n\r\n"
	if string(told) != want {
		t.Errorf("AppendWithBudget(%q, 7750) = %q; want %q", in, told, want)
	}
	var r wire.Request
	if _, err := wire.ParseRequest(told[1:], &r); err != nil {
		t.Fatal(err)
	}
	if got := r.WithoutBudget(told[1:]); !bytes.Equal(got, in) {
		t.Errorf("WithoutBudget after AppendWithBudget = %q; want %q", got, in)
	}
}
