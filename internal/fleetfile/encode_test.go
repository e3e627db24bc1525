package fleetfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const everything = `
default_server: x
servers:
  x:
    image: docker.io/mcp/x
    pull_policy: always
    entrypoint: [node, main.js]
    args: [--port, 8080, "${KEY}", "$$HOME", "${EVIL}"]
    env: { A: "${KEY}", B: "", C: "$$x", KEY: , M: "***" }
    cwd: /srv
    mounts: ["/data:/data:ro", {source: ./rel, target: /rel, selinux: z}, "volume:/v:Z"]
    run_options: [--shm-size=1g, --add-host=db:10.0.0.7]
    enabled_tools: [go, stop]
    disabled_tools: [stop]
    network: none
    user: 1000:1000
    read_only: true
    cap_add: [chown, CAP_SETUID]
    no_new_privileges: false
    labels: { disk: ssd }
    default_tool: go
    replicas: 0
    max_replicas_per_node: 2
    resources: { cpus: 0.0000001, memory: 512m, pids: 256 }
    max_ongoing_requests: 4
    max_queued_requests: 0
    max_request_bytes: 1048577
    call_timeout: 5s
    max_call_duration: 7.000000001s
    sessions: shared
    era: legacy
    health: { period: 2s, timeout: 1.5, failures: 2 }
    start_timeout: 90
    stop_grace: 500ms
    drain_timeout: 0
    devices: [/dev/fuse:/dev/fuse:rw, nvidia.com/gpu=all]
    warm: 1
    update:
      max_surge: 12.5%
      max_unavailable: 1
      min_ready: 0
      progress_deadline: 1m30.000000001s
      verify: [{tool: go, args: {q: "${KEY}<", n: 1e3, big: 12345678901234567890, list: [true, null, 0x10]}, expect: "cel:!result.isError"}, {tool: stop}]
      on_breaking_tools: hold
      canary: {steps: [5%, "50%", 100%], hold: 2m, gate: manual}
  z:
    command: z
    resources: { custom: {gpu: 1, licence-a.b: 3} }
    autoscaling:
      min_replicas: 0
      initial_replicas: 3
      max_replicas: 10
      target_ongoing_requests: 0.3
      upscale_delay_s: 0.1
      downscale_delay_s: 1m0.000000001s
      downscale_to_zero_delay_s: 300
      upscaling_factor: 1.5
      downscaling_factor: 0.5
      look_back_period_s: "10"
      schedules: [{cron: "0 8 * * 1-5", timezone: Europe/Berlin, for: 10h, min_replicas: 2}, {cron: "0 0 * * *", for: 90m, min_replicas: 0, max_replicas: 1}]
  auto:
    command: z
    replicas: auto
  y:
    command: [sh, -c, "a b"]
    cwd: sub
    health: off
`

func TestEncode(t *testing.T) {
	f := mustParse(t, "conf/f.yaml", everything)
	data, err := Encode(f)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseLiteral(data, Options{})
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	if !reflect.DeepEqual(again, f) {
		t.Errorf("got  %+v\nwant %+v", again, f)
	}
	if second, err := Encode(again); err != nil || !bytes.Equal(second, data) {
		t.Errorf("encoded again, %v:\n%s\nwant\n%s", err, second, data)
	}
	for name, want := range f.Servers {
		data, err := json.Marshal(viewOf(&want))
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := ParseServer(name, data, Options{}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\ngot  %+v\nwant %+v", name, err, got, want)
		}
	}
	if data, err := Encode(&File{}); err != nil || string(data) != `{"servers":{}}` {
		t.Errorf("no servers: %s, %v", data, err)
	}
}

func TestParseLiteral(t *testing.T) {
	f, err := ParseLiteral([]byte("servers: {x: {image: x, args: [$HOME, \"${KEY}\", 5$, $$], env: {A: \"${\"}}}"), Options{Lookup: lookup})
	if err != nil {
		t.Fatal(err)
	}
	s := f.Servers["x"]
	if want := []string{"$HOME", "${KEY}", "5$", "$$"}; !reflect.DeepEqual(s.Args, want) || s.Env["A"] != "${" {
		t.Errorf("got %q and %q", s.Args, s.Env)
	}
	tests := []struct{ name, text, want string }{
		{"variable in a number", "servers: {x: {image: x, replicas: \"${N}\"}}", `fleet file:1:35: servers.x.replicas: must be a whole number, or auto, not "${N}"`},
		{"bare variable", "servers: {x: {image: x, env: [KEY]}}", "fleet file:1:31: servers.x.env[0]: needs a value: there is no environment to take it from"},
		{"null variable", "servers: {x: {image: x, env: {KEY: }}}", "fleet file:1:31: servers.x.env.KEY: needs a value: there is no environment to take it from"},
		{"-e without value", `{"mcpServers": {"x": {"command": "docker", "args": ["run", "-e", "KEY", "img"]}}}`,
			"fleet file:1:66: mcpServers.x.args[2]: env has no variable KEY, and there is no environment to take it from"},
		{"relative directory", "servers: {x: {command: [y], cwd: a}}", "fleet file:1:34: servers.x.cwd: must be an absolute path"},
		{"relative mount", "servers: {x: {image: x, mounts: [./a:/b]}}", "fleet file:1:34: servers.x.mounts: the source of a mount must be an absolute path, or the name of a volume"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseLiteral([]byte(tt.text), Options{Lookup: lookup}); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestParseServer(t *testing.T) {
	want := withDefaults(func(s *fleet.Spec) { s.Replicas, s.CallTimeout = 2, 5*time.Second })
	for _, body := range []string{`{"image": "docker.io/mcp/x", "replicas": 2, "call_timeout": "5s"}`, "image: docker.io/mcp/x\nreplicas: 2\ncall_timeout: 5"} {
		if got, _, err := ParseServer("x", []byte(body), Options{}); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v\ngot  %+v\nwant %+v", err, got, want)
		}
	}
	tests := []struct {
		name      fleet.ServerName
		body      string
		want      string // path: message
		malformed bool
	}{
		{"tools", "image: x", `: the name "tools" is reserved`, false},
		{"X", "image: x", `: a server's name consists of lower case letters, digits and inner hyphens`, false},
		{"x", "", ": the spec is empty; a server needs an image or a command", true},
		{"x", "null", ": the spec is empty; a server needs an image or a command", true},
		{"x", "{", ": not valid YAML: did not find expected node content", true},
		{"x", "[]", ": must be a mapping of keys to values, not a list", true},
		{"x", "{}", ": needs an image or a command", true},
		{"x", "servers: {}", "servers: unknown key", true},
		{"x", "image: x\nreplcas: 1", "replcas: unknown key; did you mean replicas?", true},
		{"x", "image: x\nimage: y", "image: duplicate key, first seen in line 1", true},
		{"x", "image: 7", "image: must be a string, not 7; quote it if a string is meant", true},
		{"x", "image: x\nresources: {memory: lots}", `resources.memory: must be an amount of memory, such as 512m or 1GiB, not "lots"`, true},
		{"x", "image: x\nreplicas: -1", `replicas: must be between 0 and 10000, not "-1"`, false},
		{"x", "image: x\nenv: {A B: y}", "env.A B: not a valid name for a variable", false},
		{"x", "image: x\ncommand: [y]", "command: a server has either an image or a command; to replace the image's own, use entrypoint and args", false},
		{"x", "command: x\ntype: stdio\ndisabled: true", "disabled: a server cannot be switched off; replicas: 0 stops it", false},
	}
	for _, tt := range tests {
		t.Run(tt.body, func(t *testing.T) {
			spec, _, err := ParseServer(tt.name, []byte(tt.body), Options{})
			var errs Errors
			if !errors.As(err, &errs) || len(errs) == 0 {
				t.Fatalf("accepted: %+v, %v", spec, err)
			}
			if got := errs[0].Path + ": " + errs[0].Msg; got != tt.want || errs.Malformed() != tt.malformed {
				t.Errorf("got  %s, malformed %t\nwant %s, malformed %t", got, errs.Malformed(), tt.want, tt.malformed)
			}
		})
	}
}

// Specs are sent as JSON, which would change bytes that are not UTF-8.
func TestNotUTF8(t *testing.T) {
	bad := func(string) (string, bool) { return "a\xff", true }
	for _, text := range []string{
		`{"servers": {"x": {"image": "x", "args": ["${A}"]}}}`,
		`{"servers": {"x": {"image": "x", "env": {"A": "${A}"}}}}`,
		`{"servers": {"x": {"image": "x", "env": ["A"]}}}`,
		`{"servers": {"x": {"image": "x", "env": {"A": null}}}}`,
		`{"mcpServers": {"x": {"command": "docker", "args": ["run", "-e", "A", "x"]}}}`,
	} {
		if f, err := Parse([]byte(text), Options{Lookup: bad}); err == nil || !strings.Contains(err.Error(), "must be UTF-8") {
			t.Errorf("%s: got %+v, %v", text, f, err)
		}
	}
}
