package wire

import (
	"bytes"
	"strconv"
)

// The budget is a header of stateproxy's own, for proxies in a row: each tells
// the next how long it will wait for the answer, so that none gives up before
// the one behind it. It is no part of the Microsoft protocol and is sent to
// proxies only; the line is taken out before a request goes on.
const budgetName = "Stateproxy-Budget: "

// HasBudget reports whether the head has a line with a budget, be its value
// readable or not.
func (r *Request) HasBudget() bool { return r.budgetLen > 0 }

// WithoutBudget takes the line with the budget out of b, which begins with the
// head that r was parsed from, and returns what is left. It works in place, and
// what r's slices point to is not theirs any more: the result must be parsed
// again.
func (r *Request) WithoutBudget(b []byte) []byte {
	copy(b[r.budgetLen:], b[:r.budgetAt])
	return b[r.budgetLen:]
}

// AppendWithBudget appends request, which begins with a head without a budget,
// with one of the given milliseconds in it.
func AppendWithBudget(dst, request []byte, milliseconds int64) []byte {
	at := bytes.Index(request, crlf) + len(crlf)
	dst = append(dst, request[:at]...)
	dst = append(dst, budgetName...)
	dst = strconv.AppendInt(dst, milliseconds, 10)
	dst = append(dst, crlf...)
	return append(dst, request[at:]...)
}

var crlf = []byte("\r\n")
