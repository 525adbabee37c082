// Statebench measures proxies and servers of the ASP.NET State Service
// protocol: a cheap in-memory state server, a checking load generator, a runner
// that compares contenders in interleaved rounds, and the measurements of
// memory, growth and expiry that are built on them. docs/performance.md says how
// each is run and what its figures mean. It runs on Linux only.
package main

import (
	"fmt"
	"os"
)

const usageText = `usage: statebench <command> [flags]

  backend       in-memory state server (one epoll loop), with -rate a slow one
  load          closed-loop load generator, prints one JSON line
  compare       run the same load against every contender of a config, in rounds
  memory        a proxy's memory by connection and body, and its sockets
  growth        how a proxy does with more backends, connections and sessions
  expiry        latency and pauses of the state server while a million sessions expire
  flood         what one address with very many connections does to the others
  report        write the tables and drawings of docs/performance.md from results
  probe         send protocol requests and corner cases to one address, print what comes back
  naiveproxy    goroutine-per-connection proxy, the plain Go reference
  reverseproxy  net/http/httputil.ReverseProxy, the standard library reference

statebench <command> -h shows a command's flags.
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usageText)
		os.Exit(2)
	}
	commands := map[string]func([]string) error{
		"backend":      cmdBackend,
		"load":         cmdLoad,
		"compare":      cmdCompare,
		"memory":       cmdMemory,
		"growth":       cmdGrowth,
		"expiry":       cmdExpiry,
		"flood":        cmdFlood,
		"report":       cmdReport,
		"probe":        cmdProbe,
		"naiveproxy":   cmdNaiveProxy,
		"reverseproxy": cmdReverseProxy,
	}
	run, ok := commands[os.Args[1]]
	if !ok {
		fmt.Fprint(os.Stderr, usageText)
		os.Exit(2)
	}
	if err := run(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "statebench "+os.Args[1]+":", err)
		os.Exit(1)
	}
}
