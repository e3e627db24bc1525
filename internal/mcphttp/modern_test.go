package mcphttp

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

func TestModernRequests(t *testing.T) {
	f := newFixture()
	const info = `"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"srv","version":"1"}}`
	for _, c := range []struct{ path, method, params, name, result string }{
		{"/old/mcp", "server/discover", ``, "", `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"logging":{},"resources":{"subscribe":true}},` + info + `,"instructions":"be nice","ttlMs":0,"cacheScope":"private"}`},
		{"/old/mcp", "tools/list", ``, "", `{"resultType":"complete","tools":[{"name":"echo"},{"name":"read"}],"ttlMs":7,"cacheScope":"public",` + info + `}`},
		{"/old/mcp", "tools/call", `"name":"echo"`, "echo", `{"resultType":"complete",` + info + `,"name":"echo"}`},
		{"/old/mcp", "tools/call", `"arguments":{},"name":"echo"`, "=?base64?ZWNobw==?=", `{"resultType":"complete",` + info + `,"arguments":{},"name":"echo"}`},
		{"/old/mcp", "resources/read", `"uri":"x:/y"`, "x:/y", `{"resultType":"complete","ttlMs":0,"cacheScope":"private",` + info + `,"uri":"x:/y"}`},
		{"/new/mcp", "tools/call", `"name":"echo"`, "echo", `{"name":"echo",` + modernMeta + `}`},
		{"/mcp", "tools/call", `"name":"old__echo"`, "old__echo", `{"resultType":"complete",` + info + `,"name":"echo"}`},
	} {
		var headers []string
		if c.name != "" {
			headers = []string{"Mcp-Name", c.name}
		}
		want(t, f.modern(c.path, c.method, c.params, headers...), 200, `{"jsonrpc":"2.0","id":"q","result":`+c.result+`}`)
	}
	if f.router.last.Session != "" || len(f.router.last.Params) == 0 {
		t.Errorf("got %+v", f.router.last)
	}
}

func TestModernErrors(t *testing.T) {
	f := newFixture()
	for _, c := range []struct {
		name, method, params string
		headers              []string
		status               int
		code                 mcp.Code
		says                 string
	}{
		{"no version header", "tools/list", ``, []string{"MCP-Protocol-Version", ""}, 400, mcp.CodeHeaderMismatch, "MCP-Protocol-Version"},
		{"another version header", "tools/list", ``, []string{"MCP-Protocol-Version", "2025-11-25"}, 400, mcp.CodeHeaderMismatch, "MCP-Protocol-Version"},
		{"another method", "tools/list", ``, []string{"Mcp-Method", "tools/call"}, 400, mcp.CodeHeaderMismatch, "Mcp-Method"},
		{"no name", "tools/call", `"name":"echo"`, nil, 400, mcp.CodeHeaderMismatch, "Mcp-Name"},
		{"another name", "tools/call", `"name":"echo"`, []string{"Mcp-Name", "read"}, 400, mcp.CodeHeaderMismatch, "Mcp-Name"},
		{"ping", "ping", ``, nil, 404, mcp.CodeMethodNotFound, "ping"},
		{"initialize", "initialize", ``, nil, 404, mcp.CodeMethodNotFound, "initialize"},
		{"unknown tool", "tools/call", `"name":"x"`, []string{"Mcp-Name", "x"}, 200, mcp.CodeInvalidParams, "unknown tool"},
		{"listen without a filter", "subscriptions/listen", ``, nil, 200, mcp.CodeInvalidParams, "notifications"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantError(t, f.modern("/old/mcp", c.method, c.params, c.headers...), c.status, `"q"`, c.code, c.says)
		})
	}
	body := strings.Replace(modernBody("tools/list", ""), "2026-07-28", "2099-01-01", 1)
	w := f.do("POST", "/old/mcp", body, "MCP-Protocol-Version", "2099-01-01", "Mcp-Method", "tools/list")
	data := wantError(t, w, 400, `"q"`, mcp.CodeUnsupportedVersion, "")
	if data["requested"] != "2099-01-01" || data["supported"] == nil {
		t.Errorf("data %v", data)
	}
	w = f.do("POST", "/old/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list")
	wantError(t, w, 400, `1`, mcp.CodeInvalidParams, "_meta")
	w = f.do("POST", "/old/mcp", `{"jsonrpc":"2.0","id":1,"result":{}}`, "MCP-Protocol-Version", "2026-07-28")
	wantError(t, w, 400, ``, mcp.CodeInvalidRequest, "no responses")
	w = f.do("POST", "/old/mcp", `{"jsonrpc":"2.0","method":"notifications/x"}`, "MCP-Protocol-Version", "2026-07-28")
	if w.Code != 202 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	wantError(t, f.do("GET", "/old/mcp", "", "MCP-Protocol-Version", "2026-07-28", "Mcp-Session-Id", "x"), 405, "", mcp.CodeInvalidRequest, "")
}

// The status of a server's refusal follows from its code.
func TestModernRefusals(t *testing.T) {
	for _, c := range []struct {
		path, method, from, to string
		status                 int
	}{
		{"/new/mcp", "x/strange", `{"code":-32601,"message":"m"}`, "", 404},
		{"/new/mcp", "tools/call", `{"code":-32601,"message":"of another kind"}`, "", 200},
		{"/new/mcp", "tools/call", `{"code":-32021,"message":"m","data":{}}`, "", 400},
		{"/new/mcp", "tools/call", `{"code":-32602,"message":"m"}`, "", 200},
		{"/old/mcp", "tools/call", `{"code":-32002,"message":"m"}`, `{"code":-32602,"message":"m"}`, 200},
		{"/old/mcp", "tools/call", `{"code":-32021,"message":"m"}`, `{"code":-32603,"message":"m"}`, 200},
		{"/old/mcp", "x/strange", `{"code":-32601,"message":"m"}`, "", 404},
		{"/old/mcp", "tools/call", `{"code":-32601,"message":"of another kind"}`, "", 200},
	} {
		f := newFixture()
		f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
			return fleet.CallResult{Error: []byte(c.from)}, nil
		}
		if c.to == "" {
			c.to = c.from
		}
		want(t, f.modern(c.path, c.method, `"name":"echo"`, "Mcp-Name", "echo"), c.status, `{"jsonrpc":"2.0","id":"q","error":`+c.to+`}`)
	}
}

// A legacy server's "visit these URLs first" becomes a result that asks for input.
// A refusal has its status however long a busy server takes for it, within reason. Later
// it is the last message of a stream.
func TestLateRefusals(t *testing.T) {
	const code = `{"code":-32601,"message":"m"}`
	for _, c := range []struct {
		after time.Duration
		code  int
		body  string
	}{
		{4 * time.Second, 404, `{"jsonrpc":"2.0","id":"q","error":` + code + `}`},
		{6 * time.Second, 200, "event: message\ndata: " + `{"jsonrpc":"2.0","id":"q","error":` + code + `}`},
	} {
		for _, path := range []string{"/new/mcp", "/old/mcp"} {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture()
				f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
					time.Sleep(c.after)
					return fleet.CallResult{Error: []byte(code)}, nil
				}
				want(t, f.modern(path, "x/strange", ""), c.code, c.body)
			})
		}
	}
}

func TestModernVisit(t *testing.T) {
	const visit = `{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","elicitationId":"e1","url":"https://a","message":"Sign in"}]}}`
	const urls = `{"elicitation":{"url":{}}}`
	for _, c := range []struct {
		name, method, params, capabilities string
		status                             int
		answer                             string
	}{
		{"asked", "tools/call", `"name":"echo"`, urls, 200,
			`"result":{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"srv","version":"1"}},"resultType":"input_required","inputRequests":{"input-1":{"method":"elicitation/create","params":{"mode":"url","url":"https://a","message":"Sign in"}}}}`},
		{"retried", "resources/read", `"uri":"echo","inputResponses":{"input-1":{"action":"accept"}}`, urls, 200,
			`"result":{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"srv","version":"1"}},"resultType":"input_required","inputRequests":{"input-1":{"method":"elicitation/create","params":{"mode":"url","url":"https://a","message":"Sign in"}}}}`},
		{"declined", "tools/call", `"name":"echo","inputResponses":{"input-1":{"action":"decline"}}`, urls, 200, strings.Replace(visit, "-32042", "-32603", 1)},
		{"without the capability", "tools/call", `"name":"echo"`, `{"elicitation":{}}`, 400,
			`{"code":-32021,"message":"Server requires the elicitation.url capability for this request","data":{"requiredCapabilities":{"elicitation":{"url":{}}}}}`},
		{"another method", "completion/complete", `"ref":{"name":"echo"}`, urls, 200, strings.Replace(visit, "-32042", "-32603", 1)},
		{"retried with a state", "tools/call", `"name":"echo","inputResponses":{"input-1":{"action":"accept"}},"requestState":"forged"`, urls, 200,
			`{"code":-32602,"message":"Invalid params: requestState is unknown, has expired or belongs to another request"}`},
		{"another method with a state", "completion/complete", `"ref":{"name":"echo"},"requestState":"x"`, urls, 200, strings.Replace(visit, "-32042", "-32603", 1)},
		{"bad answers", "tools/call", `"name":"echo","inputResponses":[]`, urls, 200, `{"code":-32602,"message":"Invalid params: inputResponses: must be an object, not an array"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture()
			f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
				return fleet.CallResult{Error: []byte(visit)}, nil
			}
			body := strings.Replace(modernBody(c.method, c.params), `"io.modelcontextprotocol/clientCapabilities":{}`, `"io.modelcontextprotocol/clientCapabilities":`+c.capabilities, 1)
			w := f.do("POST", "/old/mcp", body, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", c.method, "Mcp-Name", "echo")
			if !strings.HasPrefix(c.answer, `"result"`) {
				c.answer = `"error":` + c.answer
			}
			want(t, w, c.status, `{"jsonrpc":"2.0","id":"q",`+c.answer+`}`)
			if got := string(f.router.last.Params); strings.Contains(got, "inputResponses") {
				t.Errorf("the server got %s", got)
			}
		})
	}
}

func TestModernLargeResult(t *testing.T) {
	f := newFixture()
	large := `{"content":["` + strings.Repeat("x", 1<<20) + `"]}`
	f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
		return fleet.CallResult{Stream: io.NopCloser(strings.NewReader(large)), StreamSize: int64(len(large))}, nil
	}
	w := f.modern("/old/mcp", "tools/call", `"name":"echo"`, "Mcp-Name", "echo")
	want(t, w, 200, `{"jsonrpc":"2.0","id":"q","result":{"resultType":"complete",`+large[1:]+`}`)
}

func TestParamHeaders(t *testing.T) {
	f := newFixture()
	d := f.offers.all["old"].tools["echo"]
	d.Schema = []byte(`{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}`)
	f.offers.all["old"].tools["echo"] = d
	params := `"name":"echo","arguments":{"region":"eu"}`
	if w := f.modern("/old/mcp", "tools/call", params, "Mcp-Name", "echo", "Mcp-Param-Region", "eu"); w.Code != 200 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	wantError(t, f.modern("/old/mcp", "tools/call", params, "Mcp-Name", "echo"), 400, `"q"`, mcp.CodeHeaderMismatch, "Mcp-Param-Region")
	wantError(t, f.modern("/old/mcp", "tools/call", params, "Mcp-Name", "echo", "Mcp-Param-Region", "us"), 400, `"q"`, mcp.CodeHeaderMismatch, "Mcp-Param-Region")
}
