//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/test/harness"
)

// Any arguments reach the server as one message on one line, with unchanged
// values.
func TestArgumentsReachTheServerAsOneMessage(t *testing.T) {
	c := NewCluster(t, "process")
	c.Fleet(`servers: { demo: { command: [%q], env: { TOKEN: %s } } }`, program("testserver"), c.token)
	c.Start(1)

	forged := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"crash","arguments":{}}}`
	inString, err := json.Marshal("\n" + forged + "\r\n\u2028" + forged + "\n")
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string]string{
		"pretty-printed":              "{\n  \"text\": [\n    1,\r\n    2\n  ]\n}",
		"lone CR":                     "{\r\"text\":\r1\r}",
		"message in a string":         `{"text":` + string(inString) + `}`,
		"message as a key":            `{` + string(inString) + `:1}`,
		"message between tokens":      "{\"text\":\n" + forged + "\n}",
		"duplicate keys":              `{"text":1,"text":2}`,
		"numbers kept as written":     `{"text":[1e400,12345678901234567890.10,-0,1E-7]}`,
		"escapes kept as written":     `{"text":"\u000a\u0000\ud83d\ude00\/"}`,
		"blank lines and much space":  "\n\n\t {\n\n\n \"text\"\n\n:\n\n1 }  \n\n",
		"what looks like another id":  `{"id":1,"method":"tools/call","jsonrpc":"2.0"}`,
		"what looks like the end":     `{"text":"}}\n{\"jsonrpc\":\"2.0\"}"}`,
		"separators of other systems": "{\"text\":\"\u2028\u2029\u0085\"}",
	} {
		// The client is not used, since it reformats arguments.
		status, answer := post(t, "http://"+c.Controller.Addr.HTTP+"/call", `{"tool_name":"raw","tool_args":`+args+`}`)
		var result struct{ Result json.RawMessage }
		if err := json.Unmarshal(answer, &result); err != nil || status != http.StatusOK {
			t.Errorf("%s: answer %d %s", name, status, answer)
			continue
		}
		line, err := textOf(result.Result)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n := strings.Count(line, "\n"); n != 1 || !strings.HasSuffix(line, "\n") || strings.Contains(line, "\r") {
			t.Errorf("%s: the server read %q", name, line)
			continue
		}
		var got struct {
			Method string
			Params struct {
				Name      string
				Arguments json.RawMessage
			}
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Errorf("%s: %v in %q", name, err, line)
			continue
		}
		// Every token is unchanged. Only the space between tokens may differ.
		var gotArgs, wantArgs bytes.Buffer
		if err := json.Compact(&gotArgs, got.Params.Arguments); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := json.Compact(&wantArgs, []byte(args)); err != nil {
			t.Fatal(err)
		}
		if got.Method != "tools/call" || got.Params.Name != "raw" || gotArgs.String() != wantArgs.String() {
			t.Errorf("%s: the server got %s %s %s, want %s", name, got.Method, got.Params.Name, &gotArgs, &wantArgs)
		}
	}

	// The controller refuses anything but one JSON object.
	for name, body := range map[string]string{
		"two values":          `{"tool_name":"raw","tool_args":{}}` + "\n" + forged,
		"half a value":        `{"tool_name":"raw","tool_args":{"a":`,
		"raw newline":         "{\"tool_name\":\"raw\",\"tool_args\":{\"text\":\"a\nb\"}}",
		"no UTF-8":            "{\"tool_name\":\"raw\",\"tool_args\":{\"text\":\"\xff\xfe\"}}",
		"a closing too many":  `{"tool_name":"raw","tool_args":{}}}`,
		"list":                `{"tool_name":"raw","tool_args":[]}`,
		"name with a newline": "{\"tool_name\":\"raw\n\",\"tool_args\":{}}",
	} {
		status, answer := post(t, "http://"+c.Controller.Addr.HTTP+"/demo/call", body)
		var e struct{ Detail, Code string }
		if err := json.Unmarshal(answer, &e); err != nil || status != http.StatusBadRequest || e.Code != "bad_request" || e.Detail == "" {
			t.Errorf("%s: answer %d %s", name, status, answer)
		}
	}

	// The server reports which messages it got.
	var seen map[string]int
	if err := json.Unmarshal([]byte(c.MustText("demo", "seen", `{}`)), &seen); err != nil {
		t.Fatal(err)
	}
	delete(seen, "ping") // their number depends on timing
	delete(seen, "server/discover")
	want := map[string]int{"initialize": 1, "notifications/initialized": 1, "tools/list": 1, "tools/call": 13, "tool raw": 12, "tool seen": 1}
	if !maps.Equal(seen, want) {
		t.Errorf("the server saw %v, want %v", seen, want)
	}
	harness.Eventually(t, patience, func() error { // the next report has it
		if r := c.ReplicasOf("demo", "READY"); len(r) != 1 || r[0].TotalCalls != 13 {
			return fmt.Errorf("replicas after 13 calls: %+v", r)
		}
		return nil
	})

	// A server that writes noise around its answers is still understood.
	if got := c.MustText("demo", "noise", `{}`); got != "in spite of all" {
		t.Errorf("noise returned %q", got)
	}
	if s := c.Server("demo"); s.Restarts != 0 || len(s.LastEnded) != 0 {
		t.Errorf("noise cost replicas: %+v", s)
	}
}

// Invalid requests get errors that name the problem.
func TestErrorsOfRequests(t *testing.T) {
	c := NewCluster(t, "process")
	c.Fleet(`servers: { demo: { command: [%q], default_tool: echo } }`, program("testserver"))
	c.Start(1)
	base := "http://" + c.Controller.Addr.HTTP

	if status, b := post(t, base+"/call", `{"tool_name":"echo"}`); status != 400 || !bytes.HasPrefix(b, []byte(`{"detail":"must include 'tool_args'"`)) {
		t.Errorf("no tool_args: %d %s", status, b)
	}
	if status, b := post(t, base+"/call", `{"tool_args":{"text":"by default"}}`); status != 200 || string(b) != `{"result":{"content":[{"type":"text","text":"by default"}]}}` {
		t.Errorf("default tool: %d %s", status, b)
	}
	_, err := c.Text("demo", "ecko", `{}`)
	if e := wantError(t, err, 404, "unknown_tool"); !strings.Contains(e.Detail, "echo") {
		t.Errorf("no nearest name in %q", e.Detail)
	}
	_, err = c.Text("dmeo", "echo", `{}`)
	if e := wantError(t, err, 404, "unknown_server"); !strings.Contains(e.Detail, "demo") {
		t.Errorf("no nearest name in %q", e.Detail)
	}
	_, err = c.Text("demo", "echo", `{}`)
	if e := wantError(t, err, 500, "tool_error"); e.Detail != "Tool execution error" || !strings.Contains(string(e.RPC), `"data":{"field":"text"}`) {
		t.Errorf("error of the server: %+v", e)
	}
	resp, err := http.Get(base + "/call")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 405 || !slices.Contains(resp.Header.Values("Allow"), "POST") {
		t.Errorf("GET /call: %s, Allow %q", resp.Status, resp.Header.Values("Allow"))
	}
	resp, err = http.Post(base+"/call", "text/plain", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 415 {
		t.Errorf("text/plain: %s", resp.Status)
	}
	// The body is refused by its Content-Length, before a byte of it is sent.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/call", io.LimitReader(neverending{}, 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = 1 << 40
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Expect", "100-continue")
	if resp, err = http.DefaultTransport.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("a terabyte: %s", resp.Status)
	}
}

type neverending struct{}

func (neverending) Read(b []byte) (int, error) { return len(b), nil }

// post sends JSON and returns the answer.
func post(t testing.TB, url, body string) (int, []byte) {
	t.Helper()
	return postWith(t, url, body, "Accept", "application/json")
}

func postWith(t testing.TB, url, body, header, value string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(header, value)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}
