package mcp

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// FuzzParamHeaders compares with a search in the decoded schema.
func FuzzParamHeaders(f *testing.F) {
	for _, seed := range []string{
		`{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"properties":{"c":{"type":"boolean","x-mcp-header":"C"}}}}}`,
		`{"items":[{"x-mcp-header":"A","type":"string"}],"properties":{"a":true}}`,
		`{"$defs":{"a":{"properties":{"b":{"type":"integer","x-mcp-header":"A"}}}},"if":{"not":{}}}`,
		`{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}`,
		`{"properties":{"a":{"type":"number","\u0078-mcp-header":"A","x-mcp-header":""}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, schema []byte) {
		if Valid(schema) != nil || len(schema) > 2000 { // deeper than the bound is a matter of its own
			return
		}
		var decoded any
		if err := json.Unmarshal(schema, &decoded); err != nil {
			return // a number out of range
		}
		found, err := ParamHeaders(schema)
		got := map[string]string{}
		for _, h := range found {
			got[h.Name] = strings.Join(h.Path, "\x00")
		}
		want, valid := map[string]string{}, true
		searchHeaders(decoded, nil, true, func(name, path string, ok bool) {
			for other := range want {
				ok = ok && !strings.EqualFold(other, name)
			}
			want[name], valid = path, valid && ok
		})
		if (err == nil) != valid || valid && !maps.Equal(got, want) {
			t.Errorf("%s: got %q, %v, want %q, valid %v", schema, got, err, want, valid)
		}
	})
}

func searchHeaders(node any, path []string, direct bool, yield func(name, path string, ok bool)) {
	schema, ok := node.(map[string]any)
	if !ok {
		return
	}
	if value, ok := schema[headerKeyword]; ok {
		name, isString := value.(string)
		kind, _ := schema["type"].(string)
		yield(name, strings.Join(path, "\x00"), isString && isToken(name) && direct && len(path) > 0 &&
			slices.Contains([]string{"string", "integer", "boolean"}, kind))
	}
	for key, value := range schema {
		switch key {
		case "properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions":
			named, _ := value.(map[string]any)
			for name, child := range named {
				searchHeaders(child, append(slices.Clip(path), name), direct && key == "properties", yield)
			}
		case "items", "prefixItems", "additionalItems", "contains", "unevaluatedItems", "additionalProperties",
			"unevaluatedProperties", "propertyNames", "oneOf", "anyOf", "allOf", "not", "if", "then", "else", "contentSchema":
			children, isArray := value.([]any)
			if !isArray {
				children = []any{value}
			}
			for _, child := range children {
				searchHeaders(child, append(slices.Clip(path), key), false, yield)
			}
		}
	}
}

// FuzzInput reads results and answers and writes them again.
func FuzzInput(f *testing.F) {
	f.Add([]byte(`{"inputRequests":{"a":{"method":"roots/list"},"a":{"method":"elicitation/create","params":{"mode":"url"}}},"requestState":"s"}`))
	f.Add([]byte(`{"inputResponses":{"a":{"action":"accept"},"\u0061":{}},"requestState":null,"_meta":{}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := ParseInputRequired(raw); err == nil {
			again, err := ParseInputRequired(r.Append(nil))
			if err != nil || !reflect.DeepEqual(r, again) {
				t.Errorf("%s became %s: %v", raw, r.Append(nil), err)
			}
			for _, request := range r.Requests {
				if pushed, err := PushedRequest(request.Key, request.Method, request.Params); err == nil && len(pushed.Params) > 0 && Valid(pushed.Params) != nil {
					t.Errorf("%s was pushed as %s", request.Params, pushed.Params)
				}
				if params := AskParams(request, "i"); len(params) > 0 && Valid(params) != nil {
					t.Errorf("%s is asked as %s", request.Params, params)
				}
			}
		}
		responses, err := ParseInputResponses(raw)
		if err != nil {
			return
		}
		retry, err := WithInputResponses([]byte(`{"inputResponses":1,"name":"a"}`), responses)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseInputResponses(retry)
		if err != nil || !reflect.DeepEqual(responses, again) {
			t.Errorf("%s became %s: %v", raw, retry, err)
		}
	})
}

// FuzzTarget changes what a request is about.
func FuzzTarget(f *testing.F) {
	f.Add([]byte(`{"name":"a","name":"b","arguments":{"n":1e400}}`), "new\"\n")
	f.Add([]byte(`{"ref":{"type":"ref/resource","uri":"u","uri":"v"},"ref":{"type":"ref/prompt","name":"p"}}`), "")
	f.Fuzz(func(t *testing.T, params []byte, target string) {
		target = strings.ToValidUTF8(target, "")
		for _, method := range []string{MethodToolsCall, MethodResourcesRead, MethodComplete} {
			if _, _, err := Target(method, params); err != nil {
				continue
			}
			changed, err := WithTarget(method, params, target)
			if err != nil {
				t.Fatalf("%s %s: %v", method, params, err)
			}
			if got, _, err := Target(method, changed); got != target || err != nil {
				t.Errorf("%s %s became %s, which is about %q, %v", method, params, changed, got, err)
			}
		}
	})
}
