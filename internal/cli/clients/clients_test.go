package clients

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/tailscale/hujson"
)

var demo = Server{Name: "fleet", URL: "http://127.0.0.1:8000/mcp", Command: []string{"/opt/mcpfleet", "connect", "--address", "http://127.0.0.1:8000"}}

func TestSnippets(t *testing.T) {
	const command = "\"command\": \"/opt/mcpfleet\",\n      \"args\": [\n        \"connect\",\n        \"--address\",\n        \"http://127.0.0.1:8000\"\n      ]"
	for name, want := range map[string]struct{ http, stdio string }{
		"claude-code":    {`{"mcpServers":{"fleet":{"type":"http","url":"http://127.0.0.1:8000/mcp"}}}`, ""},
		"claude-desktop": {"", ""},
		"cursor":         {`{"mcpServers":{"fleet":{"url":"http://127.0.0.1:8000/mcp"}}}`, ""},
		"gemini-cli":     {`{"mcpServers":{"fleet":{"httpUrl":"http://127.0.0.1:8000/mcp"}}}`, ""},
		"vscode":         {`{"servers":{"fleet":{"type":"http","url":"http://127.0.0.1:8000/mcp"}}}`, ""},
		"windsurf":       {`{"mcpServers":{"fleet":{"serverUrl":"http://127.0.0.1:8000/mcp"}}}`, ""},
		"zed":            {`{"context_servers":{"fleet":{"url":"http://127.0.0.1:8000/mcp"}}}`, ""},
		"codex":          {"[mcp_servers.fleet]\nurl = \"http://127.0.0.1:8000/mcp\"\n", "[mcp_servers.fleet]\ncommand = \"/opt/mcpfleet\"\nargs = [\"connect\", \"--address\", \"http://127.0.0.1:8000\"]\n"},
	} {
		c, ok := Find(name)
		if !ok {
			t.Fatalf("%s is unknown", name)
		}
		stdio := demo
		stdio.Stdio = true
		http, command2 := c.Snippet(demo), c.Snippet(stdio)
		if c.Format() == "toml" {
			if http != want.http || command2 != want.stdio {
				t.Errorf("%s: got\n%s\n%s", name, http, command2)
			}
			continue
		}
		if got := compacted(t, http); want.http != "" && got != want.http {
			t.Errorf("%s: got %s, want %s", name, got, want.http)
		}
		if !strings.Contains(command2, command) || strings.Contains(command2, "8000/mcp") {
			t.Errorf("%s: got %s", name, command2)
		}
		if !c.HTTP() && http != command2 {
			t.Errorf("%s: got %s", name, http)
		}
	}
	if n := len(Names()); n != 8 {
		t.Errorf("%d clients", n)
	}
	if got := compacted(t, Generic.Snippet(demo)); got != `{"mcpServers":{"fleet":{"type":"http","url":"http://127.0.0.1:8000/mcp"}}}` {
		t.Errorf("got %s", got)
	}
}

func compacted(t *testing.T, text string) string {
	t.Helper()
	b, err := hujson.Minimize([]byte(text))
	if err != nil || !json.Valid([]byte(text)) && !strings.Contains(text, "//") {
		t.Errorf("%v in\n%s", err, text)
	}
	return string(b)
}

func TestFiles(t *testing.T) {
	vars := map[string]string{}
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	for _, tt := range []struct{ client, os, env, value, want string }{
		{client: "claude-code", os: "linux", want: "/h/.claude.json"},
		{client: "claude-code", os: "linux", env: "CLAUDE_CONFIG_DIR", value: "/c", want: "/c/.claude.json"},
		{client: "claude-desktop", os: "darwin", want: "/h/Library/Application Support/Claude/claude_desktop_config.json"},
		{client: "claude-desktop", os: "windows", env: "APPDATA", value: "/a", want: "/a/Claude/claude_desktop_config.json"},
		{client: "vscode", os: "linux", want: "/h/.config/Code/User/mcp.json"},
		{client: "vscode", os: "linux", env: "XDG_CONFIG_HOME", value: "/x", want: "/x/Code/User/mcp.json"},
		{client: "vscode", os: "linux", env: "XDG_CONFIG_HOME", value: "relative", want: "/h/.config/Code/User/mcp.json"},
		{client: "vscode", os: "darwin", want: "/h/Library/Application Support/Code/User/mcp.json"},
		{client: "vscode", os: "windows", want: "/h/AppData/Roaming/Code/User/mcp.json"},
		{client: "cursor", os: "linux", want: "/h/.cursor/mcp.json"},
		{client: "windsurf", os: "darwin", want: "/h/.codeium/windsurf/mcp_config.json"},
		{client: "zed", os: "darwin", want: "/h/.config/zed/settings.json"},
		{client: "zed", os: "windows", env: "APPDATA", value: "/a", want: "/a/Zed/settings.json"},
		{client: "codex", os: "linux", want: "/h/.codex/config.toml"},
		{client: "codex", os: "linux", env: "CODEX_HOME", value: "/c", want: "/c/config.toml"},
		{client: "gemini-cli", os: "linux", want: "/h/.gemini/settings.json"},
	} {
		clear(vars)
		vars[tt.env] = tt.value
		c, _ := Find(tt.client)
		if got := c.File(Place{OS: tt.os, Home: "/h", Lookup: lookup}); got != tt.want {
			t.Errorf("%s on %s: got %s, want %s", tt.client, tt.os, got, tt.want)
		}
	}
}

func TestAddJSON(t *testing.T) {
	const entry = "{\n      \"url\": \"http://127.0.0.1:8000/mcp\"\n    }"
	for _, tt := range []struct{ name, in, want string }{
		{"an empty file", " \n", "{\n  \"mcpServers\": {\n    \"fleet\": " + entry + "\n  }\n}\n"},
		{"an empty object", "{}", "{\n  \"mcpServers\": {\n    \"fleet\": " + entry + "\n  }\n}"},
		{"other keys", "{\n  \"a\": 1,\n  \"b\": [ 1,2 ]\n}\n", "{\n  \"a\": 1,\n  \"b\": [ 1,2 ],\n  \"mcpServers\": {\n    \"fleet\": " + entry + "\n  }\n}\n"},
		{"other servers", "{\n  \"mcpServers\": {\n    \"x\": {\"command\": \"y\"}\n  },\n  \"n\": 1e400\n}\n",
			"{\n  \"mcpServers\": {\n    \"x\": {\"command\": \"y\"},\n    \"fleet\": " + entry + "\n  },\n  \"n\": 1e400\n}\n"},
		{"no servers", "{\n  \"mcpServers\": {}\n}\n", "{\n  \"mcpServers\": {\n    \"fleet\": " + entry + "\n  }\n}\n"},
		{"one line", `{"a": 1}`, `{"a": 1, "mcpServers": { "fleet": { "url": "http://127.0.0.1:8000/mcp" } }}`},
		{"one line for the servers", "{\n  \"mcpServers\": {\"a\": {}}\n}", "{\n  \"mcpServers\": {\"a\": {}, \"fleet\": { \"url\": \"http://127.0.0.1:8000/mcp\" }}\n}"},
		{"tabs", "{\n\t\"a\": 1\n}", "{\n\t\"a\": 1,\n\t\"mcpServers\": {\n\t\t\"fleet\": {\n\t\t\t\"url\": \"http://127.0.0.1:8000/mcp\"\n\t\t}\n\t}\n}"},
		{"line ends of Windows", "{\r\n  \"a\": 1\r\n}\r\n", "{\r\n  \"a\": 1,\r\n  \"mcpServers\": {\r\n    \"fleet\": {\r\n      \"url\": \"http://127.0.0.1:8000/mcp\"\r\n    }\r\n  }\r\n}\r\n"},
		{"a byte order mark", "\ufeff{\n  \"a\": 1\n}", "\ufeff{\n  \"a\": 1,\n  \"mcpServers\": {\n    \"fleet\": " + entry + "\n  }\n}"},
		{"comments", "// top, with \"quotes\"\n{\n  // one\n  \"a\": 1 // two, \n  /* three */\n}\n// end\n",
			"// top, with \"quotes\"\n{\n  // one\n  \"a\": 1, // two, \n  /* three */\n  \"mcpServers\": {\n    \"fleet\": " + entry + "\n  }\n}\n// end\n"},
		{"a comment alone", "{\n  // nothing\n}", "{\n  // nothing\n  \"mcpServers\": {\n    \"fleet\": " + entry + "\n  }\n}"},
		{"a trailing comma", "{\n  \"a\": 1, // two\n}\n", "{\n  \"a\": 1, // two\n  \"mcpServers\": {\n    \"fleet\": " + entry + "\n  },\n}\n"},
		{"the same entry", "{\"mcpServers\": {\"fleet\":{\"url\" : \"http:\\/\\/127.0.0.1:8000/mcp\"}}}", "{\"mcpServers\": {\"fleet\":{\"url\" : \"http:\\/\\/127.0.0.1:8000/mcp\"}}}"},
		{"an old entry", "{\n  \"mcpServers\": {\n    \"fleet\": {\n      \"url\": \"http://old\", // ours\n      \"headers\": {\"a\": \"b\"}\n    }\n  }\n}",
			"{\n  \"mcpServers\": {\n    \"fleet\": {\n      \"url\": \"http://127.0.0.1:8000/mcp\", // ours\n      \"headers\": {\"a\": \"b\"}\n    }\n  }\n}"},
		{"another way", "{\n  \"mcpServers\": {\n    \"fleet\": {\n      \"command\": \"x\",\n      \"args\": [\n        \"y\"\n      ],\n      \"env\": {}\n    }\n  }\n}",
			"{\n  \"mcpServers\": {\n    \"fleet\": {\n      \"env\": {},\n      \"url\": \"http://127.0.0.1:8000/mcp\"\n    }\n  }\n}"},
		{"another way on one line", `{"mcpServers": {"fleet": {"command": "a,b", "env": {}, "args": []}}}`, `{"mcpServers": {"fleet": {"env": {}, "url": "http://127.0.0.1:8000/mcp"}}}`},
		{"a name twice", "{\"mcpServers\": 1, \"mcpServers\": {\"a\": 1}}", "{\"mcpServers\": 1, \"mcpServers\": {\"a\": 1, \"fleet\": { \"url\": \"http://127.0.0.1:8000/mcp\" }}}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := Find("cursor")
			got, err := c.Add(tt.in, demo)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			again, err := c.Add(got, demo)
			if err != nil || again != got {
				t.Errorf("again: %v\n%s", err, again)
			}
		})
	}
}

func TestAddTOML(t *testing.T) {
	const entry = "[mcp_servers.fleet]\nurl = \"http://127.0.0.1:8000/mcp\"\n"
	for _, tt := range []struct{ name, in, want string }{
		{"an empty file", "", entry},
		{"other keys", "# mine\nmodel = 'x' # why\n[mcp_servers.a]\ncommand = \"b\"", "# mine\nmodel = 'x' # why\n[mcp_servers.a]\ncommand = \"b\"\n\n" + entry},
		{"the same", "a = 1\n" + entry + "# end\n", "a = 1\n" + entry + "# end\n"},
		{"an old entry", "[mcp_servers.\"fleet\"] # ours\n# why\nurl = \"http://old\" # gone\nenabled = true\n[mcp_servers.fleet.tools]\nurl = 'kept'\n",
			"[mcp_servers.\"fleet\"] # ours\nurl = \"http://127.0.0.1:8000/mcp\"\n# why\nenabled = true\n[mcp_servers.fleet.tools]\nurl = 'kept'\n"},
		{"another way", "[mcp_servers.fleet]\ncommand = \"x\"\nargs = [\n  \"y\", # z\n]\nenv = { A = \"b\" }\n\n[other]\nurl = 1",
			entry + "env = { A = \"b\" }\n\n[other]\nurl = 1"},
		{"only its header", "[mcp_servers.fleet]", entry},
		{"line ends of Windows", "a = 1\r\n", "a = 1\r\n\r\n" + strings.ReplaceAll(entry, "\n", "\r\n")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := Find("codex")
			got, err := c.Add(tt.in, demo)
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			if again, err := c.Add(got, demo); err != nil || again != got {
				t.Errorf("again: %v\n%s", err, again)
			}
		})
	}
}

func TestWhatCannotBeAdded(t *testing.T) {
	for _, tt := range []struct{ client, in, want string }{
		{"cursor", "{\n  \"a\": 1,\n  \"b\" 2\n}", "line 3, column 7: "},
		{"cursor", "{\"a\": 1", "line 1, column "},
		{"cursor", "[]", "line 1, column 1: the file must be an object"},
		{"cursor", "{\n \"mcpServers\": []}", `line 2, column 16: "mcpServers" must be an object`},
		{"cursor", "{\"mcpServers\": {\"fleet\": 5}}", `line 1, column 26: "fleet" must be an object`},
		{"cursor", "{} {}", "line 1, column 4: "},
		{"codex", "a = 1\nb = \n", "line 2, column 5: "},
		{"codex", "a = 1\na = 2\n", "line 2, column 1: "},
		{"codex", "mcp_servers = { a = { url = 'x' } }\n", "by hand:\n\n[mcp_servers.fleet]\n"},
		{"codex", "[mcp_servers]\nfleet = { url = 'x' }\n", "by hand:"},
	} {
		c, _ := Find(tt.client)
		_, err := c.Add(tt.in, demo)
		if _, ok := errors.AsType[*ParseError](err); !ok || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q", tt.in, err, tt.want)
		}
	}
}

// FuzzAdd adds an entry to any file. The other keys must stay, and the entry must be
// there.
func FuzzAdd(f *testing.F) {
	f.Add(`{"a": 1, /* c */ "mcpServers": {"b": {"command": "x",},},}`, false)
	f.Add("{\n // x\n\"mcpServers\":{\"fleet\":{\"url\":5,\"env\":{}}}}", false)
	f.Add("a = 1\n[mcp_servers.fleet]\nargs = [ 1,\n 2]\nx = 1\n", true)
	f.Fuzz(func(t *testing.T, in string, isTOML bool) {
		name := "cursor"
		if isTOML {
			name = "codex"
		}
		c, _ := Find(name)
		out, err := c.Add(in, demo)
		if err != nil {
			return
		}
		if isTOML {
			var values map[string]any
			if err := toml.Unmarshal([]byte(strings.TrimPrefix(out, "\ufeff")), &values); err != nil {
				t.Fatalf("%v in\n%s", err, out)
			}
			return
		}
		was, now := map[string]any{}, map[string]any{}
		std, err := hujson.Standardize([]byte(strings.TrimPrefix(out, "\ufeff")))
		if err != nil || json.Unmarshal(std, &now) != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		if std, err := hujson.Standardize([]byte(strings.TrimPrefix(in, "\ufeff"))); err == nil {
			_ = json.Unmarshal(std, &was)
		}
		for key := range was {
			if _, has := now[key]; !has {
				t.Errorf("%q is lost in\n%s", key, out)
			}
		}
		servers, _ := now["mcpServers"].(map[string]any)
		entry, _ := servers["fleet"].(map[string]any)
		if entry["url"] != demo.URL || entry["command"] != nil || entry["args"] != nil {
			t.Errorf("no entry in\n%s\nwas\n%s", out, in)
		}
	})
}
