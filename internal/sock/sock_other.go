//go:build !linux

package sock

import "net"

type socket struct{}

// Worker is a goroutine that runs what connections' events wake. Here there is
// none, and each connection has a goroutine of its own.
type Worker struct{}

// Detach does nothing here.
func (*Worker) Detach() {}

// Waiter is told once that it may go on.
type Waiter interface{ Ready(w *Worker) }

// Waits reports whether Await and Step can be used.
func (c *Conn) Waits() bool { return false }

// On does nothing here.
func (c *Conn) On(*Worker) {}

// Near is always true here.
func (c *Conn) Near(*Worker) bool { return true }

// Ending reports whether the peer's end is known to have come, without a look.
func (c *Conn) Ending() bool { return false }

// Await is not to be called here.
func (c *Conn) Await(Waiter) bool { panic("sock: Await where Waits is false") }

// Step is not to be called here.
func (c *Conn) Step(Handler) (bool, error) { panic("sock: Step where Waits is false") }

func (c *Conn) stand() {}

// Cork does nothing here.
func (c *Conn) Cork() {}

func (c *Conn) tryWrite([]byte) (int, error) { return 0, nil }

func (c *Conn) attach(net.Conn) {}
