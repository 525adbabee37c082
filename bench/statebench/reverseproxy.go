package main

import (
	"errors"
	"flag"
	"hash/fnv"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"
)

// The reverse proxy is the standard library's, set up as well as its options
// allow: enough idle connections, pooled buffers, no added headers.

type bufferPool chan []byte

func (p bufferPool) Get() []byte {
	select {
	case b := <-p:
		return b
	default:
		return make([]byte, 32<<10)
	}
}

func (p bufferPool) Put(b []byte) {
	select {
	case p <- b:
	default:
	}
}

func cmdReverseProxy(args []string) error {
	fs := flag.NewFlagSet("reverseproxy", flag.ExitOnError)
	addr := fs.String("addr", "127.0.0.1:42424", "address to listen on")
	list := fs.String("backends", "", "addresses of the backends, with commas between")
	fs.Parse(args)
	if *list == "" {
		return errors.New("no -backends")
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	return reverseProxy(ln, strings.Split(*list, ","))
}

// reverseProxy serves until the listener fails.
func reverseProxy(ln net.Listener, backends []string) error {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			hash := fnv.New64a()
			hash.Write(sessionID([]byte(r.In.RequestURI)))
			r.Out.URL.Scheme = "http"
			r.Out.URL.Host = backends[hash.Sum64()%uint64(len(backends))]
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{
			MaxIdleConns:        0,
			MaxIdleConnsPerHost: 8192,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true,
		},
		BufferPool: make(bufferPool, 1024),
	}
	return (&http.Server{Handler: proxy}).Serve(ln)
}
