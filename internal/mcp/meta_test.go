package mcp

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// modernMeta is the _meta of the specification's examples.
const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
	`"io.modelcontextprotocol/clientInfo":{"name":"ExampleClient","version":"1.0.0"},` +
	`"io.modelcontextprotocol/clientCapabilities":{}}`

func TestParseMeta(t *testing.T) {
	m, err := ParseMeta([]byte(`{"name":"x","_meta":{"progressToken":9007199254740993,"io.modelcontextprotocol/logLevel":"info",` +
		`"io.modelcontextprotocol/subscriptionId":"s","traceparent":"00-a","io.modelcontextprotocol/clientInfo":null,` +
		`"io.modelcontextprotocol/protocol\u0056ersion":"2026-\u00307-28","io.modelcontextprotocol/clientCapabilities":{"roots":{}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s %s %s %s %s %v", m.Capabilities, m.LogLevel, m.ProgressToken, m.SubscriptionID, m.Version, m.ClientInfo == nil)
	want := `{"roots":{}} "info" 9007199254740993 "s" "2026-\u00307-28" true`
	if got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if m.ProtocolVersion() != "2026-07-28" || m.Level() != "info" {
		t.Errorf("version %q, level %q", m.ProtocolVersion(), m.Level())
	}
	for params, want := range map[string]string{
		"":                              "",
		" ":                             "",
		"null":                          "",
		`{}`:                            "",
		`{"_meta":null}`:                "",
		`n`:                             "invalid JSON at line 1, column 2: unexpected end",
		`[]`:                            "must be an object, not an array",
		`{"_meta":"x"}`:                 "_meta: must be an object, not a string",
		`{"_meta":{}`:                   "invalid JSON at line 1, column 12: unexpected end",
		`{"_meta":"x","_meta":{"a":1}}`: "",
	} {
		m, err := ParseMeta([]byte(params))
		if fmt.Sprint(err) != want && (err != nil || want != "") {
			t.Errorf("%s: %v, want %q", params, err, want)
		}
		if err == nil && m.ProtocolVersion() != "" {
			t.Errorf("%s: version %q", params, m.ProtocolVersion())
		}
	}
}

func TestMetaCheck(t *testing.T) {
	for _, tc := range []struct{ params, want string }{
		{"{" + modernMeta + "}", ""},
		{`{"_meta":{"io.modelcontextprotocol/protocolVersion":"v999","io.modelcontextprotocol/clientCapabilities":{},"progressToken":"t","io.modelcontextprotocol/logLevel":"emergency"}}`, ""},
		{`{}`, `Invalid params: _meta lacks the required member "io.modelcontextprotocol/protocolVersion"`},
		{`{"_meta":{"io.modelcontextprotocol/protocolVersion":null}}`, `Invalid params: _meta lacks the required member "io.modelcontextprotocol/protocolVersion"`},
		{`{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`, `Invalid params: _meta lacks the required member "io.modelcontextprotocol/clientCapabilities"`},
		{`{"_meta":{"io.modelcontextprotocol/protocolVersion":20260728}}`, `Invalid params: _meta "io.modelcontextprotocol/protocolVersion" must be a string, not a number`},
		{`{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":[]}}`, `Invalid params: _meta "io.modelcontextprotocol/clientCapabilities" must be an object, not an array`},
		{`{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":"x"}}`, `Invalid params: _meta "io.modelcontextprotocol/clientInfo" must be an object, not a string`},
		{`{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/logLevel":3}}`, `Invalid params: _meta "io.modelcontextprotocol/logLevel" must be a string, not a number`},
		{`{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/logLevel":"loud"}}`, `Invalid params: unknown log level "loud"`},
		{`{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"progressToken":{}}}`, `Invalid params: _meta "progressToken" must be a string or a number, not an object`},
	} {
		m, err := ParseMeta([]byte(tc.params))
		if err != nil {
			t.Fatalf("%s: %v", tc.params, err)
		}
		fault := m.Check()
		checkFault(t, fault, tc.want, 0)
		if fault != nil && fault.Code != CodeInvalidParams {
			t.Errorf("%s: code %d", tc.params, fault.Code)
		}
	}
	if e := MetaFault(&TypeError{"object", "array"}); e.Code != CodeInvalidParams || e.Message != "Invalid params: must be an object, not an array" {
		t.Error(e)
	}
	if e := MetaFault(fmt.Errorf("_meta: %w", Valid([]byte("{")))); e.Code != CodeParseError {
		t.Error(e)
	}
}

func TestParamsBetweenEras(t *testing.T) {
	client := Client{Info: []byte(`{"name":"c","version":"1"}`), Capabilities: []byte(`{"roots":{}}`), LogLevel: "info"}
	const added = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},` +
		`"io.modelcontextprotocol/clientCapabilities":{"roots":{}},"io.modelcontextprotocol/logLevel":"info"`
	for _, tc := range []struct{ name, legacy, modern string }{
		{"none", "", "{" + added + "}}"},
		{"empty", "{}", "{" + added + "}}"},
		{"arguments", `{"name":"x","arguments":{"n":9007199254740993}}`, "{" + added + `},"name":"x","arguments":{"n":9007199254740993}}`},
		{"meta", `{"a":[],"_meta": {"progressToken":7} }`, `{"a":[],` + strings.Replace(added, `":{`, `": {`, 1) + `,"progressToken":7} }`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			modern, err := ParamsToModern([]byte(tc.legacy), LatestModern, client)
			if err != nil || string(modern) != tc.modern {
				t.Errorf("to modern: %v\ngot  %s\nwant %s", err, modern, tc.modern)
			}
			want := tc.legacy
			if want == "" {
				want = "{}"
			}
			legacy, err := ParamsToLegacy(MethodToolsCall, modern)
			if err != nil || string(legacy) != want {
				t.Errorf("and back: %v\ngot  %s\nwant %s", err, legacy, want)
			}
		})
	}
	t.Run("a retry", func(t *testing.T) {
		params := `{"name":"a","inputResponses":{},"requestState":"s",` + modernMeta + `}`
		for method, want := range map[string]string{MethodToolsCall: `{"name":"a"}`, "x/y": `{"name":"a","inputResponses":{},"requestState":"s"}`} {
			if got, err := ParamsToLegacy(method, []byte(params)); err != nil || string(got) != want {
				t.Errorf("%s: %s, %v, want %s", method, got, err, want)
			}
		}
	})
	t.Run("what the client forges", func(t *testing.T) {
		got, err := ParamsToModern([]byte("{"+modernMeta+"}"), "v", Client{})
		want := `{"_meta":{"io.modelcontextprotocol/protocolVersion":"v","io.modelcontextprotocol/clientCapabilities":{}}}`
		if err != nil || string(got) != want {
			t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
		}
	})
}

// FuzzParams compares what is found in params with encoding/json, and changes them to another era and
// back.
func FuzzParams(f *testing.F) {
	f.Add([]byte("{" + modernMeta + "}"))
	f.Add([]byte(`{"name":"a","arguments":{"x":1e400},"_meta":{"progressToken":null},"_meta":{"progressToken":1}}`))
	f.Add([]byte(`{"_meta":{"io.modelcontextprotocol/logLevel":"\u0069nfo"},"inputResponses":{"a":{}},"requestState":"s"}`))
	f.Fuzz(func(t *testing.T, params []byte) {
		m, err := ParseMeta(params)
		var reference struct {
			Meta map[string]json.RawMessage `json:"_meta"`
		}
		exact := map[string]json.RawMessage{}
		wrong := json.Unmarshal(params, &exact)
		if raw, ok := exact["_meta"]; wrong == nil && ok {
			wrong = json.Unmarshal(raw, &reference.Meta)
		}
		empty := strings.TrimSpace(string(params)) == ""
		if (err == nil) != (wrong == nil) && !empty {
			if err != nil && Valid(params) != nil { // invalid UTF-8
				return
			}
			t.Fatalf("%s: %v, encoding/json says %v", params, err, wrong)
		}
		if err != nil {
			return
		}
		for name, got := range map[string][]byte{
			MetaVersion: m.Version, MetaClientInfo: m.ClientInfo, MetaCapabilities: m.Capabilities,
			MetaLogLevel: m.LogLevel, MetaProgressToken: m.ProgressToken, MetaSubscriptionID: m.SubscriptionID,
		} {
			want := reference.Meta[name]
			if string(want) == "null" {
				want = nil
			}
			if string(got) != string(want) {
				t.Errorf("%s: %s is %s, want %s", params, name, got, want)
			}
		}
		modern, err := ParamsToModern(params, "v", Client{LogLevel: "info"})
		if err != nil {
			t.Fatal(err)
		}
		legacy, err := ParamsToLegacy(MethodToolsCall, modern)
		if err != nil || Valid(legacy) != nil {
			t.Fatalf("%s became %s, then %s: %v", params, modern, legacy, err)
		}
		sameAsReadParams(t, MethodToolsCall, params)
		sameAsReadParams(t, MethodToolsCall, modern)
		if m, err := ParseMeta(legacy); err != nil || m.Version != nil || m.Capabilities != nil {
			t.Fatalf("%s became %s: %v", modern, legacy, err)
		}
		one, err := AppendIdentity(nil, "m", params)
		two, err2 := AppendIdentity(nil, "m", legacy)
		if errors.Join(err, err2) != nil || string(one) != string(two) {
			t.Errorf("%s has identity %q, %s has %q", params, one, legacy, two)
		}
	})
}

// sameAsReadParams compares what one pass over params finds with what the other functions find.
func sameAsReadParams(t *testing.T, method string, params []byte) {
	t.Helper()
	p, m, err := ReadParams(method, params)
	if meta, wrong := ParseMeta(params); fmt.Sprint(err) != fmt.Sprint(wrong) || !reflect.DeepEqual(m, meta) {
		t.Errorf("%s: %v, %v, want %v, %v", params, m, err, meta, wrong)
	}
	if err != nil {
		return
	}
	target, err := p.Target()
	if want, _, wrong := Target(method, params); target != want || fmt.Sprint(err) != fmt.Sprint(wrong) {
		t.Errorf("%s: target %q, %v, want %q, %v", params, target, err, want, wrong)
	}
	members := map[string]json.RawMessage{}
	legacy, hasMeta, err := p.ToLegacy()
	want, wrong := ParamsToLegacy(method, params)
	if string(legacy) != string(want) || fmt.Sprint(err) != fmt.Sprint(wrong) {
		t.Errorf("%s: legacy %s, %v, want %s, %v", params, legacy, err, want, wrong)
	}
	_ = json.Unmarshal(legacy, &members)
	if _, has := members["_meta"]; has && !hasMeta {
		t.Errorf("%s: %s is said to have no _meta", params, legacy)
	}
	_ = json.Unmarshal(params, &members)
	if _, has := members["_meta"]; has != p.HasMeta() {
		t.Errorf("%s: it has a _meta: %v", params, p.HasMeta())
	}
}

func TestReadParams(t *testing.T) {
	for _, params := range []string{
		``, `null`, `[]`, `{`, `{}`, ` { } `, `{"_meta":null}`, `{"_meta":1}`, `{"_meta":{}}`, `{"_meta": { } }`, `{"name":1}`,
		`{"name":"a","name":"b"}`, `{"\u006eame":"a\n"}`, `{"task":{}}`,
		`{"_meta":{"traceparent":"00-a"}}`, `{"_meta":{"x":1},"name":"a"}`,
		`{` + modernMeta + `}`, `{ ` + modernMeta + ` }`,
		`{ ` + modernMeta + ` , "name":"a"}`, `{"name":"a" , ` + modernMeta + ` }`, `{"name":"a", ` + modernMeta + ` , "arguments":{"_meta":{}}}`,
		`{"name":"a",` + modernMeta + `,` + modernMeta + `}`, `{"_meta":{},"name":"a",` + modernMeta + `}`,
		`{"name":"a",` + modernMeta + `,"task":{"ttl":1}}`, `{"name":"a","requestState":"s",` + modernMeta + `,"inputResponses":{}}`,
		`{"_meta":{"progressToken":1,"` + MetaVersion + `":"v"},"name":"a"}`, `{"ref":{"type":"ref/prompt","name":"a"},"name":"b"}`,
	} {
		for _, method := range []string{MethodToolsCall, MethodResourcesRead, MethodComplete, MethodTaskGet, "x/y"} {
			sameAsReadParams(t, method, []byte(params))
		}
	}
}

// A modern tools/call of 1 KiB: what mcpfleet does with its metadata on the way to a legacy server.
func BenchmarkModernCall(b *testing.B) {
	params := []byte(`{"name":"get_weather","arguments":{"location":"` + strings.Repeat("New York ", 80) + `"},` + modernMeta + `}`)
	headers := headersOf(HeaderVersion, LatestModern, HeaderMethod, MethodToolsCall, HeaderName, "get_weather")
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m, err := ParseMeta(params)
			if err != nil || m.Check() != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check headers", func(b *testing.B) {
		m, _ := ParseMeta(params)
		b.ReportAllocs()
		for b.Loop() {
			if fault := CheckHeaders(headers, MethodToolsCall, targetOf(MethodToolsCall, params), &m); fault != nil {
				b.Fatal(fault)
			}
		}
	})
	b.Run("strip", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParamsToLegacy(MethodToolsCall, params); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fill", func(b *testing.B) {
		legacy, _ := ParamsToLegacy(MethodToolsCall, params)
		client := Client{Info: []byte(`{"name":"c","version":"1"}`)}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParamsToModern(legacy, LatestModern, client); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkResult(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		legacy := []byte(`{"content":[{"type":"text","text":"` + strings.Repeat(`a line of text\n`, size/16) + `"}]}`)
		c := Completion{ServerInfo: []byte(`{"name":"s","version":"1"}`)}
		modern, _ := ResultToModern(legacy, c)
		b.Run(fmt.Sprintf("type legacy %d", size), func(b *testing.B) {
			for b.Loop() {
				ResultType(legacy)
			}
		})
		b.Run(fmt.Sprintf("type modern %d", size), func(b *testing.B) {
			for b.Loop() {
				ResultType(modern)
			}
		})
		b.Run(fmt.Sprintf("to modern %d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ResultToModern(legacy, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestWithoutLogLevel(t *testing.T) {
	for params, want := range map[string]string{
		`{"_meta":{"io.modelcontextprotocol/logLevel":"info", "n":9007199254740993},"name":"x"}`: `{"_meta":{"n":9007199254740993},"name":"x"}`,
		`{"name":"x", "_meta":{"n":1}}`: `{"name":"x", "_meta":{"n":1}}`,
		`{}`:                            `{}`,
	} {
		if got, err := WithoutLogLevel([]byte(params)); err != nil || string(got) != want {
			t.Errorf("%s became %s, %v; want %s", params, got, err, want)
		}
	}
}
