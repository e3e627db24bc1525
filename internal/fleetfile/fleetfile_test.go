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

	"github.com/mcpfleet/mcpfleet/internal/expect"
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
			DrainTimeout: fleet.DrainCalls,
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

// lines joins the messages of several errors.
func lines(messages ...string) string { return strings.Join(messages, "\n") }

// badExpression returns what is wrong with an expectation.
func badExpression(t *testing.T, text string) string {
	t.Helper()
	_, err := expect.Parse(text)
	if err == nil {
		t.Fatalf("%s is a good expectation", text)
	}
	return err.Error()
}

func autoscaledByDefault(s *fleet.Spec) {
	s.Replicas, s.Autoscaling = 0, new(fleet.DefaultAutoscaling())
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
era: modern
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
				Labels: map[string]string{"disk": "ssd"}, Resources: fleet.Resources{CPUs: 0.5, Memory: 512 << 20, PIDs: 256}, Sessions: "shared", Era: fleet.EraModern,
				Health:       fleet.Health{Period: 2 * time.Second, Timeout: 1500 * time.Millisecond, Failures: 2},
				StartTimeout: 90 * time.Second, StopGrace: 500 * time.Millisecond,
			},
			Replicas: 3, MaxReplicasPerNode: 2, MaxOngoingRequests: 4, MaxRequestBytes: 64 << 20, CallTimeout: 5 * time.Second, MaxCallDuration: 90 * time.Second, DefaultTool: "go",
			EnabledTools: []string{"go", "stop"}, DisabledTools: []string{"stop"},
		}},
		{"autoscaling", `
image: docker.io/mcp/x
autoscaling:
  min_replicas: 0
  initial_replicas: 3
  max_replicas: 10
  target_ongoing_requests: 0.5
  upscale_delay_s: 0.1
  downscale_delay_s: 1m
  downscale_to_zero_delay_s: 300
  upscaling_factor: 1.5
  downscaling_factor: 0.5
  look_back_period_s: 10
  schedules: [{cron: "0 8 * * 1-5", timezone: Europe/Berlin, for: 10h, min_replicas: 2, max_replicas: 4}]`, withDefaults(func(s *fleet.Spec) {
			s.Replicas = 0
			s.Autoscaling = &fleet.Autoscaling{
				MinReplicas: 0, InitialReplicas: new(3), MaxReplicas: 10, TargetOngoing: 0.5, UpscaleDelay: 100 * time.Millisecond, DownscaleDelay: time.Minute,
				DownscaleToZeroDelay: new(5 * time.Minute), UpscalingFactor: 1.5, DownscalingFactor: 0.5, LookBack: 10 * time.Second,
				Schedules: []fleet.ScalingSchedule{{Cron: "0 8 * * 1-5", Timezone: "Europe/Berlin", For: 10 * time.Hour, MinReplicas: new(2), MaxReplicas: new(4)}},
			}
		})},
		{"auto", "image: docker.io/mcp/x\nreplicas: auto", withDefaults(autoscaledByDefault)},
		{"auto by a variable", "image: docker.io/mcp/x\nreplicas: ${AUTO:-auto}", withDefaults(autoscaledByDefault)},
		{"auto, and what it means", "image: docker.io/mcp/x\nreplicas: auto\nautoscaling: {}", withDefaults(autoscaledByDefault)},
		{"autoscaling alone", "image: docker.io/mcp/x\nautoscaling: {min_replicas: 1}", withDefaults(autoscaledByDefault)},
		{"update", `
image: docker.io/mcp/x
update:
  max_surge: 2
  max_unavailable: 12.5%
  min_ready: 1s
  progress_deadline: 30
  verify: [{tool: t, args: {q: "${KEY}", n: 2.50, no: null, l: [1, "1", true]}, expect: fine}, {tool: u}]
  on_breaking_tools: hold
  canary: {steps: [0.5%, 25%]}`, withDefaults(func(s *fleet.Spec) {
			s.Update = &fleet.Update{
				MaxSurge: fleet.Amount{Count: 2}, MaxUnavailable: fleet.Amount{Percent: 12.5}, MinReady: time.Second, ProgressDeadline: 30 * time.Second,
				Verify: []fleet.VerifyCall{
					{Tool: "t", Args: json.RawMessage(`{"l":[1,"1",true],"n":2.50,"no":null,"q":"s3cret"}`), Expect: "fine"}, {Tool: "u", Args: json.RawMessage("{}"), Expect: "ok"},
				},
				OnBreakingTools: fleet.BreakingHold, Canary: &fleet.Canary{Steps: []float64{0.5, 25}, Hold: time.Minute, Gate: fleet.GateAuto},
			}
		})},
		{"the update that is made anyway", "image: docker.io/mcp/x\nupdate: {max_surge: 25%, max_unavailable: 0%, min_ready: 5, progress_deadline: 2m, on_breaking_tools: warn}", withDefaults(nil)},
		{"no update policy", "image: docker.io/mcp/x\nupdate:", withDefaults(nil)},
		{"devices and spares", "image: docker.io/mcp/x\ndevices: [/dev/dri, nvidia.com/gpu=all]\nwarm: 2\nresources: {custom: {gpu: 2}}", withDefaults(func(s *fleet.Spec) {
			s.Devices, s.Warm, s.Resources.Custom = []string{"/dev/dri", "nvidia.com/gpu=all"}, 2, map[string]int64{"gpu": 2}
		})},
		{"sessions", "image: docker.io/mcp/x\nsessions: session\nwarm: 2", withDefaults(func(s *fleet.Spec) {
			s.Sessions, s.Warm, s.Replicas = fleet.SessionsSession, 2, 0
			s.MaxSessions, s.SessionIdle, s.SessionLifetime, s.OnLoss = 100, 10*time.Minute, 24*time.Hour, fleet.OnLossReinit
		})},
		{"all keys of sessions", "image: docker.io/mcp/x\nsessions: session\nmax_sessions: 9\nmax_sessions_per_principal: 3\nsession_idle: 30\nsession_lifetime: 1h\non_loss: 404", withDefaults(func(s *fleet.Spec) {
			s.Sessions, s.Replicas = fleet.SessionsSession, 0
			s.MaxSessions, s.SessionsEach, s.SessionIdle, s.SessionLifetime, s.OnLoss = 9, 3, 30*time.Second, time.Hour, fleet.OnLossNotFound
		})},
		{"a short life of sessions", "image: docker.io/mcp/x\nsessions: session\nsession_lifetime: 1m", withDefaults(func(s *fleet.Spec) {
			s.Sessions, s.Replicas = fleet.SessionsSession, 0
			s.MaxSessions, s.SessionIdle, s.SessionLifetime, s.OnLoss = 100, time.Minute, time.Minute, fleet.OnLossReinit
		})},
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
		{"key of a later version", "", image("rate_limit: 5"), "f.yaml:4:5: servers.x.rate_limit: not supported yet"},
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
		{"string for a number", "", image("replicas: three"), `f.yaml:4:15: servers.x.replicas: must be a whole number, or auto, not "three"`},
		{"fraction", "", image("replicas: 1.5"), `f.yaml:4:15: servers.x.replicas: must be a whole number, or auto, not "1.5"`},
		{"negative", "", image("replicas: -1"), `f.yaml:4:15: servers.x.replicas: must be between 0 and 10000, not "-1"`},
		{"map for a number", "", image("replicas: {}"), "f.yaml:4:15: servers.x.replicas: must be a whole number, or auto, not a mapping"},
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
		{"a number beside autoscaling", "", image("replicas: 3\n    autoscaling: {}"),
			"f.yaml:4:15: servers.x.replicas: is a fixed number, and the server has autoscaling; leave one of the two out"},
		{"no queue for a server that goes idle", "", image("max_queued_requests: 0\n    autoscaling: {min_replicas: 0}"),
			"f.yaml:4:26: servers.x.max_queued_requests: must not be 0 with autoscaling.min_replicas: 0: a call to an idle server waits until it has started"},
		{"autoscaling without a value", "", image("autoscaling:"), "f.yaml:4:17: servers.x.autoscaling: has no value; write {} for the defaults"},
		{"a key outside its section", "", image("min_replicas: 0"), "f.yaml:4:5: servers.x.min_replicas: unknown key; did you mean autoscaling.min_replicas?"},
		{"another key outside its section", "", image("canary: {}"), "f.yaml:4:5: servers.x.canary: unknown key; did you mean update.canary?"},
		{"Ray Serve's interval of metrics", "", image("autoscaling: {metrics_interval_s: 10}"), "f.yaml:4:19: servers.x.autoscaling.metrics_interval_s: not supported yet"},
		{"Ray Serve's smoothing factor", "", image("autoscaling: {smoothing_factor: 1}"), "f.yaml:4:19: servers.x.autoscaling.smoothing_factor: not supported yet"},
		{"Ray Serve's aggregation function", "", image("autoscaling: {aggregation_function: mean}"), "f.yaml:4:19: servers.x.autoscaling.aggregation_function: not supported yet"},
		{"Ray Serve's policy", "", image("autoscaling: {policy: {policy_function: m:f}}"), "f.yaml:4:19: servers.x.autoscaling.policy: not supported yet"},
		{"min above max", "", image("autoscaling: {min_replicas: 5, max_replicas: 4}"), "f.yaml:4:33: servers.x.autoscaling.min_replicas: must not be above max_replicas, which is 4"},
		{"min above the default max", "", image("autoscaling: {min_replicas: 101}"), "f.yaml:4:33: servers.x.autoscaling.min_replicas: must not be above max_replicas, which is 100"},
		{"no max", "", image("autoscaling: {max_replicas: 0}"), `f.yaml:4:33: servers.x.autoscaling.max_replicas: must be between 1 and 10000, not "0"`},
		{"negative min", "", image("autoscaling: {min_replicas: -1}"), `f.yaml:4:33: servers.x.autoscaling.min_replicas: must be between 0 and 10000, not "-1"`},
		{"initial below min", "", image("autoscaling: {initial_replicas: 0}"), "f.yaml:4:37: servers.x.autoscaling.initial_replicas: must not be below min_replicas, which is 1"},
		{"initial above max", "", image("autoscaling: {initial_replicas: 9, max_replicas: 8}"), "f.yaml:4:37: servers.x.autoscaling.initial_replicas: must not be above max_replicas, which is 8"},
		{"a target of 0", "", image("autoscaling: {target_ongoing_requests: 0}"), `f.yaml:4:44: servers.x.autoscaling.target_ongoing_requests: must be above 0, and at most 10000, not "0"`},
		{"a target that is no number", "", image("autoscaling: {target_ongoing_requests: .nan}"), `f.yaml:4:44: servers.x.autoscaling.target_ongoing_requests: must be a number, not ".nan"`},
		{"a negative factor", "", image("autoscaling: {upscaling_factor: -1}"), `f.yaml:4:37: servers.x.autoscaling.upscaling_factor: must be above 0, and at most 100, not "-1"`},
		{"a negative delay", "", image("autoscaling: {downscale_delay_s: -1}"), `f.yaml:4:38: servers.x.autoscaling.downscale_delay_s: must be between 0s and 24h0m0s, not "-1"`},
		{"no period", "", image("autoscaling: {look_back_period_s: 0}"), `f.yaml:4:39: servers.x.autoscaling.look_back_period_s: must be between 100ms and 24h0m0s, not "0"`},
		{"schedules that are none", "", image("autoscaling: {schedules: {}}"), "f.yaml:4:30: servers.x.autoscaling.schedules: must be a list of schedules, each with cron and for, not a mapping"},
		{"a schedule of nothing", "", image("autoscaling: {schedules: [{}]}"), lines(
			"f.yaml:4:31: servers.x.autoscaling.schedules[0].cron: is missing: a schedule says when it begins with cron, and how long it lasts with for",
			"f.yaml:4:31: servers.x.autoscaling.schedules[0].for: is missing: a schedule says when it begins with cron, and how long it lasts with for",
			"f.yaml:4:31: servers.x.autoscaling.schedules[0]: needs min_replicas or max_replicas")},
		{"a schedule that lasts no time", "", image("autoscaling: {schedules: [{cron: 0 8 * * *, for: 0, min_replicas: 1}]}"),
			`f.yaml:4:54: servers.x.autoscaling.schedules[0].for: must be between 1m0s and 8784h0m0s, not "0"`},
		{"a schedule that cannot be read", "", image("autoscaling: {schedules: [{cron: 0 25 * * *, timezone: Mars/Base, for: 1h, min_replicas: 1}]}"),
			"f.yaml:4:60: servers.x.autoscaling.schedules[0].timezone: unknown time zone; use a name such as Europe/Berlin"},
		{"cron that cannot be read", "", image("autoscaling: {schedules: [{for: 1h, min_replicas: 1, cron: 0 25 * * *}]}"),
			"f.yaml:4:64: servers.x.autoscaling.schedules[0].cron: not valid: syntax error in hour field: '25'"},
		{"a schedule above the maximum, which stands after it", "", image("autoscaling: {schedules: [{cron: 0 8 * * *, for: 1h, min_replicas: 5, max_replicas: 9}], max_replicas: 4}"), lines(
			"f.yaml:4:72: servers.x.autoscaling.schedules[0].min_replicas: must not be above max_replicas, which is 4",
			"f.yaml:4:89: servers.x.autoscaling.schedules[0].max_replicas: must not be above the max_replicas of autoscaling, which is 4")},
		{"a schedule with min above max", "", image("autoscaling: {schedules: [{cron: 0 8 * * *, for: 1h, min_replicas: 5, max_replicas: 4}]}"),
			"f.yaml:4:72: servers.x.autoscaling.schedules[0].min_replicas: must not be above max_replicas, which is 4"},
		{"an update that cannot move", "", image("update: {max_surge: 0%}"), "f.yaml:4:25: servers.x.update.max_surge: must not be 0 if max_unavailable is 0: no replica could be replaced"},
		{"a surge that is no number", "", image("update: {max_surge: some}"), `f.yaml:4:25: servers.x.update.max_surge: must be a number of replicas, or a share such as 25%, not "some"`},
		{"a surge below 0", "", image("update: {max_surge: -1}"), `f.yaml:4:25: servers.x.update.max_surge: must be between 0 and 10000, not "-1"`},
		{"a share above all", "", image("update: {max_unavailable: 101%}"), `f.yaml:4:31: servers.x.update.max_unavailable: must be at most 100%, not "101%"`},
		{"a share below 0", "", image("update: {max_unavailable: -5%}"), `f.yaml:4:31: servers.x.update.max_unavailable: must be a number of replicas, or a share such as 25%, not "-5%"`},
		{"a deadline before a replica counts", "", image("update: {progress_deadline: 5s}"),
			"f.yaml:4:33: servers.x.update.progress_deadline: progress_deadline, which is 5s, must be longer than min_ready, which is 5s"},
		{"replicas that count after the deadline", "", image("update: {min_ready: 3m}"),
			"f.yaml:4:25: servers.x.update.min_ready: progress_deadline, which is 2m0s, must be longer than min_ready, which is 3m0s"},
		{"no such choice", "", image("update: {on_breaking_tools: stop}"), `f.yaml:4:33: servers.x.update.on_breaking_tools: must be warn or hold, not "stop"`},
		{"a call of no tool", "", image("update: {verify: [{expect: ok}]}"), "f.yaml:4:23: servers.x.update.verify[0].tool: is missing: a call needs the name of a tool"},
		{"arguments that are no object", "", image("update: {verify: [{tool: t, args: [1]}]}"), "f.yaml:4:39: servers.x.update.verify[0].args: must be a mapping of keys to values, not a list"},
		{"an argument that JSON has not", "", image("update: {verify: [{tool: t, args: {a: [.inf]}}]}"), `f.yaml:4:44: servers.x.update.verify[0].args.a[0]: must be a value that JSON has, not ".inf"`},
		{"a bad expression", "", image("update: {verify: [{tool: t, expect: 'cel:result.'}]}"), "f.yaml:4:41: servers.x.update.verify[0].expect: " + badExpression(t, "cel:result.")},
		{"a canary without a value", "", image("update: {canary: }"), "f.yaml:4:22: servers.x.update.canary.steps: needs a step, such as 5%"},
		{"a canary without steps", "", image("update: {canary: {}}"), "f.yaml:4:22: servers.x.update.canary.steps: needs a step, such as 5%"},
		{"a step above all", "", image("update: {canary: {steps: [5%, 101%]}}"), `f.yaml:4:35: servers.x.update.canary.steps[1]: must be at most 100%, not "101%"`},
		{"a step of nothing", "", image("update: {canary: {steps: [0%]}}"), "f.yaml:4:31: servers.x.update.canary.steps[0]: must be above 0%"},
		{"a step that is no share", "", image("update: {canary: {steps: [5]}}"), `f.yaml:4:31: servers.x.update.canary.steps[0]: must be a share of the calls, such as 5%, not "5"`},
		{"steps that do not grow", "", image("update: {canary: {steps: [5%, 5%]}}"), "f.yaml:4:35: servers.x.update.canary.steps[1]: must be above the step before it, which is 5%"},
		{"negative spares", "", image("warm: -1"), `f.yaml:4:11: servers.x.warm: must be between 0 and 1000, not "-1"`},
		{"a bad device", "", image("devices: [dev/dri]"),
			"f.yaml:4:15: servers.x.devices[0]: a device is an absolute path of the node, such as /dev/dri, or a CDI name, such as nvidia.com/gpu=all"},
		{"devices of a process", "", "servers:\n  x:\n    command: y\n    devices: [/dev/dri]", "f.yaml:4:14: servers.x.devices: is for images; a command runs as a plain process"},
		{"a bad name of a resource", "", image("resources: {custom: {memory: 1}}"), "f.yaml:4:26: servers.x.resources.custom.memory: memory is not a countable resource; its key is resources.memory"},
		{"half a resource", "", image("resources: {custom: {gpu: 0.5}}"), `f.yaml:4:31: servers.x.resources.custom.gpu: must be a whole number, not "0.5"`},
		{"later session mode", "", image("sessions: principal"), "f.yaml:4:15: servers.x.sessions: principal is not supported yet: a replica for each user needs access control, which does not exist; use session or shared"},
		{"replicas beside sessions", "", image("sessions: session\n    replicas: 2"), "f.yaml:5:15: servers.x.replicas: is not for sessions: session; the number of replicas is that of the sessions and of warm, at most max_sessions"},
		{"a modern server with sessions", "", image("sessions: session\n    era: modern"), "f.yaml:5:10: servers.x.era: modern is not for sessions: session; the modern era has no sessions"},
		{"autoscaling beside sessions", "", image("sessions: session\n    autoscaling: {}"), "f.yaml:5:18: servers.x.autoscaling: is not for sessions: session; the number of replicas is that of the sessions and of warm, at most max_sessions"},
		{"a canary beside sessions", "", image("sessions: session\n    update: {canary: {steps: [5%]}}"), "f.yaml:5:13: servers.x.update.canary: is not for sessions: session; a session stays at one replica, so its calls cannot be shared out"},
		{"a session key without sessions", "", image("max_sessions: 2"), "f.yaml:4:19: servers.x.max_sessions: needs sessions: session; in the mode shared no replica belongs to a session"},
		{"a session key of shared sessions", "", image("sessions: shared\n    on_loss: reinit"), "f.yaml:5:14: servers.x.on_loss: needs sessions: session; in the mode shared no replica belongs to a session"},
		{"unknown loss", "", image("sessions: session\n    on_loss: 410"), `f.yaml:5:14: servers.x.on_loss: must be reinit or 404, not "410"`},
		{"idle for longer than alive", "", image("sessions: session\n    session_idle: 2h\n    session_lifetime: 1h"), "f.yaml:5:19: servers.x.session_idle: must not be longer than session_lifetime, which is 1h0m0s"},
		{"more sessions of one than of all", "", image("sessions: session\n    max_sessions_per_principal: 101"), "f.yaml:5:33: servers.x.max_sessions_per_principal: must not be above max_sessions, which is 100"},
		{"unknown era", "", image("era: new"), `f.yaml:4:10: servers.x.era: must be auto, legacy or modern, not "new"`},
		{"unknown session mode", "", image("sessions: all"), `f.yaml:4:15: servers.x.sessions: must be shared, session or principal, not "all"`},
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
		{"default tool that is off", "", image("default_tool: a\n    disabled_tools: [b, a]"), "f.yaml:4:19: servers.x.default_tool: the tool is switched off by tools.deny"},
		{"default tool that is not on", "", image("default_tool: a\n    enabled_tools: [b]"), "f.yaml:4:19: servers.x.default_tool: the tool is switched off by tools.allow"},
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
		{"a value is not shown", "", image("replicas: ${BAD}"), `f.yaml:4:15: servers.x.replicas: must be a whole number, or auto, not "${BAD}"`},

		{"several", "", "servers:\n  x: {image: 1, replicas: a}\n  y: {}",
			"f.yaml:2:14: servers.x.image: must be a string, not 1; quote it if a string is meant\n" +
				"f.yaml:2:27: servers.x.replicas: must be a whole number, or auto, not \"a\"\n" +
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
