package probe

import "strings"

// Kind says what is wrong. Its text is stable.
type Kind string

// The kinds.
const (
	NoName        Kind = "no_name"           // the host name does not resolve
	Refused       Kind = "refused"           // nobody listens, or a firewall refuses
	NoConnection  Kind = "no_connection"     // not in time
	ConnectError  Kind = "connect_error"     // any other trouble in connecting
	ClosedUnasked Kind = "closed"            // connected, and closed without an answer
	Silent        Kind = "silent"            // connected, and no answer in time
	TLS           Kind = "tls"               // a TLS server
	TLSPlain      Kind = "tls_plain"         // no TLS server, where one is wanted
	TLSName       Kind = "tls_name"          // its certificate is for another name
	TLSUntrusted  Kind = "tls_untrusted"     // its certificate is of no CA that is trusted
	TLSExpired    Kind = "tls_expired"       // its certificate is not valid at this time
	TLSRefused    Kind = "tls_refused"       // it refused the handshake or the certificate shown to it
	TLSBroken     Kind = "tls_handshake"     // any other trouble in the handshake
	HTTP          Kind = "http"              // a web server
	NoStateServer Kind = "no_state_server"   // some other service
	Unavailable   Kind = "unavailable"       // 400 with the version header, as a proxy without a backend sends
	OddStatus     Kind = "odd_status"        // a status that clients take for "no such session"
	NoVersion     Kind = "no_version"        // no X-AspNet-Version
	TooOld        Kind = "too_old"           // X-AspNet-Version below 2
	Lost          Kind = "lost"              // what was stored is not there
	Changed       Kind = "changed"           // what was stored comes back different
	Locks         Kind = "locks_not_honored" // a lock keeps nobody out, or can't be given back
	Broken        Kind = "broken"            // the connection broke in the middle
	NotTaken      Kind = "not_taken"         // a request that must succeed was refused
	TooMuch       Kind = "too_much"          // bytes that nobody asked for
	ClosedIdle    Kind = "closed_idle"       // an unused connection was closed too soon
	Slow          Kind = "slow"
	Cancelled     Kind = "cancelled" // the probe itself was broken off
)

const remoteAllowance = `On a Microsoft state server set the DWORD AllowRemoteConnection to 1 under HKLM\SYSTEM\CurrentControlSet\Services\aspnet_state\Parameters and restart the service aspnet_state.`

// advices say what to do. PORT stands for the port, REMOTE for what matters
// only when the way leaves this machine.
var advices = map[Kind]string{
	NoName:        "Check the spelling, the DNS suffix and the hosts file of this machine; try the IP address.",
	Refused:       "Start the ASP.NET State Service (aspnet_state) or the proxy there, and check that it uses port PORT.REMOTE",
	NoConnection:  "Check that the host is up, and open TCP port PORT inbound in its firewall and in those between.",
	ConnectError:  "Check the network settings and the route from this machine.",
	ClosedUnasked: "Look into the log of the service that listens on port PORT.REMOTE",
	Silent:        "The service hangs, or a firewall lets the connection through and drops what follows. Restart the service if it stays so; its sessions are lost then.",
	TLS:           "Sessions go over plain TCP. Name the state server's own port, usually 42424. If this is a stateproxy that listens with TLS, probe it with -tls.",
	TLSPlain:      "State servers have no TLS: probe them without -tls. If this is stateproxy, name the port of its listener with tls.",
	TLSName:       "Give the name in the certificate by -server-name, and in the config by server_name of the backend; or issue a certificate for the name that is dialed.",
	TLSUntrusted:  "Give the CA that issued the certificate by -ca, and in the config by backend_tls.ca_file.",
	TLSExpired:    "Renew the certificate there, and check the clocks of both machines.",
	TLSRefused:    "If it wants a certificate (client_ca_file there), give one of its CA by -cert and -key, and in the config by backend_tls. The log there says what it does not like.",
	TLSBroken:     "Check that port PORT is the listener with tls, and that nothing in between touches TLS.",
	HTTP:          "Name the state server's own port, usually 42424. If this is a load balancer, it must forward TCP, not HTTP.",
	NoStateServer: "Find out what listens on port PORT there, and name the state server's own port, usually 42424.",
	Unavailable:   "If this is stateproxy, no backend can answer: see stateproxy status there. Else the server refuses well-formed requests.",
	OddStatus:     "The server is shutting down, overloaded or faulty. Clients take such an answer for an expired session: take it out of service.",
	NoVersion:     "Set enableVersionHeader to true in httpRuntime of the machine-level web.config on the state server; AspNetStateService never sends the header. Clients fail their first request to such a server.",
	TooOld:        "The server runs .NET 1.x. Clients refuse it: install a later .NET there.",
	Lost:          "The requests of one session meet different servers: several answer at this address. State servers can't stand behind a plain load balancer; stateproxy can.",
	Changed:       "The server, or something in between, changes session bodies. Pages would fail or read wrong data.",
	Locks:         "Two pages could change one session at the same time, and changes be lost. Don't use this server for pages that write sessions. AspNetStateService is known for this.",
	Broken:        "The server cut the connection in the middle of a request. Look into its log and event log.",
	NotTaken:      "Look into the log of the server; its memory may be full. If this is stateproxy, see stateproxy status there.",
	TooMuch:       "Web servers would take these bytes for the next answer: one user's session could reach another. Don't use this server.",
	ClosedIdle:    "Web servers keep unused connections for up to 10 s. Raise the idle timeout of the server (SocketTimeout of aspnet_state), of stateproxy (timeouts.client_idle) or of the firewall in between.",
	Slow:          "Each page waits for two or more such answers. Check the load of the server and the network between.",
	Cancelled:     "Let it run to the end.",
}

// advice returns what to do about it.
func (k Kind) advice(r *run) string {
	remote := ""
	if !r.local() {
		remote = " " + remoteAllowance
	}
	return strings.NewReplacer("PORT", r.port, "REMOTE", remote).Replace(advices[k])
}
