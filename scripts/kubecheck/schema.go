package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// schema is the part of OpenAPI's that Kubernetes uses.
type schema struct {
	Ref        string             `json:"$ref"`
	Type       string             `json:"type"`
	Format     string             `json:"format"`
	Properties map[string]*schema `json:"properties"`
	Additional *schema            `json:"additionalProperties"`
	Items      *schema            `json:"items"`
	Required   []string           `json:"required"`
	Enum       []any              `json:"enum"`
	AllOf      []*schema          `json:"allOf"`
	OneOf      []*schema          `json:"oneOf"`
	Kinds      []struct {
		Group, Version, Kind string
	} `json:"x-kubernetes-group-version-kind"`
}

// checker checks manifests of one API group and version.
type checker struct {
	schemas  map[string]*schema
	problems []string // as line:column: what
}

// refPrefix is what references begin with; the rest is a name in schemas.
const refPrefix = "#/components/schemas/"

// quantity is the name of the schema of amounts, and forms are what its text
// must look like, which it says in prose alone.
const quantity = "io.k8s.apimachinery.pkg.api.resource.Quantity"

var forms = map[string]*regexp.Regexp{
	quantity: regexp.MustCompile(`^[+-]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$`),
}

// open returns a checker for the manifest, and the schema of its kind.
func open(folder string, manifest *yaml.Node) (*checker, *schema, error) {
	var head struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
	}
	if err := manifest.Decode(&head); err != nil {
		return nil, nil, err
	}
	if head.APIVersion == "" || head.Kind == "" {
		return nil, nil, errors.New("want apiVersion and kind")
	}
	group, version, ok := strings.Cut(head.APIVersion, "/")
	file := filepath.Join(folder, "apis", group, version+".json")
	if !ok { // the first group has no name
		group, version = "", head.APIVersion
		file = filepath.Join(folder, "api", version+".json")
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("apiVersion %s: %w", head.APIVersion, err)
	}
	var document struct {
		Components struct{ Schemas map[string]*schema }
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	c := &checker{schemas: document.Components.Schemas}
	for _, s := range c.schemas {
		for _, k := range s.Kinds {
			if k.Group == group && k.Version == version && k.Kind == head.Kind {
				return c, s, nil
			}
		}
	}
	return nil, nil, fmt.Errorf("%s has no kind %s", head.APIVersion, head.Kind)
}

func (c *checker) problem(n *yaml.Node, path, format string, args ...any) {
	if path == "" {
		path = "the manifest"
	}
	c.problems = append(c.problems, fmt.Sprintf("%d:%d: %s: %s", n.Line, n.Column, path, fmt.Sprintf(format, args...)))
}

// check adds what is wrong with n, which is found at path.
func (c *checker) check(s *schema, n *yaml.Node, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if s.Ref != "" {
		c.checkRef(s.Ref, n, path)
		return
	}
	for _, part := range s.AllOf {
		c.check(part, n, path)
	}
	if len(s.OneOf) > 0 && !slices.ContainsFunc(s.OneOf, func(one *schema) bool { return c.fits(one, n) }) {
		c.problem(n, path, "%s fits none of what may be there", n.Tag)
	}
	if s.Type != "" && !isType(s.Type, n) {
		c.problem(n, path, "want %s, got %s", s.Type, n.Tag)
		return
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, any(n.Value)) {
		c.problem(n, path, "want one of %v, got %q", s.Enum, n.Value)
	}
	switch s.Type {
	case "object":
		c.checkObject(s, n, path)
	case "array":
		for i, item := range n.Content {
			c.check(s.Items, item, fmt.Sprintf("%s[%d]", path, i))
		}
	}
}

// checkRef checks n by a schema that has a name.
func (c *checker) checkRef(ref string, n *yaml.Node, path string) {
	name := strings.TrimPrefix(ref, refPrefix)
	s := c.schemas[name]
	if s == nil {
		c.problem(n, path, "the schemas lack %s", name)
		return
	}
	c.check(s, n, path)
	if form := forms[name]; form != nil && !form.MatchString(n.Value) {
		c.problem(n, path, "%q is no amount", n.Value)
	}
}

// fits reports whether n has no problem by s.
func (c *checker) fits(s *schema, n *yaml.Node) bool {
	trial := checker{schemas: c.schemas}
	trial.check(s, n, "")
	return len(trial.problems) == 0
}

// checkObject checks the members of n, and that those are there which must be.
func (c *checker) checkObject(s *schema, n *yaml.Node, path string) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		if seen[key.Value] {
			c.problem(key, at, "is there twice")
		}
		seen[key.Value] = true
		switch member := s.Properties[key.Value]; {
		case member != nil:
			c.check(member, value, at)
		case s.Additional != nil:
			c.check(s.Additional, value, at)
		case s.Properties != nil:
			c.problem(key, at, "no such field")
		}
	}
	for _, name := range s.Required {
		if !seen[name] {
			c.problem(n, path, "%s is missing", name)
		}
	}
}

// tags are YAML's names of the types.
var tags = map[string][]string{
	"string":  {"!!str", "!!timestamp"},
	"integer": {"!!int"},
	"number":  {"!!int", "!!float"},
	"boolean": {"!!bool"},
}

func isType(name string, n *yaml.Node) bool {
	switch name {
	case "object":
		return n.Kind == yaml.MappingNode
	case "array":
		return n.Kind == yaml.SequenceNode
	}
	return n.Kind == yaml.ScalarNode && slices.Contains(tags[name], n.Tag)
}
