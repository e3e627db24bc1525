package mcp

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestResultType(t *testing.T) {
	for result, want := range map[string]string{
		`{}`:                                                    "complete",
		`{"content":[]}`:                                        "complete",
		`{"resultType":"complete","a":1}`:                       "complete",
		` { "resultType" : "input_required" } `:                 "input_required",
		`{"a":1,"resultType":"input_required"}`:                 "input_required",
		`{"resultType":"task","a":1}`:                           "task",
		`{"resultType":null}`:                                   "complete",
		`{"resultType":7}`:                                      "",
		`{"resultType":"a","resultType":"b"}`:                   "b",
		`{"structuredContent":{"resultType":"input_required"}}`: "complete",
		`{"resultType":"complete","structuredContent":{"resultType":"x"}}`: "complete",
		`{"a":"\"resultType\":"}`:            "complete",
		`{"mimeType":"x","xresultType":"y"}`: "complete",
		`{"a\"resultType":"input_required"}`: "complete",
		`["resultType","input_required"]`:    "complete",
		`"resultType"`:                       "complete",
		``:                                   "complete",
	} {
		if got := ResultType([]byte(result)); got != want {
			t.Errorf("ResultType(%s) = %q, want %q", result, got, want)
		}
	}
}

func TestResultToModern(t *testing.T) {
	info := []byte(`{"name":"s","version":"1"}`)
	hint := &CacheHint{TTL: 5000, Scope: ScopePublic}
	const added = `"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}`
	for _, tc := range []struct {
		name, result string
		c            Completion
		want         string
	}{
		{"empty", `{}`, Completion{}, `{"resultType":"complete"}`},
		{"name", `{}`, Completion{ServerInfo: info}, `{"resultType":"complete",` + added + `}`},
		{"list", ` {"tools":[1e400]}`, Completion{info, hint}, ` {"resultType":"complete","ttlMs":5000,"cacheScope":"public",` + added + `,"tools":[1e400]}`},
		{"all there", `{"resultType":"x","ttlMs":1,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":0}}`, Completion{info, hint},
			`{"resultType":"x","ttlMs":1,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":0}}`},
		{"inside is not there", `{"structuredContent":{"resultType":1,"ttlMs":1}}`, Completion{nil, hint},
			`{"resultType":"complete","ttlMs":5000,"cacheScope":"public","structuredContent":{"resultType":1,"ttlMs":1}}`},
		{"meta", `{"_meta":{"a":1},"content":[]}`, Completion{ServerInfo: info},
			`{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"},"a":1},"content":[]}`},
		{"meta of another type", `{"_meta":7}`, Completion{ServerInfo: info}, `{"resultType":"complete","_meta":7}`},
		{"nulls", `{"ttlMs":null,"_meta":null}`, Completion{info, hint},
			`{"resultType":"complete","cacheScope":"public","ttlMs":5000,` + added + `}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ResultToModern([]byte(tc.result), tc.c)
			if err != nil || string(got) != tc.want {
				t.Errorf("%v\ngot  %s\nwant %s", err, got, tc.want)
			}
		})
	}
	if got, err := ResultToModern([]byte(`7`), Completion{ServerInfo: info}); err == nil {
		t.Errorf("no object became %s", got)
	}
}

func FuzzResult(f *testing.F) {
	f.Add([]byte(`{"resultType":"input_required","_meta":{}}`))
	f.Add([]byte(`{"a":{"resultType":"x"},"ttlMs":null,"_meta":{"io.modelcontextprotocol/serverInfo":1}}`))
	f.Add([]byte(`{"resultType":1,"resultType":"a\"resultType"}`))
	f.Add([]byte(`{"result\u0054ype":"x"}`))
	f.Fuzz(func(t *testing.T, result []byte) {
		if Valid(result) != nil {
			return
		}
		var decoded map[string]any
		if TypeOf(result) == "object" {
			decoded = decode(t, result)
		}
		escaped, _ := Fields(result, "resultType")
		if literal := mayHave(result, "resultType"); literal || len(escaped) == 0 || escaped[0] == nil {
			want := ResultComplete
			if value, ok := decoded["resultType"]; ok && value != nil {
				want, _ = value.(string)
			}
			if got := ResultType(result); got != want {
				t.Fatalf("ResultType(%s) = %q, want %q", result, got, want)
			}
		}
		got, err := ResultToModern(result, Completion{[]byte(`{"name":"s"}`), &CacheHint{1, ScopePublic}})
		if decoded == nil {
			if err == nil && TypeOf(result) != "null" {
				t.Fatalf("%s became %s", result, got)
			}
			return
		}
		if err != nil || Valid(got) != nil {
			t.Fatalf("%s became %s: %v", result, got, err)
		}
		for name, value := range map[string]any{"resultType": "complete", "ttlMs": json.Number("1"), "cacheScope": "public"} {
			if decoded[name] == nil {
				decoded[name] = value
			}
		}
		if _, ok := decoded["_meta"].(map[string]any); ok || decoded["_meta"] == nil {
			if meta := object(decoded, "_meta"); meta[MetaServerInfo] == nil {
				meta[MetaServerInfo] = map[string]any{"name": "s"}
			}
		}
		if !reflect.DeepEqual(decode(t, got), decoded) {
			t.Errorf("%s became %s", result, got)
		}
	})
}
