package mcp

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

var isErrorResults = []struct {
	result string
	want   bool
}{
	{`{"content":[],"isError":true}`, true},
	{`{"content":[],"isError":false}`, false},
	{"{\"content\":[], \"isError\" :\ttrue \n}\r\n", true},
	{`{"isError":true,"content":[]}`, true},
	{`{"isError":false,"content":[{"text":"\"isError\":true}"}]}`, false},
	{`{"content":[{"type":"text","text":"x"}]}`, false},
	{`{"content":[{"isError":true}]}`, false},
	{`{"content":[],"structuredContent":{"isError":true}}`, false},
	{`{"content":[],"_meta":{"isError":true},"isError":false}`, false},
	{`{"content":[],"x\"isError":true}`, false},
	{`{"isError":true,"x\"isError":false}`, true},
	{`{"isError":true,"isError":false}`, false},
	{`{"isError":"true"}`, false},
	{`{"isError":null}`, false},
	{`{}`, false},
	{`[{"isError":true}]`, false},
	{`true`, false},
	{`"isError"`, false},
	{`"{\"isError\":true}"`, false},
	{``, false},
}

func TestIsErrorResult(t *testing.T) {
	for _, tt := range isErrorResults {
		if got := IsErrorResult([]byte(tt.result)); got != tt.want {
			t.Errorf("%s: got %v", tt.result, got)
		}
	}
}

// FuzzIsErrorResult compares with encoding/json, for valid results with keys that are
// written without escapes.
func FuzzIsErrorResult(f *testing.F) {
	for _, tt := range isErrorResults {
		f.Add(tt.result)
	}
	f.Fuzz(func(t *testing.T, result string) {
		if Valid([]byte(result)) != nil || strings.Contains(result, `\u`) {
			t.Skip()
		}
		var members map[string]json.RawMessage
		want := json.Unmarshal([]byte(result), &members) == nil && string(members["isError"]) == "true"
		if got := IsErrorResult([]byte(result)); got != want {
			t.Errorf("%q: got %v, want %v", result, got, want)
		}
	})
}

func BenchmarkIsErrorResult(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 1 << 20} {
		text := strings.Repeat(`say \"hello\" to all of them, `, size/30)
		for name, result := range map[string]string{
			"absent": fmt.Sprintf(`{"content":[{"type":"text","text":"%s"}]}`, text),
			"last":   fmt.Sprintf(`{"content":[{"type":"text","text":"%s"}],"isError":false}`, text),
			"first":  fmt.Sprintf(`{"isError":false,"content":[{"type":"text","text":"%s"}]}`, text),
		} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				raw := []byte(result)
				b.SetBytes(int64(len(raw)))
				for b.Loop() {
					if IsErrorResult(raw) {
						b.Fatal("it is no error")
					}
				}
			})
		}
	}
}
