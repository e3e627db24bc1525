package fleetfile

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestMCPServersForm(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name  string
		entry string // JSON of the entry x
		want  fleet.Template
	}{
		{"docker with a variable of env",
			`{"command": "docker", "args": ["run", "-i", "--rm", "-e", "BRAVE_API_KEY", "docker.io/mcp/brave-search"], "env": {"BRAVE_API_KEY": "k", "DOCKER_HOST": "unix:///x"}}`,
			fleet.Template{Image: "docker.io/mcp/brave-search", Env: map[string]string{"BRAVE_API_KEY": "k"}}},
		{"podman with a variable of the environment and arguments",
			`{"command": "/usr/bin/podman", "args": ["run", "--rm=true", "-ie", "KEY", "-eB=2", "--env=C=a=b", "img:1", "--flag", "-e"]}`,
			fleet.Template{Image: "img:1", Args: []string{"--flag", "-e"}, Env: map[string]string{"KEY": "s3cret", "B": "2", "C": "a=b"}}},
		{"all that is understood",
			`{"command": "docker", "args": ["run", "-it", "--init", "-v", "/a:/b:ro", "--volume=./c:/d", "--mount", "type=bind,src=/e,dst=/f,readonly", "--network=none",
			 "-u", "1000", "-w", "/w", "--entrypoint", "node", "-m", "1g", "--cpus", "1.5", "--pids-limit", "64", "--cap-add=CHOWN", "--cap-drop", "ALL", "--pull", "never",
			 "--read-only", "--security-opt", "no-new-privileges", "--name", "x", "--log-driver=none", "--", "img"]}`,
			fleet.Template{
				Image: "img", PullPolicy: fleet.PullNever, Entrypoint: []string{"node"}, Network: "none", User: "1000", Cwd: "/w", ReadOnly: true, CapAdd: []string{"CHOWN"},
				Mounts:    []fleet.Mount{{Source: "/a", Target: "/b", ReadOnly: true}, {Source: filepath.Join(dir, "c"), Target: "/d"}, {Source: "/e", Target: "/f", ReadOnly: true}},
				Resources: fleet.Resources{Memory: 1 << 30, CPUs: 1.5, PIDs: 64},
			}},
		{"any other command, with what clients write beside it",
			`{"type": "stdio", "command": "C:\\Program Files\\node.exe", "args": ["-e", "a$b $$"], "env": {"A": "$KEY ${env:KEY}${KEY}"}, "autoApprove": [], "disabled": false}`,
			fleet.Template{Command: []string{`C:\Program Files\node.exe`}, Args: []string{"-e", "a$b $$"}, Env: map[string]string{"A": "$KEY s3crets3cret"}}},
		{"docker without run", `{"command": "docker", "args": ["mcp", "gateway", "run"]}`, fleet.Template{Command: []string{"docker"}, Args: []string{"mcp", "gateway", "run"}}},
	}
	for _, form := range []string{"mcpServers", "servers"} {
		for _, tt := range tests {
			if form == "servers" && !strings.Contains(tt.entry, `"type"`) {
				tt.entry = strings.Replace(tt.entry, "{", `{"type": "stdio", `, 1) // as VS Code has it
			}
			t.Run(form+"/"+tt.name, func(t *testing.T) {
				f := mustParse(t, filepath.Join(dir, "mcp.json"), `{"inputs": [], "`+form+`": {"x": `+tt.entry+`}}`)
				got, want := f.Servers["x"].Template, tt.want
				if want.Image != "" && want.PullPolicy == "" {
					want.PullPolicy = fleet.PullMissing
				}
				if want.Image != "" && want.CapAdd == nil { // docker's default
					want.CapAdd, want.NewPrivileges = dockerCapabilities, true
				}
				def := withDefaults(nil)
				want.Sessions, want.Health, want.StartTimeout, want.StopGrace, want.DrainTimeout = def.Sessions, def.Health, def.StartTimeout, def.StopGrace, def.DrainTimeout
				if !reflect.DeepEqual(got, want) {
					t.Errorf("got  %+v\nwant %+v", got, want)
				}
			})
		}
	}
	t.Run("keys of ours, and of the client's at the top", func(t *testing.T) {
		f := mustParse(t, "f.json", `{"globalShortcut": "x", "default_server": "b", "mcpServers": {"a": {"command": "x", "disabled": true}, "b": {"command": "x", "replicas": 3}, "c": {"command": "y"}}}`)
		if len(f.Servers) != 2 || f.Servers["b"].Replicas != 3 || f.DefaultServer != "b" {
			t.Errorf("got %+v", f)
		}
	})
}

func TestMCPServersFormErrors(t *testing.T) {
	run := func(args string) string { return `{"command": "docker", "args": ["run", ` + args + `]}` }
	tests := []struct{ name, entry, want string }{
		{"unknown run option", run(`"--gpu", "all", "img"`), "args[1]: the run option --gpu is not supported"},
		{"unknown short run option", run(`"-iz", "80:80", "img"`), "args[1]: the run option -z is not supported"},
		{"the host's processes", run(`"--pid=host", "img"`), "args[1]: the run option --pid is not supported"},
		{"privileged", run(`"--privileged", "img"`), "args[1]: the run option --privileged is not supported"},
		{"option from a variable", run(`"${KEY:+--x}${KEY}", "img"`), `args[1]: the run option "${KEY:+--x}${KEY}" is not supported`},
		{"no image", run(`"-i"`), "args: run is not given an image"},
		{"no value", run(`"-e"`), "args[1]: the run option -e needs a value"},
		{"missing file of variables", run(`"--env-file", "nope.env", "img"`), `args[2]: names a file, but a controller cannot read the files of the sender: put its variables into env`},
		{"unknown capability", run(`"--cap-add", "CHWON", "img"`), "args[2]: --cap-add must name a capability, such as CHOWN"},
		{"bad image", run(`"a b"`), "args[1]: must be the name of an image, as docker.io/mcp/time:latest"},
		{"bad mount", run(`"--mount", "type=npipe,dst=/x", "img"`), "args[2]: --mount understands type=bind, type=volume, type=tmpfs, source, target and readonly"},
		{"bad memory", run(`"-m", "12", "img"`), "args[2]: --memory must be an amount of memory, such as 512m or 1GiB, and at least 6m"},
		{"arguments in the command", `{"command": "npx -y pkg"}`, `command: has the arguments in the same string; move them to args: "command": "npx", "args": ["-y", "pkg"]`},
		{"some of the arguments in the command", `{"command": "npx -y", "args": ["pkg"]}`, `command: has the arguments in the same string; move them to args: "command": "npx", "args": ["-y", "pkg"]`},
		{"editor's settings", `{"command": "x", "env": {"K": "${config:a.b}"}}`, "env.K: ${config:a.b} needs an editor, and there is no editor here: write the value, or use an environment variable"},
		{"no tools", `{"command": "x", "tools": []}`, "tools: is empty, so the client would use none of its tools"},
		{"editor's input", `{"command": "x", "env": {"K": "${input:api-key}"}}`, "env.K: ${input:api-key} asks the user of an editor, and there is no editor here: use an environment variable instead"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(t, "f.json", `{"mcpServers": {"x": `+tt.entry+`}}`)
			if err == nil {
				t.Fatalf("accepted; want %s", tt.want)
			}
			if _, msg, _ := strings.Cut(err.Error(), ": mcpServers.x."); msg != tt.want {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
		})
	}
	for _, remote := range []string{`{"url": "http://localhost/mcp"}`, `{"type": "http", "command": "x"}`, `{"httpUrl": "http://localhost/mcp", "headers": {"A": "b"}}`} {
		_, err := parse(t, "f.json", `{"mcpServers": {"x": `+remote+`}}`)
		if want := "f.json:1:17: mcpServers.x: is a remote server; mcpfleet runs stdio servers, from a command or an image"; err == nil || err.Error() != want {
			t.Errorf("%s: got %v\nwant %s", remote, err, want)
		}
	}
}

// Clients allow any name, and their files are accepted unchanged.
func TestMCPServersFormNames(t *testing.T) {
	for _, file := range []string{
		`{"default_server": "Brave_Search", "mcpServers": {"Brave_Search": {"command": "x"}, "perplexityAsk": {"command": "y"}, "mcp": {"command": "z"}}}`,
		`{"default_server": "Brave_Search", "servers": {"Brave_Search": {"type": "stdio", "command": "x"}, "perplexityAsk": {"type": "stdio", "command": "y"}, "mcp": {"type": "stdio", "command": "z"}}}`,
	} {
		f := mustParse(t, "f.json", file)
		if got := f.Names(); !slices.Equal(got, []fleet.ServerName{"brave-search", "mcp-server", "perplexityask"}) || f.DefaultServer != "brave-search" {
			t.Errorf("got %v, default %q", got, f.DefaultServer)
		}
	}
}

func TestInterpolate(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""}, {"plain", "plain"}, {"$KEY", "s3cret"}, {"a${KEY}b", "as3cretb"}, {"$$KEY", "$KEY"}, {"$${KEY}", "${KEY}"}, {"$$$KEY", "$s3cret"},
		{"${EMPTY}", ""}, {"${EMPTY:-d}", "d"}, {"${EMPTY-d}", ""}, {"${NOPE:-d}", "d"}, {"${NOPE-d}", "d"}, {"${NOPE:-}", ""}, {"${KEY:-d}", "s3cret"},
		{"${NOPE:-${KEY}}", "s3cret"}, {"${NOPE:-a{b}", "a{b"}, {"${KEY:?m}", "s3cret"}, {"${EMPTY?m}", ""}, {"${KEY:+y}", "y"}, {"${NOPE:+y}", ""}, {"${EMPTY+y}", "y"},
		{"$KEY-$N.x", "s3cret-4.x"}, {"${NOPE:-$$}", "$"},
	}
	p := &parser{opts: Options{Lookup: lookup}}
	for _, tt := range tests {
		if got, err := p.interpolate(tt.in); err != nil || got != tt.want {
			t.Errorf("interpolate(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestUnits(t *testing.T) {
	for in, want := range map[string]int64{"1": 1, "512m": 512 << 20, "1GiB": 1 << 30, "1.5g": 3 << 29, "2 KB": 2048, "7b": 7, "1Ti": 1 << 40} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "m", "-1m", "1e9", "1mm", "0x10", "1.2.3m", "9e99t", "99999999999999999999"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("ParseSize(%q) = %d; want an error", in, got)
		}
	}
}
