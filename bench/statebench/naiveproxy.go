package main

import (
	"bufio"
	"errors"
	"flag"
	"hash/fnv"
	"io"
	"net"
	"strings"
	"sync"
)

// The naive proxy is what straightforward Go comes to: a goroutine for each
// client connection, buffered readers, a head parser over bytes, FNV of the
// session ID over the backends, and pools of idle backend connections.

const naiveBuffer = 16 << 10

type naivePool struct {
	addr string
	mu   sync.Mutex
	idle []*naiveConn
}

type naiveConn struct {
	net.Conn
	r *bufio.Reader
}

func (p *naivePool) get() (*naiveConn, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		return nil, err
	}
	return &naiveConn{conn, bufio.NewReaderSize(conn, naiveBuffer)}, nil
}

func (p *naivePool) put(c *naiveConn) {
	p.mu.Lock()
	p.idle = append(p.idle, c)
	p.mu.Unlock()
}

func cmdNaiveProxy(args []string) error {
	fs := flag.NewFlagSet("naiveproxy", flag.ExitOnError)
	addr := fs.String("addr", "127.0.0.1:42424", "address to listen on")
	backends := fs.String("backends", "", "addresses of the backends, with commas between")
	fs.Parse(args)
	if *backends == "" {
		return errors.New("no -backends")
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	return naiveProxy(ln, strings.Split(*backends, ","))
}

// naiveProxy serves until the listener fails.
func naiveProxy(ln net.Listener, backends []string) error {
	var pools []*naivePool
	for _, b := range backends {
		pools = append(pools, &naivePool{addr: b})
	}
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go naiveServe(conn, pools)
	}
}

func naiveServe(conn net.Conn, pools []*naivePool) {
	defer conn.Close()
	client := &naiveConn{conn, bufio.NewReaderSize(conn, naiveBuffer)}
	for {
		h, raw, err := client.head()
		if err != nil {
			return
		}
		hash := fnv.New64a()
		hash.Write(sessionID(target(h.line)))
		pool := pools[hash.Sum64()%uint64(len(pools))]
		isHead := h.line[0] == 'H'
		server, err := pool.get()
		if err != nil {
			return
		}
		if err = client.forward(server, raw, h.length); err == nil {
			if h, raw, err = server.head(); err == nil {
				if isHead {
					h.length = 0
				}
				err = server.forward(client, raw, h.length)
			}
		}
		if err != nil {
			server.Close()
			return
		}
		pool.put(server)
	}
}

// head waits for a whole head and returns it, still in the buffer.
func (c *naiveConn) head() (head, []byte, error) {
	for {
		b, _ := c.r.Peek(c.r.Buffered())
		if h, ok := parseHead(b); ok {
			return h, b[:h.size], nil
		}
		if len(b) == naiveBuffer {
			return head{}, nil, bufio.ErrBufferFull
		}
		if _, err := c.r.Peek(len(b) + 1); err != nil {
			return head{}, nil, err
		}
	}
}

// forward sends the head, still in c's buffer, and length bytes of body to dst:
// what the buffer holds in one write, the rest by io.CopyN.
func (c *naiveConn) forward(dst *naiveConn, raw []byte, length int) error {
	size := len(raw) + max(length, 0)
	first := min(size, c.r.Buffered())
	b, err := c.r.Peek(first)
	if err != nil {
		return err
	}
	if _, err := dst.Write(b); err != nil {
		return err
	}
	c.r.Discard(first)
	if size > first {
		_, err = io.CopyN(dst.Conn, c.r, int64(size-first))
	}
	return err
}
