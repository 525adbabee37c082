package stateserver_test

import (
	"fmt"
	"io"
	"log"
	"net"

	"stateproxy/stateserver"
	"stateproxy/wire"
)

func Example() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := &stateserver.Server{MaxMemory: 64 << 20}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()

	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "PUT %2fapp%2fid HTTP/1.1\r\nHost: localhost\r\nTimeout:20\r\nContent-Length:5\r\n\r\nhello")
	io.WriteString(conn, "GET %2fapp%2fid HTTP/1.1\r\nHost: localhost\r\nExclusive: acquire\r\n\r\n")

	r := wire.NewReader(conn, 4096, wire.DefaultMaxHead)
	for _, verb := range []wire.Verb{wire.PUT, wire.GET} {
		var resp wire.Response
		if err := r.ReadResponse(&resp); err != nil {
			log.Fatal(err)
		}
		status, cookie := resp.Status, resp.LockCookie
		body, err := r.ReadBody(nil, resp.BodyLen(verb))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%v: %d, cookie %d, body %q\n", verb, status, cookie.N, body)
	}
	item, _ := s.Peek("/app/id")
	fmt.Println("locked:", item.Locked)

	s.Close()
	fmt.Println(<-served)
	// Output:
	// PUT: 200, cookie 0, body ""
	// GET: 200, cookie 2, body "hello"
	// locked: true
	// state server is closed
}
