package expect

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "must be ok, a text"},
		{"no expression", "cel:  ", "needs an expression"},
		{"a syntax error", "cel:result.(", "column 8"},
		{"an unknown variable", "cel:answer == 1", "undeclared reference to 'answer'"},
		{"an unknown function", "cel:shout(result)", "undeclared reference to 'shout'"},
		{"a number", "cel:1 + 1", "must be true or false, and it is of type int"},
		{"a text", "cel:'yes'", "must be true or false, and it is of type string"},
		{"a huge expression", "cel:" + strings.Repeat("true && ", 2000) + "true", "at most 8192"},
		{"a deep expression", "cel:" + strings.Repeat("(", 4000) + "true" + strings.Repeat(")", 4000), "not a CEL expression"},
		{"a bad pattern", "cel:result.content[0].text.matches('(')", "not a CEL expression"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got error %v, want one line with %q", err, tt.want)
			}
		})
	}
}

const (
	pong    = `{"content":[{"type":"text","text":"pong"},{"type":"text","text":"second\nline"}],"structuredContent":{"count":3,"ratio":0.5,"ready":true,"names":["a","b"]}}`
	failed  = `{"content":[{"type":"text","text":"401 Unauthorized:\n  the key expired"}],"isError":true}`
	embeds  = `{"content":[{"type":"resource","resource":{"uri":"file:///a","text":"hello"}},{"type":"image","data":"aGVsbG8="}]}`
	nothing = `{"content":[]}`
)

func TestCheck(t *testing.T) {
	long := fmt.Sprintf(`{"content":[{"type":"text","text":%q}]}`, strings.Repeat("é", 1000))
	for _, tt := range []struct {
		name, expect, result string
		want                 string // in the error; "": it is as expected
	}{
		{"ok", "ok", pong, ""},
		{"ok without contents", "ok", nothing, ""},
		{"ok, an error", "ok", failed, `expected ok, got isError: "401 Unauthorized: the key expired"`},
		{"text", "pon", pong, ""},
		{"text over lines", "second\nline", pong, ""},
		{"text of a resource", "hello", embeds, ""},
		{"no such text", "ping", pong, `expected a result with the text "ping", got a result: "pong second line"`},
		{"no text", "ping", nothing, `got a result without text`},
		{"text of an error", "401", failed, `expected a result with the text "401", got isError: "401`},
		{"data is no text", "aGVsbG8", embeds, "got a result"},
		{"a long text is shortened", "x", long, strings.Repeat("é", 100) + `..."`},
		{"invalid JSON", "ok", `{"content":`, "invalid JSON"},
		{"not an object", "x", `[1]`, "a result without text"},

		{"a secret", "ok", `{"isError":true,"content":[{"type":"text","text":"bad key hunter2"}]}`, `got isError: "bad key ***"`},
		{"a secret in an expression's error", "cel:int(result.content[0].text) == 1", `{"content":[{"type":"text","text":"hunter2"}]}`, `"***"`},

		{"expression", "cel:result.content[0].text == 'pong'", pong, ""},
		{"blanks", "cel: result.content.size() == 2 ", pong, ""},
		{"whole numbers", "cel:result.structuredContent.count == 3 && result.structuredContent.count >= 2", pong, ""},
		{"fractions", "cel:result.structuredContent.ratio < 1", pong, ""},
		{"a member that is a bool", "cel:result.structuredContent.ready", pong, ""},
		{"macros", "cel:result.structuredContent.names.exists(n, n.startsWith('b'))", pong, ""},
		{"an error can be expected", "cel:result.isError && result.content[0].text.contains('401')", failed, ""},
		{"an absent isError is false", "cel:!result.isError", pong, ""},
		{"an isError that is there counts", "cel:!result.isError", failed, `expected "!result.isError", got isError`},
		{"an absent member", "cel:!has(result.structuredContent.other)", pong, ""},
		{"no object", "cel:!result.isError", `[1]`, "ended with"},
		{"false", "cel:result.structuredContent.count == 4", pong, `expected "result.structuredContent.count == 4", got a result: "pong second line"`},
		{"a missing member", "cel:result.structuredContent.other == 1", pong, `ended with "no such key: other"; got a result`},
		{"not a bool", "cel:result.structuredContent.count", pong, `to be true or false, and it is of type double`},
		{"too costly", "cel:" + "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, [1,2,3,4,5,6,7,8,9,10].all(f, a+b+c+d+e+f > 0))))))", pong, "cost limit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := Parse(tt.expect)
			if err != nil {
				t.Fatal(err)
			}
			err = e.Check([]byte(tt.result), func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") })
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got error %v, want none", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}
