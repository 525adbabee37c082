package config

import (
	"bytes"
	"fmt"

	"gopkg.in/yaml.v3"
)

// Effective is the config in force as YAML: every key, defaults included.
// Parse turns it into an equal Config. A Config that did not come from Parse or
// Default must hold valid UTF-8 only.
func (c *Config) Effective() []byte {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	err := e.Encode(schema(c).encode())
	if err == nil {
		err = e.Close()
	}
	if err != nil { // a buffer takes every byte, and the schema makes valid nodes only
		panic(fmt.Sprintf("config: encode: %v", err))
	}
	return b.Bytes()
}
