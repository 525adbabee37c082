package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// small is a document of schemas with what Kubernetes' own use.
const small = `{"components": {"schemas": {
  "Box": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "shop", "version": "v1", "kind": "Box"}],
    "required": ["spec"],
    "properties": {
      "apiVersion": {"type": "string"}, "kind": {"type": "string"},
      "metadata": {"type": "object"},
      "spec": {"default": {}, "allOf": [{"$ref": "#/components/schemas/Spec"}]}}},
  "Spec": {"type": "object", "required": ["count"], "properties": {
      "count": {"type": "integer", "format": "int32"},
      "share": {"type": "number"},
      "open": {"type": "boolean"},
      "policy": {"type": "string", "enum": ["Always", "Never"]},
      "port": {"$ref": "#/components/schemas/IntOrString"},
      "memory": {"allOf": [{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity"}]},
      "labels": {"type": "object", "additionalProperties": {"type": "string"}},
      "lost": {"$ref": "#/components/schemas/Lost"},
      "items": {"type": "array", "items": {"type": "string"}}}},
  "IntOrString": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
  "io.k8s.apimachinery.pkg.api.resource.Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]}
}}}`

// check writes schemas and manifest into files and checks them.
func check(t *testing.T, manifest string) ([]string, error) {
	t.Helper()
	folder := t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, "apis", "shop"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "m.yaml")
	for name, text := range map[string]string{filepath.Join(folder, "apis", "shop", "v1.json"): small, file: manifest} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	problems, err := checkFile(folder, file)
	for i, p := range problems {
		problems[i] = strings.TrimPrefix(p, file+":")
	}
	return problems, err
}

func TestCheckFile(t *testing.T) {
	tests := []struct {
		name, spec string
		want       []string
	}{
		{"all there is", "{count: 2, share: 0.5, open: true, policy: Never, port: http, memory: 64Mi, labels: {a: b}, items: [x, y]}", nil},
		{"other forms", "{count: 2, share: 1, port: 80, memory: 0.5}", nil},
		{"free object", "{count: 2}\nmetadata: {any: {thing: 1}}", nil},
		{"wrong type", "{count: two}", []string{"3:15: spec.count: want integer, got !!str"}},
		{"number as text", `{count: "2"}`, []string{"3:15: spec.count: want integer, got !!str"}},
		{"nothing", "{count: }", []string{"3:15: spec.count: want integer, got !!null"}},
		{"list for an object", "[]", []string{"3:7: spec: want object, got !!seq"}},
		{"unknown field", "{count: 1, cuont: 2}", []string{"3:18: spec.cuont: no such field"}},
		{"unknown field at the top", "{count: 1}\nspce: 1", []string{"4:1: spce: no such field"}},
		{"missing field", "{open: true}", []string{"3:7: spec: count is missing"}},
		{"twice", "{count: 1, count: 2}", []string{"3:18: spec.count: is there twice"}},
		{"not of the set", "{count: 1, policy: never}", []string{`3:26: spec.policy: want one of [Always Never], got "never"`}},
		{"neither of two", "{count: 1, port: [80]}", []string{"3:24: spec.port: !!seq fits none of what may be there"}},
		{"amount", "{count: 1, memory: 64Mib}", []string{`3:26: spec.memory: "64Mib" is no amount`}},
		{"text wanted of any", "{count: 1, labels: {a: 1}}", []string{"3:30: spec.labels.a: want string, got !!int"}},
		{"item", "{count: 1, items: [a, 2]}", []string{"3:29: spec.items[1]: want string, got !!int"}},
		{"schema without a definition", "{count: 1, lost: 1}", []string{"3:24: spec.lost: the schemas lack Lost"}},
		{"two problems", "{cuont: x}", []string{"3:8: spec.cuont: no such field", "3:7: spec: count is missing"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := check(t, "apiVersion: shop/v1\nkind: Box\nspec: "+tt.spec+"\n")
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("checkFile(%s) = %q, %v; want %q", tt.spec, got, err, tt.want)
			}
		})
	}
}

func TestCheckFileRefuses(t *testing.T) {
	tests := []struct {
		name, manifest, want string
	}{
		{"empty", "", "no manifest"},
		{"no YAML", "a: [", "m.yaml: "},
		{"no kind", "apiVersion: shop/v1\n", "want apiVersion and kind"},
		{"a list", "- 1\n", "cannot unmarshal"},
		{"unknown kind", "apiVersion: shop/v1\nkind: Bag\n", "shop/v1 has no kind Bag"},
		{"unknown group", "apiVersion: bank/v1\nkind: Box\n", "apiVersion bank/v1"},
		{"unknown version of the first group", "apiVersion: v7\nkind: Box\n", "apiVersion v7"},
		{"the second one", "apiVersion: shop/v1\nkind: Box\nspec: {count: 1}\n---\nkind: Box\n", "m.yaml:5: want apiVersion"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := check(t, tt.manifest); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("checkFile(%q) = %v; want an error with %q", tt.manifest, err, tt.want)
			}
		})
	}
}
