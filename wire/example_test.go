package wire_test

import (
	"fmt"
	"strings"

	"stateproxy/wire"
)

// A server reads a save and answers it.
func Example() {
	conn := strings.NewReader("PUT %2fLM%2fW3SVC%2f2%2fROOT(oXvpnxcuEWqKAgOETha32JavYZ6eCqrpTN5%2fHxWS854%3d)%2fbpr4mimb2vjnvtn2jc4yp3uo HTTP/1.1\r\n" +
		"Host: localhost\r\nTimeout:20\r\nContent-Length:7\r\nExtraFlags:0\r\nLockCookie:2\r\n\r\n" +
		"\x14\x00\x00\x00\x00\x00\xff")

	r := wire.NewReader(conn, 4<<10, wire.DefaultMaxHead)
	var req wire.Request
	if err := r.ReadRequest(&req); err != nil {
		fmt.Println("read request:", err)
		return
	}
	body, err := r.ReadBody(nil, req.BodyLen())
	if err != nil {
		fmt.Println("read body:", err)
		return
	}
	key := wire.ParseTarget(nil, req.Target)
	fmt.Printf("%v of %s in %s\n", req.Op(), key.SessionID, key.App)
	fmt.Printf("timeout %d, cookie %d, body %x\n", req.Timeout.Or(20), req.LockCookie.N, body)

	answer := wire.AppendResponse(nil, &wire.Response{
		Status:        wire.StatusOK,
		AspNetVersion: []byte(wire.DefaultAspNetVersion),
	})
	fmt.Printf("%q\n", answer)
	// Output:
	// set of bpr4mimb2vjnvtn2jc4yp3uo in /LM/W3SVC/2/ROOT
	// timeout 20, cookie 2, body 140000000000ff
	// "200 OK\r\nX-AspNet-Version: 4.0.30319\r\nCache-Control: private\r\nContent-Length: 0\r\n\r\n"
}

// A client writes a request for a key it knows.
func ExampleAppendRequest() {
	head := wire.AppendRequest(nil, &wire.Request{
		Verb:       wire.GET,
		Target:     wire.AppendEncoded(nil, []byte("/LM/W3SVC/2/ROOT(NDbkwGi0191wFdDv0yOUOobtHns=)/a b")),
		Exclusive:  wire.Release,
		LockCookie: wire.Some(2),
	})
	fmt.Print(strings.ReplaceAll(string(head), "\r\n", "\n"))
	// Output:
	// GET %2fLM%2fW3SVC%2f2%2fROOT(NDbkwGi0191wFdDv0yOUOobtHns%3d)%2fa+b HTTP/1.1
	// Host: localhost
	// Exclusive: release
	// LockCookie:2
}
