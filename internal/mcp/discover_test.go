package mcp

import (
	"fmt"
	"reflect"
	"testing"
)

func TestDiscoverResult(t *testing.T) {
	const result = `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{},"resources":{}},` +
		`"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"ExampleServer","version":"1.0.0"}},` +
		`"instructions":"This server provides weather and resource utilities. Prefer ` + "`get_weather`" + ` for forecast lookups.","ttlMs":3600000,"cacheScope":"public"}`
	r, err := ParseDiscoverResult([]byte(result))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(r.Append(nil)); got != result {
		t.Errorf("got  %s\nwant %s", got, result)
	}
	legacy := r.ToLegacy("2024-11-05", Implementation{Name: "f", Version: "1"})
	want := `{"protocolVersion":"2024-11-05","capabilities":{"tools":{},"resources":{}},"serverInfo":{"name":"ExampleServer","version":"1.0.0"},` +
		`"instructions":"This server provides weather and resource utilities. Prefer ` + "`get_weather`" + ` for forecast lookups."}`
	if got := string(legacy.Append(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	parsed, err := ParseInitializeResult(legacy.Append(nil))
	if err != nil || string(parsed.Append(nil)) != want {
		t.Errorf("%+v, %v", parsed, err)
	}
	for _, tc := range []struct{ result, want string }{
		{`{"supportedVersions":["a","2026-07-28"],"capabilities":{},"ttlMs":-1,"cacheScope":"x","instructions":7,"_meta":7}`,
			`{"resultType":"complete","supportedVersions":["a","2026-07-28"],"capabilities":{},"ttlMs":0,"cacheScope":"private"}`},
		{`{"supportedVersions":[],"capabilities":{"n":9007199254740993}}`,
			`{"resultType":"complete","supportedVersions":[],"capabilities":{"n":9007199254740993},"ttlMs":0,"cacheScope":"private"}`},
	} {
		r, err := ParseDiscoverResult([]byte(tc.result))
		if err != nil {
			t.Errorf("%s: %v", tc.result, err)
		} else if got := string(r.Append(nil)); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
	for result, want := range map[string]string{
		`[]`:                          "result: must be an object, not an array",
		`{"capabilities":{}}`:         `result without "supportedVersions"`,
		`{"supportedVersions":"a"}`:   "supportedVersions: must be an array, not a string",
		`{"supportedVersions":[7]}`:   "supportedVersions: must be a string, not a number",
		`{"supportedVersions":["a"]}`: "capabilities: must be an object, not nothing",
	} {
		if _, err := ParseDiscoverResult([]byte(result)); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", result, err, want)
		}
	}
}

func TestDescriptionToModern(t *testing.T) {
	r, err := ParseInitializeResult([]byte(`{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"tasks":{"list":{}},"experimental":{"x":{"n":1e400}}},"serverInfo":{"name":"s","version":"1"},"instructions":"i"}`))
	if err != nil {
		t.Fatal(err)
	}
	got := string(r.ToModern(ModernVersions(), CacheHint{TTL: 5000, Scope: ScopePublic}).Append(nil))
	want := `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"experimental":{"x":{"n":1e400}}},` +
		`"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}},"instructions":"i","ttlMs":5000,"cacheScope":"public"}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for legacy, want := range map[string]string{
		`{"roots":{"listChanged":true},"sampling":{},"tasks":{"cancel":{}}}`: `{"roots":{},"sampling":{}}`,
		`{"elicitation":{},"extensions":{"a/b":{}}}`:                         `{"elicitation":{},"extensions":{"a/b":{}}}`,
		`null`: `{}`, ``: `{}`, `7`: `{}`,
	} {
		if got := string(ClientCapabilitiesToModern([]byte(legacy))); got != want {
			t.Errorf("%s became %s, want %s", legacy, got, want)
		}
	}
}

func TestInitializeParams(t *testing.T) {
	us := Implementation{Name: "mcpfleet", Title: "t", Version: "1"}
	m, err := ParseMeta([]byte(`{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","icons":[]},"io.modelcontextprotocol/clientCapabilities":{"roots":{}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		string(InitializeParams("v", us)):       `{"protocolVersion":"v","capabilities":{},"clientInfo":{"name":"mcpfleet","title":"t","version":"1"}}`,
		string(InitializeParamsOf(&m, us)):      `{"protocolVersion":"2025-11-25","capabilities":{"roots":{}},"clientInfo":{"name":"c","icons":[]}}`,
		string(InitializeParamsOf(&Meta{}, us)): `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"mcpfleet","title":"t","version":"1"}}`,
		string(DiscoverParams("v", us)):         `{"_meta":{"io.modelcontextprotocol/protocolVersion":"v","io.modelcontextprotocol/clientInfo":{"name":"mcpfleet","title":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}`,
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	r, err := ParseInitializeParams(InitializeParamsOf(&m, us))
	want := &InitializeRequest{"2025-11-25", []byte(`{"roots":{}}`), []byte(`{"name":"c","icons":[]}`)}
	if err != nil || !reflect.DeepEqual(r, want) {
		t.Errorf("%+v, %v", r, err)
	}
	for params, want := range map[string]string{
		`{}`:                    "protocolVersion: must be a string, not nothing",
		`{"protocolVersion":1}`: "protocolVersion: must be a string, not a number",
		`{"protocolVersion":"a","capabilities":[]}`: "capabilities: must be an object, not an array",
		`{"protocolVersion":"a","clientInfo":"c"}`:  "clientInfo: must be an object, not a string",
	} {
		if _, err := ParseInitializeParams([]byte(params)); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", params, err, want)
		}
	}
}

func TestVersions(t *testing.T) {
	for _, tc := range []struct{ client, server, want string }{
		{"2025-11-25", "2025-11-25", "2025-11-25"},
		{"2024-11-05", "2025-11-25", "2024-11-05"},
		{"2025-11-25", "2024-10-07", "2024-10-07"},
		{"2025-06-18", "2026-07-28", "2025-06-18"},
		{"2026-07-28", "2025-03-26", "2025-03-26"},
		{"v999", "2026-07-28", LatestLegacy},
		{"", "", LatestLegacy},
	} {
		if got := Negotiate(tc.client, tc.server); got != tc.want {
			t.Errorf("Negotiate(%q, %q) = %s, want %s", tc.client, tc.server, got, tc.want)
		}
	}
	if !IsModern(Version20260728) || !IsLegacy(Version20241007) || IsLegacy("v999") || IsModern(LatestLegacy) || IsLegacy(LatestModern) {
		t.Error("the eras are mixed up")
	}
	if got := Newest([]string{"2025-11-25", "2026-07-28", "2099-01-01"}); got != Version20260728 {
		t.Errorf("newest %q", got)
	}
	if got := Newest([]string{"2025-11-25"}); got != "" {
		t.Errorf("newest %q, want none", got)
	}
}

func TestMethods(t *testing.T) {
	for method, want := range map[string][4]bool{ // legacy only, modern only, may require input, cacheable
		MethodPing: {true}, MethodInitialize: {true}, MethodElicitComplete: {true}, MethodTasksList: {true},
		MethodDiscover: {false, true, false, true}, MethodListen: {false, true}, MethodTaskUpdate: {false, true},
		MethodToolsCall: {2: true}, MethodPromptsGet: {2: true}, MethodResourcesRead: {2: true, 3: true},
		MethodToolsList: {3: true}, MethodResourceTemplates: {3: true}, MethodComplete: {}, MethodTaskGet: {}, "x/y": {},
	} {
		if got := [4]bool{LegacyOnly(method), ModernOnly(method), MayRequireInput(method), IsCacheable(method)}; got != want {
			t.Errorf("%s: %v, want %v", method, got, want)
		}
	}
}
