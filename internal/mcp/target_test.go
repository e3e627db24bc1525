package mcp

import (
	"fmt"
	"testing"
)

func TestTarget(t *testing.T) {
	for _, tc := range []struct{ method, params, target, changed string }{
		{MethodToolsCall, `{"arguments":{"name":"x","n":9007199254740993},"name" : "a\u0062"}`, "ab", `{"arguments":{"name":"x","n":9007199254740993},"name" : "new"}`},
		{MethodPromptsGet, `{"name":"a"}`, "a", `{"name":"new"}`},
		{MethodResourcesRead, `{"uri":"file:///a","name":"b"}`, "file:///a", `{"uri":"new","name":"b"}`},
		{MethodSubscribe, `{"uri":"b"}`, "b", `{"uri":"new"}`},
		{MethodTaskGet, `{"taskId":"t"}`, "t", `{"taskId":"new"}`},
		{MethodComplete, `{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"x","value":"y"}}`, "p", `{"ref":{"type":"ref/prompt","name":"new"},"argument":{"name":"x","value":"y"}}`},
		{MethodComplete, `{"ref":{"type":"ref/resource","uri":"u","name":"p"}}`, "u", `{"ref":{"type":"ref/resource","uri":"new","name":"p"}}`},
	} {
		target, has, err := Target(tc.method, []byte(tc.params))
		if target != tc.target || !has || err != nil {
			t.Errorf("%s %s: %q, %v, %v, want %q", tc.method, tc.params, target, has, err, tc.target)
		}
		if got, err := WithTarget(tc.method, []byte(tc.params), "new"); err != nil || string(got) != tc.changed {
			t.Errorf("%s %s: %s, %v, want %s", tc.method, tc.params, got, err, tc.changed)
		}
	}
	for _, tc := range []struct{ method, params, want string }{
		{MethodToolsCall, ``, `params lack "name"`},
		{MethodToolsCall, `null`, `params lack "name"`},
		{MethodToolsCall, `{`, "params: invalid JSON at line 1, column 2: unexpected end"},
		{MethodToolsCall, `[]`, "params: must be an object, not an array"},
		{MethodToolsCall, `{}`, `params lack "name"`},
		{MethodToolsCall, `{"name":null}`, "name must be a string, not null"},
		{MethodSubscribe, `{"uri":"a","uri":"b"}`, `params repeat "uri"`},
		{MethodToolsCall, `{"name":"a","n\u0061me":"b"}`, `params repeat "name"`},
		{MethodComplete, `{"ref":{},"ref":{"name":"a"}}`, `params repeat "ref"`},
		{MethodComplete, `{"ref":{"name":"a","name":"a"}}`, `params repeat "ref.name"`},
		{MethodComplete, `{"ref":null}`, `params lack "ref.name"`},
		{MethodComplete, `{}`, `params lack "ref"`},
		{MethodComplete, `{"ref":7}`, "params: must be an object, not a number"},
		{MethodComplete, `{"ref":{"type":"ref/resource","name":"x"}}`, `params lack "ref.uri"`},
	} {
		if _, has, err := Target(tc.method, []byte(tc.params)); !has || fmt.Sprint(err) != tc.want {
			t.Errorf("%s %s: %v, %v, want %s", tc.method, tc.params, has, err, tc.want)
		}
	}
	if target, has, err := Target(MethodToolsList, nil); target != "" || has || err != nil {
		t.Errorf("a list: %q, %v, %v", target, has, err)
	}
	if !IsResourceRef([]byte(`{"ref":{"type":"ref/resource"}}`)) || IsResourceRef([]byte(`{"ref":{"type":"ref/prompt"}}`)) {
		t.Error("the types of references are mixed up")
	}
}

func TestCursor(t *testing.T) {
	for params, want := range map[string]string{``: "", `null`: "", `{}`: "", `{"cursor":null}`: "", `{"cursor":"a\u0062"}`: "ab"} {
		if got, err := Cursor([]byte(params)); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", params, got, err, want)
		}
	}
	for params, want := range map[string]string{`[]`: "must be an object, not an array", `{"cursor":7}`: "cursor: must be a string, not a number"} {
		if _, err := Cursor([]byte(params)); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", params, err, want)
		}
	}
}
