package fleetfile

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// The files of clients. Servers that can run are served, whatever else the file
// contains, and each key that means nothing here is reported once.
func TestFilesOfClients(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{".vscode", "here"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(".env", "# comment\nexport A=from file\nB=\"two\\nlines\" \nC=3 # three\nD='#4'\n\nTOKEN=never\n=x\n")
	write("run.env", "# comment\nA=\"as it is\" # and this\nKEY\nUNSET\nB=file\n")
	tests := []struct {
		name, file, text string
		want             func(t *testing.T, f *File)
		warnings         []string // without the file's name
	}{
		{
			"VS Code", ".vscode/mcp.json", `{
				// written by hand
				"inputs": [{"type": "promptString", "id": "key", "password": true}, {"type": "pickString", "id": "level", "default": "info"}],
				"servers": {
					"Local Files": {"type": "stdio", "command": "npx", "args": ["-y", "x", "${workspaceFolder}", "${workspaceFolderBasename}", "${userHome}/a", "${input:level}"],
						"envFile": "${workspaceFolder}/.env", "env": {"TOKEN": "${env:KEY}"}, "dev": {"watch": "**/*.js"}, "sandboxEnabled": true},
					"asks": {"type": "stdio", "command": "x", "env": {"K": "${input:key}"}},
					"web": {"type": "http", "url": "https://example.com/mcp", "headers": {"A": "b"}},
				},
				"sandbox": {"filesystem": {}},
			}`,
			func(t *testing.T, f *File) {
				s := f.Servers["local-files"]
				if want := []string{"-y", "x", dir, filepath.Base(dir), "/home/u/a", "info"}; !slices.Equal(s.Args, want) {
					t.Errorf("args %q, want %q", s.Args, want)
				}
				if want := map[string]string{"TOKEN": "s3cret", "A": "from file", "B": "two\nlines", "C": "3", "D": "#4"}; !reflect.DeepEqual(s.Env, want) {
					t.Errorf("env %q, want %q", s.Env, want)
				}
				if !slices.Equal(f.Broken, []fleet.ServerName{"asks"}) {
					t.Errorf("broken: %v", f.Broken)
				}
			},
			[]string{
				"remote servers are left out, since mcpfleet runs stdio servers: web",
				"keys that mean nothing here are ignored: dev (Local Files), sandboxEnabled (Local Files)",
				`names that are not DNS labels are changed: "Local Files" is served as local-files`,
				`7:61: servers.asks: this server is left out: env.K: ${input:key} asks the user of an editor, and there is no editor here: use an environment variable instead`,
			},
		},
		{
			"VS Code without types", "mcp.json", `{"inputs": [], "servers": {"a": {"command": "/opt/my app/x", "gallery": true}, "b": {"url": "http://x"}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "a") },
			[]string{"remote servers are left out, since mcpfleet runs stdio servers: b", "keys that mean nothing here are ignored: gallery (a)"},
		},
		{
			"the bridge to a fleet", "claude_desktop_config.json", `{"mcpServers": {"a": {"command": "x"}, "fleet": {"command": "C:\\bin\\mcpfleet.exe", "args": ["connect", "demo"]}, "other": {"command": "/bin/mcpfleet", "args": ["status"]}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "a", "other") },
			[]string{"remote servers are left out, since mcpfleet runs stdio servers: fleet"},
		},
		{
			"VS Code, known by its place alone", ".vscode/mcp.json", `{"servers": {"My Server": {"command": "npx", "args": ["-y", "x"], "something": 1}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "my-server") },
			[]string{"keys that mean nothing here are ignored: something (My Server)", `names that are not DNS labels are changed: "My Server" is served as my-server`},
		},
		{
			"VS Code, a user's own", "mcp.json", `{"servers": {"GitHub": {"command": "docker", "args": ["run", "-i", "mcp/x"]}, "web": {"url": "http://x"}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "github") },
			[]string{"remote servers are left out, since mcpfleet runs stdio servers: web", `names that are not DNS labels are changed: "GitHub" is served as github`},
		},
		{
			"VS Code, known by its variables", "some.json", `{"servers": {"A b": {"command": "x", "args": ["a$$b", "${userHome}"]}, "c": {"command": "x", "env": {"K": "${env:KEY}"}}}}`,
			func(t *testing.T, f *File) {
				if a := f.Servers["a-b"].Args; !slices.Equal(a, []string{"a$$b", "/home/u"}) || f.Servers["c"].Env["K"] != "s3cret" {
					t.Errorf("got %+v", f.Servers)
				}
			},
			[]string{`names that are not DNS labels are changed: "A b" is served as a-b`},
		},
		{
			"VS Code's settings", "settings.json", `{"editor.fontSize": 12, "mcp": {"inputs": [{"id": "i", "default": 7}], "servers": {"a": {"command": "x", "args": ["${input:i}"]}}}}`,
			func(t *testing.T, f *File) {
				if got := f.Servers["a"].Args; !slices.Equal(got, []string{"7"}) {
					t.Errorf("args %q", got)
				}
			}, nil,
		},
		{
			"VS Code's settings without inputs", "settings.json", `{"mcp": {"servers": {"a": {"command": "x"}}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "a") }, nil,
		},
		{
			"a mistyped key of ours at the top", "claude.json", `{"globalShortcut": "x", "defaultServer": "a", "mcpServers": {"a": {"command": "x"}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "a") },
			[]string{"keys that mean nothing here are ignored: defaultServer, did you mean default_server? (at the top)"},
		},
		{
			"VS Code's inputs without a value", "mcp.json", `{"inputs": null, "servers": {"a": {"type": "stdio", "command": "x"}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "a") }, nil,
		},
		{
			"Cline", "cline_mcp_settings.json", `{"mcpServers": {
				"a": {"command": "x", "autoApprove": ["t"], "disabled": false, "timeout": 90, "transportType": "stdio"},
				"b": {"command": "x", "disabled": true, "env": {"K": "${NOPE}"}},
				"c": {"command": "x", "autoApprove": [], "timeout": 120000}}}`,
			func(t *testing.T, f *File) {
				wantNames(t, f, "a", "c")
				if a, c := f.Servers["a"].CallTimeout, f.Servers["c"].CallTimeout; a != 90*time.Second || c != 2*time.Minute {
					t.Errorf("timeouts %s and %s", a, c)
				}
			},
			[]string{"keys that mean nothing here are ignored: autoApprove (a)"},
		},
		{
			"Roo", "mcp_settings.json", `{"mcpServers": {"a": {"command": "x", "alwaysAllow": ["t"], "watchPaths": ["/x"], "disabledTools": ["t", "u", "t"], "timeout": 3600}}}`,
			func(t *testing.T, f *File) {
				if s := f.Servers["a"]; !slices.Equal(s.DisabledTools, []string{"t", "u"}) || s.CallTimeout != time.Hour || s.MaxCallDuration != time.Hour {
					t.Errorf("got %+v", s)
				}
			},
			[]string{"keys that mean nothing here are ignored: alwaysAllow (a), watchPaths (a)"},
		},
		{
			"Copilot CLI", "mcp-config.json", `{"mcpServers": {"a": {"type": "local", "command": "x", "tools": ["*"]}, "b": {"type": "local", "command": "x", "tools": ["t"]}, "c": {"type": "sse", "url": "http://x", "tools": ["*"]}}}`,
			func(t *testing.T, f *File) {
				wantNames(t, f, "a", "b")
				if a, b := f.Servers["a"].EnabledTools, f.Servers["b"].EnabledTools; a != nil || !slices.Equal(b, []string{"t"}) {
					t.Errorf("tools %q and %q", a, b)
				}
			},
			[]string{"remote servers are left out, since mcpfleet runs stdio servers: c"},
		},
		{
			"Cherry Studio", "cherry.json", `{"mcpServers": {
				"k3-x": {"name": "高德地图", "type": "stdio", "description": "d", "isActive": true, "baseUrl": "", "command": "npx", "args": ["-y", "x"], "registryUrl": "", "logoUrl": "l", "longRunning": true},
				"off": {"isActive": false, "command": "x"}, "web": {"isActive": true, "type": "streamableHttp", "baseUrl": "http://x", "command": "", "args": []}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "k3-x") },
			[]string{
				"remote servers are left out, since mcpfleet runs stdio servers: web",
				"keys that mean nothing here are ignored: name (k3-x), description (k3-x), logoUrl (k3-x), longRunning (k3-x)",
			},
		},
		{
			"gemini-cli", "settings.json", `{"theme": "x", "mcpServers": {"a": {"command": "x", "cwd": "./sub", "timeout": 600000, "trust": true, "includeTools": ["t", "u(1)"], "excludeTools": ["u"]},
				"b": {"httpUrl": "http://x", "headers": {}}}}`,
			func(t *testing.T, f *File) {
				s := f.Servers["a"]
				if s.Cwd != filepath.Join(dir, "sub") || s.CallTimeout != 10*time.Minute || !slices.Equal(s.EnabledTools, []string{"t", "u"}) || !slices.Equal(s.DisabledTools, []string{"u"}) {
					t.Errorf("got %+v", s)
				}
			},
			[]string{"remote servers are left out, since mcpfleet runs stdio servers: b", "keys that mean nothing here are ignored: trust (a)"},
		},
		{
			"Claude Code, which keeps some for single projects", ".claude.json", `{"mcpServers": {"a": {"type": "stdio", "command": "x"}},
				"projects": {"/p": {"mcpServers": {"b": {"command": "x"}, "c": {}}}, "/q": {"mcpServers": {"b": {}}}, "/r": {"mcpServers": {}}, "/s": {}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "a") },
			[]string{"servers under projects are left out: b, c; only those of mcpServers at the top are taken"},
		},
		{
			"a directory that docker would make", "mcp.json", `{"mcpServers": {"a": {"command": "docker", "args": ["run", "-v", "./here:/h", "-v", "./nowhere:/n", "-v", "vol:/v", "--pids-limit", "0", "img"]},
				"b": {"command": "docker", "args": ["run", "-v", "./nothing:/n", "--privileged", "img"]}}}`,
			func(t *testing.T, f *File) {
				if m := f.Servers["a"].Mounts; len(m) != 3 {
					t.Errorf("mounts %+v", m)
				}
			},
			[]string{
				`these directories do not exist on this machine, and podman does not create them as docker would; create them on the nodes: "./nowhere:/n" (a)`,
				"2:70: mcpServers.b: this server is left out: args[3]: the run option --privileged is not supported",
			},
		},
		{
			"gemini-cli's variables and switches", "settings.json", `{"mcp": {"excluded": ["b"], "allowed": ["a", "b"]}, "mcpServers": {
				"a": {"command": "x", "env": {"A": "$KEY", "B": "${KEY}", "C": "$NOPE", "D": "pa$KEY", "E": "$$KEY", "F": "${DOLLAR}"}},
				"b": {"command": "x"}, "c": {"command": "x"}}}`,
			func(t *testing.T, f *File) {
				wantNames(t, f, "a")
				if want := map[string]string{"A": "s3cret", "B": "s3cret", "C": "$NOPE", "D": "pa$KEY", "E": "$$KEY", "F": "$KEY"}; !reflect.DeepEqual(f.Servers["a"].Env, want) {
					t.Errorf("env %q, want %q", f.Servers["a"].Env, want)
				}
			},
			[]string{"2:68: mcpServers.a.env.C: looks like a variable that the environment does not have; it is taken as it is"},
		},
		{
			"fastmcp", "mcp.json", `{"mcpServers": {"a": {"transport": "stdio", "command": "x", "description": "d", "icon": "i", "authentication": {"b": 1}, "keep_alive": true, "tools": {"t": {"name": "u"}}},
				"b": {"transport": "streamable-http", "url": "http://x", "auth": "oauth"}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "a") },
			[]string{
				"remote servers are left out, since mcpfleet runs stdio servers: b",
				"keys that mean nothing here are ignored: description (a), icon (a), authentication (a), keep_alive (a), tools (a)",
			},
		},
		{
			"Zed", "settings.json", "// Zed settings\n" + `{"theme": "One", "context_servers": {"a": {"source": "custom", "command": "x", "args": [], "env": {}, "enabled": true,},
				"b": {"command": {"path": "y", "args": ["z"], "env": {"A": "b"}}, "settings": {}}, "c": {"enabled": false, "command": "x"}}}`,
			func(t *testing.T, f *File) {
				wantNames(t, f, "a", "b")
				if b := f.Servers["b"]; !slices.Equal(b.Command, []string{"y"}) || !slices.Equal(b.Args, []string{"z"}) || b.Env["A"] != "b" {
					t.Errorf("got %+v", b)
				}
			},
			[]string{"keys that mean nothing here are ignored: source (a)"},
		},
		{
			"a mixed file of Claude Desktop", "claude_desktop_config.json", `{"globalShortcut": "", "mcpServers": {
				"everything": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-everything"], "disabledTools": ["echo"]},
				"notes": {"command": "docker", "args": ["run", "-i", "--rm", "-v", "notes:/data", "mcp/x"]},
				"private": {"command": "docker", "args": ["run", "-i", "--rm", "-v", "/home/me/private:/data:ro", "mcp/x"]},
				"broken": {"command": 7},
				"worse": {"command": "docker", "args": ["run", "--privileged", "x"]},
				"worst": "npx"}}`,
			func(t *testing.T, f *File) {
				wantNames(t, f, "everything", "notes", "private")
				if m := f.Servers["notes"].Mounts; len(m) != 1 || !m[0].IsVolume() || m[0].Source != "notes" {
					t.Errorf("mounts %+v", m)
				}
				if p := f.Servers["private"]; !slices.Contains(p.CapAdd, "DAC_OVERRIDE") || !p.NewPrivileges {
					t.Errorf("has not the rights that docker gives: %+v", p)
				}
				if e := f.Servers["everything"]; len(e.CapAdd) > 0 || e.NewPrivileges || !slices.Equal(e.DisabledTools, []string{"echo"}) {
					t.Errorf("got %+v", e)
				}
				if !slices.Equal(f.Broken, []fleet.ServerName{"broken", "worse", "worst"}) {
					t.Errorf("broken: %v", f.Broken)
				}
			},
			[]string{
				`these directories do not exist on this machine, and podman does not create them as docker would; create them on the nodes: "/home/me/private:/data:ro" (private)`,
				"5:27: mcpServers.broken: this server is left out: command: must be a string, not 7; quote it if a string is meant",
				"6:52: mcpServers.worse: this server is left out: args[1]: the run option --privileged is not supported",
				`7:14: mcpServers.worst: this server is left out: must be a mapping of keys to values, not "npx"`,
			},
		},
		{
			"options of docker run", "mcp.json", `{"mcpServers": {"a": {"command": "docker", "args": ["--context", "x", "container", "run", "-i", "--rm", "--env-file", "run.env", "-e", "UNSET", "-e", "B=b", "-e", "FROM_ENV",
				"--add-host", "db:10.0.0.7", "--add-host=v4=10.0.0.8", "--add-host=v6=[::1]", "-p", "8080:80", "--ipc=private", "--shm-size=1g", "--platform", "linux/amd64", "--tmpfs", "/tmp:size=1m", "--gpus=all", "-h", "box", "--add-host=host.docker.internal:host-gateway", "--dns", "1.1.1.1",
				"--ulimit", "nofile=1024", "--security-opt", "seccomp=unconfined", "--stop-timeout", "5", "--health-cmd", "x",
				"-v", "/a:/a:z", "-v", "/b:/b:ro,Z", "-v", "/c:/c:cached", "-v", "/d:/d:delegated", "-v", "/anonymous", "--mount", "type=volume,src=v,dst=/v,volume-nocopy=true", "--mount", "type=tmpfs,dst=/t",
				"--cap-drop", "NET_RAW", "--cap-add=SYS_PTRACE,net_admin", "img"], "env": {"FROM_ENV": "yes"}}}}`,
			func(t *testing.T, f *File) {
				s := f.Servers["a"]
				if want := map[string]string{"A": `"as it is" # and this`, "KEY": "s3cret", "B": "b", "FROM_ENV": "yes"}; !reflect.DeepEqual(s.Env, want) {
					t.Errorf("env %q, want %q", s.Env, want)
				}
				options := []string{"--add-host=db:10.0.0.7", "--add-host=v4:10.0.0.8", "--add-host=v6:::1", "--ipc=private", "--shm-size=1g", "--tmpfs=/tmp:size=1m", "--hostname=box", "--dns=1.1.1.1", "--ulimit=nofile=1024", "--security-opt=seccomp=unconfined", "--tmpfs=/t"}
				if !slices.Equal(s.RunOptions, options) {
					t.Errorf("options %q, want %q", s.RunOptions, options)
				}
				mounts := []fleet.Mount{
					{Source: "/a", Target: "/a", SELinux: "z"}, {Source: "/b", Target: "/b", ReadOnly: true, SELinux: "Z"},
					{Source: "/c", Target: "/c"}, {Source: "/d", Target: "/d"}, {Source: "v", Target: "/v"},
				}
				if !slices.Equal(s.Mounts, mounts) {
					t.Errorf("mounts %+v, want %+v", s.Mounts, mounts)
				}
				caps := []string{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "SYS_PTRACE"}
				if !slices.Equal(s.CapAdd, caps) {
					t.Errorf("capabilities %q, want %q", s.CapAdd, caps)
				}
			},
			[]string{
				"options of docker run that mean nothing here are ignored: docker --context (a), -p (a), --platform (a), --gpus (a), --add-host NAME:host-gateway, as podman calls the host host.containers.internal (a), -v ...:cached (a), -v ...:delegated (a), -v PATH, a volume without a name (a), --mount volume-nocopy (a)",
				`these directories do not exist on this machine, and podman does not create them as docker would; create them on the nodes: "/a:/a:z" (a), "/b:/b:ro,Z" (a), "/c:/c:cached" (a), "/d:/d:delegated" (a)`,
				"1:136: mcpServers.a.args[9]: neither env nor the environment has a variable UNSET, so the container gets none",
			},
		},
		{
			"options that podman does not take together", "mcp.json", `{"mcpServers": {"a": {"command": "docker", "args": ["run", "--shm-size", "1g", "--ipc=host", "--dns", "1.1.1.1", "--network", "none", "img"]}}}`,
			func(t *testing.T, f *File) {
				if s := f.Servers["a"]; !slices.Equal(s.RunOptions, []string{"--ipc=host"}) {
					t.Errorf("options %q", s.RunOptions)
				}
			},
			[]string{"options of docker run that mean nothing here are ignored: --shm-size (a), --dns (a)"},
		},
		{
			"duplicate keys", "mcp.json", `{"mcpServers": {"a": {"command": "x"}}, "mcpServers": {"a": {"command": "x", "command": "y", "env": {"K": "1", "K": "2"}}, "b": {"command": "x"}, "b": {"command": "z"}}}`,
			func(t *testing.T, f *File) {
				wantNames(t, f, "a", "b")
				if a, b := f.Servers["a"], f.Servers["b"]; a.Command[0] != "y" || a.Env["K"] != "2" || b.Command[0] != "z" {
					t.Errorf("got %+v and %+v", a, b)
				}
			},
			[]string{
				"1:41: mcpServers: duplicate key, first seen in line 1; the last one counts",
				"1:78: mcpServers.a.command: duplicate key, first seen in line 1; the last one counts",
				"1:112: mcpServers.a.env.K: duplicate key, first seen in line 1; the last one counts",
				"1:147: mcpServers.b: duplicate key, first seen in line 1; the last one counts",
			},
		},
		{
			"names in all scripts", "mcp.json", `{"mcpServers": {"天气": {"command": "x"}, "Café Ünïted": {"command": "x"}, "погода": {"command": "x"}, "🚀": {"command": "x"}, "!": {"command": "x"},
				"brave_search": {"command": "x"}, "Brave Search": {"command": "x"}, "BRAVE-search": {"command": "x"}, "brave-search": {"command": "x"}, "mcp": {"command": "x"}}}`,
			func(t *testing.T, f *File) {
				wantNames(t, f, "brave-search", "brave-search-2", "brave-search-3", "brave-search-4", "cafe-united", "mcp-server", "pogoda", "server", "server-2", "tian-qi")
			},
			[]string{`names that are not DNS labels are changed: "天气" is served as tian-qi, "Café Ünïted" is served as cafe-united, "погода" is served as pogoda, "🚀" is served as server, "!" is served as server-2, ` +
				`"brave_search" is served as brave-search-2, "Brave Search" is served as brave-search-3, "BRAVE-search" is served as brave-search-4, "mcp" is served as mcp-server`},
		},
		{
			"a type that nobody knows", "mcp.json", `{"mcpServers": {"a": {"type": "builtin", "command": "x"}, "b": {"type": "inMemory", "name": "@cherry/memory"}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "a") },
			[]string{
				"keys that mean nothing here are ignored: type (a, b), name (b)",
				"1:64: mcpServers.b: this server is left out: needs an image or a command",
			},
		},
		{
			"null for what is not set", "mcp.json", `{"mcpServers": {
				"a": {"type": null, "command": "x", "args": null, "env": {"KEY": null, "B": "b"}, "cwd": null, "envFile": null, "image": null, "url": null, "timeout": null, "tools": null, "disabled": null, "enabled": null, "dev": null},
				"b": {"command": null, "url": "http://x"}, "c": {"command": {"path": "y", "args": null}, "env": null},
				"d": {"command": "docker", "args": ["run", "-i", "-e", "KEY", "mcp/x"], "cwd": null, "user": null, "env": {"KEY": null}}}}`,
			func(t *testing.T, f *File) {
				wantNames(t, f, "a", "c", "d")
				a, plain := f.Servers["a"], mustParse(t, "f.json", `{"mcpServers": {"a": {"command": "x", "env": {"B": "b"}}}}`).Servers["a"]
				if !reflect.DeepEqual(a, plain) {
					t.Errorf("got %+v\nwant %+v", a, plain)
				}
				if got := f.Servers["d"].Env["KEY"]; got != "s3cret" {
					t.Errorf("KEY is %q; docker takes it from its own environment", got)
				}
			},
			[]string{"remote servers are left out, since mcpfleet runs stdio servers: b"},
		},
		{
			"a mistyped key", "mcp.json", `{"mcpServers": {"a": {"command": "x", "arg": ["y"], "replcas": 3}, "b": {"command": "x", "arg": ["y"]}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "a", "b") },
			[]string{"keys that mean nothing here are ignored: arg, did you mean args? (a, b), replcas, did you mean replicas? (a)"},
		},
		{
			"servers that lose changes", "mcp.json", `{"mcpServers": {"a": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-memory@2025.1.1"]}, "b": {"command": "docker", "args": ["run", "mcp/memory:latest"]},
				"c": {"command": "npx", "args": ["@modelcontextprotocol/server-memory"], "max_ongoing_requests": 1}, "d": {"image": "docker.io/mcp/memory@sha256:0123456789abcdef0123456789abcdef"}, "e": {"command": "npx", "args": ["@modelcontextprotocol/server-memory-x"]},
				"f": {"command": "docker", "args": ["run", "-v", "/a:/p:ro", "mcp/filesystem", "/p"]}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "a", "b", "c", "d", "e", "f") },
			[]string{
				`these directories do not exist on this machine, and podman does not create them as docker would; create them on the nodes: "/a:/p:ro" (f)`,
				"these servers lose changes if calls run at once; set max_ongoing_requests: 1 for them: @modelcontextprotocol/server-memory (a), docker.io/mcp/memory (b, d)",
			},
		},
		{
			"a server that loses changes, and is left out", "mcp.json", `{"mcpServers": {"a": {"command": "npx", "args": ["@modelcontextprotocol/server-memory"], "replicas": 0.5}, "b": {"command": "x"},
				"C D": {"command": 7}, "E F": {"command": "x", "disabled": true}, "G H": {"url": "http://x"}}}`,
			func(t *testing.T, f *File) { wantNames(t, f, "b") },
			[]string{
				"remote servers are left out, since mcpfleet runs stdio servers: G H",
				`1:102: mcpServers.a: this server is left out: replicas: must be a whole number, or auto, not "0.5"`,
				"2:24: mcpServers.C D: this server is left out: command: must be a string, not 7; quote it if a string is meant",
			},
		},
		{
			"default server that is left out", "mcp.json", `{"default_server": "b", "mcpServers": {"a": {"command": "x"}, "b": {"command": 7}}}`,
			func(t *testing.T, f *File) {
				if f.DefaultServer != "" {
					t.Errorf("default %q", f.DefaultServer)
				}
			},
			[]string{
				`1:20: default_server: there is no server named "b", or it is left out`,
				"1:80: mcpServers.b: this server is left out: command: must be a string, not 7; quote it if a string is meant",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, tt.file)
			f, err := Parse([]byte("\xef\xbb\xbf"+tt.text), OnDisk(path, lookup))
			if err != nil {
				t.Fatal(err)
			}
			tt.want(t, f)
			var got []string
			for _, w := range f.Warnings {
				text, ok := strings.CutPrefix(w.String(), path+":")
				if !ok {
					t.Errorf("warning without the file: %s", w)
				}
				got = append(got, strings.TrimSpace(text))
			}
			if !slices.Equal(got, tt.warnings) {
				t.Errorf("warnings:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.warnings, "\n"))
			}
		})
	}
}

func wantNames(t *testing.T, f *File, want ...fleet.ServerName) {
	t.Helper()
	if got := f.Names(); !slices.Equal(got, want) {
		t.Errorf("servers %v, want %v", got, want)
	}
}

// Files of mcpfleet's own form have no variables of editors, and in the API a $ is
// literal.
func TestFilesOfNoClient(t *testing.T) {
	for _, text := range []string{`{"servers": {"A": {"command": "x", "args": ["${env:-y}", "${input:+y}"]}}}`, `{"servers": {"A": {"command": "x"}}}`} {
		if _, err := parse(t, "f.json", text); err == nil || !strings.Contains(err.Error(), "rename it, for example to a") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := ParseLiteral([]byte(`{"servers": {"A": {"command": "x", "args": ["${env:KEY}"]}}}`), Options{}); err == nil || !strings.Contains(err.Error(), "rename it, for example to a") {
		t.Errorf("in the API: %v", err)
	}
}

// A file is refused if no server is left. In the API, a file with any error is
// refused, since the sender would see warnings too late.
func TestFilesOfClientsRefused(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing left", `{"mcpServers": {"a": {"command": 7}, "b": {"url": "http://x"}}}`,
			"f.json:1:34: mcpServers.a.command: must be a string, not 7; quote it if a string is meant\n" +
				"f.json:1:38: mcpServers.b: is a remote server; mcpfleet runs stdio servers, from a command or an image"},
		{"no name", `{"mcpServers": {"a": {"command": "x"}}, "default_server": "b"}`, `f.json:1:59: default_server: there is no server named "b"; did you mean a?`},
	} {
		if _, err := parse(t, "f.json", tt.text); err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v\nwant %s", tt.name, err, tt.want)
		}
	}
	text := `{"mcpServers": {"a": {"command": "x", "icon": "i"}, "b": {"command": 7}}}`
	if _, err := ParseLiteral([]byte(text), Options{}); err == nil || !strings.Contains(err.Error(), "mcpServers.b.command") {
		t.Errorf("got %v", err)
	}
	if f, err := parse(t, "f.json", `{"mcpServers": {"a": {"command": "x", "disabled": true}}}`); err != nil || len(f.Servers) != 0 {
		t.Errorf("all switched off: got %+v, %v", f, err)
	}
}

// Fleet files of mcpfleet's own form are strict.
func TestOwnFilesStayStrict(t *testing.T) {
	for _, text := range []string{
		"servers: {a: {command: [x]}, b: {command: 7}}",
		"servers: {a: {command: [x], icon: y}}",
		"servers: {a: {command: [x]}, a: {command: [y]}}",
		"servers: {a: {command: [x]}}\nsandbox: {}",
		"servers: {a: {command: [x]}, 天气: {command: [y]}}",
		"servers: {a: {command: docker, args: [run, --privileged, x]}}",
	} {
		if f, err := parse(t, "f.yaml", text); err == nil {
			t.Errorf("accepted %s: %+v", text, f)
		}
	}
	f, err := parse(t, "f.yaml", "servers: {a: {command: docker, args: [run, -p, '80:80', x]}}")
	if err != nil || len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0].Msg, "-p (a)") {
		t.Errorf("got %+v, %v", f, err)
	}
}

// Relative paths in a command and its arguments are relative to the file's
// directory, like cwd and mounts.
func TestRelativeCommands(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"server.py", "conf/app.json", "docs/a", "sub/server.py", "sub/only.py", "bin/tool"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, tt := range []struct {
		name, server string
		command      string
		args         []string
		cwd          string
	}{
		{"a program", `{"command": "./bin/tool"}`, in("bin/tool"), nil, ""},
		{"a program that is not there", `{"command": "./nope"}`, in("nope"), nil, ""},
		{"a program in cwd", `{"command": "./server.py", "cwd": "sub"}`, in("sub/server.py"), nil, in("sub")},
		{"a program that is not in cwd", `{"command": "./bin/tool", "cwd": "sub"}`, in("bin/tool"), nil, in("sub")},
		{"a name in PATH", `{"command": "node", "args": ["--flag", "word", "docs", "https://x/server.py", "@scope/pkg"]}`, "node", []string{"--flag", "word", "docs", "https://x/server.py", "@scope/pkg"}, ""},
		{"a file", `{"command": "python", "args": ["server.py"]}`, "python", []string{"server.py"}, dir},
		{"a path", `{"command": "node", "args": ["./conf/app.json"]}`, "node", []string{"./conf/app.json"}, dir},
		{"a directory", `{"command": "node", "args": ["x", "./docs"]}`, "node", []string{"x", "./docs"}, dir},
		{"this directory", `{"command": "files", "args": ["."]}`, "files", []string{"."}, dir},
		{"an option", `{"command": "x", "args": ["--config=conf/app.json"]}`, "x", []string{"--config=conf/app.json"}, dir},
		{"a file in cwd", `{"command": "python", "args": ["server.py", "only.py"], "cwd": "sub"}`, "python", []string{"server.py", "only.py"}, in("sub")},
		{"a file that is not in cwd", `{"command": "x", "args": ["conf/app.json", "--a=bin/tool"], "cwd": "sub"}`, "x", []string{in("conf/app.json"), "--a=" + in("bin/tool")}, in("sub")},
	} {
		for _, form := range []string{"mcpServers", "servers"} {
			f, err := Parse(fmt.Appendf(nil, `{%q: {"x": %s}}`, form, tt.server), OnDisk(in("f.json"), lookup))
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if s := f.Servers["x"]; s.Command[0] != tt.command || !slices.Equal(s.Args, tt.args) || s.Cwd != tt.cwd {
				t.Errorf("%s, %s: got %q %q in %q, want %q %q in %q", form, tt.name, s.Command, s.Args, s.Cwd, tt.command, tt.args, tt.cwd)
			}
		}
	}
	// Clients whose file is in .vscode or the like run in the parent folder.
	for path, text := range map[string]string{".vscode/only.py": "", ".cursor.env": "A=1"} {
		if err := os.MkdirAll(filepath.Dir(in(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(in(path), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		server, command string
		cwd             string
	}{
		{`{"type": "stdio", "command": "./bin/tool", "envFile": ".cursor.env"}`, in("bin/tool"), ""},
		{`{"type": "stdio", "command": "./nope"}`, in("nope"), ""},
		{`{"type": "stdio", "command": "./only.py"}`, in(".vscode/only.py"), ""},
		{`{"type": "stdio", "command": "x", "args": ["."]}`, "x", dir},
		{`{"type": "stdio", "command": "x", "args": ["server.py"]}`, "x", dir},
		{`{"type": "stdio", "command": "x", "args": ["only.py"]}`, "x", in(".vscode")},
		{`{"type": "stdio", "command": "x", "cwd": "sub"}`, "x", in("sub")},
	} {
		f, err := Parse(fmt.Appendf(nil, `{"servers": {"x": %s}}`, tt.server), OnDisk(in(".vscode/mcp.json"), lookup))
		if err != nil {
			t.Fatalf("%s: %v", tt.server, err)
		}
		if s := f.Servers["x"]; s.Command[0] != tt.command || s.Cwd != tt.cwd {
			t.Errorf("%s: got %q in %q, want %q in %q", tt.server, s.Command, s.Cwd, tt.command, tt.cwd)
		}
	}
	// The sender of a file to the API has made its paths absolute.
	if f, err := ParseLiteral([]byte(`{"servers": {"x": {"command": "./x"}}}`), Options{}); err != nil || f.Servers["x"].Command[0] != "./x" {
		t.Errorf("got %+v, %v", f, err)
	}
}

// Podman cannot pass every variable to a container.
func TestContainerEnv(t *testing.T) {
	if _, err := parse(t, "f.yaml", "servers: {x: {image: x, env: {DOCKER_CERT: \"a\\nb\"}}}"); err == nil ||
		!strings.Contains(err.Error(), "servers.x.env.DOCKER_CERT: the value must not contain line breaks") {
		t.Errorf("got %v", err)
	}
	mustParse(t, "f.yaml", "servers: {x: {image: x, env: {GOOGLE_KEY: \"a\\nb\"}}, y: {command: [y], env: {DOCKER_CERT: \"a\\nb\"}}}")
}

// A warning stays readable, however many subjects and servers it has.
func TestWarningsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 30 {
		fmt.Fprintf(&b, `%q: {"command": "x", "same": 1, "key%d": 1},`, fmt.Sprintf("s%02d", i), i)
	}
	f := mustParse(t, "f.json", `{"mcpServers": {`+b.String()+`}}`)
	if len(f.Warnings) != 1 {
		t.Fatalf("%d warnings, want one", len(f.Warnings))
	}
	if msg := f.Warnings[0].Msg; !strings.Contains(msg, "same (s00, s01, s02, s03, s04, and 25 more), key0 (s00), ") || !strings.HasSuffix(msg, "key18 (s18), and 11 more") {
		t.Errorf("got %s", msg)
	}
}

// Every option of docker run (28.2) and podman run (4.3) is known, or refused on
// purpose. The parser agrees with both on which options take a value.
func TestRunOptionsAreComplete(t *testing.T) {
	const docker = "" +
		"add-host attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile cpu-period cpu-quota cpu-rt-period cpu-rt-runtime " +
		"cpu-shares cpus cpuset-cpus cpuset-mems detach detach-keys device device-cgroup-rule device-read-bps device-read-iops device-write-bps " +
		"device-write-iops disable-content-trust dns dns-option dns-search domainname entrypoint env env-file expose gpus group-add health-cmd " +
		"health-interval health-retries health-start-period health-timeout help hostname init interactive ip ip6 ipc isolation kernel-memory label " +
		"label-file link link-local-ip log-driver log-opt mac-address memory memory-reservation memory-swap memory-swappiness mount name network " +
		"network-alias no-healthcheck oom-kill-disable oom-score-adj pid pids-limit platform privileged publish publish-all pull quiet read-only restart rm " +
		"runtime security-opt shm-size sig-proxy stop-signal stop-timeout storage-opt sysctl tmpfs tty ulimit use-api-socket user userns uts volume " +
		"volume-driver volumes-from workdir"
	const podman = "" +
		"add-host annotation arch attach authfile blkio-weight blkio-weight-device cap-add cap-drop cgroup-conf cgroup-parent cgroupns cgroups chrootdirs " +
		"cidfile conmon-pidfile cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems detach detach-keys device " +
		"device-cgroup-rule device-read-bps device-read-iops device-write-bps device-write-iops disable-content-trust dns dns-option dns-search entrypoint " +
		"env env-file env-host env-merge expose gidmap group-add health-cmd health-interval health-on-failure health-retries health-start-period " +
		"health-timeout help hostname hostuser http-proxy image-volume init init-path interactive ip ip6 ipc label label-file log-driver log-opt mac-address " +
		"memory memory-reservation memory-swap memory-swappiness mount name network network-alias no-healthcheck no-hosts oom-kill-disable oom-score-adj os " +
		"passwd passwd-entry personality pid pidfile pids-limit platform pod pod-id-file preserve-fds privileged publish publish-all pull quiet read-only " +
		"read-only-tmpfs replace requires restart rm rmi rootfs sdnotify seccomp-policy secret security-opt shm-size sig-proxy stop-signal stop-timeout " +
		"subgidname subuidname sysctl systemd timeout tls-verify tmpfs tty tz uidmap ulimit umask unsetenv unsetenv-all user userns uts variant volume " +
		"volumes-from workdir"
	const refused = "chrootdirs env-merge gidmap pid pod pod-id-file preserve-fds privileged requires rootfs secret subgidname subuidname uidmap unsetenv-all volumes-from"
	const flags = "detach disable-content-trust env-host help http-proxy init interactive no-healthcheck no-hosts oom-kill-disable passwd publish-all quiet read-only " +
		"read-only-tmpfs replace rm rmi sig-proxy tls-verify tty use-api-socket"
	options := runOptions()
	for _, name := range strings.Fields(docker + " " + podman) {
		i := slices.IndexFunc(options, func(o runOption) bool { return slices.Contains(o.names, name) })
		if refuse := slices.Contains(strings.Fields(refused), name); refuse != (i < 0) {
			t.Errorf("--%s: known %v, to be refused %v", name, i >= 0, refuse)
		}
		if i >= 0 && options[i].flag != slices.Contains(strings.Fields(flags), name) {
			t.Errorf("--%s: takes a value: %v", name, !options[i].flag)
		}
	}
}
