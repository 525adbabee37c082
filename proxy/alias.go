package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"stateproxy/internal/sock"
	"stateproxy/wire"
)

// Alias makes several application parts one on the way to the backends, for web
// servers that can't be set up alike: sessions under a part that From takes, or
// under To itself, are kept under To.
//
// The digest that belongs to the application part becomes that of To, as .NET
// 4.x makes it (protocol.md section 4). So what the digest keeps apart, such as
// applications with machine keys of their own, an alias brings together: whoever
// has a session ID of one of these applications reaches the session of all.
//
// A change of aliases moves no session: those under another name are not found
// any more.
type Alias struct {
	To   string   // application part, such as /LM/W3SVC/1/ROOT/shop
	From []string // patterns on the application part, as in Pool
}

// rename is an Alias made ready.
type rename struct {
	from  []string
	to    []byte
	begin []byte // of the keys under it, up to the session ID
}

func renames(list []Alias) (all []rename) {
	for _, a := range list {
		digest := sha256.Sum256([]byte(a.To))
		begin := a.To + "(" + base64.StdEncoding.EncodeToString(digest[:]) + ")/"
		all = append(all, rename{a.From, []byte(a.To), []byte(begin)})
	}
	return all
}

func (r *rename) takes(app []byte) bool {
	return bytes.Equal(r.to, app) || slices.ContainsFunc(r.from, func(p string) bool { return match(p, app) })
}

// key returns the key of a session ID under the new name. It uses buf's memory.
func (r *rename) key(buf, sessionID []byte) wire.Key {
	full := append(append(buf[:0], r.begin...), sessionID...)
	app, begin := len(r.to), len(r.begin)
	return wire.Key{Full: full, App: full[:app], Digest: full[app+1 : begin-2], SessionID: full[begin:]}
}

// maxAlias bounds the length of a name, in bytes: a head must stay short enough
// for every backend.
const maxAlias = 512

// check returns what is wrong with an alias.
func (a *Alias) check() error {
	switch {
	case !strings.HasPrefix(a.To, "/") || strings.HasPrefix(a.To, "//"):
		return fmt.Errorf("alias %q: want an application part, which begins with one slash", a.To)
	case len(a.To) > maxAlias || !utf8.ValidString(a.To):
		return fmt.Errorf("alias %.40q: want UTF-8, at most %d bytes", a.To, maxAlias)
	case len(a.From) == 0:
		return fmt.Errorf("alias %s: nothing becomes it", a.To)
	}
	begin := renames([]Alias{*a})[0].begin
	if k := wire.ParseTarget(nil, wire.AppendEncoded(nil, append(begin, 'a'))); string(k.App) != a.To {
		return fmt.Errorf("alias %s: it has a digest in it", a.To)
	}
	return nil
}

// renamed is the memory of a connection whose requests have been renamed.
type renamed struct {
	key     []byte
	request []byte // of the request under way; nil if it goes as it came
}

// rename gives the request in c.x the name that the settings want. A key that
// has no application part, or whose ID can't be encoded anew, stays as it is.
func (c *conn) rename(list []rename) {
	k := &c.x.key
	if k.Digest == nil || !utf8.Valid(k.SessionID) {
		return
	}
	i := slices.IndexFunc(list, func(r rename) bool { return r.takes(k.App) })
	if i < 0 || bytes.HasPrefix(k.Full, list[i].begin) && len(k.Full) == len(list[i].begin)+len(k.SessionID) {
		return
	}
	*k = list[i].key(c.renamed.key, k.SessionID)
	c.renamed.key = k.Full
	old := c.x.Request
	at := bytes.IndexByte(old, ' ') + 1
	rest := old[at+len(c.req.Target):]
	b := append(sock.Buffer(len(old) + 3*len(k.Full))[:0], old[:at]...)
	b = wire.AppendEncoded(b, k.Full)
	end := len(b)
	c.x.Request = append(b, rest...)
	c.req.Target = c.x.Request[at:end]
	c.renamed.request = c.x.Request
}

// forgetRename gives back what rename took, when the request is over.
func (c *conn) forgetRename() {
	sock.Recycle(c.renamed.request)
	c.renamed.request = nil
	if cap(c.renamed.key) > maxAlias+1<<10 {
		c.renamed.key = nil // the key of the last grant keeps its memory by itself
	}
}
