package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// controller serves the answers of a small fleet.
func controller(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(pattern string, status int, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			io.WriteString(w, body)
		})
	}
	answer("GET /api/v1/servers", 200, `{"servers":[
		{"name":"demo","state":"READY","reason":"","desired":2,"ready":2,"restarts":1,"revision":4,"spec":{},"last_ended":[]},
		{"name":"gone","state":"UNAVAILABLE","reason":"exit\u001b[31m code 1","desired":1,"ready":0,"restarts":9,"revision":1,"spec":{},
		 "last_ended":[{"id":"gone-1-x","phase":"FAILED","reason":"exit code 1","log":["three"]}]}]}`)
	answer("GET /api/v1/replicas", 200, `{"replicas":[
		{"id":"demo-4-a","server":"demo","revision":4,"node":"n1","phase":"READY","reason":"","ongoing":1,"total_calls":7},
		{"id":"demo-4-b","server":"demo","revision":4,"node":"n2","phase":"READY","reason":"","ongoing":0,"total_calls":8}]}`)
	answer("GET /api/v1/nodes", 200, `{"nodes":[{"name":"n1","role":"worker","state":"READY","runtime":"podman","zone":"","grpc":"127.0.0.1:9","replicas":2,"pid":7,
		"capacity":{"cpus":4,"memory":8589934592,"pids":0},"allocated":{"cpus":0.5,"memory":536870912,"pids":0}}]}`)
	answer("GET /tools", 200, `{"tools":[{"name":"echo","description":"Says it again.\nMore.","input_schema":{},"server":"demo"},{"name":"x__y","description":5,"title":[1],"Name":0,"input_schema":{},"server":"x"}],
		"unavailable":[{"server":"gone","reason":"never was ready"}]}`)
	answer("GET /demo/tools", 200, `{"tools":[{"name":"echo","description":"Says it again.","input_schema":{},"server":"demo"}]}`)
	answer("GET /g/office/tools", 200, `{"tools":[{"name":"demo__echo","description":"Says it again.","input_schema":{},"server":"demo"}]}`)
	answer("POST /g/office/call", 200, `{"result":{"content":[{"type":"text","text":"through the gateway"}]}}`)
	answer("GET /api/v1/replicas/demo-4-a/logs", 200, "a1\na2\n")
	answer("GET /api/v1/replicas/demo-4-b/logs", 200, "b1\nb2 without an end")
	mux.HandleFunc("GET /api/v1/replicas/gone-1-x/logs", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, map[string]string{"": "one\ntwo\nthree\n", "1": "three\n", "2": "two\nthree\n"}[r.URL.Query().Get("tail")])
	})
	mux.HandleFunc("POST /demo/call", func(w http.ResponseWriter, r *http.Request) {
		var req struct {
			Name string          `json:"tool_name"`
			Args json.RawMessage `json:"tool_args"`
		}
		json.NewDecoder(r.Body).Decode(&req)
		switch req.Name {
		case "echo":
			text, _ := json.Marshal(string(req.Args))
			fmt.Fprintf(w, `{"result":{"content":[{"type":"text","text":%s},{"type":"image","data":"x"}]}}`, text)
		case "bad":
			io.WriteString(w, `{"result":{"isError":true,"content":[{"type":"text","text":"no luck"}]}}`)
		default:
			w.WriteHeader(404)
			io.WriteString(w, `{"detail":"demo has no tool named so; did you mean echo?","code":"unknown_tool","request_id":"r"}`)
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestCommands(t *testing.T) {
	at := controller(t).URL
	tests := []struct {
		name string
		args string // split at spaces
		in   string
		env  map[string]string
		code int
		out  string
		err  string // of the command, or a part of what is on stderr
	}{
		{name: "status", args: "status", out: "" +
			"SERVER  STATE        READY  RESTARTS  REVISION  REASON\n" +
			"demo    READY        2/2    1         4         -\n" +
			"gone    UNAVAILABLE  0/1    9         1         exit [31m code 1\n" +
			"\n" +
			"REPLICA   NODE  PHASE  ONGOING  CALLS  AGE  REASON\n" +
			"demo-4-a  n1    READY  1        7      -    -\n" +
			"demo-4-b  n2    READY  0        8      -    -\n"},
		{name: "status of one", args: "status gone", out: "" +
			"SERVER  STATE        READY  RESTARTS  REVISION  REASON\n" +
			"gone    UNAVAILABLE  0/1    9         1         exit [31m code 1\n"},
		{name: "status of none", args: "status nope", code: 1, err: `there is no server named "nope"`},
		{name: "nodes", args: "nodes", out: "" +
			"NODE  ROLE    STATE  RUNTIME  ZONE  REPLICAS  CPUS   MEMORY          ADDRESS      PID\n" +
			"n1    worker  READY  podman   -     2         0.5/4  512MiB/8192MiB  127.0.0.1:9  7\n"},
		{name: "tools", args: "tools", err: "the tools of gone are not known yet: never was ready", out: "" +
			"TOOL  SERVER  DESCRIPTION\n" +
			"echo  demo    Says it again.\n" +
			"x__y  x       -\n"},
		{name: "tools of one", args: "tools demo", out: "TOOL  SERVER  DESCRIPTION\necho  demo    Says it again.\n"},
		{name: "tools of a gateway", args: "tools --gateway office", out: "TOOL        SERVER  DESCRIPTION\ndemo__echo  demo    Says it again.\n"},
		{name: "tools of a gateway and a server", args: "tools --gateway office demo", code: 2, err: "pass a server or --gateway, not both"},
		{name: "tools of what is no gateway", args: "tools --gateway Of/fice", code: 2, err: `--gateway must be a name in lower case, such as my-server, not "Of/fice"`},
		{name: "call through a gateway", args: "call --gateway office demo__echo {}", out: "through the gateway\n"},
		{name: "call through a gateway from stdin", args: "call --gateway office demo__echo -", in: "{}", out: "through the gateway\n"},
		{name: "call through a gateway and to a server", args: "call --gateway office demo echo {}", code: 2, err: "pass SERVER or --gateway, not both; the command is: mcpfleet call --gateway NAME TOOL [JSON]"},
		{name: "call of no tool through a gateway and to a server", args: "call --gateway office demo echo", code: 2, err: "pass SERVER or --gateway, not both"},
		{name: "call of nothing through a gateway", args: "call --gateway office", code: 2, err: "TOOL is missing; the command is: mcpfleet call --gateway NAME TOOL [JSON]"},
		{name: "call", args: `call demo echo {"n":10000000000000000001}`, out: `{"n":10000000000000000001}` + "\n" + `{"type":"image","data":"x"}` + "\n"},
		{name: "call without arguments", args: "call demo echo", out: "{}\n" + `{"type":"image","data":"x"}` + "\n"},
		{name: "call from stdin", args: "call demo echo -", in: `{"a":1}`, out: `{"a":1}` + "\n" + `{"type":"image","data":"x"}` + "\n"},
		{name: "call in JSON", args: "call demo bad -o json", code: 1, err: "the tool reports an error",
			out: "{\n  \"isError\": true,\n  \"content\": [\n    {\n      \"type\": \"text\",\n      \"text\": \"no luck\"\n    }\n  ]\n}\n"},
		{name: "call that the tool refuses", args: "call demo bad {}", code: 1, err: "the tool reports an error: no luck"},
		{name: "call of no tool", args: "call demo ecco {}", code: 1, err: "demo has no tool named so; did you mean echo?"},
		{name: "call with no object", args: "call demo echo no", code: 2, err: "the arguments must be a JSON object: invalid character 'o' in literal null (expecting 'u')"},
		{name: "call with null", args: "call demo echo null", code: 2, err: "the arguments must be a JSON object"},
		{name: "call of nothing", args: "call demo", code: 2, err: "TOOL is missing; the command is: mcpfleet call SERVER TOOL [JSON]"},
		{name: "logs of a replica", args: "logs demo-4-a", out: "a1\na2\n"},
		{name: "logs of a server", args: "logs demo", out: "demo-4-a  a1\ndemo-4-a  a2\ndemo-4-b  b1\ndemo-4-b  b2 without an end\n"},
		{name: "logs in JSON", args: "logs demo-4-a -o json", out: "{\n  \"lines\": [\n    {\n      \"replica\": \"demo-4-a\",\n      \"line\": \"a1\"\n    },\n    {\n      \"replica\": \"demo-4-a\",\n      \"line\": \"a2\"\n    }\n  ]\n}\n"},
		{name: "logs in JSON, followed", args: "logs demo-4-b -f -o json", out: `{"replica":"demo-4-b","line":"b1"}` + "\n" + `{"replica":"demo-4-b","line":"b2 without an end"}` + "\n"},
		{name: "logs of the ended in JSON", args: "logs gone --tail 1 -o json", out: "{\n  \"lines\": [\n    {\n      \"replica\": \"gone-1-x\",\n      \"line\": \"three\"\n    }\n  ]\n}\n", err: "gone-1-x is FAILED"},
		{name: "logs of the ended", args: "logs gone --tail 2", out: "two\nthree\n", err: "gone-1-x is FAILED: exit code 1"},
		{name: "logs of nothing", args: "logs nope", code: 1, err: `there is no replica and no server named "nope"`},
		{name: "logs with a bad tail", args: "logs gone --tail -2", code: 2, err: "--tail must not be negative"},
		{name: "version by flag", args: "--version", out: "mcpfleet v1\n"},
		{name: "version", args: "version", out: "mcpfleet v1\n"},
		{name: "version in JSON", args: "version", env: map[string]string{"MCPFLEET_OUTPUT": "json"}, out: "{\n  \"version\": \"v1\"\n}\n"},
		{name: "unknown command", args: "bogus", code: 2, err: `unknown command "bogus" for "mcpfleet"`},
		{name: "unknown flag", args: "status --bogus", code: 2, err: "unknown flag: --bogus for \"mcpfleet status\"\nSee mcpfleet status --help."},
		{name: "mistyped command", args: "statsu", code: 2, err: `unknown command "statsu" for "mcpfleet"; did you mean "status"?`},
		{name: "mistyped command with flags", args: "aply --dry-run -f x.yaml", code: 2, err: `unknown command "aply" for "mcpfleet"; did you mean "apply"?`},
		{name: "mistyped command below another", args: "controllers lst", code: 2, err: `unknown command "lst" for "mcpfleet controllers"; did you mean "list"?`},
		{name: "a file without its flag", args: "backup fleet.backup", code: 2, err: `unexpected argument "fleet.backup"; the command is: mcpfleet backup --output FILE`},
		{name: "mistyped command below one that runs", args: "backup inspekt", code: 2, err: `unknown command "inspekt" for "mcpfleet backup"; did you mean "inspect"?`},
		{name: "help about no command", args: "help scal", code: 2, err: `unknown command "scal" for "mcpfleet"; did you mean "scale"?`},
		{name: "help about no command below another", args: "help controllers lst", code: 2, err: `unknown command "lst" for "mcpfleet controllers"; did you mean "list"?`},
		{name: "mistyped flag", args: "apply x.yaml --dryrun", code: 2, err: `unknown flag: --dryrun for "mcpfleet apply"; did you mean "--dry-run"?`},
		{name: "flag of another command", args: "status --prune", code: 2, err: `unknown flag: --prune for "mcpfleet status"; it is one of "mcpfleet apply"`},
		{name: "negative number", args: "scale demo -1", code: 2, err: `the number of replicas must be 0 or more, not "-1"`},
		{name: "no number", args: "scale demo two", code: 2, err: `the number of replicas must be 0 or more, not "two"`},
		{name: "a number and a floor", args: "scale demo 3 --floor 2 --ttl 1m", code: 2, err: "pass N or --floor, not both: N is for a fixed number of replicas, --floor for a server with autoscaling"},
		{name: "a floor for ever", args: "scale demo --floor 2", code: 2, err: "--ttl is missing: how long the floor holds, such as 10m"},
		{name: "a floor for no time", args: "scale demo --floor 2 --ttl 0s", code: 2, err: "--ttl must be above 0, not 0s"},
		{name: "no floor for some time", args: "scale demo --floor 0 --ttl 1m", code: 2, err: "--ttl does not go with --floor 0, which removes the floor at once"},
		{name: "a floor below 0", args: "scale demo --floor -2 --ttl 1m", code: 2, err: "--floor must be 0 or more, not -2"},
		{name: "a floor of nothing", args: "scale --floor 2 --ttl 1m", code: 2, err: "SERVER is missing; the command is: mcpfleet scale SERVER --floor N --ttl TIME"},
		{name: "a number for some time", args: "scale demo 3 --ttl 1m", code: 2, err: "--ttl goes with --floor: it says how long the floor holds"},
		{name: "mistyped command of rollout", args: "rollout statsu demo", code: 2, err: `unknown command "statsu" for "mcpfleet rollout"; did you mean "status"?`},
		{name: "forgotten server to pause", args: "rollout pause", code: 2, err: "SERVER is missing; the command is: mcpfleet rollout pause SERVER"},
		{name: "a watch that is over", args: "rollout status demo -w --timeout -1s", code: 2, err: "--timeout must not be negative"},
		{name: "a wait that is over", args: "restart demo --wait --timeout -1s", code: 2, err: "--timeout must not be negative"},
		{name: "a drain that is over", args: "drain n1 --wait", env: map[string]string{"MCPFLEET_TIMEOUT": "-1s"}, code: 2, err: "--timeout must not be negative"},
		{name: "nothing to scale", args: "scale", code: 2, err: "SERVER and N are missing; the command is: mcpfleet scale SERVER N"},
		{name: "no number to scale to", args: "scale demo", code: 2, err: "N is missing; the command is: mcpfleet scale SERVER N"},
		{name: "forgotten server to scale", args: "scale 3", code: 2, err: "SERVER is missing; the command is: mcpfleet scale SERVER N"},
		{name: "forgotten server to scale below nothing", args: "scale -1", code: 2, err: "SERVER is missing; the command is: mcpfleet scale SERVER N"},
		{name: "forgotten server to call", args: `call echo {"text":"x"}`, code: 2, err: `SERVER is missing before the tool "echo"`},
		{name: "forgotten server and tool", args: `call {}`, code: 2, err: "SERVER is missing; the command is: mcpfleet call SERVER TOOL [JSON]"},
		{name: "forgotten server to restart", args: "restart", code: 2, err: "SERVER is missing; the command is: mcpfleet restart SERVER"},
		{name: "forgotten server to delete", args: "delete", code: 2, err: "SERVER is missing; the command is: mcpfleet delete SERVER..."},
		{name: "forgotten server of logs", args: "logs -f", code: 2, err: "REPLICA or SERVER is missing; the command is: mcpfleet logs REPLICA|SERVER"},
		{name: "forgotten file of a restore", args: "restore --data-dir x", code: 2, err: "FILE is missing; the command is: mcpfleet restore FILE --data-dir DIR"},
		{name: "nothing to restore", args: "restore", code: 2, err: "2 problems:\n  FILE is missing; the command is: mcpfleet restore FILE --data-dir DIR\n  --data-dir is missing"},
		{name: "the command line takes precedence over a variable", args: "apply /none/a.yaml", env: map[string]string{"MCPFLEET_FILE": "/none/b.yaml"}, code: 1, err: "read the fleet file: open /none/a.yaml"},
		{name: "a word too many", args: "status demo gone", code: 2, err: `unexpected argument "gone"; the command is: mcpfleet status [SERVER]`},
		{name: "a word too many for none", args: "nodes n1", code: 2, err: `unexpected argument "n1"; the command is: mcpfleet nodes`},
		{name: "all problems at once", args: "logs demo two --taill 3 --tail x --address ftp://x -o xml", env: map[string]string{"MCPFLEET_FOLLOW": "maybe"}, code: 2, err: `6 problems:
  unknown flag: --taill for "mcpfleet logs"; did you mean "--tail"?
  --tail: "x" is not valid (int)
  environment variable MCPFLEET_FOLLOW: "maybe" is not valid for --follow (bool)
  --output must be table or json, not "xml"
  unexpected argument "two"; the command is: mcpfleet logs REPLICA|SERVER
  --address: controller address "ftp://x" is not like http://host:port
See mcpfleet logs --help.`},
		{name: "problems without a wrong flag", args: "events now --limit -1 -o xml", code: 2, err: `3 problems:
  --output must be table or json, not "xml"
  unexpected argument "now"; the command is: mcpfleet events
  --limit must not be negative`},
		{name: "unknown format", args: "status -o yaml", code: 2, err: `--output must be table or json, not "yaml"`},
		{name: "up with a file", args: "up /no/such/fleet.yaml", code: 1, err: "fleet file: open /no/such/fleet.yaml: no such file or directory"},
		{name: "up with the same file twice", args: "up -c /no/such/fleet.yaml /no/such/fleet.yaml", code: 1, err: "fleet file: open /no/such/fleet.yaml: no such file or directory"},
		{name: "up with two files", args: "up a.yaml --config b.yaml", code: 2, err: "there are two fleet files, a.yaml and --config b.yaml: pass only one"},
		{name: "bad variable", args: "up", env: map[string]string{"MCPFLEET_WORKERS": "x"}, code: 2, err: `environment variable MCPFLEET_WORKERS: "x" is not valid for --workers (int)`},
		{name: "bad address", args: "status --address=ftp://x", code: 2, err: `--address: controller address "ftp://x" is not like http://host:port`},
		{name: "all problems of up", args: "up a.yaml --config b.yaml --workers 0 --controllers=-1 --http x --memry 4g", code: 2, err: `5 problems:
  unknown flag: --memry for "mcpfleet up"; did you mean "--memory"?
  there are two fleet files, a.yaml and --config b.yaml: pass only one
  --workers must be between 1 and 64, not 0
  --controllers must be between 1 and 9, not -1
  --http must be host:port: address x: missing port in address
See mcpfleet up --help.`},
		{name: "no workers", args: "up --workers 0", code: 2, err: "--workers must be between 1 and 64, not 0"},
		{name: "completion of servers", args: "__complete tools d", out: "demo\n:4\n", err: "Completion ended"},
		{name: "completion of tools", args: "__complete call demo e", out: "echo\n:4\n", err: "Completion ended"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, stderr strings.Builder
			err := Execute(t.Context(), Config{
				Args: strings.Fields(tt.args), In: strings.NewReader(tt.in), Out: &out, Err: &stderr, Version: "v1",
				Lookup: func(name string) (string, bool) {
					if name == "MCPFLEET_ADDRESS" {
						return at, true
					}
					v, ok := tt.env[name]
					return v, ok
				},
			})
			if got := ExitCode(err); got != tt.code {
				t.Errorf("exit code %d, want %d; error %v", got, tt.code, err)
			}
			if out.String() != tt.out {
				t.Errorf("stdout:\n%s\nwant:\n%s", &out, tt.out)
			}
			said := stderr.String()
			if err != nil {
				said += err.Error()
			}
			if !strings.Contains(said, tt.err) || tt.err == "" && said != "" {
				t.Errorf("stderr and error: %q, want %q", said, tt.err)
			}
		})
	}
}

// The table shows the beginning of a long reason and the last line that it
// quotes. The status of a single server has the whole reason.
func TestStatusOfALongReason(t *testing.T) {
	banner := strings.Repeat("banner ", 40)
	f := newFakeAPI(t).on("GET /api/v1/replicas", 200, `{"replicas":[]}`).on("GET /api/v1/nodes", 200, `{"nodes":[]}`).
		on("GET /api/v1/servers", 200, `{"servers":[{"name":"a","state":"READY","spec":{}},
			{"name":"b","state":"UNAVAILABLE","reason":"exit code 3; last stderr: `+banner+` | Error: no module x (replica b-1 on node n)","spec":{}}]}`)
	if out := execute(t, f.URL, "", "status").out; !strings.Contains(out, "exit code 3; last stderr: Error: no module x (replica b-1 on node n)\n") {
		t.Errorf("got\n%s", out)
	}
	want := "\nREASON  exit code 3; last stderr: " + strings.TrimSpace(banner) + " | Error: no module x (replica b-1 on node n)\n"
	if out := execute(t, f.URL, "", "status", "b").out; !strings.HasSuffix(out, want) {
		t.Errorf("got\n%s", out)
	}
}

func TestHelpInSpiteOfMistakes(t *testing.T) {
	var out strings.Builder
	err := Execute(t.Context(), Config{Args: []string{"scale", "--bogus", "--help"}, Out: &out, Err: io.Discard, Lookup: func(string) (string, bool) { return "", false }})
	if err != nil || !strings.Contains(out.String(), "mcpfleet scale SERVER N") {
		t.Errorf("%v: %s", err, &out)
	}
}

func TestJSONIsTheAPIs(t *testing.T) {
	at := controller(t).URL
	for _, command := range []string{"status", "nodes", "tools"} {
		var out strings.Builder
		err := Execute(t.Context(), Config{Args: []string{command, "-o", "json", "--address", at}, Out: &out, Err: io.Discard, Lookup: func(string) (string, bool) { return "", false }})
		var answer map[string][]map[string]any
		if err != nil || json.Unmarshal([]byte(out.String()), &answer) != nil {
			t.Errorf("%s: %v in %s", command, err, &out)
		}
		if first := answer[map[string]string{"status": "servers", "nodes": "nodes", "tools": "tools"}[command]]; len(first) == 0 || first[0]["name"] == nil {
			t.Errorf("%s: got %s", command, &out)
		}
	}
}

// A command that waits for an answer ends with its context.
func TestRequestEnds(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-release
	}))
	defer s.Close()
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	err := Execute(ctx, Config{Args: []string{"status", "--address", s.URL}, Out: io.Discard, Err: io.Discard, Lookup: func(string) (string, bool) { return "", false }})
	if ExitCode(err) != 1 {
		t.Errorf("got %v", err)
	}
}

func TestText(t *testing.T) {
	if got, want := Text(errors.New("a\x1b[2J\tb\nc\u009b")), "a [2J b\nc "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
