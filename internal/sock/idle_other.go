//go:build !linux && !windows

package sock

// Idle reports whether the connection can be used for another request. Where
// the system has no test that this package knows, it is taken to be.
func (c *Conn) Idle() bool { return !c.heldBack() }

// Pending reports whether there is something to be read. Here that can't be told.
func (c *Conn) Pending() bool { return false }

// PeerClosed reports whether the peer is known to have closed its side.
func (c *Conn) PeerClosed() bool { return false }
