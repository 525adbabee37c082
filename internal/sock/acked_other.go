//go:build !linux

package sock

// TellsDelivery is whether Unacknowledged can tell anything on this system.
const TellsDelivery = false

// Unacknowledged reports whether the peer's system has certainly not taken a
// byte of the last n that were written. Here that can't be told.
func (c *Conn) Unacknowledged(int) bool { return false }
