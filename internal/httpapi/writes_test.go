package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	everything = `{"image":"docker.io/x/everything:1","replicas":2,"env":{"TOKEN":"secret"}}`
	tuned      = `{"image":"docker.io/x/everything:1","replicas":2,"env":{"TOKEN":"***"},"call_timeout":"5s"}`
	more       = `{"image":"docker.io/x/everything:1","replicas":3,"env":{"TOKEN":"***"}}`
	automatic  = `{"image":"x","autoscaling":{"min_replicas":3,"max_replicas":9}}`
	newer      = `{"image":"docker.io/x/everything:2","replicas":2,"env":{"TOKEN":"***"}}`
)

// wantOK checks a success and decodes its body.
func wantOK[T any](t *testing.T, w *httptest.ResponseRecorder, status int) (out T) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("got %d %s, want %d", w.Code, w.Body, status)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return out
}

func kinds(changes []api.Change) string {
	var out []string
	for _, c := range changes {
		out = append(out, string(c.Server)+string(c.Node)+":"+c.Kind)
	}
	return strings.Join(out, " ")
}

// One write after the other is made to a server and a node.
func TestWrites(t *testing.T) {
	f := newFixture()
	f.state.nodes = []api.Node{{Name: "n1", Role: fleet.RoleWorker, State: api.NodeReady}, {Name: "ctl1", Role: fleet.RoleController}}
	const server, node = "/api/v1/servers/every", "/api/v1/nodes/n1"
	steps := []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		changes                  string
		log                      bool // an entry was needed
	}{
		{"create", "PUT", server, everything, []string{"If-None-Match", "*"}, 201, "every:created", true},
		{"the same again", "PUT", server, everything, nil, 200, "", false},
		{"the same, masked, as YAML", "PUT", server, "image: docker.io/x/everything:1\nreplicas: 2\nenv:\n  TOKEN: '***'\n", []string{"Content-Type", "application/yaml"}, 200, "", false},
		{"in place", "PUT", server, tuned, []string{"If-Match", "*"}, 200, "every:tuned", true},
		{"more replicas", "PUT", server, more, nil, 202, "every:tuned", true},
		{"new template", "PUT", server, newer, nil, 202, "every:updated", true},
		{"scale", "POST", server + "/scale", `{"replicas":5}`, nil, 202, "every:scaled", true},
		{"scale to the same", "POST", server + "/scale", `{"replicas":5}`, nil, 200, "", false},
		{"restart", "POST", server + "/restart", ``, []string{"Content-Type", "", "Idempotency-Key", "k1"}, 202, "every:restarted", true},
		{"restart once more, by mistake", "POST", server + "/restart", `{}`, []string{"Idempotency-Key", "k1"}, 202, "every:restarted", true},
		{"rollback", "POST", server + "/rollback", `{}`, nil, 202, "every:rolled_back", true},
		{"rollback to one", "POST", server + "/rollback", `{"revision":2}`, nil, 202, "every:rolled_back", true},
		{"pause", "POST", server + "/rollout", `{"action":"pause"}`, nil, 200, "every:rollout_paused", true},
		{"pause again", "POST", server + "/rollout", `{"action":"pause"}`, nil, 200, "", false},
		{"resume", "POST", server + "/rollout", `{"action":"resume"}`, nil, 202, "every:rollout_resumed", true},
		{"an automatic one", "PUT", "/api/v1/servers/auto", automatic, nil, 201, "auto:created", true},
		{"a floor below what there is", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":2,"ttl":"10m"}`, nil, 200, "auto:floor_set", true},
		{"a floor", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":4,"ttl":"720h"}`, nil, 202, "auto:floor_set", true},
		{"no floor", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":0}`, nil, 200, "auto:floor_set", true},
		{"no floor again", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":0}`, nil, 200, "", false},
		{"a greater minimum", "PUT", "/api/v1/servers/auto", `{"image":"x","autoscaling":{"min_replicas":5,"max_replicas":9}}`, nil, 202, "auto:tuned", true},
		{"another policy of updates", "PUT", "/api/v1/servers/auto", `{"image":"x","update":{"min_ready":"1s"},"autoscaling":{"min_replicas":5,"max_replicas":9}}`, nil, 200, "auto:tuned", true},
		{"the automatic one goes", "DELETE", "/api/v1/servers/auto", "", nil, 202, "auto:deleted", true},
		{"two at once", "PUT", "/api/v1/servers", `{"default_server":"other","servers":{"every":` + newer + `,"other":{"image":"y"}}}`, nil, 202, "other:created other:default_set", true},
		{"one goes", "PUT", "/api/v1/servers", "servers:\n  other: {image: y}\ndefault_server: other\n", []string{"Content-Type", "text/yaml; charset=utf-8"}, 202, "every:deleted", true},
		{"the same set", "PUT", "/api/v1/servers", "servers:\n  other: {image: y}\ndefault_server: other\n", []string{"Content-Type", "application/x-yaml"}, 200, "", false},
		{"none is left", "PUT", "/api/v1/servers", `{"servers":{}}`, []string{"If-Match", "*"}, 202, "other:deleted", true},
		{"create again", "PUT", server, `{"image":"x"}`, nil, 201, "every:created", true},
		{"delete", "DELETE", server, "", nil, 202, "every:deleted", true},
		{"cordon", "POST", node + "/cordon", "", []string{"Content-Type", ""}, 200, "n1:cordoned", true},
		{"cordon again", "POST", node + "/cordon", "{}", nil, 200, "", false},
		{"drain", "POST", node + "/drain", `{"deadline":"90s"}`, nil, 202, "n1:draining", true},
		{"cordon goes on draining", "POST", node + "/cordon", "", nil, 200, "", false},
		{"uncordon", "POST", node + "/uncordon", "", nil, 200, "n1:uncordoned", true},
	}
	for _, s := range steps {
		before := f.desired.proposed
		w := f.do(s.method, s.path, s.body, s.headers...)
		got := wantOK[struct {
			Changes []api.Change
			ETag    string
			DryRun  bool `json:"dry_run"`
		}](t, w, s.status)
		if kinds(got.Changes) != s.changes {
			t.Errorf("%s: changes %q, want %q", s.name, kinds(got.Changes), s.changes)
		}
		if wrote := f.desired.proposed > before; wrote != s.log {
			t.Errorf("%s: written to the log: %v, want %v", s.name, wrote, s.log)
		}
		if tag := w.Header().Get("ETag"); tag != "" && tag != `"`+got.ETag+`"` {
			t.Errorf("%s: ETag %s, in the body %s", s.name, tag, got.ETag)
		}
		if got.DryRun || strings.Contains(w.Body.String(), `"changes":null`) || w.Header().Get("Mcpfleet-Index") == "" {
			t.Errorf("%s: got %s %v", s.name, w.Body, w.Header())
		}
	}
	if strings.Contains(f.do("GET", "/api/v1/servers", "").Body.String(), "secret") {
		t.Error("a secret was shown")
	}
}

// Files in the form of MCP clients are accepted, with warnings about what is ignored.
func TestWarningsOfWrites(t *testing.T) {
	f := newFixture()
	const file = `{"mcpServers": {"Every": {"command": "x", "icon": "i"}, "far": {"url": "http://x"}}}`
	const one = `{"type": "stdio", "command": "x", "icon": "i"}`
	for _, tt := range []struct {
		path, body string
		status     int
		want       []string
	}{
		{"/api/v1/servers?dry_run=1", file, 200, []string{"remote servers are left out, since mcpfleet runs stdio servers: far", "keys that mean nothing here are ignored: icon (Every)", `names that are not DNS labels are changed: "Every" is served as every`}},
		{"/api/v1/servers", file, 201, []string{"remote servers are left out, since mcpfleet runs stdio servers: far", "keys that mean nothing here are ignored: icon (Every)", `names that are not DNS labels are changed: "Every" is served as every`}},
		{"/api/v1/servers/every?dry_run=1", one, 200, []string{"keys that mean nothing here are ignored: icon (every)"}},
		{"/api/v1/servers/every", one, 200, []string{"keys that mean nothing here are ignored: icon (every)"}},
		{"/api/v1/servers/every", `{"command": "x"}`, 200, nil},
	} {
		got := wantOK[struct {
			Warnings []api.FieldError `json:"warnings"`
		}](t, f.do("PUT", tt.path, tt.body), tt.status)
		var said []string
		for _, w := range got.Warnings {
			said = append(said, w.Message)
		}
		if !slices.Equal(said, tt.want) {
			t.Errorf("%s: warnings %q, want %q", tt.path, said, tt.want)
		}
	}
	if w := f.do("PUT", "/api/v1/servers", `{"mcpServers": {"a": {"command": "x"}, "b": {"command": 7}}}`); w.Code != 400 {
		t.Errorf("a file with a broken server: %d %s", w.Code, w.Body)
	}
}

// write writes a command of the leader.
func (f *fixture) write(t *testing.T, c desired.Command) {
	t.Helper()
	if _, err := f.desired.Propose(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// A spec whose revision was rolled back is not tried again, unless the write says so.
func TestRetry(t *testing.T) {
	const server, all = "/api/v1/servers/every", "/api/v1/servers"
	f := newFixture()
	f.do("PUT", server, everything)
	f.write(t, desired.EndRollout{Name: "every", Revision: 1})
	f.do("PUT", server, newer)
	f.write(t, desired.FailRollout{Name: "every", Revision: 2, Reason: "exit code 1"})
	const warning = "servers.every: revision 2 with this spec was rolled back, and revision 1 stays: exit code 1; use --retry to try it again"
	for _, tt := range []struct {
		name, path, body string
		status           int
		changes, warning string
	}{
		{"dry run", server + "?dry_run=1", newer, 200, "", warning},
		{"one server", server, newer, 200, "", warning},
		{"the whole set", all, `{"servers":{"every":` + newer + `}}`, 200, "", warning},
		{"dry run, with retry", server + "?dry_run=1&retry=1", newer, 200, "every:updated", ""},
		{"the whole set, with retry", all + "?retry=1", `{"servers":{"every":` + newer + `}}`, 202, "every:updated", ""},
	} {
		got := wantOK[struct {
			Changes  []api.Change
			Warnings []api.FieldError
		}](t, f.do("PUT", tt.path, tt.body), tt.status)
		said := ""
		for _, w := range got.Warnings {
			said += w.Path + ": " + w.Message
		}
		if kinds(got.Changes) != tt.changes || said != tt.warning {
			t.Errorf("%s: changes %q, warnings %q; want %q, %q", tt.name, kinds(got.Changes), said, tt.changes, tt.warning)
		}
	}
	f.write(t, desired.FailRollout{Name: "every", Revision: 3, Reason: "exit code 1"})
	wantOK[api.Written](t, f.do("PUT", server+"?retry=1", newer), 202)
	if got := f.desired.State().Servers["every"].Revision; got != 4 {
		t.Errorf("revision %d after the second retry, want 4", got)
	}
}

// A refused write changes nothing, and its dry run is refused alike.
func TestRefusedWrites(t *testing.T) {
	const server, node = "/api/v1/servers/every", "/api/v1/nodes/n1"
	cases := []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code, detail             string
	}{
		{"no spec", "PUT", server, ``, nil, 400, api.CodeBadRequest, "image"},
		{"unknown key", "PUT", server, `{"image":"x","replicsa":1}`, nil, 400, api.CodeBadRequest, "replicsa: unknown key; did you mean replicas?"},
		{"wrong type", "PUT", server, `{"image":"x","replicas":"many"}`, nil, 400, api.CodeBadRequest, "replicas: "},
		{"bad JSON", "PUT", server, `{"image":`, nil, 400, api.CodeBadRequest, "line 1"},
		{"YAML sent as JSON", "PUT", server, "image: x", nil, 400, api.CodeBadRequest, ""},
		{"cannot be", "PUT", server, `{"image":"x","replicas":-1}`, nil, 422, api.CodeInvalid, "replicas: "},
		{"image and command", "PUT", server, `{"image":"x","command":["y"]}`, nil, 422, api.CodeInvalid, "command"},
		{"bad name", "PUT", "/api/v1/servers/Every", `{"image":"x"}`, nil, 422, api.CodeInvalid, "lower case"},
		{"reserved name", "PUT", "/api/v1/servers/tools", `{"image":"x"}`, nil, 422, api.CodeInvalid, "reserved"},
		{"mask of nothing", "PUT", server, `{"image":"x","env":{"OTHER":"***"}}`, nil, 422, api.CodeInvalid, "env.OTHER"},
		{"as a form", "PUT", server, everything, []string{"Content-Type", "multipart/form-data"}, 415, api.CodeMediaType, "application/yaml"},
		{"as nothing", "PUT", server, everything, []string{"Content-Type", ""}, 415, api.CodeMediaType, "application/json"},
		{"latin1", "PUT", server, everything, []string{"Content-Type", "application/yaml; charset=latin1"}, 415, api.CodeMediaType, "utf-8"},
		{"too large", "PUT", server, strings.Repeat(" ", 2001), nil, 413, api.CodeTooLarge, "2000"},
		{"exists", "PUT", server, everything, []string{"If-None-Match", "*"}, 412, api.CodePrecondition, "exists"},
		{"changed", "PUT", server, everything, []string{"If-Match", `"1.7", "0.1"`}, 412, api.CodePrecondition, "etag"},
		{"weak", "PUT", server, everything, []string{"If-Match", `W/"1.2"`}, 412, api.CodePrecondition, ""},
		{"nothing to match", "PUT", "/api/v1/servers/new", everything, []string{"If-Match", "*"}, 412, api.CodePrecondition, "does not exist"},
		{"If-Match that is none", "PUT", server, everything, []string{"If-Match", `"1`}, 400, api.CodeBadRequest, "If-Match"},
		{"empty If-Match", "PUT", server, everything, []string{"If-Match", " , "}, 400, api.CodeBadRequest, "If-Match"},
		{"If-None-Match of one", "PUT", server, everything, []string{"If-None-Match", `"1.2"`}, 400, api.CodeBadRequest, "If-None-Match"},
		{"If-None-Match on DELETE", "DELETE", server, "", []string{"If-None-Match", `*`}, 400, api.CodeBadRequest, "If-None-Match"},
		{"mistyped dry run", "PUT", server, everything, []string{"?", "dryrun=1"}, 400, api.CodeBadRequest, `unknown query parameter "dryrun"; did you mean "dry_run"?`},
		{"dry run or not", "PUT", server, everything, []string{"?", "dry_run=maybe"}, 400, api.CodeBadRequest, "dry_run"},

		{"no servers", "PUT", "/api/v1/servers", `{}`, nil, 400, api.CodeBadRequest, "servers"},
		{"null servers", "PUT", "/api/v1/servers", `{"servers":null}`, nil, 400, api.CodeBadRequest, "servers"},
		{"empty servers", "PUT", "/api/v1/servers", `{"servers":{}}`, nil, 428, api.CodeNeedsMatch, "If-Match"},
		{"empty servers, other state", "PUT", "/api/v1/servers", `{"servers":{}}`, []string{"If-Match", `"9.9"`}, 412, api.CodePrecondition, "etag"},
		{"a bad server", "PUT", "/api/v1/servers", `{"servers":{"a":{"image":"x"},"b":{"image":"x","call_timeout":"soon"}}}`, nil, 400, api.CodeBadRequest, "servers.b.call_timeout"},
		{"bad default", "PUT", "/api/v1/servers", `{"servers":{"a":{"image":"x"}},"default_server":"b"}`, nil, 422, api.CodeInvalid, "default_server"},

		{"unknown to delete", "DELETE", "/api/v1/servers/evry", "", nil, 404, api.CodeUnknownServer, `"every"`},
		{"unknown to scale", "POST", "/api/v1/servers/evry/scale", `{"replicas":1}`, nil, 404, api.CodeUnknownServer, `did you mean "every"?`},
		{"unknown to restart", "POST", "/api/v1/servers/evry/restart", ``, nil, 404, api.CodeUnknownServer, `"every"`},
		{"unknown to roll back", "POST", "/api/v1/servers/evry/rollback", ``, nil, 404, api.CodeUnknownServer, `"every"`},
		{"scale to nothing", "POST", server + "/scale", `{}`, nil, 400, api.CodeBadRequest, "must include 'replicas', or 'min_replicas' and 'ttl'"},
		{"scale without a body", "POST", server + "/scale", ``, nil, 400, api.CodeBadRequest, "must include 'replicas'"},
		{"scale to null", "POST", server + "/scale", `{"replicas":null}`, nil, 400, api.CodeBadRequest, "must include 'replicas'"},
		{"scale to half", "POST", server + "/scale", `{"replicas":1.5}`, nil, 400, api.CodeBadRequest, "'replicas' must be an integer, got \"1.5\""},
		{"scale to text", "POST", server + "/scale", `{"replicas":"2"}`, nil, 400, api.CodeBadRequest, "'replicas' must be an integer"},
		{"scale below", "POST", server + "/scale", `{"replicas":-1}`, nil, 422, api.CodeInvalid, "replicas"},
		{"scale beyond", "POST", server + "/scale", `{"replicas":10001}`, nil, 422, api.CodeInvalid, "10000"},
		{"scale far beyond", "POST", server + "/scale", `{"replicas":99999999999999999999}`, nil, 400, api.CodeBadRequest, "replicas"},
		{"scale mistyped", "POST", server + "/scale", `{"replica":1}`, nil, 400, api.CodeBadRequest, `unknown key "replica"; did you mean "replicas"`},
		{"scale an array", "POST", server + "/scale", `[1]`, nil, 400, api.CodeBadRequest, "must be an object, got array"},
		{"scale cut", "POST", server + "/scale", `{"replicas":`, nil, 400, api.CodeBadRequest, "line 1"},
		{"scale as text", "POST", server + "/scale", `{"replicas":1}`, []string{"Content-Type", "text/plain"}, 415, api.CodeMediaType, "text/plain"},
		{"scale what scales by itself", "POST", "/api/v1/servers/auto/scale", `{"replicas":2}`, nil, 409, api.CodeConflict, "scales by itself, from 3 to 9 replicas: set a floor with min_replicas and ttl"},
		{"a floor of a fixed number", "POST", server + "/scale", `{"min_replicas":2,"ttl":"10m"}`, nil, 409, api.CodeConflict, "scale it with replicas"},
		{"replicas and a floor", "POST", server + "/scale", `{"replicas":2,"min_replicas":2}`, nil, 400, api.CodeBadRequest, "not both"},
		{"replicas for some time", "POST", server + "/scale", `{"replicas":2,"ttl":"1m"}`, nil, 400, api.CodeBadRequest, "'ttl' goes with 'min_replicas'"},
		{"a time alone", "POST", server + "/scale", `{"ttl":"1m"}`, nil, 400, api.CodeBadRequest, "must include 'replicas', or 'min_replicas' and 'ttl'"},
		{"a floor for ever", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":4}`, nil, 400, api.CodeBadRequest, "must include 'ttl'"},
		{"no floor for some time", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":0,"ttl":"1m"}`, nil, 400, api.CodeBadRequest, "'ttl' does not go with a 'min_replicas' of 0"},
		{"a floor of text", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":"4","ttl":"1m"}`, nil, 400, api.CodeBadRequest, "'min_replicas' must be an integer"},
		{"a floor for a number", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":4,"ttl":60}`, nil, 400, api.CodeBadRequest, "'ttl' must be a string, got number"},
		{"a floor for soon", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":4,"ttl":"soon"}`, nil, 400, api.CodeBadRequest, "'ttl' must be a duration like 10m, got \"soon\""},
		{"a floor for no time", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":4,"ttl":"0s"}`, nil, 422, api.CodeInvalid, "ttl: must be from 1s to 720h0m0s"},
		{"a floor into the past", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":4,"ttl":"-1m"}`, nil, 422, api.CodeInvalid, "ttl: "},
		{"a floor for too long", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":4,"ttl":"721h"}`, nil, 422, api.CodeInvalid, "ttl: "},
		{"a floor above the greatest number", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":10,"ttl":"1m"}`, nil, 422, api.CodeInvalid, "min_replicas must be between 0 and 9"},
		{"a floor below 0", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":-1,"ttl":"1m"}`, nil, 422, api.CodeInvalid, "min_replicas must be between 0 and 9"},
		{"floor of another", "POST", "/api/v1/servers/auto/scale", `{"min_replicas":4,"ttl":"1m"}`, []string{"If-Match", `"1.99"`}, 412, api.CodePrecondition, "etag"},
		{"a rollout without a wish", "POST", server + "/rollout", ``, nil, 400, api.CodeBadRequest, "must include 'action': pause or resume"},
		{"a rollout to stop", "POST", server + "/rollout", `{"action":"stop"}`, nil, 400, api.CodeBadRequest, "'action' must be pause or resume, got \"stop\""},
		{"a rollout of a number", "POST", server + "/rollout", `{"action":1}`, nil, 400, api.CodeBadRequest, "'action' must be a string"},
		{"a rollout, mistyped", "POST", server + "/rollout", `{"acton":"pause"}`, nil, 400, api.CodeBadRequest, `did you mean "action"?`},
		{"a rollout of nothing", "POST", "/api/v1/servers/evry/rollout", `{"action":"pause"}`, nil, 404, api.CodeUnknownServer, `did you mean "every"?`},
		{"a rollout that has ended", "POST", "/api/v1/servers/auto/rollout", `{"action":"pause"}`, nil, 409, api.CodeConflict, "no rollout of server auto is under way"},
		{"a retry of a verb", "POST", server + "/restart", ``, []string{"?", "retry=1"}, 400, api.CodeBadRequest, `unknown query parameter "retry"`},
		{"a retry or not", "PUT", server, everything, []string{"?", "retry=maybe"}, 400, api.CodeBadRequest, "retry"},
		{"bounds that contradict", "PUT", server, `{"image":"x","autoscaling":{"min_replicas":5,"max_replicas":4}}`, nil, 422, api.CodeInvalid, "autoscaling.min_replicas: must not be above max_replicas"},
		{"no target", "PUT", server, `{"image":"x","autoscaling":{"target_ongoing_requests":0}}`, nil, 422, api.CodeInvalid, "autoscaling.target_ongoing_requests: must be above 0"},
		{"a schedule that cannot be read", "PUT", server, `{"image":"x","autoscaling":{"schedules":[{"cron":"at noon","for":"1h","min_replicas":2}]}}`, nil, 422, api.CodeInvalid, "autoscaling.schedules[0].cron: must have 5 fields"},
		{"a step above all", "PUT", server, `{"image":"x","update":{"canary":{"steps":["5%","101%"]}}}`, nil, 422, api.CodeInvalid, "update.canary.steps[1]: must be at most 100%"},
		{"a bad expression", "PUT", server, `{"image":"x","update":{"verify":[{"tool":"t","expect":"cel:result."}]}}`, nil, 422, api.CodeInvalid, "update.verify[0].expect: "},
		{"restart with a wish", "POST", server + "/restart", `{"now":true}`, nil, 400, api.CodeBadRequest, `"now"`},
		{"restart of another", "POST", server + "/restart", ``, []string{"If-Match", `"1.99"`}, 412, api.CodePrecondition, ""},
		{"a used key", "POST", server + "/rollback", `{"revision":1}`, []string{"Idempotency-Key", "used"}, 409, api.CodeConflict, "idempotency key"},
		{"an endless key", "POST", server + "/restart", ``, []string{"Idempotency-Key", strings.Repeat("k", 256)}, 400, api.CodeBadRequest, "Idempotency-Key"},
		{"nowhere to go back", "POST", server + "/rollback", ``, nil, 404, api.CodeUnknownRevision, "there are 1"},
		{"unknown revision", "POST", server + "/rollback", `{"revision":7}`, nil, 404, api.CodeUnknownRevision, "7"},
		{"revision 0", "POST", server + "/rollback", `{"revision":0}`, nil, 400, api.CodeBadRequest, "revision"},
		{"negative revision", "POST", server + "/rollback", `{"revision":-1}`, nil, 400, api.CodeBadRequest, "revision"},

		{"unknown node", "POST", "/api/v1/nodes/n11/drain", ``, nil, 404, api.CodeUnknownNode, `"n1"`},
		{"a controller", "POST", "/api/v1/nodes/ctl1/drain", ``, nil, 409, api.CodeConflict, "controller"},
		{"drain when", "POST", node + "/drain", `{"deadline":"soon"}`, nil, 400, api.CodeBadRequest, "deadline"},
		{"drain number", "POST", node + "/drain", `{"deadline":10}`, nil, 400, api.CodeBadRequest, "'deadline' must be a string, got number"},
		{"drain at once", "POST", node + "/drain", `{"deadline":"10ms"}`, nil, 422, api.CodeInvalid, "deadline"},
		{"drain for ever", "POST", node + "/drain", `{"deadline":"25h"}`, nil, 422, api.CodeInvalid, "24h"},
		{"cordon with If-Match", "POST", node + "/cordon", ``, []string{"If-Match", "*"}, 400, api.CodeBadRequest, "If-Match"},
	}
	for _, tc := range cases {
		for _, dry := range []bool{false, true} {
			t.Run(fmt.Sprint(tc.name, " dry:", dry), func(t *testing.T) {
				f := newFixture(func(c *config) { c.MaxBody = 2000 })
				f.state.nodes = []api.Node{{Name: "n1", Role: fleet.RoleWorker}, {Name: "ctl1", Role: fleet.RoleController}}
				wantOK[api.Written](t, f.do("PUT", server, everything), 201)
				wantOK[api.Written](t, f.do("POST", server+"/restart", "", "Idempotency-Key", "used"), 202)
				wantOK[api.Written](t, f.do("PUT", "/api/v1/servers/auto", automatic), 201)
				f.write(t, desired.EndRollout{Name: "auto", Revision: 1})
				before, _ := f.desired.State().Encode()

				path, headers := tc.path, tc.headers
				query := []string{}
				if len(headers) > 0 && headers[0] == "?" {
					query, headers = append(query, headers[1]), nil
				}
				if dry && !slices.Contains(query, "dry_run=maybe") {
					query = append(query, "dry_run=1")
				}
				if len(query) > 0 {
					path += "?" + strings.Join(query, "&")
				}
				w := f.do(tc.method, path, tc.body, headers...)
				wantError(t, w.Code, w.Header(), w.Body, tc.status, tc.code, tc.detail)
				after := f.desired.State()
				after = after.SkipTo(after.Applied)
				old, err := desired.Decode(before)
				if err != nil {
					t.Fatal(err)
				}
				if after.Index != old.Index || after.Written != old.Written {
					t.Errorf("something was written: %+v", after)
				}
			})
		}
	}
}

// All errors of a spec are reported, each with its position.
func TestSpecErrors(t *testing.T) {
	f := newFixture()
	w := f.do("PUT", "/api/v1/servers", "servers:\n  a:\n    image: x\n    replicas: -1\n  b:\n    image: x\n    call_timeout: 0s\n", "Content-Type", "application/yaml")
	var e api.Error
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != 422 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	if len(e.Errors) != 2 || e.Errors[0].Path != "servers.a.replicas" || e.Errors[0].Line != 4 || e.Errors[0].Column == 0 || e.Errors[1].Path != "servers.b.call_timeout" || e.Errors[1].Message == "" {
		t.Errorf("got %+v", e.Errors)
	}
	if !strings.Contains(e.Detail, "servers.a.replicas: ") || !strings.Contains(e.Detail, "servers.b.call_timeout: ") || strings.Contains(e.Detail, "body.yaml") {
		t.Errorf("detail %q", e.Detail)
	}

	var many strings.Builder
	for i := range 300 {
		fmt.Fprintf(&many, `,"k%d":1`, i)
	}
	w = f.do("PUT", "/api/v1/servers/a", `{"image":"x"`+many.String()+`}`)
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != 400 || len(e.Errors) != maxFieldErrors || !strings.HasSuffix(e.Detail, "and 295 more") {
		t.Errorf("got %d, %d errors, %q", w.Code, len(e.Errors), e.Detail)
	}
}

func TestDryRun(t *testing.T) {
	f := newFixture()
	f.state.nodes = []api.Node{{Name: "n1", Role: fleet.RoleWorker}}
	wantOK[api.Written](t, f.do("PUT", "/api/v1/servers/every", everything), 201)
	before := f.desired.State()
	cases := []struct{ method, path, body, changes string }{
		{"PUT", "/api/v1/servers/every", newer, "every:updated"},
		{"PUT", "/api/v1/servers/every", everything, ""},
		{"PUT", "/api/v1/servers", `{"servers":{"b":{"image":"x"}}}`, "b:created every:deleted"},
		{"DELETE", "/api/v1/servers/every", "", "every:deleted"},
		{"POST", "/api/v1/servers/every/scale", `{"replicas":9}`, "every:scaled"},
		{"POST", "/api/v1/servers/every/restart", "", "every:restarted"},
		{"POST", "/api/v1/nodes/n1/drain", "", "n1:draining"},
		{"POST", "/api/v1/nodes/n1/cordon", "", "n1:cordoned"},
	}
	for _, tc := range cases {
		w := f.do(tc.method, tc.path+"?dry_run=1", tc.body)
		got := wantOK[api.DryRun](t, w, 200)
		if !got.DryRun || kinds(got.Changes) != tc.changes || !strings.Contains(w.Body.String(), `"plan":[`) {
			t.Errorf("%s %s: got %s, want %s", tc.method, tc.path, w.Body, tc.changes)
		}
		var all map[string]json.RawMessage
		if json.Unmarshal(w.Body.Bytes(), &all) != nil || len(all) != 3 {
			t.Errorf("%s %s: got %s", tc.method, tc.path, w.Body)
		}
	}
	got := wantOK[api.DryRun](t, f.do("PUT", "/api/v1/servers/every?dry_run", newer), 200)
	if len(got.Plan) != 1 || got.Plan[0].Revision != 2 || got.Plan[0].Action != api.PlanStart || got.Plan[0].Reason == "" {
		t.Errorf("plan %+v", got.Plan)
	}
	if i := slices.IndexFunc(got.Changes[0].Fields, func(d api.Difference) bool { return d.Field == "image" }); i < 0 || string(got.Changes[0].Fields[i].To) != `"docker.io/x/everything:2"` {
		t.Errorf("fields %+v", got.Changes[0].Fields)
	}
	if f.desired.State() != before || f.desired.proposed != 1 {
		t.Error("something was written")
	}
}

// A write is proposed once, and the store reads for it. A dry run reads once.
func TestReadsOfWrites(t *testing.T) {
	f := newFixture()
	f.state.nodes = []api.Node{{Name: "n1", Role: fleet.RoleWorker}}
	server := "/api/v1/servers/every"
	for _, tt := range []struct {
		name, method, path, body string
		match                    bool
		reads, proposals         int
	}{
		{"create", "PUT", server, everything, false, 0, 1},
		{"the same again", "PUT", server, everything, false, 0, 1},
		{"with its ETag", "PUT", server, newer, true, 0, 1},
		{"dry run", "PUT", server + "?dry_run", everything, true, 1, 0},
		{"scale", "POST", server + "/scale", `{"replicas":2}`, true, 0, 1},
		{"cordon", "POST", "/api/v1/nodes/n1/cordon", "", false, 0, 1},
		{"cordon, dry run", "POST", "/api/v1/nodes/n1/cordon?dry_run", "", false, 1, 0},
		{"cordon of a node that is unknown here", "POST", "/api/v1/nodes/n2/cordon", "", false, 1, 0},
		{"delete", "DELETE", server, "", true, 0, 1},
	} {
		headers := []string{}
		if tt.match {
			headers = append(headers, "If-Match", `"`+f.desired.State().Servers["every"].ETag(1)+`"`)
		}
		f.desired.reads, f.desired.proposals = 0, 0
		w := f.do(tt.method, tt.path, tt.body, headers...)
		if f.desired.reads != tt.reads || f.desired.proposals != tt.proposals {
			t.Errorf("%s (%d): read %d times and proposed %d times, want %d and %d", tt.name, w.Code, f.desired.reads, f.desired.proposals, tt.reads, tt.proposals)
		}
	}
}

// The status is 202 if replicas start or stop.
func TestStatusOf(t *testing.T) {
	all := []desired.ChangeKind{
		desired.Created, desired.Updated, desired.Tuned, desired.Deleted, desired.Scaled, desired.Restarted, desired.RolledBack,
		desired.RolledOut, desired.Cordoned, desired.Uncordoned, desired.Draining, desired.DefaultSet,
		desired.FloorSet, desired.RolloutPaused, desired.RolloutResumed, desired.RolloutHeld, desired.RolloutAdvanced,
	}
	still := []desired.ChangeKind{
		desired.Tuned, desired.RolledOut, desired.Cordoned, desired.Uncordoned, desired.DefaultSet,
		desired.FloorSet, desired.RolloutPaused, desired.RolloutHeld,
	}
	for _, k := range all {
		want := http.StatusAccepted
		switch {
		case k == desired.Created:
			want = http.StatusCreated
		case slices.Contains(still, k):
			want = http.StatusOK
		}
		if got := statusOf([]desired.Change{{Kind: k}}); got != want {
			t.Errorf("%s: got %d, want %d", k, got, want)
		}
	}
	if got := statusOf([]desired.Change{{Kind: desired.Created}, {Kind: desired.DefaultSet}}); got != http.StatusAccepted {
		t.Errorf("a created server among others: got %d", got)
	}
}
