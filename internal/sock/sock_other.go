//go:build !linux

package sock

import "syscall"

type loopState struct{ written int }

// Cork does nothing here.
func (c *Conn) Cork() {}

func (c *Conn) tryWrite([]byte) (int, error) { return 0, nil }

func (c *Conn) attach(syscall.RawConn) {}

func (c *Conn) rawLoop([]byte, Handler) error { panic("no raw connection is ever attached here") }
