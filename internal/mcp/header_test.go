package mcp

import (
	"net/http"
	"strings"
	"testing"
)

func headersOf(pairs ...string) Headers {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h.Values
}

func targetOf(method string, params []byte) func() (string, error) {
	return func() (string, error) {
		target, _, err := Target(method, params)
		return target, err
	}
}

// The examples are those of the specification.
func TestEncodeHeader(t *testing.T) {
	for text, want := range map[string]string{
		"us-west1":           "us-west1",
		"Hello, 世界":          "=?base64?SGVsbG8sIOS4lueVjA==?=",
		" padded ":           "=?base64?IHBhZGRlZCA=?=",
		"line1\nline2":       "=?base64?bGluZTEKbGluZTI=?=",
		"=?base64?literal?=": "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=",
		"":                   "=?base64??=",
		"a\tb":               "a\tb",
		"=?base64?literal":   "=?base64?literal",
	} {
		if got := EncodeHeader(text); got != want {
			t.Errorf("EncodeHeader(%q) = %q, want %q", text, got, want)
		}
		if got, err := DecodeHeader(want); got != text || err != nil {
			t.Errorf("DecodeHeader(%q) = %q, %v, want %q", want, got, err, text)
		}
	}
	for _, wrong := range []string{"=?base64?*?=", "=?base64?SGVsbG8?=", "=?base64?gA==?="} {
		if got, err := DecodeHeader(wrong); err == nil {
			t.Errorf("DecodeHeader(%q) = %q, want an error", wrong, got)
		}
	}
	if got, err := DecodeHeader("=?BASE64?SGVsbG8=?="); got != "=?BASE64?SGVsbG8=?=" || err != nil {
		t.Errorf("markers in capitals: %q, %v, want the value itself", got, err)
	}
}

func TestCheckHeaders(t *testing.T) {
	const (
		version = HeaderVersion
		call    = `{"name":"get_weather","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`
		mode    = "2026-07-28"
	)
	for _, tc := range []struct {
		name, method, params string
		headers              Headers
		want                 string // "" = they agree
	}{
		{"agree", MethodToolsCall, call, headersOf("mcp-protocol-version", mode, "MCP-METHOD", "tools/call", "mcp-name", "get_weather"), ""},
		{"space around", MethodToolsCall, call, headersOf(version, mode, HeaderMethod, "tools/call", HeaderName, " get_weather\t"), ""},
		{"encoded name", MethodToolsCall, call, headersOf(version, mode, HeaderMethod, "tools/call", HeaderName, EncodeHeader("get_weather")), ""},
		{"encoded in Base64 without need", MethodToolsCall, call, headersOf(version, mode, HeaderMethod, "tools/call", HeaderName, "=?base64?Z2V0X3dlYXRoZXI=?="), ""},
		{"a list has no name", MethodToolsList, call, headersOf(version, mode, HeaderMethod, "tools/list", HeaderName, "x"), ""},
		{"uri", MethodResourcesRead, `{"uri":"file:///a","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`,
			headersOf(version, mode, HeaderMethod, "resources/read", HeaderName, "file:///a"), ""},
		{"task", MethodTaskGet, `{"taskId":"t","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`,
			headersOf(version, mode, HeaderMethod, "tasks/get", HeaderName, "t"), ""},
		{"no task", MethodTaskGet, `{"taskId":"t","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`,
			headersOf(version, mode, HeaderMethod, "tasks/get"), "Header mismatch: required Mcp-Name header is missing"},
		{"another task", MethodTaskGet, `{"taskId":"t","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`,
			headersOf(version, mode, HeaderMethod, "tasks/get", HeaderName, "u"),
			"Header mismatch: Mcp-Name header value 'u' does not match body value 't'"},
		{"no version", MethodToolsCall, call, headersOf(HeaderMethod, "tools/call", HeaderName, "get_weather"),
			"Header mismatch: required MCP-Protocol-Version header is missing"},
		{"another version", MethodToolsCall, call, headersOf(version, "2025-11-25", HeaderMethod, "tools/call", HeaderName, "get_weather"),
			"Header mismatch: MCP-Protocol-Version header value '2025-11-25' does not match body value '2026-07-28'"},
		{"no method", MethodToolsCall, call, headersOf(version, mode, HeaderName, "get_weather"),
			"Header mismatch: required Mcp-Method header is missing"},
		{"case of the method", MethodToolsCall, call, headersOf(version, mode, HeaderMethod, "Tools/Call", HeaderName, "get_weather"),
			"Header mismatch: Mcp-Method header value 'Tools/Call' does not match body value 'tools/call'"},
		{"encoded method", MethodToolsCall, call, headersOf(version, mode, HeaderMethod, "=?base64?dG9vbHMvY2FsbA==?=", HeaderName, "get_weather"),
			"Header mismatch: Mcp-Method header value '=?base64?dG9vbHMvY2FsbA==?=' does not match body value 'tools/call'"},
		{"no name", MethodToolsCall, call, headersOf(version, mode, HeaderMethod, "tools/call"),
			"Header mismatch: required Mcp-Name header is missing"},
		{"another name", MethodToolsCall, strings.Replace(call, "get_weather", "bar", 1), headersOf(version, mode, HeaderMethod, "tools/call", HeaderName, "foo"),
			"Header mismatch: Mcp-Name header value 'foo' does not match body value 'bar'"},
		{"name twice", MethodToolsCall, call, headersOf(version, mode, HeaderMethod, "tools/call", HeaderName, "get_weather", HeaderName, "get_weather"),
			"Header mismatch: Mcp-Name header is repeated"},
		{"name with invalid characters", MethodToolsCall, call, headersOf(version, mode, HeaderMethod, "tools/call", HeaderName, "wétter"),
			"Header mismatch: Mcp-Name header value contains invalid characters"},
		{"name in bad Base64", MethodToolsCall, call, headersOf(version, mode, HeaderMethod, "tools/call", HeaderName, "=?base64?*?="),
			"Header mismatch: Mcp-Name header value '=?base64?*?=' is not valid Base64"},
		{"body without a name", MethodToolsCall, `{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`,
			headersOf(version, mode, HeaderMethod, "tools/call", HeaderName, "x"), `Invalid params: params lack "name"`},
		{"name of another type", MethodToolsCall, `{"name":7,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}`,
			headersOf(version, mode, HeaderMethod, "tools/call", HeaderName, "7"), `Invalid params: name must be a string, not a number`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := ParseMeta([]byte(tc.params))
			if err != nil {
				t.Fatal(err)
			}
			fault := CheckHeaders(tc.headers, tc.method, targetOf(tc.method, []byte(tc.params)), &m)
			checkFault(t, fault, tc.want, CodeHeaderMismatch)
		})
	}
}

// checkFault checks the message, and the code of one about headers.
func checkFault(t *testing.T, fault *Error, want string, code Code) {
	t.Helper()
	switch {
	case fault == nil && want != "":
		t.Errorf("no fault, want %s", want)
	case fault != nil && fault.Message != want:
		t.Errorf("fault %s, want %s", fault.Message, want)
	case fault != nil && strings.HasPrefix(want, "Header mismatch") && fault.Code != code:
		t.Errorf("code %d, want %d", fault.Code, code)
	}
}

func TestParamHeaders(t *testing.T) {
	deep := strings.Repeat(`{"properties":{"a":`, 200) + `{"type":"string","x-mcp-header":"A"}` + strings.Repeat("}}", 200)
	for _, tc := range []struct {
		name, schema string
		want         string // Name=path,... or the error
	}{
		{"none", `{"type":"object"}`, ""},
		{"the specification's", `{"type":"object","properties":{"region":{"type":"string","description":"The region","x-mcp-header":"Region"},"query":{"type":"string"}},"required":["region","query"]}`, "Region=region"},
		{"nested", `{"properties":{"a":{"type":"object","properties":{"b":{"type":"integer","x-mcp-header":"B"}}},"c":{"type":"boolean","x-mcp-header":"C"}}}`, "B=a.b,C=c"},
		{"escaped keyword", `{"properties":{"a":{"type":"string","\u0078-mcp-header":"A"}}}`, "A=a"},
		{"a property of that name", `{"properties":{"x-mcp-header":{"type":"string"}}}`, ""},
		{"a default that looks like one", `{"properties":{"a":{"type":"object","default":{"x-mcp-header":"A"}}}}`, ""},
		{"properties named like keywords", `{"properties":{"items":{"type":"string","x-mcp-header":"A"},"not":{"properties":{"properties":{"type":"string","x-mcp-header":"B"}}}}}`, "A=items,B=not.properties"},
		{"at the root", `{"type":"string","x-mcp-header":"A"}`, "the schema itself: x-mcp-header stands where not only properties lead"},
		{"empty", `{"properties":{"a":{"type":"string","x-mcp-header":""}}}`, `property a: x-mcp-header "" cannot be a part of a header's name`},
		{"space", `{"properties":{"a":{"type":"string","x-mcp-header":"My Region"}}}`, `property a: x-mcp-header "My Region" cannot be a part of a header's name`},
		{"line end", `{"properties":{"a":{"type":"string","x-mcp-header":"A\r\nB"}}}`, `property a: x-mcp-header "A\r\nB" cannot be a part of a header's name`},
		{"no ASCII", `{"properties":{"a":{"type":"string","x-mcp-header":"Région"}}}`, `property a: x-mcp-header "Région" cannot be a part of a header's name`},
		{"no string", `{"properties":{"a":{"type":"string","x-mcp-header":7}}}`, `property a: x-mcp-header must be a string, not a number`},
		{"twice", `{"properties":{"a":{"type":"string","x-mcp-header":"Region"},"b":{"type":"string","x-mcp-header":"REGION"}}}`, `property b: x-mcp-header "REGION" is also that of property a`},
		{"number", `{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}`, `property a: x-mcp-header is only for one of the types string, integer and boolean, not for "number"`},
		{"two types", `{"properties":{"a":{"type":["string","null"],"x-mcp-header":"A"}}}`, `property a: x-mcp-header is only for one of the types string, integer and boolean, not for ["string","null"]`},
		{"no type", `{"properties":{"a":{"x-mcp-header":"A"}}}`, `property a: x-mcp-header is only for one of the types string, integer and boolean, not for one without a type`},
		{"object", `{"properties":{"a":{"type":"object","x-mcp-header":"A"}}}`, `property a: x-mcp-header is only for one of the types string, integer and boolean, not for "object"`},
		{"items", `{"properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}}`, "property a.<items>: x-mcp-header stands where not only properties lead"},
		{"properties of items", `{"properties":{"a":{"items":{"properties":{"b":{"type":"string","x-mcp-header":"A"}}}}}}`, "property a.<items>.b: x-mcp-header stands where not only properties lead"},
		{"oneOf", `{"oneOf":[true,{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}`, "property <oneOf>.a: x-mcp-header stands where not only properties lead"},
		{"then", `{"then":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}`, "property <then>.a: x-mcp-header stands where not only properties lead"},
		{"$defs", `{"$defs":{"x-mcp-header":{"type":"string","x-mcp-header":"A"}}}`, "property <$defs>.x-mcp-header: x-mcp-header stands where not only properties lead"},
		{"patternProperties", `{"patternProperties":{"^a":{"type":"string","x-mcp-header":"A"}}}`, "property <patternProperties>.^a: x-mcp-header stands where not only properties lead"},
		{"too deep", deep, "property " + strings.Repeat("a.", 100) + "a: x-mcp-header stands deeper than 100 schemas"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := ParamHeaders([]byte(tc.schema))
			var parts []string
			for _, h := range found {
				parts = append(parts, h.Name+"="+strings.Join(h.Path, "."))
			}
			got := strings.Join(parts, ",")
			if err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("got %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestCheckParamHeaders(t *testing.T) {
	wanted := []ParamHeader{{"Region", []string{"region"}}, {"Zone", []string{"place", "zone"}}}
	const region, zone = "Mcp-Param-Region", "Mcp-Param-Zone"
	for _, tc := range []struct {
		name, arguments string
		headers         Headers
		want            string
	}{
		{"string", `{"region":"us-west1"}`, headersOf("mcp-param-REGION", "us-west1"), ""},
		{"others are ignored", `{}`, headersOf("Mcp-Param-Other", "x"), ""},
		{"encoded", `{"region":"\u4e16界"}`, headersOf(region, EncodeHeader("世界")), ""},
		{"empty string", `{"region":""}`, headersOf(region, ""), ""},
		{"empty string in Base64", `{"region":""}`, headersOf(region, "=?base64??="), ""},
		{"nested", `{"place":{"zone":"a"}}`, headersOf(zone, "a"), ""},
		{"integer", `{"region":42}`, headersOf(region, "42"), ""},
		{"integer, other form", `{"region":42}`, headersOf(region, "42.0"), ""},
		{"integer, other form in the body", `{"region":-4.2e1}`, headersOf(region, "-42"), ""},
		{"largest integer", `{"region":9007199254740991}`, headersOf(region, "9007199254740991"), ""},
		{"boolean", `{"region":true}`, headersOf(region, "true"), ""},
		{"null", `{"region":null}`, headersOf(), ""},
		{"absent", `{}`, headersOf(), ""},
		{"no arguments", ``, headersOf(), ""},
		{"parent of another type", `{"place":7}`, headersOf(), ""},
		{"null with a header", `{"region":null}`, headersOf(region, "x"), "Header mismatch: Mcp-Param-Region header value 'x' has no value in the body"},
		{"absent with a header", `{}`, headersOf(region, "x"), "Header mismatch: Mcp-Param-Region header value 'x' has no value in the body"},
		{"missing", `{"region":"us-west1"}`, headersOf(), "Header mismatch: required Mcp-Param-Region header is missing"},
		{"missing nested", `{"place":{"zone":false}}`, headersOf(), "Header mismatch: required Mcp-Param-Zone header is missing"},
		{"other string", `{"region":"us-west1"}`, headersOf(region, "us-west2"), "Header mismatch: Mcp-Param-Region header value 'us-west2' does not match body value 'us-west1'"},
		{"strings are exact", `{"region":"42"}`, headersOf(region, "42.0"), "Header mismatch: Mcp-Param-Region header value '42.0' does not match body value '42'"},
		{"other integer", `{"region":42}`, headersOf(region, "43"), "Header mismatch: Mcp-Param-Region header value '43' does not match body value '42'"},
		{"no integer in the header", `{"region":42}`, headersOf(region, "0x2a"), "Header mismatch: Mcp-Param-Region header value '0x2a' does not match body value '42'"},
		{"hostile exponent", `{"region":1}`, headersOf(region, "1e999999999999"), "Header mismatch: Mcp-Param-Region header value '1e999999999999' does not match body value '1'"},
		{"no integer in the body", `{"region":4.5}`, headersOf(region, "4.5"), "Header mismatch: Mcp-Param-Region header stands for body value 4.5, which is no integer that a header can carry"},
		{"unsafe integer", `{"region":9007199254740992}`, headersOf(region, "9007199254740992"), "Header mismatch: Mcp-Param-Region header stands for body value 9007199254740992, which is no integer that a header can carry"},
		{"case of a boolean", `{"region":true}`, headersOf(region, "True"), "Header mismatch: Mcp-Param-Region header value 'True' does not match body value 'true'"},
		{"object", `{"region":{}}`, headersOf(region, "{}"), "Header mismatch: Mcp-Param-Region header value '{}' does not match body value of type object"},
		{"control character", `{"region":"a"}`, headersOf(region, "a\x01"), "Header mismatch: Mcp-Param-Region header value contains invalid characters"},
		{"bad Base64", `{"region":"a"}`, headersOf(region, "=?base64?a?="), "Header mismatch: Mcp-Param-Region header value '=?base64?a?=' is not valid Base64"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			checkFault(t, CheckParamHeaders(tc.headers, wanted, []byte(tc.arguments)), tc.want, CodeHeaderMismatch)
		})
	}
}

func FuzzHeader(f *testing.F) {
	f.Add("us-west1")
	f.Add("=?base64?x?=")
	f.Fuzz(func(t *testing.T, text string) {
		value := EncodeHeader(text)
		if !isHeaderValue(value) || value != strings.TrimSpace(value) {
			t.Fatalf("%q became %q", text, value)
		}
		got, err := DecodeHeader(value)
		if strings.ToValidUTF8(text, "") == text && (got != text || err != nil) {
			t.Fatalf("%q became %q, then %q, %v", text, value, got, err)
		}
	})
}

func TestParamHeaderValue(t *testing.T) {
	for _, tt := range []struct {
		arguments, want string
		has             bool
	}{
		{`{"a":{"b":"eu"}}`, "eu", true},
		{`{"a":{"b":" z"}}`, "=?base64?IHo=?=", true},
		{`{"a":{"b":4.2e1}}`, "42", true},
		{`{"a":{"b":1e400}}`, "1e400", true},
		{`{"a":{"b":false}}`, "false", true},
		{`{"a":{"b":null}}`, "", false},
		{`{"a":{"b":[1]}}`, "", false},
		{`{"a":5}`, "", false},
		{``, "", false},
	} {
		h := ParamHeader{Name: "B", Path: []string{"a", "b"}}
		if got, has := h.Value([]byte(tt.arguments)); got != tt.want || has != tt.has {
			t.Errorf("%s: got %q, %t, want %q, %t", tt.arguments, got, has, tt.want, tt.has)
		}
	}
}
