package mcphttp

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// quiet is a http.ResponseWriter that costs little.
type quiet struct{ header http.Header }

func (w quiet) Header() http.Header         { return w.header }
func (w quiet) Write(p []byte) (int, error) { return len(p), nil }
func (w quiet) WriteHeader(int)             {}

// What one tools/call costs in this package and web, without the network and the call.
func BenchmarkToolsCall(b *testing.B) {
	f := newFixture()
	legacy := f.do("POST", "/old/mcp", `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}`).Header().Get("Mcp-Session-Id")
	args := `"name":"echo","arguments":{"text":"` + strings.Repeat("x", 200) + `"}`
	for _, c := range []struct {
		name, path, body string
		headers          []string
	}{
		{"legacy", "/old/mcp", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{` + args + `}}`, []string{"Mcp-Session-Id", legacy, "MCP-Protocol-Version", "2025-11-25"}},
		{"legacy over modern", "/new/mcp", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{` + args + `}}`, nil},
		{"modern", "/new/mcp", modernBody("tools/call", args), []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "echo"}},
		{"modern over legacy", "/old/mcp", modernBody("tools/call", args), []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "echo"}},
	} {
		if c.headers == nil {
			id := f.do("POST", c.path, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`).Header().Get("Mcp-Session-Id")
			c.headers = []string{"Mcp-Session-Id", id}
		}
		b.Run(c.name, func(b *testing.B) {
			if w := f.do("POST", c.path, c.body, c.headers...); w.Code != 200 {
				b.Fatalf("%d %s", w.Code, w.Body)
			}
			r := newRequest("POST", c.path, "", c.headers...)
			r.ContentLength = int64(len(c.body))
			b.ReportAllocs()
			for b.Loop() {
				r.Body = io.NopCloser(strings.NewReader(c.body))
				f.handler.ServeHTTP(quiet{http.Header{}}, r)
			}
		})
	}
}

// What a legacy client's initialize costs.
func BenchmarkInitialize(b *testing.B) {
	f := newFixture()
	const body = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`
	r := newRequest("POST", "/old/mcp", "")
	r.ContentLength = int64(len(body))
	b.ReportAllocs()
	for b.Loop() {
		r.Body = io.NopCloser(strings.NewReader(body))
		f.handler.ServeHTTP(quiet{http.Header{}}, r)
	}
}
