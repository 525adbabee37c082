package backend

import (
	"encoding/json"
	"errors"
	"net"

	"stateproxy/wire"
)

// Reserved is how keys begin that are no session's. A proxy answers those that
// it knows by itself and sends none of them on.
const Reserved = "/stateproxy/"

// DescriptionKey is the key under which a proxy answers with its description. A
// state server has nothing there.
const DescriptionKey = Reserved + "proxy"

// maxDescription bounds a description in bytes: some thousand servers.
const maxDescription = 256 << 10

// Description is what a proxy tells of itself to a proxy before it.
type Description struct {
	ID      string         `json:"id"`      // of this run of the proxy
	Serves  bool           `json:"serves"`  // it reaches a state server
	Servers []string       `json:"servers"` // nonces of the state servers behind it, as their sentinels show
	Behind  map[string]int `json:"behind"`  // IDs of the proxies behind it, and how far behind: 1 is the next
}

// Append appends d as it stands in the body of an answer.
func (d *Description) Append(dst []byte) []byte {
	b, err := json.Marshal(d)
	if err != nil {
		return dst // texts and numbers can't be refused
	}
	return append(dst, b...)
}

// trouble says why the proxy is not fit for sessions, nil if it is.
func (d *Description) trouble() error {
	if !d.Serves {
		return errors.New("the proxy there reaches none of its backends")
	}
	return nil
}

// describe asks a peer that has something at the target for its description. It
// returns nil if there is none.
func describe(c net.Conn, r *wire.Reader, target []byte) *Description {
	req := wire.Request{Verb: wire.GET, Target: target, Host: []byte("probe")}
	status, body, err := ask(c, r, &req, "", maxDescription)
	if err != nil || status != wire.StatusOK {
		return nil
	}
	d := &Description{}
	if json.Unmarshal([]byte(body), d) != nil || d.ID == "" {
		return nil
	}
	return d
}
