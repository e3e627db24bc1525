package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const fleetAt = "http://127.0.0.1:8000"

func TestMCPConfig(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	for _, tt := range []struct {
		name, at, args string
		code           int
		out, err       string
	}{
		{name: "most clients", args: "mcp-config", out: "{\n  \"mcpServers\": {\n    \"mcpfleet\": {\n      \"type\": \"http\",\n      \"url\": \"http://127.0.0.1:8000/mcp\"\n    }\n  }\n}\n"},
		{name: "a server", args: "mcp-config --client cursor --server demo", out: "{\n  \"mcpServers\": {\n    \"demo\": {\n      \"url\": \"http://127.0.0.1:8000/demo/mcp\"\n    }\n  }\n}\n",
			err: "mcpfleet: the file of Cursor is /home/me/.cursor/mcp.json; --write adds this to it\nmcpfleet: for one project, --file .cursor/mcp.json\n"},
		{name: "a gateway under another name", args: "mcp-config --client codex --gateway g1 --as tools", out: "[mcp_servers.tools]\nurl = \"http://127.0.0.1:8000/g/g1/mcp\"\n",
			err: "mcpfleet: the file of Codex is /home/me/.codex/config.toml; --write adds this to it\n"},
		{name: "over stdio", at: "http://127.0.0.1:8000,other:8000", args: "mcp-config --client codex --server demo --stdio",
			out: "[mcp_servers.demo]\ncommand = \"mcpfleet\"\nargs = [\"connect\", \"demo\", \"--address\", \"http://127.0.0.1:8000,http://other:8000\"]\n", err: "config.toml"},
		{name: "one of several controllers", at: "http://127.0.0.1:8000,other:8000", args: "mcp-config --client codex", out: "[mcp_servers.mcpfleet]\nurl = \"http://127.0.0.1:8000/mcp\"\n",
			err: "Codex connects to http://127.0.0.1:8000 only; with --stdio"},
		{name: "in JSON", args: "mcp-config --client codex -o json", out: "{\n  \"client\": \"codex\",\n  \"file\": \"/home/me/.codex/config.toml\",\n  \"format\": \"toml\",\n  \"config\": \"[mcp_servers.mcpfleet]\\nurl = \\\"http://127.0.0.1:8000/mcp\\\"\\n\"\n}\n"},
		{name: "an unknown client", args: "mcp-config --client vs-code", code: 2, err: `--client must be one of claude-code, claude-desktop, codex, cursor, gemini-cli, vscode, windsurf, zed, not "vs-code"; did you mean "vscode"?`},
		{name: "writing without a client", args: "mcp-config --write", code: 2, err: "--write needs --client"},
		{name: "yes to nothing", args: "mcp-config --client zed --yes --file x", code: 2, err: "--yes goes with --write"},
		{name: "a server and a gateway", args: "mcp-config --server a --gateway b", code: 2, err: "pass a server or --gateway, not both"},
		{name: "no name", args: "mcp-config --server a/b", code: 2, err: `SERVER must be a name in lower case, such as my-server, not "a/b"`},
		{name: "connect to both", args: "connect a --gateway b", code: 2, err: "pass a server or --gateway, not both"},
		{name: "connect with a bad level", args: "connect --log-level loud", code: 2, err: "--log-level: must be debug, info, warn or error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := tt.at
			if at == "" {
				at = fleetAt
			}
			execute(t, at, "", strings.Fields(tt.args)...).wants(t, tt.code, tt.out, tt.err)
		})
	}
}

func TestMCPConfigWrites(t *testing.T) {
	const before = "{\n  // mine\n  \"theme\": \"dark\"\n}\n"
	const after = "{\n  // mine\n  \"theme\": \"dark\",\n  \"context_servers\": {\n    \"mcpfleet\": {\n      \"url\": \"http://127.0.0.1:8000/mcp\"\n    }\n  }\n}\n"
	const diff = "@@ -1,4 +1,9 @@\n {\n   // mine\n-  \"theme\": \"dark\"\n+  \"theme\": \"dark\",\n+  \"context_servers\": {\n"
	home := t.TempDir()
	t.Setenv("HOME", home)
	dotfiles, file := filepath.Join(home, "dotfiles"), filepath.Join(home, ".config", "zed", "settings.json")
	real := filepath.Join(dotfiles, "zed.json")
	for _, dir := range []string{dotfiles, filepath.Dir(file)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(real, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, file); err != nil {
		t.Fatal(err)
	}
	write := []string{"mcp-config", "--client", "zed", "--write"}

	r := execute(t, fleetAt, "n\n", write...)
	if r.code != 1 || !strings.Contains(r.out, diff) || !strings.Contains(r.stderr, "write "+real+"? [y/N]") || content(t, real) != before {
		t.Errorf("refused: %+v", r)
	}
	if r := execute(t, fleetAt, "", write...); r.code != 1 || !strings.Contains(r.err.Error(), "pass --yes") {
		t.Errorf("without an answer: %+v", r)
	}
	r = execute(t, fleetAt, "y\n", write...)
	if r.code != 0 || !strings.Contains(r.out, diff) || content(t, real) != after {
		t.Errorf("accepted: %+v\n%s", r, content(t, real))
	}
	if info, err := os.Lstat(file); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
	backups, _ := filepath.Glob(real + ".*.bak")
	if len(backups) != 1 || content(t, backups[0]) != before || !strings.Contains(r.out, "the old file is "+backups[0]) {
		t.Errorf("backups %q; %s", backups, r.out)
	}
	for _, path := range append(backups, real) {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	execute(t, fleetAt, "", write...).wants(t, 0, "nothing to change in "+real+"\n", "")
	t.Run("a file that cannot be parsed", func(t *testing.T) {
		broken := "{\n  \"a\" 1\n}\n"
		if err := os.WriteFile(real, []byte(broken), 0o640); err != nil {
			t.Fatal(err)
		}
		execute(t, fleetAt, "", append(write, "--yes")...).wants(t, 1, "", real+" was not changed: line 2, column 7: ")
		if content(t, real) != broken {
			t.Error("it was changed")
		}
	})
	t.Run("no file yet", func(t *testing.T) {
		r := execute(t, fleetAt, "", "mcp-config", "--client", "codex", "--write", "--yes", "-o", "json", "--server", "demo")
		path := filepath.Join(home, ".codex", "config.toml")
		r.wants(t, 0, "{\n  \"client\": \"codex\",\n  \"file\": \""+path+"\",\n  \"format\": \"toml\",\n  \"changed\": true\n}\n", "+[mcp_servers.demo]")
		if got := content(t, path); got != "[mcp_servers.demo]\nurl = \"http://127.0.0.1:8000/demo/mcp\"\n" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("the file of a project", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), ".mcp.json")
		execute(t, fleetAt, "", "mcp-config", "--client", "claude-code", "--write", "-y", "--file", path)
		if got := content(t, path); !strings.Contains(got, `"url": "http://127.0.0.1:8000/mcp"`) {
			t.Errorf("got %s", got)
		}
	})
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
