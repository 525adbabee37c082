package config

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

const minimal = "backends: [{name: s1, address: 10.0.0.11:42424}]\n"

// mustParse is the config of a file that must be fine.
func mustParse(t *testing.T, data string) *Config {
	t.Helper()
	c, err := Parse("config.yaml", []byte(data))
	if err != nil {
		t.Fatalf("Parse(%q) = %v; want no problems", data, err)
	}
	return c
}

func files(t testing.TB, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("Glob(%q) = %v, %v; want some files", pattern, found, err)
	}
	return found
}

func readTest(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestBad compares the problems of each bad file with the .out beside it.
func TestBad(t *testing.T) {
	for _, file := range files(t, "testdata/bad/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := Parse(filepath.Base(file), []byte(readTest(t, file)))
			if err == nil || c != nil {
				t.Fatalf("Parse(%s) = %v, %v; want problems and no config", file, c, err)
			}
			got := err.Error() + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".out"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := readTest(t, golden); got != want {
				t.Errorf("Parse(%s) =\n%s; want\n%s", file, got, want)
			}
		})
	}
}

// TestGood also holds that Effective says the same again.
func TestGood(t *testing.T) {
	for _, file := range files(t, "testdata/good/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c := mustParse(t, readTest(t, file))
			checkRoundTrip(t, c)
		})
	}
}

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func checkRoundTrip(t *testing.T, c *Config) {
	t.Helper()
	effective := c.Effective()
	again, err := Parse("effective.yaml", effective)
	if err != nil {
		t.Fatalf("Parse(Effective()) = %v; want no problems in\n%s", err, effective)
	}
	if !reflect.DeepEqual(again, c) {
		t.Errorf("Parse(Effective()) = %+v; want %+v", again, c)
	}
}

func TestParseMinimal(t *testing.T) {
	want := Default()
	want.Backends = []Backend{{Name: "s1", Address: "10.0.0.11:42424", Weight: 1, State: Active}}
	tests := []struct{ name, data string }{
		{"as it is", minimal},
		{"byte order mark", "\ufeff" + minimal},
		{"CRLF", strings.ReplaceAll("# comment\n"+minimal+"log:\n  level: info\n", "\n", "\r\n")},
		{"document markers", "---\n" + minimal + "...\n"},
		{"sections with nothing in them", minimal + "health:\nlimits: {}\npools:\n"},
		{"JSON", `{"backends": [{"name": "s1", "address": "10.0.0.11", "weight": 1}], "pools": []}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustParse(t, tt.data); !reflect.DeepEqual(got, want) {
				t.Errorf("Parse(%q) = %+v; want %+v", tt.data, got, want)
			}
		})
	}
}

// TestParseFull gives every setting another value than its default.
func TestParseFull(t *testing.T) {
	want := &Config{
		Listen: []Listener{
			{Address: "10.0.0.1:42424"},
			{Address: "[::1]:0", Networks: Networks{
				Allow: prefixes("10.0.0.0/8", "192.168.1.7/32", "2001:db8::/32", "172.16.0.1/32"), Deny: prefixes("10.9.0.0/16"),
			}, ProxyProtocol: prefixes("::1/128"), TLS: &ListenerTLS{CertFile: "a.pem", KeyFile: "/b.key", ClientCAFile: "ca.pem", MinVersion: "1.3"}},
		},
		Backends: []Backend{
			{Name: "s1", Address: "db.example.com:42424", Weight: 3, State: Active, TLS: true, ServerName: "central"},
			{Name: "S_2", Address: "[fe80::1%eth0]:1", Weight: 1000, State: Drain},
			{Name: "1", Address: "10.0.0.2:65535", Weight: 1, State: Active},
		},
		Pools: []Pool{
			{Name: "shop", Applications: []string{"/LM/W3SVC/2/*", "?x"}, Backends: []string{"1", "S_2"}},
			{Name: "rest", Applications: []string{"*"}, Backends: []string{"s1"}},
		},
		Applications: []Application{
			{Alias: []string{"/LM/W3SVC/7/ROOT/Shop", "/LM/W3SVC/8?/*"}, To: "/LM/W3SVC/1/ROOT/shop"},
			{Alias: []string{"/LM/*"}, To: "/LM/W3SVC/1/ROOT/(other)"},
		},
		Access: []AccessRule{
			{Applications: []string{"/LM/W3SVC/2/*", "?x"}, Networks: Networks{Allow: prefixes("10.1.0.0/16")}},
			{Applications: []string{"*"}, Networks: Networks{Deny: prefixes("0.0.0.0/0", "::/0")}},
		},
		BackendTLS:    BackendTLS{CAFile: "ca.pem", CertFile: "client.pem", KeyFile: "client.key", MinVersion: "1.3"},
		OnUnavailable: Wait,
		WaitLimit:     90 * time.Second,
		ASPNetVersion: "2.0.50727",
		Health: Health{
			Interval: 1500 * time.Millisecond, Timeout: 250 * time.Millisecond, Jitter: 0.125, Rise: 3, Fall: 4,
			HoldDown: 0, MaxHoldDown: time.Hour, MaxEjected: 0.29,
		},
		Timeouts: Timeouts{
			Budget: 10 * time.Second, Dial: time.Second, ClientIdle: time.Hour, ClientStall: 5 * time.Second,
			BackendIdle: 7 * time.Second, Drain: 0,
		},
		Limits: Limits{
			Connections: 1, ConnectionsPerClient: 2, ConnectionRate: 5, RequestRate: 6, Head: 2000, Body: 2*gib - 1, Buffer: 0,
			BackendConnections: 3, BackendQueue: 0, BackendWait: 20 * time.Millisecond,
		},
		Handoff: Handoff{
			Delay: 0, Window: time.Hour, StateFile: "/var/lib/proxy.state", MaxMove: 0.5, Remember: 0, Rate: 7,
		},
		Log:   Log{Level: "debug", Format: "json", Slow: 250 * time.Millisecond, Access: 0.025},
		Admin: Admin{Listen: "", TokenFile: "token", Hosts: []string{"proxy.example.com", "p_2"}, MinUp: 0.5},
	}
	got := mustParse(t, readTest(t, "testdata/good/full.yaml"))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Parse(full.yaml) = %+v; want %+v", got, want)
	}
}

func TestParseListen(t *testing.T) {
	tests := []struct {
		name, listen string
		want         []string
	}{
		{"one", "127.0.0.1:1", []string{"127.0.0.1:1"}},
		{"list", "[127.0.0.1:1, 127.0.0.2:1]", []string{"127.0.0.1:1", "127.0.0.2:1"}},
		{"all interfaces", `":1"`, []string{":1"}},
		{"name in capitals", "Proxy1:1", []string{"proxy1:1"}},
		{"long IPv6", `"[0:0:0:0:0:0:0:1]:1"`, []string{"[::1]:1"}},
		{"keys", "[{address: Proxy1:1}, 127.0.0.2:1]", []string{"proxy1:1", "127.0.0.2:1"}},
		{"free ports", "[127.0.0.1:0, 127.0.0.1:0]", []string{"127.0.0.1:0", "127.0.0.1:0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, minimal+"listen: "+tt.listen+"\n")
			if got := c.Addresses(); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Parse(listen: %s) = %q; want %q", tt.listen, got, tt.want)
			}
		})
	}
}

func TestParseRefusesWhole(t *testing.T) {
	tests := []struct{ name, data, want string }{
		{"empty", "", "c.yaml:1:1: the file is empty, want at least the key backends"},
		{"comments only", "# nothing\n", "c.yaml:1:1: the file is empty, want at least the key backends"},
		{"null", "~\n", "c.yaml:1:1: the file is empty, want at least the key backends"},
		{"not UTF-8", "# caf\u00e9\n# \u00e9 \xe9\n", "c.yaml:2:5: want UTF-8 text, got the byte 0xe9"},
		{"UTF-16", "\xff\xfeb\x00", "c.yaml:1:1: want UTF-8 text, got the byte 0xff"},
		{"too large", strings.Repeat("#", maxFile+1), "c.yaml: want at most 1MiB of YAML"},
		{"two documents", minimal + "---\n" + minimal, "c.yaml:2:1: want one YAML document, got a second one"},
		{"too many", minimal + "listen: [" + strings.Repeat("a:1,", 101) + "]\n", "c.yaml:2:9: listen: want at most 100, got 101"},
		{"a list", "- 1\n", "c.yaml:1:1: want keys and values such as listen: 127.0.0.1:42424, got a list"},
		{"a word", "hello\n", `c.yaml:1:1: want keys and values such as listen: 127.0.0.1:42424, got "hello"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse("c.yaml", []byte(tt.data))
			if c != nil || err == nil || err.Error() != tt.want {
				t.Errorf("Parse(%.40q) = %v, %v; want %s", tt.data, c, err, tt.want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "config.yaml")
	if _, raw, err := Load(file); !errors.Is(err, os.ErrNotExist) || raw != nil {
		t.Errorf("Load(missing) = %q, %v; want no bytes, %v", raw, err, os.ErrNotExist)
	}
	if _, raw, err := Load(folder); err == nil || raw != nil {
		t.Errorf("Load(folder) = %q, %v; want an error", raw, err)
	}

	writeFile(t, file, minimal)
	c, raw, err := Load(file)
	if err != nil || c == nil || string(raw) != minimal {
		t.Errorf("Load(good) = %v, %q, %v; want a config and %q", c, raw, err, minimal)
	}

	writeFile(t, file, "backends: []")
	c, raw, err = Load(file)
	var problems Problems
	if !errors.As(err, &problems) || c != nil || string(raw) != "backends: []" {
		t.Errorf("Load(bad) = %v, %q, %v; want Problems and the bytes", c, raw, err)
	}
}

func writeFile(t *testing.T, file, data string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSchemaCoversConfig fails when a field of Config has no key.
func TestSchemaCoversConfig(t *testing.T) {
	c := &Config{Listen: []Listener{{TLS: &ListenerTLS{}}}, Backends: make([]Backend, 1), Pools: make([]Pool, 1)}
	one := make([]netip.Prefix, 1)
	c.Listen[0].Networks, c.Listen[0].ProxyProtocol = Networks{one, one}, one
	c.Access = []AccessRule{{make([]string, 1), Networks{one, one}}}
	c.Pools[0] = Pool{Applications: make([]string, 1), Backends: make([]string, 1)}
	got := leaves(schema(c).encode())
	if want := fields(reflect.ValueOf(*c)); got != want {
		t.Errorf("schema has %d values; want %d, as Config", got, want)
	}
}

func leaves(n *yaml.Node) int {
	sum := 0
	for i, child := range n.Content {
		if n.Kind == yaml.SequenceNode || i%2 == 1 {
			sum += leaves(child)
		}
	}
	if n.Kind == yaml.ScalarNode {
		sum = 1
	}
	return sum
}

func fields(v reflect.Value) int {
	sum := 0
	if v.Type() == reflect.TypeFor[netip.Prefix]() {
		return 1
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			sum += fields(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			sum += fields(v.Index(i))
		}
	case reflect.Pointer:
		sum = fields(v.Elem())
	default:
		sum = 1
	}
	return sum
}

// TestExampleFile holds config.example.yaml to the schema and the defaults.
func TestExampleFile(t *testing.T) {
	const file = "../../config.example.yaml"
	c, raw, err := Load(file)
	if err != nil {
		t.Fatalf("Load(%s) = %v; want no problems", file, err)
	}
	got := *c
	got.Backends, got.Pools, got.Applications = nil, nil, nil
	if want := Default(); !reflect.DeepEqual(&got, want) {
		t.Errorf("Load(%s) = %+v; want the defaults %+v", file, got, *want)
	}

	docs, err := documents(raw)
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{}
	collectKeys("", docs[0].Content[0], given)
	for _, sample := range samples(string(raw)) {
		s := mustParse(t, minimal+sample)
		collectKeys("", schema(s).encode(), given)
		c.Listen = append(c.Listen, s.Listen...)
		c.Access = append(c.Access, s.Access...)
	}
	wanted := map[string]bool{}
	collectKeys("", schema(c).encode(), wanted)
	for key := range wanted {
		if !given[key] {
			t.Errorf("%s lacks the key %s", file, key)
		}
	}
	if len(wanted) < 40 {
		t.Errorf("the schema has %d keys; want 40 or more", len(wanted))
	}
}

var sampleStart = regexp.MustCompile(`^[a-z_]+:\n$`)

// samples returns the YAML in comments of a file, indented by three blanks, that
// shows what a default can't.
func samples(file string) (list []string) {
	block := ""
	for line := range strings.Lines(file + "\n\n") {
		text, ok := strings.CutPrefix(line, "#   ")
		if ok && (block != "" || sampleStart.MatchString(text)) {
			block += text
		} else if block != "" {
			list, block = append(list, block), ""
		}
	}
	return list
}

// collectKeys adds the paths of all keys, those of list items without a number.
func collectKeys(path string, n *yaml.Node, keys map[string]bool) {
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			collectKeys(path, item, keys)
		}
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := join(path, n.Content[i].Value)
		keys[key] = true
		collectKeys(key, n.Content[i+1], keys)
	}
}

func TestDefaultIsFresh(t *testing.T) {
	Default().Listen[0].Address = "changed"
	if got := Default().Listen[0].Address; got != "127.0.0.1:42424" {
		t.Errorf("Default().Listen[0].Address = %s after a change of another; want 127.0.0.1:42424", got)
	}
}
