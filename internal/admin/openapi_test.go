package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gopkg.in/yaml.v3"
)

// document is what the tests read of openapi.yaml.
type document struct {
	Paths      map[string]map[string]operation
	Components struct {
		Schemas   map[string]*schema
		Responses map[string]response
	}
}

type operation struct {
	Security    []map[string][]string
	RequestBody struct{ Content map[string]media }
	Responses   map[string]response
}

type response struct {
	Ref     string `yaml:"$ref"`
	Content map[string]media
}

type media struct{ Schema *schema }

type schema struct {
	Ref                  string `yaml:"$ref"`
	Type                 string
	Properties           map[string]*schema
	Required             []string
	AdditionalProperties yaml.Node `yaml:"additionalProperties"`
	Items                *schema
	Enum                 []string
	Format               string
	Minimum, Maximum     *float64
	MaxLength            *int `yaml:"maxLength"`
}

func parseOpenAPI(t *testing.T) *document {
	t.Helper()
	d := &document{}
	if err := yaml.Unmarshal(openAPI, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// follow returns what a reference stands for.
func (d *document) follow(s *schema) *schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		return d.Components.Schemas[name]
	}
	return s
}

// check returns what is wrong with a value at a path within an answer.
func (d *document) check(s *schema, v any, at string) error {
	if s = d.follow(s); s == nil {
		return fmt.Errorf("%s: no such schema", at)
	}
	switch v := v.(type) {
	case map[string]any:
		return d.checkObject(s, v, at)
	case []any:
		if s.Type != "array" {
			return fmt.Errorf("%s: an array; want %s", at, s.Type)
		}
		for i, item := range v {
			if err := d.check(s.Items, item, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
		return nil
	}
	return s.checkScalar(v, at)
}

func (d *document) checkObject(s *schema, v map[string]any, at string) error {
	if s.Type != "object" {
		return fmt.Errorf("%s: an object; want %s", at, s.Type)
	}
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			return fmt.Errorf("%s.%s: missing", at, name)
		}
	}
	for name, value := range v {
		of := s.Properties[name]
		if of == nil && s.AdditionalProperties.Kind == yaml.MappingNode {
			of = &schema{}
			if err := s.AdditionalProperties.Decode(of); err != nil {
				return err
			}
		}
		if of == nil {
			return fmt.Errorf("%s.%s: not described", at, name)
		}
		if err := d.check(of, value, at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

func (s *schema) checkScalar(v any, at string) error {
	ok := false
	switch v := v.(type) {
	case string:
		ok = s.Type == "string" && (s.Enum == nil || slices.Contains(s.Enum, v))
		if s.Format == "date-time" {
			_, err := time.Parse(time.RFC3339Nano, v)
			ok = ok && err == nil && strings.HasSuffix(v, "Z")
		}
	case bool:
		ok = s.Type == "boolean"
	case float64:
		ok = s.Type == "number" || s.Type == "integer" && v == float64(int64(v))
	}
	if !ok {
		return fmt.Errorf("%s = %v; want %s %s %q", at, v, s.Type, s.Format, s.Enum)
	}
	return nil
}

// operations lists method and path of all operations.
func (d *document) operations() (list []string) {
	for path, byMethod := range d.Paths {
		for method := range byMethod {
			list = append(list, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(list)
	return list
}

func TestOpenAPIListsAllRoutes(t *testing.T) {
	d := parseOpenAPI(t)
	var served []string
	rights := map[string]right{}
	for _, r := range (&Admin{}).routes() {
		served = append(served, r.method+" "+r.path)
		rights[r.method+" "+r.path] = r.need
	}
	slices.Sort(served)
	if described := d.operations(); !slices.Equal(described, served) {
		t.Errorf("described: %q\nserved: %q", described, served)
	}
	for path, byMethod := range d.Paths {
		for method, o := range byMethod {
			open := o.Security != nil && len(o.Security[0]) == 0
			token := o.Security != nil && len(o.Security[0]) == 1
			want := rights[strings.ToUpper(method)+" "+path]
			if open != (want == anyone) || token != (want == acting) {
				t.Errorf("%s %s: security %v does not fit the right %d", method, path, o.Security, want)
			}
		}
	}
}

// withActions is full with every action, which all succeed.
func withActions() *Admin {
	a := full()
	a.Actions = allActions(func(string) error { return nil })
	a.Config = func() string { return "listen: 127.0.0.1:42424\n" }
	a.XRay = sessionsOf("/LM/W3SVC/1/ROOT", "/LM/W3SVC/2/ROOT")
	return a
}

// example is a body that a schema allows.
func (d *document) example(s *schema) string {
	samples := map[string]any{"backend": "s1", "pool": "shop", "weight": 7, "reason": "patch day", "level": "debug", "session": "0000000000000abc", "lock": 5}
	body := map[string]any{}
	for name := range d.follow(s).Properties {
		body[name] = samples[name]
	}
	b, _ := json.Marshal(body)
	return string(b)
}

func TestAnswersFitOpenAPI(t *testing.T) {
	d := parseOpenAPI(t)
	streams := []string{"GET /api/v1/stream", "GET /api/v1/tail"} // their own tests read them
	for _, name := range d.operations() {
		if slices.Contains(streams, name) {
			continue
		}
		method, path, _ := strings.Cut(name, " ")
		o := d.Paths[path][strings.ToLower(method)]
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := withActions()
				a.history.begin(a.snapshot())
				for range 2 * ticksPerCoarse {
					a.Observe(sample(0))
					a.tick()
				}
				body := ""
				if m, ok := o.RequestBody.Content["application/json"]; ok {
					body = d.example(m.Schema)
				}
				d.checkAnswer(t, o, send(a.Handler(), method, path, body, "secret"))
				if method == http.MethodPost {
					d.checkAnswer(t, o, send(a.Handler(), method, path, body, "wrong"))
					d.checkAnswer(t, o, send((&Admin{}).Handler(), method, path, body, "any"))
				}
			})
		})
	}
}

// checkAnswer compares an answer with what is described for its status.
func (d *document) checkAnswer(t *testing.T, o operation, w *httptest.ResponseRecorder) {
	t.Helper()
	r, ok := o.Responses[strconv.Itoa(w.Code)]
	if !ok {
		t.Errorf("status %d is not described: %s", w.Code, w.Body)
		return
	}
	if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
		r = d.Components.Responses[name]
	}
	kind, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
	m, ok := r.Content[kind]
	if !ok {
		t.Errorf("content type %q of %d is not described; want one of %q", kind, w.Code, slices.Collect(maps.Keys(r.Content)))
		return
	}
	if kind != "application/json" {
		return
	}
	var v any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	if err := d.check(m.Schema, v, "answer"); err != nil {
		t.Error(err)
	}
}

// send asks a handler on loopback.
func send(h http.Handler, method, path, body, token string) *httptest.ResponseRecorder {
	r := onLoopback(httptest.NewRequest(method, "http://localhost:42480"+path, strings.NewReader(body)))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestOpenAPICheckFinds(t *testing.T) {
	d := parseOpenAPI(t)
	done := &schema{Ref: "#/components/schemas/Done"}
	tests := []struct {
		name, json string
		of         *schema
	}{
		{"a missing member", `{}`, done},
		{"one too many", `{"done":"x","more":1}`, done},
		{"a wrong type", `{"done":1}`, done},
		{"null", `{"done":null}`, done},
		{"not an object", `[]`, done},
		{"a value out of an enum", `"fatal"`, &schema{Ref: "#/components/schemas/Level"}},
		{"a time that is not in UTC", `"2026-01-01T00:00:00+02:00"`, &schema{Type: "string", Format: "date-time"}},
		{"a fraction", `1.5`, &schema{Type: "integer"}},
		{"within a list", `[1,"2"]`, &schema{Type: "array", Items: &schema{Type: "integer"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var v any
			if err := json.Unmarshal([]byte(tt.json), &v); err != nil {
				t.Fatal(err)
			}
			if d.check(tt.of, v, "value") == nil {
				t.Errorf("check(%s) = nil; want an error", tt.json)
			}
		})
	}
}
