package proxy_test

import (
	"context"
	"fmt"
	"net"
	"os"

	"stateproxy/proxy"
	"stateproxy/stateserver"
	"stateproxy/wire"
)

// A proxy before one state server, from its start to its end.
func Example() {
	var server stateserver.Server
	back, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	go server.Serve(back)
	defer server.Close()

	p := &proxy.Proxy{Done: func(o *proxy.Outcome) {
		fmt.Println(o.Op, "answered by", o.Backend, "with", o.Status)
	}}
	if _, err := p.Reconfigure(proxy.Settings{Backends: []proxy.Backend{
		{Name: "s1", Address: back.Addr().String(), Weight: 1},
	}}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	go p.Serve(front)

	client, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer client.Close()
	r := wire.NewReader(client, 4<<10, wire.DefaultMaxHead)
	for _, verb := range []wire.Verb{wire.HEAD, wire.DELETE} {
		client.Write(wire.AppendRequest(nil, &wire.Request{Verb: verb, Target: []byte("%2fa")}))
		var resp wire.Response
		if err := r.ReadResponse(&resp); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if err := p.Shutdown(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	// Output:
	// reset_timeout answered by s1 with 404
	// remove answered by s1 with 404
}
