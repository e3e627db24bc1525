package fleetfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// environment has the variables of these tests.
var environment = map[string]string{
	"KEY": "s3cret", "DOLLAR": "$KEY", "EMPTY": "", "EVIL": "x\nreplicas: 9\n\"{[", "N": "4", "HOME": "/home/u", "BAD": "not-a-number",
}

func lookup(name string) (string, bool) {
	v, ok := environment[name]
	return v, ok
}

func parse(t *testing.T, name, text string) (*File, error) {
	t.Helper()
	return Parse([]byte(text), Options{Filename: name, Lookup: lookup})
}

func mustParse(t *testing.T, name, text string) *File {
	t.Helper()
	f, err := parse(t, name, text)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return f
}

// withDefaults returns the spec of an image without other keys.
func withDefaults(edit func(*fleet.Spec)) fleet.Spec {
	s := fleet.Spec{
		Template: fleet.Template{
			Image:        "docker.io/mcp/x",
			PullPolicy:   fleet.PullMissing,
			Sessions:     "shared",
			Health:       fleet.Health{Period: 10 * time.Second, Timeout: 5 * time.Second, Failures: 3},
			StartTimeout: time.Minute,
			StopGrace:    2 * time.Second,
			DrainTimeout: 30 * time.Second,
		},
		Replicas:           1,
		MaxOngoingRequests: 8,
		MaxQueuedRequests:  128,
		CallTimeout:        time.Minute,
		MaxCallDuration:    10 * time.Minute,
	}
	if edit != nil {
		edit(&s)
	}
	return s
}

func TestParseSpec(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		body string // of one server named x
		want fleet.Spec
	}{
		{"defaults", `image: docker.io/mcp/x`, withDefaults(nil)},
		{"everything", `
image: docker.io/mcp/x
pull_policy: always
entrypoint: [node, main.js]
args: [--port, 8080, "${KEY}"]
env: { A: "${KEY}", B: 7, C: true, KEY: }
cwd: /srv
mounts: ["/data:/data:ro", {source: ./rel, target: /rel, selinux: z}, "volume:/v:Z"]
run_options: [--shm-size=1g, "--add-host=db:${KEY:+10.0.0.7}"]
enabled_tools: [go, stop]
disabled_tools: [stop, stop]
network: none
user: 1000:1000
read_only: true
cap_add: [chown, CAP_SETUID]
no_new_privileges: false
labels: { disk: ssd }
default_tool: go
replicas: 3
max_replicas_per_node: 2
resources: { cpus: 0.5, memory: 512m, pids: 256 }
max_ongoing_requests: 4
max_queued_requests: 0
max_request_bytes: 64m
call_timeout: 5s
max_call_duration: 1m30s
sessions: shared
health: { period: 2s, timeout: 1.5, failures: 2 }
start_timeout: 90
stop_grace: 500ms
drain_timeout: 0`, fleet.Spec{
			Template: fleet.Template{
				Image: "docker.io/mcp/x", PullPolicy: fleet.PullAlways, Entrypoint: []string{"node", "main.js"},
				Args: []string{"--port", "8080", "s3cret"}, Env: map[string]string{"A": "s3cret", "B": "7", "C": "true", "KEY": "s3cret"}, Cwd: "/srv",
				Mounts:     []fleet.Mount{{Source: "/data", Target: "/data", ReadOnly: true}, {Source: filepath.Join(here, "conf/rel"), Target: "/rel", SELinux: "z"}, {Source: "volume", Target: "/v", SELinux: "Z"}},
				RunOptions: []string{"--shm-size=1g", "--add-host=db:10.0.0.7"},
				Network:    "none", User: "1000:1000", ReadOnly: true, CapAdd: []string{"CHOWN", "SETUID"}, NewPrivileges: true,
				Labels: map[string]string{"disk": "ssd"}, Resources: fleet.Resources{CPUs: 0.5, Memory: 512 << 20, PIDs: 256}, Sessions: "shared",
				Health:       fleet.Health{Period: 2 * time.Second, Timeout: 1500 * time.Millisecond, Failures: 2},
				StartTimeout: 90 * time.Second, StopGrace: 500 * time.Millisecond,
			},
			Replicas: 3, MaxReplicasPerNode: 2, MaxOngoingRequests: 4, MaxRequestBytes: 64 << 20, CallTimeout: 5 * time.Second, MaxCallDuration: 90 * time.Second, DefaultTool: "go",
			EnabledTools: []string{"go", "stop"}, DisabledTools: []string{"stop"},
		}},
		{"env as a list", "image: docker.io/mcp/x\nenv: [A=1=2, KEY, B=]", withDefaults(func(s *fleet.Spec) {
			s.Env = map[string]string{"A": "1=2", "KEY": "s3cret", "B": ""}
		})},
		{"command", "command: [npx, -y, thing]\ncwd: sub", withDefaults(func(s *fleet.Spec) {
			s.Image, s.PullPolicy, s.Command, s.Cwd = "", "", []string{"npx", "-y", "thing"}, filepath.Join(here, "conf/sub")
		})},
		{"command as a word", "command: uvx\nargs: [thing]", withDefaults(func(s *fleet.Spec) {
			s.Image, s.PullPolicy, s.Command, s.Args = "", "", []string{"uvx"}, []string{"thing"}
		})},
		{"stopped", "image: docker.io/mcp/x\nreplicas: 0", withDefaults(func(s *fleet.Spec) { s.Replicas = 0 })},
		{"short period shortens the default timeout", "image: docker.io/mcp/x\nhealth: {period: 1s}", withDefaults(func(s *fleet.Spec) {
			s.Health.Period, s.Health.Timeout = time.Second, time.Second
		})},
		{"long timeout lengthens the default maximum", "image: docker.io/mcp/x\ncall_timeout: 1h", withDefaults(func(s *fleet.Spec) {
			s.CallTimeout, s.MaxCallDuration = time.Hour, time.Hour
		})},
		{"the usual size of calls", "image: docker.io/mcp/x\nmax_request_bytes: 8MiB", withDefaults(nil)},
		{"no health checks", "image: docker.io/mcp/x\nhealth: off", withDefaults(func(s *fleet.Spec) { s.Health.Off = true })},
		{"the usual health checks", "image: docker.io/mcp/x\nhealth: on", withDefaults(nil)},
		{"empty sections", "image: docker.io/mcp/x\nargs:\nenv:\nmounts:\nlabels:\nresources:\nhealth:", withDefaults(nil)},
		{"variables in numbers", "image: docker.io/mcp/x\nreplicas: ${N}\nresources: {memory: \"${N}g\"}", withDefaults(func(s *fleet.Spec) {
			s.Replicas, s.Resources.Memory = 4, 4<<30
		})},
		{"no value becomes YAML", "image: docker.io/mcp/x\nenv: {E: $EVIL}", withDefaults(func(s *fleet.Spec) {
			s.Env = map[string]string{"E": environment["EVIL"]}
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := "servers:\n  x:\n    " + strings.ReplaceAll(strings.TrimSpace(tt.body), "\n", "\n    ")
			f := mustParse(t, "conf/fleet.yaml", text)
			if got := f.Servers["x"]; !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
			if f.DefaultServer != "" {
				t.Errorf("default server %q, and the file names none", f.DefaultServer)
			}
		})
	}
}

func TestParseForms(t *testing.T) {
	t.Run("anchors and merges", func(t *testing.T) {
		f := mustParse(t, "f.yaml", "servers:\n  a: &a {image: x, replicas: 2}\n  b:\n    <<: *a\n    replicas: 5\ndefault_server: b")
		if got := f.Servers["b"]; got.Image != "x" || got.Replicas != 5 {
			t.Errorf("got %+v", got)
		}
		if f.DefaultServer != "b" || fmt.Sprint(f.Names()) != "[a b]" {
			t.Errorf("default %q, names %v", f.DefaultServer, f.Names())
		}
	})
	t.Run("several servers have no default one", func(t *testing.T) {
		if f := mustParse(t, "f.yaml", "servers: {a: {image: x}, b: {image: x}}"); f.DefaultServer != "" {
			t.Errorf("got %q", f.DefaultServer)
		}
	})
	t.Run("no servers on purpose", func(t *testing.T) {
		if f := mustParse(t, "f.yaml", "servers: {}"); len(f.Servers) != 0 {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("JSON with tabs, escapes, comments and trailing commas", func(t *testing.T) {
		f := mustParse(t, "f.json", "\xef\xbb\xbf{\t\"servers\": { // one\n\t\"x\": {\"image\": \"x\", /* two */ \"env\": {\"A\": \"\\ud83d\\ude00//\"},\n},},}")
		if got := f.Servers["x"].Env["A"]; got != "😀//" {
			t.Errorf("got %q", got)
		}
	})
}

func TestParseErrors(t *testing.T) {
	image := func(lines string) string { return "servers:\n  x:\n    image: x\n    " + lines }
	tests := []struct{ name, file, text, want string }{
		{"empty", "", "", "f.yaml: the file is empty; it needs a key named servers"},
		{"only a comment", "", "# nothing\n", "f.yaml: the file is empty; it needs a key named servers"},
		{"no servers", "", "default_server: x", "f.yaml:1:1: no servers: the file needs a key named servers"},
		{"null servers", "", "servers:", "f.yaml:1:1: servers: no servers: the key has no value"},
		{"list of servers", "", "servers: [a]", "f.yaml:1:10: servers: must be a mapping of keys to values, not a list"},
		{"bad YAML", "", "servers:\n  x: {image: a", "f.yaml:2: not valid YAML: did not find expected ',' or '}'"},
		{"bad YAML in the first line", "", "servers: }", "f.yaml:1: not valid YAML: did not find expected node content"},
		{"bad YAML for the scanner", "", "servers:\n  x: \"a", "f.yaml:2: not valid YAML: found unexpected end of stream"},
		{"two documents", "", "servers: {}\n---\nservers: {}", "f.yaml:2:1: only one document is allowed in a fleet file"},
		{"bad JSON", "f.json", "{\n \"servers\": {]}", "f.json:2:14: not valid JSON: invalid character ']' looking for beginning of object key string"},
		{"cut JSON", "f.json", "{\"servers\": {", "f.json:1:13: not valid JSON: unexpected end of JSON input"},
		{"deep JSON", "f.json", strings.Repeat("[", 100) + strings.Repeat("]", 100), "f.json:1:66: nested too deeply"},
		{"unknown key at the top", "", "sevrers: {}\nservers: {}", "f.yaml:1:1: sevrers: unknown key; did you mean servers?"},
		{"key of a later version at the top", "", "servers: {}\nauth: {}", "f.yaml:2:1: auth: not supported yet"},
		{"both forms", "", "servers: {}\nmcpServers: {}", "f.yaml:2:1: a file has either servers or mcpServers, not both"},
		{"unknown default server", "", "servers: {brave: {image: x}}\ndefault_server: brafe", `f.yaml:2:17: default_server: there is no server named "brafe"; did you mean brave?`},

		{"reserved name", "", "servers: {tools: {image: x}}", `f.yaml:1:11: servers.tools: the name "tools" is reserved; rename it, for example to tools-server`},
		{"name that is no label", "", "servers: {Brave_Search: {image: x}}",
			"f.yaml:1:11: servers.Brave_Search: a server's name consists of lower case letters, digits and inner hyphens; rename it, for example to brave-search"},
		{"long name", "", "servers: {" + strings.Repeat("a", 64) + ": {image: x}}",
			"f.yaml:1:11: servers." + strings.Repeat("a", 64) + ": a server's name has at most 63 characters, not 64; rename it, for example to " + strings.Repeat("a", 63)},
		{"hopeless name", "", "servers: {\"!\": {image: x}}", "f.yaml:1:11: servers.!: a server's name consists of lower case letters, digits and inner hyphens"},

		{"unknown key", "", image("replcas: 3"), "f.yaml:4:5: servers.x.replcas: unknown key; did you mean replicas?"},
		{"unknown key far from all", "", image("zzzzzzz: 3"), "f.yaml:4:5: servers.x.zzzzzzz: unknown key"},
		{"unknown key below", "", image("resources: {mem: 3g}"), "f.yaml:4:17: servers.x.resources.mem: unknown key; did you mean memory?"},
		{"key of a later version", "", image("autoscaling: {min: 1}"), "f.yaml:4:5: servers.x.autoscaling: not supported yet"},
		{"duplicate key", "", image("image: y"), "f.yaml:4:5: servers.x.image: duplicate key, first seen in line 3"},
		{"duplicate server", "", "servers:\n  x: {image: x}\n  x: {image: x}", "f.yaml:3:3: servers.x: duplicate key, first seen in line 2"},
		{"neither image nor command", "", "servers:\n  x: {replicas: 1}", "f.yaml:2:6: servers.x: needs an image or a command"},
		{"both image and command", "", image("command: [y]"),
			"f.yaml:4:14: servers.x.command: a server has either an image or a command; to replace the image's own, use entrypoint and args"},
		{"container's key with a command", "", "servers: {x: {command: [y], user: me}}", "f.yaml:1:35: servers.x.user: is for images; a command runs as a plain process"},
		{"shell words", "", "servers: {x: {command: npx -y y}}",
			`f.yaml:1:24: servers.x.command: must be a list of strings when it has arguments, such as ["npx", "-y", "package"]`},
		{"empty command", "", "servers: {x: {command: []}}", "f.yaml:1:24: servers.x.command: must not be empty"},
		{"image that is an option", "", "servers: {x: {image: --privileged}}", "f.yaml:1:22: servers.x.image: must not begin with a hyphen"},
		{"image with a space", "", "servers: {x: {image: a b}}", "f.yaml:1:22: servers.x.image: must not contain white space"},
		{"image without value", "", "servers: {x: {image: }}", "f.yaml:1:22: servers.x.image: has no value; it must be a string"},
		{"image that is empty", "", "servers: {x: {image: \"\"}}", "f.yaml:1:22: servers.x.image: must not be empty"},
		{"number for a string", "", image("default_tool: 7"), "f.yaml:4:19: servers.x.default_tool: must be a string, not 7; quote it if a string is meant"},
		{"string for a number", "", image("replicas: three"), `f.yaml:4:15: servers.x.replicas: must be a whole number, not "three"`},
		{"fraction", "", image("replicas: 1.5"), `f.yaml:4:15: servers.x.replicas: must be a whole number, not "1.5"`},
		{"negative", "", image("replicas: -1"), `f.yaml:4:15: servers.x.replicas: must be between 0 and 10000, not "-1"`},
		{"map for a number", "", image("replicas: {}"), "f.yaml:4:15: servers.x.replicas: must be a whole number, not a mapping"},
		{"not a boolean", "", image("read_only: yes"), `f.yaml:4:16: servers.x.read_only: must be true or false, not "yes"`},
		{"no cpus", "", image("resources: {cpus: 0}"), `f.yaml:4:23: servers.x.resources.cpus: must be a number of cores above 0, such as 0.5, not "0"`},
		{"bad memory", "", image("resources: {memory: 5x}"), `f.yaml:4:25: servers.x.resources.memory: must be an amount of memory, such as 512m or 1GiB, not "5x"`},
		{"memory without unit", "", image("resources: {memory: 512}"), `f.yaml:4:25: servers.x.resources.memory: must be at least 6m, not "512": no container starts in less`},
		{"huge memory", "", image("resources: {memory: 9999999999t}"), `f.yaml:4:25: servers.x.resources.memory: must be an amount of memory, such as 512m or 1GiB, not "9999999999t"`},
		{"no size of calls", "", image("max_request_bytes: 0"), `f.yaml:4:24: servers.x.max_request_bytes: must be between 1024 and 67108864 bytes, not "0"`},
		{"bad size of calls", "", image("max_request_bytes: big"), `f.yaml:4:24: servers.x.max_request_bytes: must be an amount of bytes, such as 8m or 8388608, not "big"`},
		{"bad duration", "", image("call_timeout: soon"), `f.yaml:4:19: servers.x.call_timeout: must be a duration, such as 30s or 1m30s, not "soon"`},
		{"duration NaN", "", image("call_timeout: \"NaN\""), `f.yaml:4:19: servers.x.call_timeout: must be a duration, such as 30s or 1m30s, not "NaN"`},
		{"no duration", "", image("call_timeout: 0"), `f.yaml:4:19: servers.x.call_timeout: must be between 1ms and 720h0m0s, not "0"`},
		{"maximum below the timeout", "", image("max_call_duration: 5s"), "f.yaml:4:24: servers.x.max_call_duration: must not be shorter than call_timeout, which is 1m0s"},
		{"health is a word", "", image("health: never"), "f.yaml:4:13: servers.x.health: must be a mapping of period, timeout and failures, or the word off, not \"never\""},
		{"ping longer than its period", "", image("health: {timeout: 20s}"), "f.yaml:4:23: servers.x.health.timeout: must not be longer than the period, which is 10s"},
		{"later session mode", "", image("sessions: principal"), "f.yaml:4:15: servers.x.sessions: principal is not supported yet; only shared is"},
		{"unknown session mode", "", image("sessions: all"), `f.yaml:4:15: servers.x.sessions: must be shared, not "all"`},
		{"pull policy", "", image("pull_policy: sometimes"), `f.yaml:4:18: servers.x.pull_policy: must be missing, always or never, not "sometimes"`},
		{"bad name of a variable", "", image("env: {\"A B\": 1}"), "f.yaml:4:11: servers.x.env.A B: not a valid name for a variable"},
		{"our own variable", "", image("env: {MCPFLEET_REPLICA: 1}"), "f.yaml:4:11: servers.x.env.MCPFLEET_REPLICA: MCPFLEET_REPLICA is set by mcpfleet itself"},
		{"env twice", "", image("env: [A=1, A=2]"), "f.yaml:4:16: servers.x.env[1]: has the name of an earlier item"},
		{"NUL", "", image(`args: ["a\0b"]`), "f.yaml:4:12: servers.x.args[0]: must not contain a NUL byte"},
		{"args as a string", "", image("args: --verbose"), `f.yaml:4:11: servers.x.args: must be a list of strings, not "--verbose"`},
		{"list in args", "", image("args: [[a]]"), "f.yaml:4:12: servers.x.args[0]: must be a string, not a list"},
		{"tag", "", image("args: [!!binary aGk=]"), "f.yaml:4:12: servers.x.args[0]: must be a string, not a value with the tag !!binary"},
		{"capability", "", image("cap_add: [\"-x\"]"), `f.yaml:4:15: servers.x.cap_add[0]: must be a capability, such as CHOWN, or ALL, not "-x"`},
		{"unknown capability", "", image("cap_add: [CHWON]"), `f.yaml:4:15: servers.x.cap_add[0]: must be a capability, such as CHOWN, or ALL, not "CHWON"`},
		{"option that is not passed on", "", image("run_options: [--privileged=true]"), "f.yaml:4:19: servers.x.run_options[0]: --privileged is not one of the options that can be passed on: " + strings.Join(fleet.RunOptionNames(), " ")},
		{"option out of a variable", "", image(`run_options: ["--${KEY}=x"]`), "f.yaml:4:19: servers.x.run_options[0]: \"--${KEY}=x\" is not an option that can be passed on"},
		{"option without a value", "", image("run_options: [--ipc]"), "f.yaml:4:19: servers.x.run_options[0]: must be --name=value, as --shm-size=1g"},
		{"no tool", "", image("enabled_tools: []"), "f.yaml:4:20: servers.x.enabled_tools: must name a tool; leave it out to offer all of them"},
		{"default tool that is off", "", image("default_tool: a\n    disabled_tools: [b, a]"), "f.yaml:4:19: servers.x.default_tool: the tool is switched off by disabled_tools"},
		{"default tool that is not on", "", image("default_tool: a\n    enabled_tools: [b]"), "f.yaml:4:19: servers.x.default_tool: the tool is switched off by enabled_tools"},
		{"label", "", image("labels: {disk: }"), "f.yaml:4:14: servers.x.labels.disk: needs a value, such as disk=value"},
		{"mount without target", "", image("mounts: [/a]"), "f.yaml:4:14: servers.x.mounts: must be a mount, such as /source:/target:ro"},
		{"mount option", "", image("mounts: [/a:/b:zz]"), "f.yaml:4:14: servers.x.mounts: the only options of a mount are ro, rw, z and Z"},
		{"mount target", "", image("mounts: [/a:b]"), "f.yaml:4:14: servers.x.mounts: a mount needs an absolute path as its target"},
		{"mount from home", "", image("mounts: [~/a:/b]"), "f.yaml:4:14: servers.x.mounts: the source of a mount cannot begin with ~; use ${HOME}"},
		{"mount on the root", "", image("mounts: [/a:/]"), "f.yaml:4:14: servers.x.mounts: the target of a mount cannot be /, which is the image's own"},
		{"mount of Windows", "", image(`mounts: ['C:\Users\me:/data']`), "f.yaml:4:14: servers.x.mounts: the source of the mount is a Windows path, but replicas run on Linux; write the path of the node, such as /mnt/c/..."},
		{"mount twice, written in two ways", "", image("mounts: [/a:/c, v:/c/]"), "f.yaml:4:21: servers.x.mounts: two mounts have the target /c/"},
		{"mount twice", "", image("mounts: [/a:/c, /b:/c]"), "f.yaml:4:21: servers.x.mounts: two mounts have the target /c"},
		{"cwd in an image", "", image("cwd: a"), "f.yaml:4:10: servers.x.cwd: must be an absolute path in the image"},

		{"missing variable", "", image("env: {A: \"${NOPE}\"}"), "f.yaml:4:14: servers.x.env.A: the environment has no variable NOPE"},
		{"missing variable without braces", "", image("args: [$NOPE]"), "f.yaml:4:12: servers.x.args[0]: the environment has no variable NOPE"},
		{"missing variable with message", "", image("args: [\"${NOPE:?set it}\"]"), "f.yaml:4:12: servers.x.args[0]: the environment has no variable NOPE: set it"},
		{"missing bare variable", "", image("env: [NOPE]"), "f.yaml:4:11: servers.x.env[0]: the environment has no variable NOPE"},
		{"missing null variable", "", image("env: {NOPE: }"), "f.yaml:4:11: servers.x.env.NOPE: the environment has no variable NOPE"},
		{"open brace", "", image("args: [\"${A\"]"), "f.yaml:4:12: servers.x.args[0]: ${ without its }; write $$ for a dollar sign"},
		{"dollar", "", image("args: [\"5$\"]"), "f.yaml:4:12: servers.x.args[0]: a $ must begin a variable; write $$ for a dollar sign"},
		{"no name", "", image("args: [\"${9}\"]"), "f.yaml:4:12: servers.x.args[0]: ${9} does not name a variable; write $$ for a dollar sign"},
		{"odd operator", "", image("args: [\"${KEY%x}\"]"), "f.yaml:4:12: servers.x.args[0]: ${KEY%x} is not understood"},
		{"a value is not shown", "", image("replicas: ${BAD}"), `f.yaml:4:15: servers.x.replicas: must be a whole number, not "${BAD}"`},

		{"several", "", "servers:\n  x: {image: 1, replicas: a}\n  y: {}",
			"f.yaml:2:14: servers.x.image: must be a string, not 1; quote it if a string is meant\n" +
				"f.yaml:2:27: servers.x.replicas: must be a whole number, not \"a\"\n" +
				"f.yaml:3:6: servers.y: needs an image or a command"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := tt.file
			if name == "" {
				name = "f.yaml"
			}
			_, err := parse(t, name, tt.text)
			if err == nil {
				t.Fatalf("accepted; want %s", tt.want)
			}
			if err.Error() != tt.want {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
		})
	}
}

func TestErrorsAreCapped(t *testing.T) {
	var b strings.Builder
	b.WriteString("servers:\n")
	for i := range 14 {
		fmt.Fprintf(&b, "  s%d: {}\n", i)
	}
	_, err := parse(t, "f.yaml", b.String())
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 11 || lines[10] != "and 4 more" {
		t.Errorf("got %d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
}

// A file that doubles its merges at each level would take for ever to parse.
func TestMergeBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("servers:\n  m0: &m0 {image: x}\n")
	for i := 1; i < 40; i++ {
		fmt.Fprintf(&b, "  m%d: &m%d\n    <<: [*m%d, *m%d, *m%d, *m%d, *m%d, *m%d, *m%d, *m%d]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	if _, err := parse(t, "f.yaml", b.String()); err == nil {
		t.Error("accepted")
	}
}

func TestViewMasksAndParsesAgain(t *testing.T) {
	f := mustParse(t, "f.yaml", `
servers:
  x:
    image: docker.io/mcp/x
    env: {A: "${KEY}", B: plain}
    mounts: [/a:/b:ro]
    no_new_privileges: false
    resources: {memory: 1g}
    health: {period: 3s}
`)
	spec := f.Servers["x"]
	shown, err := json.Marshal(map[string]any{"servers": map[string]any{"x": View(&spec)}})
	if err != nil {
		t.Fatal(err)
	}
	if s := string(shown); strings.Contains(s, "s3cret") || strings.Contains(s, "plain") {
		t.Errorf("shows a value of env: %s", s)
	}
	again := mustParse(t, "view.json", string(shown)).Servers["x"]
	want := spec
	want.Env = map[string]string{"A": fleet.Masked, "B": fleet.Masked}
	if !reflect.DeepEqual(again, want) {
		t.Errorf("parsed again:\ngot  %+v\nwant %+v", again, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("servers: {x: {image: a, env: [A=${KEY:-b}], replicas: 3}}", "f.yaml")
	f.Add("servers: &a {x: *a, <<: *a}", "f.yaml")
	f.Add(`{"mcpServers": {"x": {"command": "docker", "args": ["run", "-ite", "A=1", "--mount", "type=bind", "img"]}}} // c`, "f.json")
	f.Add("servers: {x: {image: a, cap_add: [CAP_CAP_X], mounts: ['./a:/b', {source: v, target: /c}], labels: [a=b], health: {period: 1s}}}", "d/f.yaml")
	f.Add(`{"inputs": [{"id": "a", "default": "b"}], "servers": {"天气": {"type": "stdio", "command": "x", "env": {"A": "${input:a}${workspaceFolder}"}, "x": 1, "x": 2}, "b": {"url": "c"}, "d": {}}}`, "f.json")
	f.Add(`{"mcp": {"inputs": [{"id": "a"}], "servers": {"a": {"command": "x", "timeout": "5", "tools": ["*"]}}}}`, "settings.json")
	f.Add(`{"context_servers": {"a": {"command": {"path": "x", "args": ["b"], "env": {}}, "settings": {}}}}`, "settings.json")
	f.Add("a: [1, {b: ~}]\n---\n", "")
	f.Fuzz(func(t *testing.T, text, name string) {
		file, err := Parse([]byte(text), Options{Filename: name, Lookup: lookup})
		if (file == nil) == (err == nil) {
			t.Fatalf("file %v with error %v", file, err)
		}
		if err != nil && err.Error() == "" {
			t.Fatal("an error without a message")
		}
		if file == nil {
			return
		}
		for n, s := range file.Servers {
			for _, m := range s.Mounts {
				if err := m.Check(); err != nil {
					t.Fatalf("accepted %q: %+v: %v", n, m, err)
				}
			}
			if badName(string(n)) != "" || (s.Image == "") == (len(s.Command) == 0) {
				t.Fatalf("accepted %q: %+v", n, s)
			}
		}
		data, err := Encode(file)
		if err != nil {
			t.Fatal(err)
		}
		file.Warnings, file.Broken = nil, nil
		if again, err := ParseLiteral(data, Options{}); err != nil || !reflect.DeepEqual(again, file) {
			t.Fatalf("encoded and parsed again, %v:\n%s\ngot  %+v\nwant %+v", err, data, again, file)
		}
	})
}

func TestJSONMustBeUTF8(t *testing.T) {
	bad := []byte("{\n  \"servers\": {\"a\": {\"command\": [\"\xff\"]}}}")
	for _, name := range []string{"body.json", ""} {
		if f, err := Parse(bad, Options{Filename: name}); err == nil {
			t.Errorf("%q: got %+v, want an error: the value would be another one", name, f)
		}
	}
	var errs Errors
	if _, err := Parse(bad, Options{Filename: "body.json"}); !errors.As(err, &errs) || len(errs) != 1 || !errs.Malformed() || errs[0].Line != 2 || errs[0].Column != 34 {
		t.Errorf("got %v, want line 2, column 34", err)
	}
}
