package wire_test

import (
	"bytes"
	"strings"
	"testing"

	"stateproxy/wire"
)

func TestAppendDecoded(t *testing.T) {
	tests := []struct {
		name   string
		target string
		want   string
	}{
		{"nothing", "", ""},
		{"plain", "abc-_.!*()~", "abc-_.!*()~"},
		{"escapes in both cases", "%2fa%2Fb%3D%3d", "/a/b=="},
		{"plus is a blank", "a+b%2bc", "a b+c"},
		{"one pass only", "%252f%25%32%35", "%2f%25"},
		{"nul", "a%00b", "a\x00b"},

		{"one raw slash", "/a", "/a"},
		{"two raw slashes", "//a", "/a"},
		{"three raw slashes", "///a", "//a"},
		{"two slashes alone", "//", "/"},
		{"slash and escaped slash", "/%2fa", "//a"},
		{"two escaped slashes", "%2f%2fa", "//a"},
		{"two slashes later on", "a//b", "a//b"},

		{"percent alone", "%", "%"},
		{"one digit at the end", "a%2", "a%2"},
		{"no digits", "%zz%g0%0g", "%zz%g0%0g"},
		{"percent before an escape", "%%41", "%A"},
		{"digit, then an escape", "%4%41", "%4A"},

		{"unit", "caf%u00e9", "café"},
		{"unit in upper-case digits", "%u00E9", "é"},
		{"unit of one byte", "%u0041", "A"},
		{"unit of three bytes", "%u20ac", "€"},
		{"capital U is none", "%U00e9", "%U00e9"},
		{"unit too short", "%u00e", "%u00e"},
		{"unit too short before more", "%u00e+x", "%u00e x"},
		{"unit with a bad digit", "%u00g9", "%u00g9"},
		{"unit, then the letter u", "%u0041u", "Au"},
		{"surrogate pair", "%ud83d%ude00", "😀"},
		{"two surrogate pairs", "%ud83d%ude00%uD83D%uDE01", "😀😁"},
		{"pair by escapes of bytes", "%f0%9f%98%80", "😀"},
		{"high surrogate alone", "%ud83d", "\xed\xa0\xbd"},
		{"low surrogate alone", "%ude00", "\xed\xb8\x80"},
		{"pair in the wrong order", "%ude00%ud83d", "\xed\xb8\x80\xed\xa0\xbd"},
		{"pair parted by a byte", "%ud83da%ude00", "\xed\xa0\xbda\xed\xb8\x80"},
		{"two high ones, one low", "%ud83d%ud83d%ude00", "\xed\xa0\xbd😀"},
		{"one high one, two low", "%ud83d%ude00%ude00", "😀\xed\xb8\x80"},
		{"two low ones", "%ude00%ude00", "\xed\xb8\x80\xed\xb8\x80"},
		{"greatest pair", "%udbff%udfff", "\U0010ffff"},

		{"utf-8 in escapes", "%c3%a9", "é"},
		{"byte that never is utf-8", "a%ffb", "a\ufffdb"},
		{"character cut short", "%c3", "\ufffd"},
		{"character cut by a letter", "%e2%82x", "\ufffd\ufffdx"},
		{"character cut by a unit", "%c3%u0041%a9", "\ufffdA\ufffd"},
		{"overlong slash", "%c0%af", "\ufffd\ufffd"},
		{"surrogate in escapes of bytes", "%ed%a0%bd", "\ufffd\ufffd\ufffd"},
		{"surrogate in bytes, then a unit", "%ed%a0%bd%ude00", "\ufffd\ufffd\ufffd\xed\xb8\x80"},
		{"invalid behind valid", "%c3%a9%ff%c3%a9", "é\ufffdé"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(wire.AppendDecoded(nil, []byte(tt.target))); got != tt.want {
				t.Errorf("AppendDecoded(%q) = %q; want %q", tt.target, got, tt.want)
			}
		})
	}
}

// What dst held before takes no part in the decoding.
func TestAppendDecodedLeavesDst(t *testing.T) {
	tests := []struct{ dst, target, want string }{
		{"ab", "%2fc", "ab/c"},
		{"\xed\xa0\xbd", "%ude00", "\xed\xa0\xbd\xed\xb8\x80"},
		{"\xc3", "%a9", "\xc3\ufffd"},
		{"\xff", "%fe", "\xff\ufffd"},
	}
	for _, tt := range tests {
		if got := string(wire.AppendDecoded([]byte(tt.dst), []byte(tt.target))); got != tt.want {
			t.Errorf("AppendDecoded(%q, %q) = %q; want %q", tt.dst, tt.target, got, tt.want)
		}
	}
}

func TestAppendEncoded(t *testing.T) {
	var all []byte
	for c := range 128 {
		all = append(all, byte(c))
	}
	tests := []struct {
		name string
		key  string
		want string
	}{
		{"as the real client", "/LM/W3SVC/2/ROOT(oX+=)/id", "%2fLM%2fW3SVC%2f2%2fROOT(oX%2b%3d)%2fid"},
		{"untouched", "azAZ09-_.!*()", "azAZ09-_.!*()"},
		{"blank", "a b", "a+b"},
		{"not quite untouched", "~'%\x00\x7f", "%7e%27%25%00%7f"},
		{"utf-8", "é😀", "%c3%a9%f0%9f%98%80"},
		{"two slashes", "//a", "%2f%2fa"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(wire.AppendEncoded(nil, []byte(tt.key))); got != tt.want {
				t.Errorf("AppendEncoded(%q) = %q; want %q", tt.key, got, tt.want)
			}
		})
	}
	for _, key := range []string{"", string(all), "//a", "a%2fb", "%u0041", "é😀\ufffd", "+ +"} {
		if got := string(wire.AppendDecoded(nil, wire.AppendEncoded(nil, []byte(key)))); got != key {
			t.Errorf("AppendDecoded(AppendEncoded(%q)) = %q; want the key again", key, got)
		}
	}
}

func TestParseTarget(t *testing.T) {
	digest := func(letters, padding int) string {
		return strings.Repeat("A", letters) + strings.Repeat("=", padding)
	}
	tests := []struct {
		name           string
		key            string
		app, dig, sess string // of a key with a digest
	}{
		{"16 bytes", "/a(" + digest(22, 2) + ")/id", "/a", digest(22, 2), "id"},
		{"20 bytes", "/a(" + digest(27, 1) + ")/id", "/a", digest(27, 1), "id"},
		{"32 bytes", "/a(" + digest(43, 1) + ")/id", "/a", digest(43, 1), "id"},
		{"48 bytes", "/a(" + digest(64, 0) + ")/id", "/a", digest(64, 0), "id"},
		{"64 bytes", "/a(" + digest(86, 2) + ")/id", "/a", digest(86, 2), "id"},
		{"18 bytes", "/a(" + digest(24, 0) + ")/id", "", "", ""},
		{"17 bytes", "/a(" + digest(23, 1) + ")/id", "", "", ""},
		{"21 bytes", "/a(" + digest(28, 0) + ")/id", "", "", ""},
		{"33 bytes", "/a(" + digest(44, 0) + ")/id", "", "", ""},
		{"47 bytes", "/a(" + digest(63, 1) + ")/id", "", "", ""},
		{"66 bytes", "/a(" + digest(88, 0) + ")/id", "", "", ""},
		{"too much padding", "/a(" + digest(42, 2) + ")/id", "", "", ""},
		{"length in between", "/a(" + digest(39, 1) + ")/id", "", "", ""},
		{"one more than the longest", "/a(" + digest(89, 0) + ")/id", "", "", ""},
		{"empty brackets", "/a()/id", "", "", ""},
		{"padding in the middle", "/a(" + digest(10, 1) + digest(16, 1) + ")/id", "", "", ""},
		{"url-safe letters", "/a(-_" + digest(41, 1) + ")/id", "", "", ""},
		{"plus and slash", "/a(+/" + digest(41, 1) + ")/id", "/a", "+/" + digest(41, 1), "id"},
		{"no slash behind", "/a(" + digest(43, 1) + ")id", "", "", ""},
		{"end behind the bracket", "/a(" + digest(43, 1) + ")", "", "", ""},
		{"end before the bracket", "/a(" + digest(43, 1), "", "", ""},
		{"empty id", "/a(" + digest(43, 1) + ")/", "/a", digest(43, 1), ""},
		{"no application", "(" + digest(43, 1) + ")/id", "", digest(43, 1), "id"},
		{"id with a slash", "/a(" + digest(43, 1) + ")/i/d", "/a", digest(43, 1), "i/d"},
		{"brackets in the application", "/a(b)/c(" + digest(43, 1) + ")/id", "/a(b)/c", digest(43, 1), "id"},
		{"open brackets before the digest", "/a((" + digest(43, 1) + ")/id", "/a(", digest(43, 1), "id"},
		{"first of two digests", "/a(" + digest(27, 1) + ")/b(" + digest(43, 1) + ")/id", "/a", digest(27, 1), "b(" + digest(43, 1) + ")/id"},
		{"health probe", "/health/probe", "", "", ""},
		{"nothing", "", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target := wire.AppendEncoded(nil, []byte(tt.key))
			got := wire.ParseTarget(nil, target)
			if string(got.Full) != tt.key || string(got.App) != tt.app || string(got.Digest) != tt.dig || string(got.SessionID) != tt.sess {
				t.Errorf("ParseTarget(%q) = %q; want %q", target, got, []string{tt.key, tt.app, tt.dig, tt.sess})
			}
			routing := tt.sess
			if tt.dig == "" {
				routing = tt.key
				if got.App != nil || got.Digest != nil || got.SessionID != nil {
					t.Errorf("ParseTarget(%q) = %q; want nil parts without a digest", target, got)
				}
			}
			if string(got.RoutingKey()) != routing {
				t.Errorf("RoutingKey of %q = %q; want %q", target, got.RoutingKey(), routing)
			}
		})
	}
}

// The key is decoded into dst from its start, and moves only if it has to.
func TestParseTargetUsesDst(t *testing.T) {
	room := make([]byte, 3, 8)
	key := wire.ParseTarget(room, []byte("%2fabc"))
	if !bytes.Equal(key.Full, []byte("/abc")) || &key.Full[0] != &room[0] {
		t.Errorf("ParseTarget(dst, %%2fabc) = %q; want /abc in dst", key.Full)
	}
	if grown := wire.ParseTarget(room, []byte("a-longer-target")); string(grown.Full) != "a-longer-target" {
		t.Errorf("ParseTarget(dst, a-longer-target) = %q; want it whole", grown.Full)
	}
}
