//go:build !unix

package farm

// lookFD is nil where sockets can't be looked at without waiting.
var lookFD func(fd uintptr) lookResult
