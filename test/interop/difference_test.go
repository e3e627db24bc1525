//go:build linux

package interop

import (
	"encoding/json"
	"strings"
	"testing"
)

// The comparison detects differences.
func TestToolDifferences(t *testing.T) {
	official := `[{"name":"a","inputSchema":{"type":"object"},"_meta":{"x":1}},{"name":"b","inputSchema":{}}]`
	for name, tt := range map[string]struct{ ours, want string }{
		"equal, with members of ours": {`[{"name":"a","input_schema":{"type":"object"},"_meta":{"x":1.0},"server":"s"},{"name":"b","inputSchema":{}}]`, ""},
		"a member is lost":            {`[{"name":"a","input_schema":{"type":"object"}},{"name":"b","inputSchema":{}}]`, "member _meta"},
		"a schema differs":            {`[{"name":"a","input_schema":{"type":"string"},"_meta":{"x":1}},{"name":"b","inputSchema":{}}]`, "member inputSchema"},
		"another order":               {`[{"name":"b","inputSchema":{}},{"name":"a","inputSchema":{"type":"object"},"_meta":{"x":1}}]`, "member name"},
		"one is missing":              {`[{"name":"a","input_schema":{"type":"object"},"_meta":{"x":1}}]`, "1 tools, the official client sees 2"},
	} {
		got := strings.Join(toolDifferences(decoded[[]map[string]any](t, official), decoded[[]map[string]any](t, tt.ours)), "\n")
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestAnswerDifferences(t *testing.T) {
	const rpc = `{"error":{"code":-32602,"message":"MCP error -32602: no"}}`
	for name, tt := range map[string]struct {
		call           call
		official, ours string
		want           string
	}{
		"equal":                          {call{}, `{"result":{"content":[1]}}`, `{"result":{"content":[1]}}`, ""},
		"results differ":                 {call{}, `{"result":{"content":[1]}}`, `{"result":{"content":[2]}}`, "the answer is"},
		"the kind is enough":             {call{Outcome: true}, `{"result":{"content":[1]}}`, `{"result":{"content":[2]}}`, ""},
		"the kind differs":               {call{Outcome: true}, `{"result":{"isError":true}}`, `{"result":{"content":[2]}}`, "a result, the official client gets a result that is an error"},
		"an error, with its one prefix":  {call{}, rpc, `{"error":{"code":-32602,"message":"no"}}`, ""},
		"an error with another message":  {call{}, rpc, `{"error":{"code":-32602,"message":"yes"}}`, "the answer is"},
		"an error with another code":     {call{Outcome: true}, rpc, `{"error":{"code":-32603,"message":"no"}}`, "JSON-RPC error -32603"},
		"all of the environment":         {call{Environment: true}, environment(`{"USER":"a"}`), environment(`{"USER":"a","LANG":"C"}`), ""},
		"a variable that is not there":   {call{Environment: true}, environment(`{"USER":"a"}`), environment(`{"LANG":"C"}`), `USER is ""`},
		"a variable that is another one": {call{Environment: true}, environment(`{"USER":"a"}`), environment(`{"USER":"b"}`), `USER is "b"`},
	} {
		got := tt.call.difference(decoded[answer](t, tt.official), decoded[answer](t, tt.ours))
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func environment(env string) string {
	text, _ := json.Marshal(env)
	return `{"result":{"content":[{"type":"text","text":` + string(text) + `}]}}`
}

func decoded[T any](t *testing.T, text string) (out T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}
