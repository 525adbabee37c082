package admin

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"stateproxy/internal/xray"
	"stateproxy/proxy"
)

// expression is one in the alerts or the dashboard.
type expression struct {
	where, text string
	legend      string // or another text with {{label}} in it
}

// exposed returns the labels of all that /metrics may show, by name. Those that
// Prometheus adds to all are left out.
func exposed(t *testing.T) map[string][]string {
	t.Helper()
	families, err := busy().registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{"up": nil} // which is Prometheus' own
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		if f.GetMetric()[0].GetHistogram() == nil {
			all[f.GetName()] = labels
			continue
		}
		all[f.GetName()+"_bucket"] = append(slices.Clone(labels), "le")
		all[f.GetName()+"_sum"], all[f.GetName()+"_count"] = labels, labels
	}
	return all
}

// bounded are the labels whose values are fixed.
func bounded() map[string][]string {
	return map[string][]string{
		"reason": append(refusalReasons(), reasons[:]...), "op": opNames(), "status": statuses[:], "job": {"stateproxy"},
		"state": {"up", "down", "draining", "coming", "former", "idle", "busy"}, "result": {"ok", "refused"},
		"kind": kindNames(),
	}
}

func kindNames() (names []string) {
	for _, k := range kinds {
		names = append(names, string(k))
	}
	return append(names, other)
}

// refusalReasons are those of client connections that were refused.
func refusalReasons() (list []string) {
	for _, r := range new(proxy.Proxy).Status().Refusals {
		list = append(list, string(r.Reason))
	}
	return list
}

var (
	// grouping is a list of labels behind by and the like.
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	// selector is a name, what is behind it in braces, and a parenthesis if it
	// is a function's.
	selector = regexp.MustCompile(`\b([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(\s*\()?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"`)
	span     = regexp.MustCompile(`\[[^\]]*\]`)
	legend   = regexp.MustCompile(`{{\s*(?:\$labels\.)?(\w+)\s*}}`)
)

// wrongIn returns what is wrong with an expression: names that are not there.
func wrongIn(e expression, series map[string][]string) (wrong []string) {
	known := []string{"job", "instance"} // of any series in it
	var groups []string
	for _, m := range grouping.FindAllStringSubmatch(e.text, -1) {
		groups = append(groups, strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	rest := span.ReplaceAllString(grouping.ReplaceAllString(e.text, " "), " ")
	found := 0
	for _, m := range selector.FindAllStringSubmatch(rest, -1) {
		if m[3] != "" || slices.Contains([]string{"and", "or", "unless", "bool"}, m[1]) {
			continue
		}
		found++
		labels, ok := series[m[1]]
		if !ok {
			wrong = append(wrong, "no series "+m[1])
			continue
		}
		known = append(known, labels...)
		wrong = append(wrong, wrongMatchers(m[1], m[2], labels)...)
	}
	if found == 0 {
		wrong = append(wrong, "no series at all")
	}
	for _, m := range legend.FindAllStringSubmatch(e.legend, -1) {
		groups = append(groups, m[1])
	}
	for _, label := range groups {
		if !slices.Contains(known, label) {
			wrong = append(wrong, "no label "+label)
		}
	}
	return wrong
}

func wrongMatchers(name, braces string, labels []string) (wrong []string) {
	for _, m := range matcher.FindAllStringSubmatch(braces, -1) {
		if !slices.Contains(append([]string{"job", "instance"}, labels...), m[1]) {
			wrong = append(wrong, fmt.Sprintf("%s has no label %s", name, m[1]))
		}
		values, ok := bounded()[m[1]]
		if !ok {
			continue
		}
		for value := range strings.SplitSeq(m[2], "|") {
			if !slices.Contains(values, value) {
				wrong = append(wrong, fmt.Sprintf("%s is never %q", m[1], value))
			}
		}
	}
	return wrong
}

func TestWrongIn(t *testing.T) {
	tests := []struct {
		expr, legend string
		want         string
	}{
		{`stateproxy_ready == 0`, "", ""},
		{`sum by (op) (rate(stateproxy_requests_total{status="200", instance=~"$instance"}[5m])) > 0.5`, "{{op}}", ""},
		{`histogram_quantile(0.9, sum by (le) (rate(stateproxy_request_duration_seconds_bucket[5m])))`, "", ""},
		{`stateproxy_backend_up == 0 and on (job, backend) stateproxy_backend_weight > 0`, "{{ $labels.backend }}", ""},
		{`stateproxy_redy == 0`, "", "no series stateproxy_redy"},
		{`rate(stateproxy_request_duration_seconds[5m])`, "", "no series stateproxy_request_duration_seconds"},
		{`stateproxy_ready{pool="x"}`, "", "stateproxy_ready has no label pool"},
		{`sum by (pool) (stateproxy_ready)`, "", "no label pool"},
		{`stateproxy_ready`, "{{pool}}", "no label pool"},
		{`stateproxy_request_failures_total{reason!~"timeout|tired"}`, "", `reason is never "tired"`},
		{`vector(1)`, "", "no series at all"},
	}
	series := exposed(t)
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			if got := strings.Join(wrongIn(expression{"here", tt.expr, tt.legend}, series), "; "); got != tt.want {
				t.Errorf("wrongIn(%s, %q) = %q; want %q", tt.expr, tt.legend, got, tt.want)
			}
		})
	}
}

// alertRule is a rule of the alerts.
type alertRule struct {
	Alert, Expr string
	Labels      map[string]string
	Annotations map[string]string
}

func alertRules(t *testing.T) (rules []alertRule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alertRule } }
	if err := yaml.Unmarshal(deployFile(t, "prometheus/alerts.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	if len(rules) < 10 {
		t.Fatalf("%d alert rules; want all", len(rules))
	}
	return rules
}

func deployFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../../deploy/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func doc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAlerts(t *testing.T) {
	series, tests, operations := exposed(t), string(deployFile(t, "prometheus/alerts_test.yaml")), doc(t, "operations.md")
	for _, r := range alertRules(t) {
		t.Run(r.Alert, func(t *testing.T) {
			e := expression{r.Alert, r.Expr, strings.Join(slices.Collect(maps.Values(r.Annotations)), " ")}
			for _, w := range wrongIn(e, series) {
				t.Errorf("expression: %s", w)
			}
			if s := r.Labels["severity"]; s != "page" && s != "ticket" {
				t.Errorf("severity %q; want page or ticket", s)
			}
			if got, want := r.Annotations["runbook"], "docs/operations.md#"+strings.ToLower(r.Alert); got != want {
				t.Errorf("runbook %q; want %q", got, want)
			}
			if !strings.Contains(operations, "\n### "+r.Alert+"\n") {
				t.Errorf("docs/operations.md has no heading %q", r.Alert)
			}
			if !strings.Contains(tests, "alertname: "+r.Alert+"\n        exp_alerts:\n") {
				t.Errorf("alerts_test.yaml has no test in which it fires")
			}
		})
	}
}

// expressionsOf collects the expressions of a dashboard.
func expressionsOf(v any, where string) (list []expression) {
	switch v := v.(type) {
	case map[string]any:
		if title, ok := v["title"].(string); ok {
			where += "/" + title
		}
		if text, ok := v["expr"].(string); ok {
			legend, _ := v["legendFormat"].(string)
			format, _ := v["textFormat"].(string)
			list = append(list, expression{where, text, legend + format})
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			list = append(list, expressionsOf(v[name], where)...)
		}
	case []any:
		for _, x := range v {
			list = append(list, expressionsOf(x, where)...)
		}
	}
	return list
}

func TestGrafanaDashboard(t *testing.T) {
	var dashboard any
	if err := json.Unmarshal(deployFile(t, "grafana/stateproxy.json"), &dashboard); err != nil {
		t.Fatal(err)
	}
	list, series := expressionsOf(dashboard, ""), exposed(t)
	if len(list) < 30 {
		t.Fatalf("%d expressions found; want all", len(list))
	}
	for _, e := range list {
		for _, w := range wrongIn(e, series) {
			t.Errorf("%s: %s: %s", e.where, e.text, w)
		}
	}
}

// TestOperationsExplainReasons: whoever finds a reason in log or metrics finds it
// in the handbook.
func TestOperationsExplainReasons(t *testing.T) {
	text := doc(t, "operations.md")
	for _, reason := range append(refusalReasons(), reasons[:]...) {
		if !strings.Contains(text, "\n| `"+reason+"` |") {
			t.Errorf("docs/operations.md has no row for the reason %s", reason)
		}
	}
}

// TestOperationsExplainFindings: likewise for the findings of status and page.
func TestOperationsExplainFindings(t *testing.T) {
	text := doc(t, "operations.md")
	findingNames := constants(t, "finding.go", "Kind")
	if len(findingNames) == 0 {
		t.Fatal("finding.go has no constants of type Kind; want some")
	}
	for _, kind := range findingNames {
		if !slices.Contains(kinds, Kind(kind)) {
			t.Errorf("kinds lacks %s", kind)
		}
	}
	for _, kind := range kinds {
		if !strings.Contains(text, "\n| `"+string(kind)+"` |") {
			t.Errorf("docs/operations.md has no row for the finding %s", kind)
		}
	}
}

// TestLogsListFindings: docs/logs.md has each finding that OnFinding tells of,
// with its level if that is always the same.
func TestLogsListFindings(t *testing.T) {
	text := doc(t, "logs.md")
	for _, kind := range kinds {
		level := string(sessionLevels[xray.Kind(kind)])
		if !slices.Contains(told, kind) && !regexp.MustCompile("\\n\\| [a-z, ]*"+level+"[a-z, ]* \\| `"+string(kind)+"` \\|").MatchString(text) {
			t.Errorf("docs/logs.md has no row for the finding %s of level %s", kind, level)
		}
	}
}

// constants returns the values of a file's constants of a type.
func constants(t *testing.T, file, typeName string) (values []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); ok && id.Name == typeName {
			for _, v := range spec.Values {
				values = append(values, strings.Trim(v.(*ast.BasicLit).Value, `"`))
			}
		}
		return true
	})
	return values
}
