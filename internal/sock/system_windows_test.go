package sock_test

// What this system has: the raw path, and a look at a socket without reading.
const (
	runsRaw = false
	looks   = true
)
