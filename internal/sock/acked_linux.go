package sock

import "golang.org/x/sys/unix"

// TellsDelivery is whether Unacknowledged can tell anything on this system.
const TellsDelivery = true

// Unacknowledged reports whether the peer's system has certainly not taken a
// byte of the last n that were written. It tells after a failure whether a
// message can have reached the other program: one that had closed its end
// before is answered by a reset and never acknowledged. False means that it may
// have, or that this can't be told.
//
// It can be told only after a loop that ended with io.EOF. The end that the peer
// sent acknowledges what had come by then; a reset does not, and one that comes
// soon after the other program has read a message is the first to be heard of it.
// Over TLS it can be told of what one call wrote, if the socket's end has come
// too, for the peer may still read after a farewell.
func (c *Conn) Unacknowledged(n int) bool {
	before, ok := c.before(n)
	if !ok || n <= 1 {
		return false
	}
	none := false
	err := c.socket().Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		// What is acknowledged may count the connection's beginning as one.
		none = err == nil && int64(info.Bytes_acked) <= before+1
	})
	return err == nil && none
}

// before returns how many bytes the socket had been given before the last n that
// were written. ok is false if that is not known, or the peer's end was not seen.
func (c *Conn) before(n int) (sent int64, ok bool) {
	if u := c.under; u != nil {
		if u.raw == nil || n != c.last.bytes {
			return 0, false
		}
		left, _ := c.peek()
		return c.last.at, left == 0
	}
	return c.sent - int64(n), c.s != nil && c.s.ended
}
