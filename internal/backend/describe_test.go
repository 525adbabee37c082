package backend_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"stateproxy/internal/backend"
	"stateproxy/wire"
)

// described answers as a proxy does whose description is body.
func described(body string) func(c *peer) {
	return func(c *peer) {
		for c.next() {
			if c.req.Verb == wire.HEAD {
				c.say(done)
			} else {
				c.say(fmt.Sprintf("200 OK\r\nX-AspNet-Version: 4.0.30319\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
			}
		}
	}
}

func TestLook(t *testing.T) {
	whole := backend.Description{ID: "A", Serves: true, Servers: []string{"n1", "n2"}, Behind: map[string]int{"B": 1}}
	idle := backend.Description{ID: "A"}
	tests := []struct {
		name   string
		script func(c *peer)
		want   *backend.Description
		err    string // part of it; "" for none
	}{
		{"state server", bad(absent), nil, ""},
		{"proxy", described(string(whole.Append(nil))), &whole, ""},
		{"proxy of a later release", described(`{"id":"A","serves":true,"more":[1]}`), &backend.Description{ID: "A", Serves: true}, ""},
		{"proxy without servers", described(string(idle.Append(nil))), &idle, "reaches none of its backends"},
		{"no description", described("4711"), nil, "status 200, want 404"},
		{"no ID", described(`{"serves":true}`), nil, "status 200, want 404"},
		{"too long", described(strings.Repeat(" ", 1<<20)), nil, "status 200, want 404"},
		{"refuses", bad("400 Bad Request\r\nX-AspNet-Version: 4.0\r\nContent-Length: 0\r\n\r\n"), nil, "status 400, want 404"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, _ := overTCP(t, tt.script)
			got, err := backend.Look(t.Context(), nil, p.Address)
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Look() = %+v; want %+v", got, tt.want)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("Look() error = %v; want %q", err, tt.err)
			}
		})
	}
}

// A proxy is told for how long it has to answer, and a state server is not.
func TestBudgetGoesToProxies(t *testing.T) {
	tests := []struct {
		name string
		kind backend.Kind
		told bool // the request came with a budget
		left time.Duration
		want wire.Int
	}{
		{"server", backend.Server, false, 8 * time.Second, wire.Int{}},
		{"server, from a proxy", backend.Server, true, 8 * time.Second, wire.Int{}},
		{"unknown", backend.Unknown, false, 8 * time.Second, wire.Int{}},
		{"unknown, from a proxy", backend.Unknown, true, 8 * time.Second, wire.Some(7750)},
		{"proxy", backend.Proxy, false, 8 * time.Second, wire.Some(7750)},
		{"proxy, little left", backend.Proxy, true, 400 * time.Millisecond, wire.Some(350)},
	}
	for _, tt := range tests {
		for _, op := range ops {
			t.Run(tt.name+"/"+op.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var got wire.Int
					body := ""
					p, _ := inMemory(t, func(c *peer) {
						for c.next() {
							got, body = c.req.Budget, string(c.body)
							c.say(right(c.req.Op()))
						}
					})
					p.SetKind(tt.kind)
					x := exchange(op)
					x.Told, x.Deadline = tt.told, time.Now().Add(tt.left)
					if err := p.RoundTrip(t.Context(), x); err != nil {
						t.Fatal(err)
					}
					x.Release()
					p.Abort()
					synctest.Wait()
					if got != tt.want || body != "" && body != "content" {
						t.Errorf("the backend got the budget %v and the body %q; want %v and the whole body", got, body, tt.want)
					}
				})
			})
		}
	}
}

// A request that is sent again has less time than the first had.
func TestBudgetShrinksWithEachTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var budgets []int64
		p, _ := inMemory(t, func(c *peer) {
			for c.next() {
				budgets = append(budgets, c.req.Budget.N)
				if len(budgets) == 2 {
					pass(time.Second)
					return
				}
				c.say(right(c.req.Op()))
			}
		})
		p.SetKind(backend.Proxy)
		for range 2 {
			x := exchange(wire.OpGet)
			x.Deadline = time.Now().Add(8 * time.Second)
			if err := p.RoundTrip(t.Context(), x); err != nil {
				t.Fatal(err)
			}
			x.Release()
		}
		if want := []int64{7750, 7750, 6750}; !reflect.DeepEqual(budgets, want) {
			t.Errorf("budgets of three tries = %v; want %v", budgets, want)
		}
	})
}

// The rest of a long body follows behind a head with a budget.
func TestBudgetOfALongBody(t *testing.T) {
	type request struct {
		budget wire.Int
		body   string
	}
	got := make(chan request, 1)
	p, _ := overTCP(t, func(c *peer) {
		for c.next() {
			got <- request{c.req.Budget, string(c.body)}
			c.say(done)
		}
	})
	p.SetKind(backend.Proxy)
	x := exchangeOf(wire.OpSet, "%2fa")
	const rest = "tent"
	x.Request = x.Request[:len(x.Request)-len(rest)]
	x.Rest, x.RestLen = strings.NewReader(rest), int64(len(rest))
	if err := p.RoundTrip(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	x.Release()
	if r := <-got; !r.budget.Set || r.body != "content" {
		t.Errorf("the backend got %+v; want a budget and the whole body", r)
	}
}
