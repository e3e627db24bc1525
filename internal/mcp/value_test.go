package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestOneLine(t *testing.T) {
	for raw, want := range map[string]string{
		`{"a":1}`:                    `{"a":1}`,
		"{\r\n\t\"a\\n\": 1\n}\n":    "{  \t\"a\\n\": 1 } ",
		" [1,\r2] ":                  " [1, 2] ",
		`"a` + "\u2028" + `b"`:       `"a` + "\u2028" + `b"`,
		"{\"no\":\"JSON\n\r\n{":      `{"no":"JSON   {`,
		"{\"a\":\n{\"method\":1}\n}": `{"a": {"method":1} }`,
	} {
		in := []byte(raw)
		if got := OneLine(in); string(got) != want || string(in) != raw {
			t.Errorf("OneLine(%q) = %q; want %q", raw, got, want)
		}
	}
	in := []byte(`{"a":1}`)
	if got := OneLine(in); &got[0] != &in[0] {
		t.Error("a text without line ends was copied")
	}
}

func TestSyntaxErrorsSayWhere(t *testing.T) {
	cases := []struct {
		raw          string
		offset       int
		line, column int
		reason       string
	}{
		{``, 0, 1, 1, "unexpected end"},
		{`{"a":}`, 5, 1, 6, `unexpected '}'`},
		{"{\n  \"ä\" 1}", 9, 2, 7, "a ':' must follow a key"},
		{"{\r\n\"a\":tru}", 10, 2, 8, `unexpected '}'`},
		{`{"a":1,}`, 7, 1, 8, "a key must be a string"},
		{`{a:1}`, 1, 1, 2, "a key must be a string"},
		{`[1 2]`, 3, 1, 4, `unexpected '2'`},
		{`{} {}`, 3, 1, 4, "text after the value"},
		{"{\"a\":\"x\ny\"}", 7, 1, 8, "control character in a string"},
		{"\"a\xffb\"", 2, 1, 3, "invalid UTF-8"},
		{"\xff", 0, 1, 1, "unexpected byte 0xff"},
		{`"\x"`, 2, 1, 3, "invalid escape in a string"},
		{`[01]`, 2, 1, 3, `unexpected '1'`},
		{`[-]`, 2, 1, 3, "invalid number"},
		{`[1.]`, 3, 1, 4, "invalid number"},
		{`{"a":"b`, 7, 1, 8, "unexpected end"},
		{`ä`, 0, 1, 1, `unexpected 'ä'`},
	}
	for _, c := range cases {
		for name, check := range map[string]func([]byte) error{
			"Valid":   Valid,
			"Scan":    func(b []byte) error { _, err := Scan(b); return err },
			"Members": func(b []byte) error { return Members(b, func(_, _ []byte) bool { return true }) },
		} {
			var got *SyntaxError
			if err := check([]byte(c.raw)); !errors.As(err, &got) {
				t.Errorf("%s(%q) = %v, want a SyntaxError", name, c.raw, err)
				continue
			}
			if got.Offset != c.offset || got.Line != c.line || got.Column != c.column || got.Reason != c.reason {
				t.Errorf("%s(%q): %d = %d:%d %s; want %d = %d:%d %s", name, c.raw, got.Offset, got.Line, got.Column, got.Reason, c.offset, c.line, c.column, c.reason)
			}
		}
	}
}

func TestFields(t *testing.T) {
	raw := []byte(` { "tool_name" : "a\u0062", "tool_args": {"x":[1,{"tool_args":2}]}, "other":null, "tool_\u006eame":"last" } `)
	got, err := Fields(raw, "tool_args", "tool_name", "absent", "other")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{`{"x":[1,{"tool_args":2}]}`, `"last"`, "", "null"} {
		if string(got[i]) != want {
			t.Errorf("field %d: %s, want %s", i, got[i], want)
		}
	}
	if got[2] != nil {
		t.Error("an absent field is not nil")
	}
	for raw, want := range map[string]string{`[]`: "must be an object, not an array", ` "x"`: "must be an object, not a string", `3`: "must be an object, not a number", `null`: "must be an object, not null"} {
		var wrong *TypeError
		if _, err := Fields([]byte(raw), "a"); !errors.As(err, &wrong) || err.Error() != want {
			t.Errorf("Fields(%s): %v, want %s", raw, err, want)
		}
	}
	if _, err := Fields([]byte(`{"a":1}x`), "a"); err == nil {
		t.Error("text behind the object accepted")
	}
}

func TestMembersStopsEarly(t *testing.T) {
	var keys []string
	if err := Members([]byte(`{"a":1,"b":2,broken`), func(key, _ []byte) bool {
		keys = append(keys, string(key))
		return len(keys) < 2
	}); err != nil || strings.Join(keys, "") != "ab" {
		t.Errorf("keys %v, error %v", keys, err)
	}
}

func TestElements(t *testing.T) {
	for raw, want := range map[string]string{`[]`: "", ` [ 1 , [2,3] ,{"a":[]} ] `: `1|[2,3]|{"a":[]}|`, `["]"]`: `"]"|`} {
		var got string
		if err := Elements([]byte(raw), func(v []byte) bool { got += string(v) + "|"; return true }); err != nil || got != want {
			t.Errorf("Elements(%s): %q, %v; want %q", raw, got, err, want)
		}
	}
	for _, raw := range []string{`[1,]`, `[1`, `[`, `[]]`, `[1 2]`, `{}`, ``, `[,]`, `[1]x`} {
		if err := Elements([]byte(raw), func([]byte) bool { return true }); err == nil {
			t.Errorf("Elements(%s) accepted", raw)
		}
	}
}

func TestStrings(t *testing.T) {
	for _, s := range []string{"", "plain", `quo"te`, `back\slash`, "line\nend", "<&>", "ümläut 日本", "\x00\x1f", "\u2028"} {
		raw := AppendString(nil, s)
		if got, err := String(raw); err != nil || got != s {
			t.Errorf("%q became %s became %q, %v", s, raw, got, err)
		}
	}
	if got := AppendString(nil, "<&>"); string(got) != `"<&>"` {
		t.Errorf("AppendString escaped for HTML: %s", got)
	}
	if got := AppendString(nil, "<\n\xff>"); !valid(got) || bytes.Contains(got, []byte(`\u003c`)) {
		t.Errorf("AppendString of invalid UTF-8: %q", got)
	}
	if _, err := String([]byte(`12`)); err == nil || err.Error() != "must be a string, not a number" {
		t.Errorf("String(12): %v", err)
	}
}

func TestTypeOf(t *testing.T) {
	for raw, want := range map[string]string{` {}`: "object", `[]`: "array", `""`: "string", `-1`: "number", `true`: "boolean", `false`: "boolean", `null`: "null", ` `: "nothing"} {
		if got := TypeOf([]byte(raw)); got != want {
			t.Errorf("TypeOf(%q) = %s, want %s", raw, got, want)
		}
	}
}

func TestCallParams(t *testing.T) {
	for _, c := range []struct{ name, args, want string }{
		{"echo", `{"a":1.0}`, `{"name":"echo","arguments":{"a":1.0}}`},
		{`a"b`, `{}`, `{"name":"a\"b","arguments":{}}`},
		{"none", "", `{"name":"none"}`},
	} {
		if got := CallParams(c.name, []byte(c.args)); string(got) != c.want {
			t.Errorf("CallParams(%s, %s) = %s", c.name, c.args, got)
		}
	}
}

func TestWithProgressToken(t *testing.T) {
	for _, c := range []struct{ params, want, original string }{
		{``, `{"_meta":{"progressToken":7}}`, ""},
		{`{}`, `{"_meta":{"progressToken":7}}`, ""},
		{` { } `, ` {"_meta":{"progressToken":7} } `, ""},
		{`{"name":"x"}`, `{"_meta":{"progressToken":7},"name":"x"}`, ""},
		{`{"a":{"_meta":{}}}`, `{"_meta":{"progressToken":7},"a":{"_meta":{}}}`, ""},
		{`{"name":"x","_meta": {} }`, `{"name":"x","_meta": {"progressToken":7} }`, ""},
		{`{"_meta":{ "k" : 1.0 },"n":2}`, `{"_meta":{"progressToken":7, "k" : 1.0 },"n":2}`, ""},
		{`{"_meta":{"progressToken": "mine" ,"k":1}}`, `{"_meta":{"progressToken": 7 ,"k":1}}`, `"mine"`},
		{`{"_m\u0065ta":{"progressToken":3}}`, `{"_m\u0065ta":{"progressToken":7}}`, `3`},
		{`{"_meta":{"progressToken":1,"progressToken":2}}`, `{"_meta":{"progressToken":1,"progressToken":7}}`, `2`},
	} {
		s, original, err := WithProgressToken([]byte(c.params), []byte("7"))
		if got := string(s.AppendTo(nil)); err != nil || got != c.want || string(original) != c.original || !valid([]byte(got)) {
			t.Errorf("%s became %s with original %s, %v; want %s with %s", c.params, got, original, err, c.want, c.original)
		}
	}
	for _, params := range []string{`[]`, `[`, `{"_meta":3}`, `{"_meta":null}`, `{"a":}`, `{`, `{}x`, `{"a":1} {`, `{"_meta":{}`} {
		if _, _, err := WithProgressToken([]byte(params), []byte("7")); err == nil {
			t.Errorf("%s accepted", params)
		}
	}
}

func TestAddProgressToken(t *testing.T) {
	for _, c := range []struct{ params, want string }{
		{`{}`, `{"_meta":{"progressToken":7}}`},
		{` { } `, ` {"_meta":{"progressToken":7} } `},
		{`{"name":"x"}`, `{"_meta":{"progressToken":7},"name":"x"}`},
		{`{oops`, `{"_meta":{"progressToken":7},oops`}, // not its business
	} {
		if s, ok := AddProgressToken([]byte(c.params), []byte("7")); !ok || string(s.AppendTo(nil)) != c.want {
			t.Errorf("%s became %s, %v; want %s", c.params, s.AppendTo(nil), ok, c.want)
		}
	}
	for _, params := range []string{``, ` `, `{`, `{ `, `[]`, `1`} {
		if _, ok := AddProgressToken([]byte(params), []byte("7")); ok {
			t.Errorf("%q was taken", params)
		}
	}
}

func TestSplitProgressToken(t *testing.T) {
	for _, c := range []struct{ params, token, restored string }{
		{`{"progressToken":7,"progress":0.50}`, `7`, `{"progressToken":"x","progress":0.50}`},
		{` {"progress":1, "progressToken" : "7" } `, `"7"`, ` {"progress":1, "progressToken" : "x" } `},
		{`{"a":{"progressToken":1},"progressToken":[1]}`, `[1]`, `{"a":{"progressToken":1},"progressToken":"x"}`},
	} {
		s, err := SplitProgressToken([]byte(c.params))
		token := string(s.Insert)
		s.Insert = []byte(`"x"`)
		if got := string(s.AppendTo(nil)); err != nil || token != c.token || got != c.restored {
			t.Errorf("%s: token %s, restored %s, %v", c.params, token, got, err)
		}
	}
	for _, params := range []string{``, ` `, `{}`, `{"a":1}`} {
		if s, err := SplitProgressToken([]byte(params)); err != nil || s.Insert != nil || string(s.AppendTo(nil)) != params {
			t.Errorf("%q: %q, %v", params, s.Insert, err)
		}
	}
	for _, params := range []string{`[]`, `1`, `{`, `{} {}`} {
		if _, err := SplitProgressToken([]byte(params)); err == nil {
			t.Errorf("%s accepted", params)
		}
	}
}

func FuzzWithProgressToken(f *testing.F) {
	f.Add([]byte(`{"a":1,"_meta":{"progressToken":3,"b":[]}}`))
	f.Add([]byte(` { "_meta" : { } } `))
	f.Fuzz(func(t *testing.T, params []byte) {
		s, original, err := WithProgressToken(params, []byte(`"OURS"`))
		if err != nil {
			return
		}
		out := s.AppendTo(nil)
		var got struct {
			Meta map[string]json.RawMessage `json:"_meta"`
		}
		if !valid(out) {
			t.Fatalf("%q became %q", params, out)
		}
		meta, err := Fields(out, "_meta")
		if err != nil || json.Unmarshal(meta[0], &got.Meta) != nil || string(got.Meta["progressToken"]) != `"OURS"` {
			t.Fatalf("%q became %q: token %s", params, out, got.Meta["progressToken"])
		}
		if original != nil && !bytes.Equal(append(append(bytes.Clone(s.Before), original...), s.After...), params) {
			t.Fatalf("%q cannot be restored from %q", params, out)
		}
	})
}

func TestTool(t *testing.T) {
	tool, err := ParseTool([]byte(`{"name":"a\u0062","annotations":{"readOnlyHint":"yes","idempotentHint":true}}`))
	if err != nil || tool.Name != "ab" || tool.ReadOnly || !tool.Idempotent {
		t.Errorf("tool %+v, %v", tool, err)
	}
	for _, raw := range []string{`{"name":""}`, `{"name":3}`, `{}`, `3`} {
		if _, err := ParseTool([]byte(raw)); err == nil {
			t.Errorf("ParseTool(%s) accepted", raw)
		}
	}
	if tool, err := ParseTool([]byte(`{"name":"x","annotations":null}`)); err != nil || tool.ReadOnly || tool.Idempotent {
		t.Errorf("tool with null annotations: %+v, %v", tool, err)
	}
}

func TestParseError(t *testing.T) {
	if e := ParseError([]byte(`{"code":-32602,"message":"m","data":[1.0]}`)); e.Code != CodeInvalidParams || e.Message != "m" || string(e.Data) != "[1.0]" {
		t.Errorf("%+v", e)
	}
	if e := ParseError([]byte(`{"code":"x"}`)); e.Code != CodeInternalError || e.Message != `{"code":"x"}` {
		t.Errorf("%+v", e)
	}
}
