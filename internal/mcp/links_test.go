package mcp

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestMapURIs(t *testing.T) {
	rename := func(uri string) string {
		if strings.HasPrefix(uri, "keep") {
			return uri
		}
		return "new:" + uri
	}
	for _, tt := range []struct{ name, method, result, want string }{
		{
			"links and embedded resources", MethodToolsCall,
			`{ "content":[{"type":"text","text":"uri","uri":"a:1"}, {"uri":"a:1","type":"resource_link"} ,{"type":"resource","resource":{"n":1e400,"uri" : "a:\u0032","text":"x"}}],"uri":"a:1"}`,
			`{ "content":[{"type":"text","text":"uri","uri":"a:1"}, {"uri":"new:a:1","type":"resource_link"} ,{"type":"resource","resource":{"n":1e400,"uri" : "new:a:2","text":"x"}}],"uri":"a:1"}`,
		},
		{
			"a prompt", MethodPromptsGet,
			`{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a:1"}}},{"role":"user","content":{"type":"text","text":"\"uri\""}}]}`,
			`{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"new:a:1"}}},{"role":"user","content":{"type":"text","text":"\"uri\""}}]}`,
		},
		{"contents", MethodResourcesRead, `{"contents":[{"uri":"a:1"},{"uri":"keep"},{"uri":"b"}]}`, `{"contents":[{"uri":"new:a:1"},{"uri":"keep"},{"uri":"new:b"}]}`},
		{"another method", MethodComplete, `{"contents":[{"uri":"a:1"}]}`, `{"contents":[{"uri":"a:1"}]}`},
		{"nothing of the kind", MethodToolsCall, `{"content":[1,[],{"type":"resource_link","uri":7},{"type":"resource","resource":[{"uri":"a"}]},null]}`, ""},
		{"no list", MethodToolsCall, `{"content":{"type":"resource_link","uri":"a:1"}}`, ""},
		{"no object", MethodToolsCall, `["uri"]`, ""},
		{"nothing", MethodToolsCall, ``, ""},
	} {
		before := []byte(tt.result)
		got := MapURIs(tt.method, before, rename)
		if tt.want == "" {
			tt.want = tt.result
		}
		if string(got) != tt.want || string(before) != tt.result {
			t.Errorf("%s: got  %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// Whatever the result is, it stays valid, and the same if no URI changes.
func FuzzMapURIs(f *testing.F) {
	f.Add([]byte(`{"content":[{"type":"resource_link","uri":"a"},{"type":"resource","resource":{"uri":"b"}}],"contents":[{"uri":"c"},{"uri":"d","uri":"e"}]}`))
	f.Add([]byte(`{"messages":[{"content":{"type":"resource","resource":{"uri":"\ud83d"}}}],"content":[{"type":"resource","type":"resource_link","uri":"x","resource":{"uri":"y"}},]}`))
	f.Fuzz(func(t *testing.T, result []byte) {
		for _, method := range []string{MethodToolsCall, MethodPromptsGet, MethodResourcesRead} {
			if got := MapURIs(method, result, func(uri string) string { return uri }); !bytes.Equal(got, result) {
				t.Fatalf("%q became %q", result, got)
			}
			if got := MapURIs(method, result, func(uri string) string { return "x\"" + uri }); Valid(result) == nil && !json.Valid(got) {
				t.Fatalf("%q became %q", result, got)
			}
		}
	})
}
