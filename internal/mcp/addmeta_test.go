package mcp

import "testing"

func TestAddMeta(t *testing.T) {
	for _, tt := range []struct{ params, want string }{
		{`{}`, `{"_meta":{"v":"1","progressToken":7}}`},
		{` { "name" : "a" } `, ` {"_meta":{"v":"1","progressToken":7}, "name" : "a" } `},
		{`[]`, ""}, {``, ""}, {` {`, ""},
	} {
		s, ok := AddMeta([]byte(tt.params), []byte(`{"v":"1"}`), []byte("7"))
		if got := string(s.AppendTo(nil)); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: got %s, %t, want %s", tt.params, got, ok, tt.want)
		}
	}
}
