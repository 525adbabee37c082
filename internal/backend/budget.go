package backend

import (
	"time"

	"stateproxy/internal/sock"
	"stateproxy/wire"
)

// Kind is what stands at a backend's address.
type Kind int32

// The kinds.
const (
	Unknown Kind = iota // it has not been seen to answer yet
	Server              // a state server
	Proxy               // another stateproxy, with state servers behind it
)

// SetKind tells what stands at the address. Another proxy is told with each
// request how long its answer is waited for. A state server is told nothing,
// for it is spoken to as its clients do.
func (p *Pool) SetKind(k Kind) { p.kind.Store(int32(k)) }

// tells reports whether x's request goes out with a budget. To what is not known
// yet one is passed on that came with the request: in a loop of proxies it is
// what makes the request end.
func (p *Pool) tells(x *Exchange) bool {
	switch Kind(p.kind.Load()) {
	case Proxy:
		return true
	case Unknown:
		return x.Told
	}
	return false
}

// maxSlack is what a proxy keeps of its budget, at most, for the way to the next
// one and back.
const maxSlack = 250 * time.Millisecond

// budgetRoom is more than the line with the budget takes.
const budgetRoom = 64

// withBudget returns x's request as it goes to a proxy. The memory is x's.
func (x *Exchange) withBudget() []byte {
	left := max(time.Until(x.Deadline), 0)
	left -= min(left/8, maxSlack)
	x.forgetTold()
	x.told = wire.AppendWithBudget(sock.Buffer(len(x.Request) + budgetRoom)[:0], x.Request, left.Milliseconds())
	return x.told
}

// forgetTold gives back the memory of withBudget.
func (x *Exchange) forgetTold() {
	sock.Recycle(x.told)
	x.told = nil
}
