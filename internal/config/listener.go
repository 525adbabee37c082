package config

import (
	"slices"

	"gopkg.in/yaml.v3"
)

// listenerForm is a listener in YAML: a mapping, or only its address if that is
// all there is to say.
type listenerForm struct{ to *Listener }

func listenerSetting(l *Listener) setting { return listenerForm{l} }

// bare tells whether l is nothing but an address.
func (l *Listener) bare() bool {
	return l.TLS == nil && len(l.Allow)+len(l.Deny)+len(l.ProxyProtocol) == 0
}

func (f listenerForm) keys() section {
	l := f.to
	return slices.Concat(section{
		{key: "address", setting: listenAddress(&l.Address), need: wantListen},
	}, networkKeys(&l.Networks), section{
		{key: "proxy_protocol", setting: networks(&l.ProxyProtocol, "")},
		{key: "tls", setting: optional[ListenerTLS]{to: &l.TLS, start: ListenerTLS{MinVersion: "1.2"}, item: listenerTLSSchema}},
	})
}

func listenerTLSSchema(t *ListenerTLS) setting {
	return section{
		{key: "cert_file", setting: file(&t.CertFile), need: wantFile},
		{key: "key_file", setting: file(&t.KeyFile), need: wantFile},
		{key: "client_ca_file", setting: path(&t.ClientCAFile)},
		{key: "min_version", setting: tlsVersion(&t.MinVersion)},
	}
}

func tlsVersion(to *string) setting { return oneOf(to, "1.2", "1.3") }

// form is how the listener is printed.
func (f listenerForm) form() setting {
	if f.to.bare() {
		return listenAddress(&f.to.Address)
	}
	return f.keys()
}

func (f listenerForm) decode(d *decoder, n *yaml.Node, key string) {
	if n.Kind == yaml.MappingNode {
		f.keys().decode(d, n, key)
		return
	}
	listenAddress(&f.to.Address).decode(d, n, key)
}

func (f listenerForm) encode() *yaml.Node { return f.form().encode() }

func (f listenerForm) text() string {
	if f.to.bare() {
		return f.to.Address
	}
	return f.to.Address + " (" + f.keys()[1:].text() + ")"
}

// Addresses returns the addresses of all listeners, in the order of the file.
func (c *Config) Addresses() []string {
	addresses := make([]string, len(c.Listen))
	for i, l := range c.Listen {
		addresses[i] = l.Address
	}
	return addresses
}
