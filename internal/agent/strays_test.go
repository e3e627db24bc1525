package agent

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

const httpMode = "seems to have started its HTTP mode; look for a flag such as --stdio, `--transport stdio`, TRANSPORT=stdio"

func TestStdoutHint(t *testing.T) {
	line := func(texts ...string) (all []stdio.Stray) {
		for _, text := range texts {
			all = append(all, stdio.Stray{Kind: stdio.StrayLine, Text: text})
		}
		return all
	}
	answer := func(id string) stdio.Stray { return stdio.Stray{Kind: stdio.StrayAnswer, ID: id, Text: "{...}"} }
	for _, tc := range []struct {
		name   string
		stdout []stdio.Stray
		stderr string
		silent bool
		want   string // a part; "" for no hint
	}{
		{name: "nothing"},
		{name: "uvicorn", stdout: line("INFO:     Uvicorn running on http://0.0.0.0:8000 (Press CTRL+C to quit)"), want: httpMode},
		{name: "express", stdout: line("", "MCP server listening on port 3000"), want: httpMode},
		{name: "a bare banner", stdout: line("Server listening"), want: httpMode},
		{name: "an address", stdout: line("listening at :8080"), want: httpMode},
		{name: "sse", stdout: line("Starting SSE server..."), want: httpMode},
		{name: "streamable http", stdout: line("Streamable HTTP transport enabled"), want: httpMode},
		{name: "on stderr, and silent", stderr: "Server running on http://localhost:3001/mcp", silent: true, want: httpMode},
		{name: "on stderr, but it answers", stderr: "Server running on http://localhost:3001/mcp"},
		{name: "a bare banner on stderr", stderr: "Server started", silent: true},
		{name: "stdio mode", stdout: line("MCP server running on stdio"), stderr: "GitHub MCP Server running on stdio", silent: true},
		{name: "another port", stderr: "connected to database at localhost:5432", silent: true},
		{name: "content length", stdout: line("Content-Length: 123", ""), want: "Content-Length"},
		{name: "pretty-printed", stdout: line("{", `  "jsonrpc": "2.0",`, `  "id": 1,`), want: "over several lines"},
		{name: "a wrong id", stdout: []stdio.Stray{answer("0"), answer(`"abc"`)}, want: `requests that were never sent, id 0, "abc"`},
		{name: "no id", stdout: []stdio.Stray{answer("")}, want: "never sent, id none"},
		{name: "an echo", stdout: []stdio.Stray{{Kind: stdio.StrayEcho}, answer("1")}, want: "repeats what it is sent"},
		{name: "words", stdout: line("Welcome", "loading config")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := stdoutHint(tc.stdout, []string{tc.stderr}, tc.silent, false)
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	if got := stdoutHint(line("Server listening"), nil, true, true); got != "the image "+httpMode {
		t.Errorf("for an image: %q", got)
	}
}

// says is a server that reads its first request, writes lines to stdout, and
// then is silent.
func says(lines ...string) agenttest.Server {
	return func(ctx context.Context, s *agenttest.Stdio) int {
		in := bufio.NewReader(s.In)
		if _, err := in.ReadString('\n'); err != nil {
			return 1
		}
		for _, line := range lines {
			fmt.Fprintln(s.Out, line)
		}
		_, _ = io.Copy(io.Discard, in)
		return 0
	}
}

func (r *rig) logs(id fleet.ReplicaID) (texts []string) {
	r.t.Helper()
	err := r.Logs(r.t.Context(), id, 0, false, func(lines []fleet.LogLine) error {
		for _, l := range lines {
			texts = append(texts, l.Text)
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return texts
}

// The reason quotes stdout, after the cause, and so do the logs.
func TestWrongStdoutIsShown(t *testing.T) {
	const wrongID = `{"jsonrpc":"2.0","id":99,"result":{"protocolVersion":"2025-06-18"}}`
	for _, tc := range []struct {
		name   string
		server agenttest.Server
		starts string // of the reason
		reason []string
		logs   []string
	}{
		{"http", says("> demo@1.0.0 start", "Listening on http://0.0.0.0:3000/mcp"), "the server " + httpMode,
			[]string{"2 lines that are not JSON-RPC: > demo@1.0.0 start | Listening on http://0.0.0.0:3000/mcp; not ready within 20s"},
			[]string{"stdout: > demo@1.0.0 start", "stdout: Listening on http://0.0.0.0:3000/mcp"}},
		{"frames", says("Content-Length: 99\r", "\r", `{"jsonrpc":"2.0"`), "it frames messages with Content-Length",
			[]string{"Content-Length: 99"}, []string{"stdout: Content-Length: 99", `stdout: {"jsonrpc":"2.0"`}},
		{"pretty", says("{", `  "jsonrpc": "2.0",`, `  "id": 1,`, `  "result": {}`, "}"), "it prints its JSON over several lines",
			[]string{`5 lines that are not JSON-RPC: { | "jsonrpc": "2.0", | "id": 1,`}, []string{"stdout: {"}},
		{"wrong id", says(wrongID), "its answers name requests that were never sent, id 99",
			[]string{"on its stdout: " + wrongID + "; not ready"}, []string{"stdout: an answer to no request: " + wrongID}},
		{"no version", says(`{"id":1,"result":{}}`), "on its stdout: {",
			[]string{`"jsonrpc" is not "2.0"`}, []string{`stdout: a malformed answer: {"id":1,"result":{}}`}},
		{"words", says(strings.Repeat("long ", 1000)), "on its stdout, 1 line that is not JSON-RPC: long long",
			[]string{"long ...; not ready within 20s"}, []string{"stdout: " + strings.Repeat("long ", 100) + "..."}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				r := newRig(t, agenttest.New(), nil)
				r.rt.Handle("a", tc.server)
				r.start("a", legacy)
				got := r.until("a", fleet.PhaseFailed)
				if !strings.HasPrefix(got.Reason, tc.starts) {
					t.Errorf("the reason is %q, which does not begin with %q", got.Reason, tc.starts)
				}
				contains(t, got.Reason, tc.reason...)
				if len(got.Reason) > 1500 {
					t.Errorf("the reason has %d bytes", len(got.Reason))
				}
				contains(t, strings.Join(r.logs("a"), "\n"), tc.logs...)
				contains(t, strings.Join(got.Log, "\n"), tc.logs...)
			})
		})
	}
}

// A server that chatters on stdout fills neither its log nor ours.
func TestOnlyTheFirstStraysAreShown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		for i := range 100 {
			r.call("a", "noise", fmt.Sprintf(`{"text":"n%d"}`, i)).text(t)
		}
		if n := len(r.logs("a")); n != 20 {
			t.Errorf("%d lines in the log", n)
		}
	})
}
