package fleetfile

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

const schemaFile = "../../docs/fleetfile.schema.json"

var update = flag.Bool("update", false, "write "+schemaFile)

func TestSchemaIsCurrent(t *testing.T) {
	if *update {
		if err := os.WriteFile(schemaFile, Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, Schema()) {
		t.Errorf("%s is not what the types say; run go test ./internal/fleetfile -run TestSchemaIsCurrent -update", schemaFile)
	}
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("fleetfile.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("fleetfile.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// validate checks a text with the schema, as an editor does.
func validate(s *jsonschema.Schema, name, text string) error {
	p := newParser(Options{Filename: name})
	root := p.document([]byte(text))
	if root == nil {
		return p.errs
	}
	v, err := p.plain(root)
	if err != nil {
		return err
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return s.Validate(instance)
}

// plain converts a node to the values of encoding/json.
func (p *parser) plain(n *yaml.Node) (any, error) {
	n = resolve(n)
	switch n.Kind {
	case yaml.MappingNode:
		out := map[string]any{}
		entries, ok := p.mapping(n, "")
		if !ok || len(p.errs) > 0 {
			return nil, p.errs
		}
		for _, e := range entries {
			v, err := p.plain(e.value)
			if err != nil {
				return nil, err
			}
			out[e.key] = v
		}
		return out, nil
	case yaml.SequenceNode:
		out := []any{}
		for _, c := range n.Content {
			v, err := p.plain(c)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	}
	var v any
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		return n.Value, nil
	case "!!null", "!!int", "!!float", "!!bool":
		return v, n.Decode(&v)
	}
	return nil, fmt.Errorf("JSON has nothing for the tag %s", n.ShortTag())
}

// A server with an image and more lines.
func imageWith(lines string) string { return "servers:\n  x:\n    image: x\n    " + lines }

// verdicts are documents on which Parse and the schema must agree.
var verdicts = []struct {
	text  string
	valid bool
}{
	{"servers: {}", true},
	{"servers: {x: {image: x}}", true},
	{"{\"$schema\": \"./fleetfile.schema.json\", \"servers\": {}}", true},
	{"servers: {x: {image: x}, y: {command: [y]}}\ndefault_server: x", true},
	{"servers: {x: {image: \"${IMAGE:-x y}\"}}", true},
	{everything, true},
	{"servers: {a: &a {image: x, replicas: 2}, b: {<<: *a, replicas: 5}}", true},
	{"", false},
	{"[]", false},
	{"default_server: x", false},
	{"servers:", false},
	{"servers: [a]", false},
	{"servers: {}\nserver: {}", false},
	{"servers: {}\nauth: {}", false},
	{"servers: {}\ndefault_server: \"\"", false},
	{"servers: {}\ndefault_server: 7", false},
	{"servers: {}\nmcpServers: {}", false},
	{"servers: {tools: {image: x}}", false},
	{"servers: {Brave_Search: {image: x}}", false},
	{"servers: {x-: {image: x}}", false},
	{"servers: {" + strings.Repeat("a", 63) + ": {image: x}}", true},
	{"servers: {" + strings.Repeat("a", 64) + ": {image: x}}", false},
	{"servers: {x: }", false},
	{"mcpServers: {x: }", false},
	{"servers: {x: {}}", false},
	{"servers: {x: {replicas: 1}}", false},
	{imageWith("command: [y]"), false},
	{imageWith("replcas: 3"), false},
	{imageWith("autoscaling: {min: 1}"), false},

	{"servers: {x: {image: }}", false},
	{"servers: {x: {image: \"\"}}", false},
	{"servers: {x: {image: 7}}", false},
	{"servers: {x: {image: --privileged}}", false},
	{"servers: {x: {image: a b}}", false},
	{"servers: {x: {command: npx}}", true},
	{"servers: {x: {command: npx -y y}}", false},
	{"servers: {x: {command: \"${PROGRAM}\"}}", true},
	{"servers: {x: {command: []}}", false},
	{"servers: {x: {command: [\"\"]}}", false},
	{"servers: {x: {command: [y, \"\", 7, true]}}", true},
	{"servers: {x: {command: [y, null]}}", false},
	{"servers: {x: {command: [y], user: me}}", false},
	{"servers: {x: {command: [y], read_only: false}}", false},
	{"servers: {x: {command: docker, args: [run, -i, img], user: me}}", true},
	{"servers: {x: {command: docker, args: [exec, img], user: me}}", false},
	{imageWith("entrypoint: [node, main.js]"), true},
	{imageWith("entrypoint:"), false},
	{imageWith("args:"), true},
	{imageWith("args: --verbose"), false},
	{imageWith("args: [1, 2.5, true, \"\", \"$$\"]"), true},
	{imageWith("args: [[a]]"), false},
	{imageWith("args: [!!binary aGk=]"), false},
	{imageWith(`args: ["a\0b"]`), false},
	{imageWith("env: {A: 1, B.c-d: true, KEY: }"), true},
	{imageWith("env: [A=1=2, KEY, \"$KEY=1\"]"), true},
	{imageWith("env: {A B: 1}"), false},
	{imageWith("env: [\"A B=1\"]"), false},
	{imageWith("env: {MCPFLEET_REPLICA: 1}"), false},
	{imageWith("env: [MCPFLEET_REPLICA=1]"), false},
	{imageWith("env: {A: [1]}"), false},
	{imageWith("env: A=1"), false},
	{imageWith("cwd: a"), false},
	{imageWith("cwd: /a"), true},
	{"servers: {x: {command: [y], cwd: a}}", true},
	{imageWith("mounts: [/a:/b, ./a:/c:ro, v:/d:ro, {source: /e, target: /f, read_only: \"true\"}]"), true},
	{imageWith("mounts: [\"/a:/b:ro,Z\", {source: v, target: /c, selinux: z}]"), true},
	{imageWith("mounts: [\"/a:/\"]"), false},
	{imageWith("mounts: [{source: /e, target: /f, selinux: y}]"), false},
	{imageWith("mounts: [/a]"), false},
	{imageWith("mounts: [/a:b]"), false},
	{imageWith("mounts: [/a:/b:zz]"), false},
	{imageWith("mounts: [~/a:/b]"), false},
	{imageWith("mounts: [{source: /a}]"), false},
	{imageWith("mounts: [{source: /a, target: b}]"), false},
	{imageWith("mounts: [{source: /a, target: /b, type: bind}]"), false},
	{imageWith("user: 1000"), true},
	{imageWith("user: 1000:1000"), true},
	{imageWith("user: a b"), false},
	{imageWith("read_only: \"${FLAG}\""), true},
	{imageWith("read_only: yes"), false},
	{imageWith("read_only: 1"), false},
	{imageWith("cap_add: [chown, CAP_SETUID]"), true},
	{imageWith("cap_add: [-x]"), false},
	{imageWith("run_options: [--shm-size=1g, \"--add-host=a:1.2.3.4\"]"), true},
	{imageWith("run_options: [--privileged=true]"), false},
	{imageWith("run_options: [--ipc]"), false},
	{"servers: {x: {command: [y], run_options: [--ipc=host]}}", false},
	{imageWith("enabled_tools: [a, b]"), true},
	{imageWith("disabled_tools: [a]"), true},
	{imageWith("disabled_tools: a"), false},
	{imageWith("tools: {allow: [a], deny: [b], overrides: {a: {rename: c, title: T, description: D, annotations: {title: T, readOnlyHint: true}}}}"), true},
	{imageWith("tools:"), true},
	{imageWith("tools: {overrides: {a: }}"), true},
	{imageWith("tools: [a]"), false},
	{imageWith("tools: {rename: {a: b}}"), false},
	{imageWith("tools: {overrides: {a: {rename: 'b c'}}}"), false},
	{imageWith("tools: {overrides: {a: {annotations: {readOnlyHint: maybe}}}}"), false},
	{imageWith("labels: {disk: ssd, n: 1}"), true},
	{imageWith("labels: [disk=ssd, n=]"), true},
	{imageWith("labels: {disk: }"), false},
	{imageWith("labels: [disk]"), false},
	{imageWith("labels: {-disk: ssd}"), false},
	{imageWith("default_tool: 7"), false},
	{imageWith("replicas: 0"), true},
	{imageWith("replicas: ${N}"), true},
	{imageWith("replicas: \"3\""), true},
	{imageWith("replicas: three"), false},
	{imageWith("replicas: 1.5"), false},
	{imageWith("replicas: -1"), false},
	{imageWith("replicas: 10001"), false},
	{imageWith("replicas:"), false},
	{imageWith("replicas: {}"), false},
	{imageWith("replicas: auto"), true},
	{imageWith("replicas: automatic"), false},
	{imageWith("replicas: auto\n    autoscaling: {max_replicas: 5}"), true},
	{imageWith("replicas: 3\n    autoscaling: {max_replicas: 5}"), false},
	{imageWith("autoscaling: {}"), true},
	{imageWith("autoscaling:"), false},
	{imageWith("autoscaling: auto"), false},
	{imageWith("autoscaling: {min_replicas: 0, initial_replicas: 2, max_replicas: \"9\", target_ongoing_requests: 1.5, upscale_delay_s: 30s, downscale_delay_s: 0}"), true},
	{imageWith("autoscaling: {downscale_to_zero_delay_s: 300, upscaling_factor: \"0.5\", downscaling_factor: 2, look_back_period_s: 1}"), true},
	{imageWith("autoscaling: {min_replicas: -1}"), false},
	{imageWith("autoscaling: {max_replicas: 0}"), false},
	{imageWith("autoscaling: {max_replicas: 10001}"), false},
	{imageWith("autoscaling: {target_ongoing_requests: 0}"), false},
	{imageWith("autoscaling: {target_ongoing_requests: -2}"), false},
	{imageWith("autoscaling: {target_ongoing_requests: many}"), false},
	{imageWith("autoscaling: {upscaling_factor: 0}"), false},
	{imageWith("autoscaling: {downscaling_factor: -1}"), false},
	{imageWith("autoscaling: {upscale_delay_s: -1}"), false},
	{imageWith("autoscaling: {look_back_period_s: 0}"), false},
	{imageWith("autoscaling: {schedules: [{cron: 0 8 * * *, for: 1h, min_replicas: 1}]}"), true},
	{imageWith("autoscaling: {schedules: [{cron: 0 8 * * *, for: 1h, timezone: UTC, max_replicas: 1}]}"), true},
	{imageWith("autoscaling: {schedules: }"), true},
	{imageWith("autoscaling: {schedules: [{cron: 0 8 * * *, for: 1h}]}"), false},
	{imageWith("autoscaling: {schedules: [{cron: 0 8 * * *, min_replicas: 1}]}"), false},
	{imageWith("autoscaling: {schedules: [{for: 1h, min_replicas: 1}]}"), false},
	{imageWith("autoscaling: {schedules: [{cron: 0 8 * * *, for: 0, min_replicas: 1}]}"), false},
	{imageWith("autoscaling: {schedules: [{cron: 0 8 * * *, for: 1h, min_replicas: 1, name: x}]}"), false},
	{imageWith("min_replicas: 1"), false},
	{imageWith("warm: 2"), true},
	{imageWith("warm: -1"), false},
	{imageWith("update:"), true},
	{imageWith("update: {max_surge: 25%, max_unavailable: 0, min_ready: 5s, progress_deadline: 120, on_breaking_tools: hold}"), true},
	{imageWith("update: {max_surge: \"2\", max_unavailable: .5%}"), true},
	{imageWith("update: {max_surge: half}"), false},
	{imageWith("update: {max_surge: -1}"), false},
	{imageWith("update: {max_surge: -5%}"), false},
	{imageWith("update: {max_surge: 1.5}"), false},
	{imageWith("update: {progress_deadline: 0}"), false},
	{imageWith("update: {on_breaking_tools: stop}"), false},
	{imageWith("update: {verify: [{tool: t}, {tool: u, args: {a: [1, {b: null}]}, expect: ok}]}"), true},
	{imageWith("update: {verify: }"), true},
	{imageWith("update: {verify: [{args: {}}]}"), false},
	{imageWith("update: {verify: [{tool: t, args: [1]}]}"), false},
	{imageWith("update: {verify: [{tool: t, args: }]}"), false},
	{imageWith("update: {verify: {tool: t}}"), false},
	{imageWith("update: {canary: {steps: [5%, 25%, 100%], hold: 0, gate: manual}}"), true},
	{imageWith("update: {canary: {steps: [5]}}"), false},
	{imageWith("update: {canary: {steps: []}}"), false},
	{imageWith("update: {canary: {hold: 60s}}"), false},
	{imageWith("update: {canary: {steps: [5%], gate: nobody}}"), false},
	{imageWith("update: {canary: }"), false},
	{imageWith("devices: [/dev/dri, \"/dev/fuse:/dev/fuse:rw\", nvidia.com/gpu=all]"), true},
	{imageWith("devices:"), true},
	{imageWith("devices: [dev/dri]"), false},
	{imageWith("devices: /dev/dri"), false},
	{"servers: {x: {command: [y], devices: [/dev/dri]}}", false},
	{imageWith("resources: {custom: {gpu: 1, a.b-c: \"2\"}}"), true},
	{imageWith("resources: {custom: }"), true},
	{imageWith("resources: {custom: {gpu: 0}}"), false},
	{imageWith("resources: {custom: {gpu: 0.5}}"), false},
	{imageWith("resources: {custom: {memory: 1}}"), false},
	{imageWith("resources: {custom: {\"g p\": 1}}"), false},
	{imageWith("resources: {custom: [gpu]}"), false},
	{imageWith("max_replicas_per_node: 0"), false},
	{imageWith("resources:"), true},
	{imageWith("resources: {cpus: 0.5, memory: 512m, pids: 256}"), true},
	{imageWith("resources: {cpus: \".5\", memory: 1 GiB, pids: \"${N}\"}"), true},
	{imageWith("resources: {cpus: 0}"), false},
	{imageWith("resources: {cpus: 5000}"), false},
	{imageWith("resources: {cpus: half}"), false},
	{imageWith("resources: {memory: 512}"), false},
	{imageWith("resources: {memory: 536870912}"), true},
	{imageWith("resources: {memory: 5x}"), false},
	{imageWith("resources: {mem: 5g}"), false},
	{imageWith("resources: {pids: 0}"), false},
	{imageWith("max_ongoing_requests: 0"), false},
	{imageWith("max_queued_requests: 0"), true},
	{imageWith("max_request_bytes: 16m"), true},
	{imageWith("max_request_bytes: 4096"), true},
	{imageWith("max_request_bytes: 100"), false},
	{imageWith("max_request_bytes: large"), false},
	{imageWith("max_queued_requests: 1000001"), false},
	{imageWith("call_timeout: 5"), true},
	{imageWith("call_timeout: 1m30.5s"), true},
	{imageWith("call_timeout: 0"), false},
	{imageWith("call_timeout: 0.0001"), false},
	{imageWith("call_timeout: 2592001"), false},
	{imageWith("call_timeout: soon"), false},
	{imageWith("call_timeout: -5s"), false},
	{imageWith("drain_timeout: 0"), true},
	{imageWith("era: auto"), true},
	{imageWith("era: legacy"), true},
	{imageWith("era: 2026-07-28"), false},
	{imageWith("sessions: shared"), true},
	{imageWith("sessions: session"), true},
	{imageWith("sessions: session\n    max_sessions: 3\n    max_sessions_per_principal: 2\n    session_idle: 1m\n    session_lifetime: 720h\n    on_loss: 404\n    warm: 2"), true},
	{imageWith("sessions: session\n    on_loss: '404'"), true},
	{imageWith("sessions: session\n    on_loss: reinit"), true},
	{imageWith("sessions: session\n    on_loss: 410"), false},
	{imageWith("sessions: session\n    max_sessions: 0"), false},
	{imageWith("sessions: session\n    replicas: 2"), false},
	{imageWith("sessions: session\n    autoscaling: {}"), false},
	{imageWith("sessions: shared\n    max_sessions: 2"), false},
	{imageWith("session_idle: 1m"), false},
	{imageWith("sessions: all"), false},
	{imageWith("pull_policy: always"), true},
	{imageWith("pull_policy: sometimes"), false},
	{imageWith("health: {period: 2s, timeout: 1.5, failures: 2}"), true},
	{imageWith("health: {period: 0.05}"), false},
	{imageWith("health: off"), true},
	{imageWith("health: Off"), true},
	{imageWith("health: false"), true},
	{imageWith("health: true"), true},
	{imageWith("health: never"), false},
	{imageWith("health: 3"), false},
	{imageWith("health: {failures: 0}"), false},

	{"mcpServers: {x: {command: npx, args: [-y, thing], env: {A: b}}}", true},
	{"mcpServers: {My Server: {command: \"C:\\\\Program Files\\\\node.exe\", autoApprove: [a], timeout: 7, description: d}}\nglobalShortcut: x", true},
	{"mcpServers: {x: {type: stdio, command: docker, args: [run, -i, img], disabled: false}}", true},
	{"mcpServers: {x: {url: \"http://x\", disabled: true}}", true},
	{"mcpServers: {x: {command: y, replicas: 3}}", true},
	{"mcpServers: {x: {command: y, replicas: -3}}", false},
	{"mcpServers: {x: {url: \"http://x\"}}", false},
	{"mcpServers: {x: {command: y, comand: z}}", true},
	{"mcpServers: {x: {command: y, disabledTools: [a], includeTools: [b], isActive: true, envFile: }}", true},
	{"mcpServers: {x: {args: []}}", false},
	{"mcpServers: {\"!\": {command: y}}", true},
	{"mcpServers: {x: {command: y, args: null, env: null, cwd: null, envFile: null, image: null, mounts: null, replicas: null, disabled: null, disabledTools: null}}", true},
	{"mcpServers: {x: {image: x, command: null, cwd: /a, env: {A: null}, health: null, resources: null, labels: null}}", true},
	{"mcpServers: {x: {image: null, command: y, cwd: a}}", true},
	{"mcpServers: {x: {image: null, command: null}}", false},
	{"mcpServers: {x: {command: y, args: [null]}}", false},
	{"mcpServers: {x: {image: x, resources: {cpus: null}}}", false},
	{"servers: {x: {type: stdio, command: y, cwd: null}}", true},
	{"servers: {x: {command: y, cwd: null}}", false},
	{"servers: {x: {type: stdio, command: /a b}}\ninputs: []", true},
	{"servers: {x: {type: http, url: \"http://x\"}}", false},
}

// beyondSchema are documents on which Parse and the schema disagree, since the
// schema cannot express the rule.
var beyondSchema = []struct {
	reason string
	text   string
	valid  bool // for Parse
}{
	{"compares no values: a default server must exist", "servers: {}\ndefault_server: x", false},
	{"compares no values: max_call_duration and call_timeout", imageWith("max_call_duration: 5s"), false},
	{"compares no values: health's timeout and period", imageWith("health: {timeout: 20s}"), false},
	{"compares no values: min_replicas and max_replicas", imageWith("autoscaling: {min_replicas: 5, max_replicas: 4}"), false},
	{"compares no values: initial_replicas and max_replicas", imageWith("autoscaling: {initial_replicas: 5, max_replicas: 4}"), false},
	{"compares no values: bounds of a schedule", imageWith("autoscaling: {max_replicas: 4, schedules: [{cron: 0 8 * * *, for: 1h, min_replicas: 5}]}"), false},
	{"compares no values: steps of a canary", imageWith("update: {canary: {steps: [5%, 4%]}}"), false},
	{"compares no values: max_surge and max_unavailable", imageWith("update: {max_surge: 0}"), false},
	{"compares no values: progress_deadline and min_ready", imageWith("update: {min_ready: 1h}"), false},
	{"reads no units: shares", imageWith("update: {canary: {steps: [101%]}}"), false},
	{"knows no cron", imageWith("autoscaling: {schedules: [{cron: 0 25 * * *, for: 1h, min_replicas: 5}]}"), false},
	{"knows no time zones", imageWith("autoscaling: {schedules: [{cron: 0 8 * * *, timezone: Mars, for: 1h, min_replicas: 5}]}"), false},
	{"knows no CEL", imageWith("update: {verify: [{tool: t, expect: 'cel:result.'}]}"), false},
	{"compares no values: two mounts with one target", imageWith("mounts: [/a:/c, /b:/c]"), false},
	{"compares no values: a variable twice in a list", imageWith("env: [A=1, A=2]"), false},
	{"reads no units: bounds of durations", imageWith("call_timeout: 1000h"), false},
	{"reads no units: bounds of sizes", imageWith("resources: {memory: 5m}"), false},
	{"reads no strings: bounds of quoted numbers", imageWith("replicas: \"10001\""), false},
	{"knows no variables: one that is missing", imageWith("args: [$NOPE]"), false},
	{"knows no variables: one with a value that cannot be", imageWith("replicas: ${BAD}"), false},
	{"knows no variables: a path that is not absolute", imageWith("cwd: ${KEY}/a"), false},
	{"knows no variables: how they are written", imageWith("args: [\"5$\"]"), false},
	{"sees numbers, not their digits: 3.0 is whole", imageWith("replicas: 3.0"), false},
	{"sees numbers, not their digits: 0x10 is 16", imageWith("replicas: 0x10"), false},
	{"knows no options of docker run", "mcpServers: {x: {command: docker, args: [run, --privileged, img]}}", false},
	{"knows no forms of image names", "servers: {x: {image: Docker.io/MCP/time}}", false},
	{"knows no forms of run options", imageWith("run_options: [--shm-size=much]"), false},
	{"compares no values: run options that exclude each other", imageWith("run_options: [--ipc=host, --shm-size=1g]"), false},
	{"knows no names of capabilities", imageWith("cap_add: [CHWON]"), false},
	{"takes an empty list for none", imageWith("enabled_tools: []"), false},
	{"compares no values: a default tool that is off", imageWith("default_tool: a\n    disabled_tools: [a]"), false},
	{"leaves the types of servers to clients", "mcpServers: {x: {type: sse, command: y}}", false},
	{"does not look into commands", "mcpServers: {x: {command: npx -y y}}", false},
	{"VS Code allows any name, the schema labels only, to complain of wrong ones", "servers: {My Server: {type: stdio, command: y}}", true},
	{"principal is a mode of a later version", imageWith("sessions: principal"), false},
	{"a word that is no string counts as one for a user", imageWith("user: true"), true},
}

func TestSchemaSaysWhatParseSays(t *testing.T) {
	s := compiled(t)
	known := func(name string) (string, bool) {
		switch name {
		case "IMAGE", "PROGRAM":
			return "y", true
		case "FLAG":
			return "true", true
		}
		return lookup(name)
	}
	for _, tt := range verdicts {
		_, parsed := Parse([]byte(tt.text), Options{Lookup: known})
		schema := validate(s, "", tt.text)
		if (parsed == nil) != tt.valid || (schema == nil) != tt.valid {
			t.Errorf("%s\nwant valid: %t\nParse: %v\nschema: %v", tt.text, tt.valid, parsed, schema)
		}
	}
	for _, tt := range beyondSchema {
		_, parsed := Parse([]byte(tt.text), Options{Lookup: known})
		schema := validate(s, "", tt.text)
		if (parsed == nil) != tt.valid || (schema == nil) == tt.valid {
			t.Errorf("%s: %s\nwant valid for Parse alone: %t\nParse: %v\nschema: %v", tt.reason, tt.text, tt.valid, parsed, schema)
		}
	}
}

// The output of Encode is valid.
func TestSchemaOfEncoded(t *testing.T) {
	s := compiled(t)
	data, err := Encode(mustParse(t, "conf/f.yaml", everything))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate(s, "f.json", string(data)); err != nil {
		t.Errorf("%v\n%s", err, data)
	}
}

// Writing the schema's default for a key changes nothing.
func TestSchemaDefaults(t *testing.T) {
	var schema struct {
		Defs map[string]struct {
			Properties map[string]struct {
				Default any `json:"default"`
			} `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	want := mustParse(t, "f.yaml", "servers: {x: {image: x}}")
	check := func(server map[string]any) {
		server["image"] = "x"
		text, err := json.Marshal(map[string]any{"servers": map[string]any{"x": server}})
		if err != nil {
			t.Fatal(err)
		}
		if got := mustParse(t, "f.json", string(text)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngot  %+v\nwant %+v", text, got, want)
		}
	}
	var with []string
	for key, p := range schema.Defs["server"].Properties {
		if p.Default != nil {
			with = append(with, key)
			check(map[string]any{key: p.Default})
		}
	}
	for _, section := range []string{"health", "update", "autoscaling"} {
		if section == "autoscaling" { // a server without it is another one
			want = mustParse(t, "f.yaml", "servers: {x: {image: x, replicas: auto}}")
		}
		for key, p := range schema.Defs[section].Properties {
			if p.Default != nil {
				with = append(with, section+"."+key)
				check(map[string]any{section: map[string]any{key: p.Default}})
			}
		}
	}
	slices.Sort(with)
	const all = "autoscaling.downscale_delay_s autoscaling.downscaling_factor autoscaling.look_back_period_s autoscaling.max_replicas autoscaling.min_replicas " +
		"autoscaling.target_ongoing_requests autoscaling.upscale_delay_s autoscaling.upscaling_factor call_timeout health.failures health.period health.timeout max_call_duration max_ongoing_requests max_queued_requests " +
		"max_request_bytes no_new_privileges pull_policy read_only replicas sessions start_timeout stop_grace " +
		"update.max_surge update.max_unavailable update.min_ready update.on_breaking_tools update.progress_deadline"
	if got := strings.Join(with, " "); got != all {
		t.Errorf("keys with defaults:\ngot  %s\nwant %s", got, all)
	}
}

// The parser, the schema and the documentation know the same keys.
func TestKeys(t *testing.T) {
	var schema struct {
		Properties map[string]any `json:"properties"`
		Defs       map[string]struct {
			Properties map[string]any `json:"properties"`
			Else       struct {
				Properties map[string]any `json:"properties"`
			} `json:"else"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/FLEETFILE.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name       string
		shape      shape
		properties map[string]any
		text       func(key string) string // a file with an impossible value for the key
	}{
		{"document", documentShape, schema.Properties, nil},
		{"server", serverShape, schema.Defs["server"].Properties, func(key string) string { return "servers: {x: {" + key + ": !!binary aGk=}}" }},
		{"client_server", clientShape, schema.Defs["client_server"].Else.Properties, func(key string) string { return "mcpServers: {x: {" + key + ": !!binary aGk=}}" }},
		{"mount", mountShape, schema.Defs["mount"].Properties, func(key string) string { return imageWith("mounts: [{" + key + ": !!binary aGk=}]") }},
		{"resources", resourcesShape, schema.Defs["resources"].Properties, func(key string) string { return imageWith("resources: {" + key + ": !!binary aGk=}") }},
		{"health", healthShape, schema.Defs["health"].Properties, func(key string) string { return imageWith("health: {" + key + ": !!binary aGk=}") }},
		{"autoscaling", autoscalingShape, schema.Defs["autoscaling"].Properties, func(key string) string { return imageWith("autoscaling: {" + key + ": !!binary aGk=}") }},
		{"schedule", scheduleShape, schema.Defs["schedule"].Properties, func(key string) string {
			return imageWith("autoscaling: {schedules: [{" + key + ": !!binary aGk=}]}")
		}},
		{"update", updateShape, schema.Defs["update"].Properties, func(key string) string { return imageWith("update: {" + key + ": !!binary aGk=}") }},
		{"verify", verifyShape, schema.Defs["verify"].Properties, func(key string) string { return imageWith("update: {verify: [{" + key + ": !!binary aGk=}]}") }},
		{"canary", canaryShape, schema.Defs["canary"].Properties, func(key string) string { return imageWith("update: {canary: {" + key + ": !!binary aGk=}}") }},
	}
	for _, tt := range tests {
		if len(tt.shape.order) != len(tt.properties) {
			t.Errorf("%s: the parser knows %d keys, the schema %d", tt.name, len(tt.shape.order), len(tt.properties))
		}
		for _, key := range tt.shape.order {
			if _, ok := tt.properties[key]; !ok {
				t.Errorf("%s: the schema lacks %s", tt.name, key)
			}
			if tt.text == nil || tt.shape.keys[key].kind == kindIgnored {
				continue
			}
			// The key is decoded if the error is about its value.
			_, err := Parse([]byte(tt.text(key)), Options{})
			if err == nil || strings.Contains(err.Error(), "unknown key") || !strings.Contains(err.Error(), key) {
				t.Errorf("%s: %s is not decoded: %v", tt.name, key, err)
			}
		}
	}
	for section, shape := range map[string]shape{"autoscaling": autoscalingShape, "update": updateShape, "update.canary": canaryShape} {
		for _, key := range shape.order {
			if !bytes.Contains(docs, []byte("`"+section+"."+key)) && !bytes.Contains(docs, []byte("`."+key+"`")) && key != "canary" {
				t.Errorf("docs/FLEETFILE.md lacks %s.%s", section, key)
			}
		}
	}
	for prefix, shape := range map[string]shape{"autoscaling.": autoscalingShape, "": scheduleShape} {
		for key, k := range shape.keys {
			if k.high != 0 && !hasBounds(docs, prefix, key, k) {
				t.Errorf("docs/FLEETFILE.md has no row for %s%s with the bounds %d and %d", prefix, key, k.low, k.high)
			}
		}
	}
	for prefix, shape := range map[string]shape{"tools": toolsShape, "tools.overrides.TOOL": overrideShape, "gateways.NAME": gatewayShape} {
		for _, key := range shape.order {
			if !bytes.Contains(docs, []byte("`"+prefix+"."+key+"`")) && !bytes.Contains(docs, []byte("`."+key+"`")) {
				t.Errorf("docs/FLEETFILE.md lacks %s.%s", prefix, key)
			}
		}
	}
	for _, key := range serverShape.order {
		if key == "enabled_tools" || key == "disabled_tools" {
			continue // former names
		}
		if !regexp.MustCompile("(?m)^\\| `" + key + "[`.]").Match(docs) {
			if serverShape.keys[key].kind != kindSection || !bytes.Contains(docs, []byte("`"+key+".")) {
				t.Errorf("docs/FLEETFILE.md has no row for %s", key)
			}
		}
	}
}

// hasBounds reports whether a table has a row for the key whose third column has its
// bounds. Keys that share a row may leave out the prefix after the first.
func hasBounds(docs []byte, prefix, key string, k keyShape) bool {
	read := func(s []byte) int64 {
		if k.kind == kindDuration {
			d, _ := time.ParseDuration(string(s))
			return int64(d)
		}
		n, _ := strconv.ParseInt(string(s), 10, 64)
		return n
	}
	row := regexp.MustCompile("(?m)^\\| `(?:" + prefix + key + "`|" + prefix + "[^|]*`\\." + key + "`)[^|]*\\|[^|]*\\| (above )?(\\w+),? to (\\w+)[ ,]")
	for _, m := range row.FindAllSubmatch(docs, -1) {
		if read(m[2]) == k.low && read(m[3]) == k.high && (m[1] != nil) == (k.kind == kindNumber) {
			return true
		}
	}
	return false
}

// Every fleet file in the repository and its documentation is valid.
func TestSchemaOfExamples(t *testing.T) {
	texts := map[string]string{}
	for _, pattern := range []string{"../../examples/*", "../../deploy/compose/fleet/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files, %v", pattern, err)
		}
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			texts[name] = string(data)
		}
	}
	block := regexp.MustCompile("(?s)```(?:yaml|json)\n(.*?)```")
	docs, err := os.ReadFile("../../docs/FLEETFILE.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := block.FindAllSubmatch(docs, -1)
	if len(blocks) < 2 {
		t.Fatalf("%d examples in docs/FLEETFILE.md", len(blocks))
	}
	for i, m := range blocks {
		texts[fmt.Sprintf("docs/FLEETFILE.md, example %d", i+1)] = string(m[1])
	}
	s := compiled(t)
	for name, text := range texts {
		if _, err := Parse([]byte(text), Options{Filename: name, Lookup: func(string) (string, bool) { return "1", true }}); err != nil {
			t.Error(err)
		}
		if err := validate(s, name, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
