package probe

import "golang.org/x/sys/windows"

const (
	errRefused = windows.WSAECONNREFUSED
	errReset   = windows.WSAECONNRESET
	errAborted = windows.WSAECONNABORTED
)
