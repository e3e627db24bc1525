package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
)

const storedTwo = `{"servers":[
	{"name":"old","state":"READY","desired":1,"ready":1,"revision":3,"spec":{"image":"o","env":{"KEY":"***"},"replicas":1}},
	{"name":"web","state":"READY","desired":1,"ready":1,"revision":1,"spec":{"image":"w1","replicas":1}}],
	"default_server":"old","etag":"7.41","index":44}`

// leaving is a server that was deleted and still has a replica.
const leaving = `{"name":"gone","state":"DELETING","desired":0,"ready":0,"revision":1,"spec":{}}`

const changesOfWeb = `"changes":[{"server":"web","kind":"updated","revision":2,"fields":[{"field":"image","from":"w1","to":"w2"},{"field":"env.TOKEN","from":null,"to":"***"}]},
	{"server":"x","kind":"created","revision":1,"fields":[]}]`

const fileOfWeb = `{servers: {web: {image: w2, env: {TOKEN: "${TOKEN}"}}, x: {image: x}}}`

const printedOfWeb = `update    web  (revision 2)
            image: "w1" -> "w2"
            env.TOKEN: (none) -> "***"
create    x  (revision 1)
`

func applying(t *testing.T) *fakeAPI {
	t.Helper()
	return newFakeAPI(t).on("GET /api/v1/servers", 200, storedTwo).
		on("PUT /api/v1/servers?dry_run=1", 200, `{"dry_run":true,`+changesOfWeb+`,"plan":[
			{"action":"start","server":"web","replica":"","node":"n1","revision":2,"reason":"revision 2 is wanted"},
			{"action":"stop","server":"web","replica":"web-1-a","node":"n2","revision":1,"reason":"revision 1 is not wanted any more"}]}`).
		on("PUT /api/v1/servers", 202, `{"servers":[],`+changesOfWeb+`,"etag":"7.45","index":45}`)
}

// sent returns the last write and its body.
func sent(t *testing.T, f *fakeAPI) (request string, file map[string]any) {
	t.Helper()
	writes := strings.Split(f.writes(), "\n")
	request, body, _ := strings.Cut(writes[len(writes)-1], " {")
	if err := json.Unmarshal([]byte("{"+body), &file); err != nil {
		t.Fatalf("%v in %s", err, writes)
	}
	return request, file
}

func serversOf(file map[string]any) string {
	var names []string
	servers, _ := file["servers"].(map[string]any)
	for _, name := range []string{"old", "web", "x"} {
		if servers[name] != nil {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// Without --prune, stored servers that the file does not list are sent back as
// they came, in the write that the plan was made for.
func TestApply(t *testing.T) {
	f := applying(t)
	execute(t, f.URL, fileOfWeb, "apply", "-f", "-").wants(t, 0, printedOfWeb+"applied\n", "")
	request, file := sent(t, f)
	if want := `PUT /api/v1/servers If-Match: "7.41"`; request != want {
		t.Errorf("sent %s, want %s", request, want)
	}
	if got := serversOf(file); got != "old web x" || file["default_server"] != "old" {
		t.Errorf("sent servers %s with default %v", got, file["default_server"])
	}
	servers := file["servers"].(map[string]any)
	if got, want := servers["old"], map[string]any{"image": "o", "env": map[string]any{"KEY": "***"}, "replicas": 1.0}; !reflect.DeepEqual(got, want) {
		t.Errorf("sent back %v, want %v", got, want)
	}
	if got := servers["web"].(map[string]any)["env"]; !reflect.DeepEqual(got, map[string]any{"TOKEN": "s$cret"}) {
		t.Errorf("sent the environment %v", got)
	}
	if n := strings.Count(f.writes(), "PUT"); n != 2 {
		t.Errorf("%d writes, want the dry run and one:\n%s", n, f.writes())
	}
}

func TestApplyPrunes(t *testing.T) {
	f := applying(t)
	execute(t, f.URL, fileOfWeb, "apply", "-f", "-", "--prune").wants(t, 0, printedOfWeb+"applied\n", "")
	if _, file := sent(t, f); serversOf(file) != "web x" || file["default_server"] != nil {
		t.Errorf("sent %v", file)
	}
}

// Stored gateways that the file does not list are sent back, unless they are pruned.
// get shows them.
func TestApplyGateways(t *testing.T) {
	stored := strings.Replace(storedTwo, `"default_server"`, `"gateways":{"g":{"servers":["old"]},"h":{"servers":["web"],"tools":{"overrides":{"web__a":{"rename":"$a"}}}}},"default_server"`, 1)
	const changes = `"changes":[{"gateway":"h","kind":"gateway_set","fields":[{"field":"servers","from":["web"],"to":["x"]}]},{"gateway":"g","kind":"gateway_removed","fields":[]}]`
	f := newFakeAPI(t).on("GET /api/v1/servers", 200, stored).
		on("PUT /api/v1/servers?dry_run=1", 200, `{`+changes+`}`).on("PUT /api/v1/servers", 200, `{`+changes+`}`)
	const file = `{servers: {x: {image: x}}, gateways: {h: {servers: [x]}}}`
	const printed = "set gateway h\n            servers: [\"web\"] -> [\"x\"]\nremove gateway g\napplied\n"
	for flags, want := range map[string]string{"": "[g h]", "--prune": "[h]"} {
		execute(t, f.URL, file, strings.Fields("apply - "+flags)...).wants(t, 0, printed, "")
		_, file := sent(t, f)
		gateways, _ := file["gateways"].(map[string]any)
		if got := fmt.Sprint(slices.Sorted(maps.Keys(gateways))); got != want || !reflect.DeepEqual(gateways["h"], map[string]any{"servers": []any{"x"}}) {
			t.Errorf("%s: sent %v, want %s", flags, gateways, want)
		}
	}
	r := execute(t, f.URL, "", "get", "-o", "yaml")
	if want := "gateways:\n  g:\n    servers:\n      - old\n  h:\n    servers:\n      - web\n    tools:\n      overrides:\n        web__a:\n          rename: $$a\n"; !strings.HasSuffix(r.out, want) {
		t.Errorf("got\n%s\nwant at its end\n%s", r.out, want)
	}
	execute(t, f.URL, execute(t, f.URL, "", "get", "-o", "json").out, "apply", "-", "--prune").wants(t, 1, "", "the name of a tool has")
}

// A server that is being deleted is not sent back.
func TestApplyBesideTheDeleted(t *testing.T) {
	f := newFakeAPI(t).on("GET /api/v1/servers", 200, strings.Replace(storedTwo, "[", "["+leaving+",", 1)).
		on("PUT /api/v1/servers?dry_run=1", 200, `{"changes":[]}`).on("PUT /api/v1/servers", 200, `{"changes":[]}`)
	execute(t, f.URL, fileOfWeb, "apply", "-f", "-").wants(t, 0, "nothing to change\n", "")
	if strings.Contains(f.writes(), "gone") {
		t.Errorf("sent\n%s", f.writes())
	}
	f = newFakeAPI(t).on("GET /api/v1/servers", 200, `{"servers":[`+leaving+`]}`)
	execute(t, f.URL, "", "get", "-o", "yaml").wants(t, 0, "servers: {}\n", "")
}

// A client's file is applied without its servers that have errors. These stay
// as they are deployed.
func TestApplyOfAClientsFile(t *testing.T) {
	const file = `{"mcpServers": {"x": {"command": "docker", "args": ["run", "-p", "1:1", "x"], "icon": "i"}, "web": {"command": 7}, "far": {"url": "http://x"}}}`
	const said = "mcpfleet: warning: stdin: remote servers are left out, since mcpfleet runs stdio servers: far\n" +
		"mcpfleet: warning: stdin: keys that mean nothing here are ignored: icon (x)\n" +
		"mcpfleet: warning: stdin: options of docker run that mean nothing here are ignored: -p (x)\n" +
		"mcpfleet: warning: stdin:1:112: mcpServers.web: this server is left out: command: must be a string, not 7; quote it if a string is meant\n"
	for _, tt := range []struct{ flags, servers string }{{"", "old web x"}, {"--prune", "web x"}} {
		f := applying(t)
		r := execute(t, f.URL, file, append([]string{"apply", "-f", "-"}, strings.Fields(tt.flags)...)...)
		r.wants(t, 1, printedOfWeb+"applied\n", said+"the file is applied without the servers that have errors: web")
		if _, body := sent(t, f); serversOf(body) != tt.servers || body["servers"].(map[string]any)["web"].(map[string]any)["image"] != "w1" {
			t.Errorf("%s: sent %v", tt.flags, body)
		}
	}
	f := applying(t)
	if r := execute(t, f.URL, file, "apply", "-f", "-", "--dry-run"); r.code != 1 || !strings.Contains(fmt.Sprint(r.err), "the file would be applied without the servers that have errors: web") || strings.Contains(f.writes(), "PUT /api/v1/servers If") {
		t.Errorf("dry run: %+v, sent\n%s", r, f.writes())
	}
}

func TestApplyDefaultServer(t *testing.T) {
	for name, tt := range map[string]struct{ file, want string }{
		"the stored one stays":          {`{servers: {x: {image: x}}}`, "old"},
		"unless the file names one":     {`{default_server: x, servers: {x: {image: x}}}`, "x"},
		"it stays with a client's file": {`{"mcpServers": {"x": {"command": "docker", "args": ["run", "-i", "--rm", "x"]}}}`, "old"},
	} {
		t.Run(name, func(t *testing.T) {
			f := applying(t)
			if r := execute(t, f.URL, tt.file, "apply", "-f", "-"); r.code != 0 {
				t.Fatal(r.err)
			}
			if _, file := sent(t, f); file["default_server"] != tt.want || serversOf(file) != "old web x" {
				t.Errorf("sent default_server %v of %s, want %s", file["default_server"], serversOf(file), tt.want)
			}
		})
	}
}

func TestApplyDryRun(t *testing.T) {
	f := applying(t)
	execute(t, f.URL, fileOfWeb, "apply", "-f", "-", "--dry-run").wants(t, 0, printedOfWeb+`
WOULD  SERVER  REVISION  REPLICA  NODE  REASON
start  web     2         -        n1    revision 2 is wanted
stop   web     1         web-1-a  n2    revision 1 is not wanted any more
`, "")
	r := execute(t, f.URL, fileOfWeb, "apply", "-f", "-", "--dry-run", "-o", "json")
	var out map[string]any
	if err := json.Unmarshal([]byte(r.out), &out); err != nil || out["dry_run"] != true || len(out["plan"].([]any)) != 2 {
		t.Errorf("%v: %s", err, r.out)
	}
	if strings.Contains(f.writes(), "PUT /api/v1/servers If") {
		t.Errorf("a dry run wrote:\n%s", f.writes())
	}
}

// Replicas that no node has room for are listed apart from those that would
// start, with the reason, on one line per server.
func TestApplyDryRunOfWhatHasNoRoom(t *testing.T) {
	no := `{"action":"start","server":"web","replica":"","node":"","revision":2,"reason":"no node fits: 2 nodes lack memory"}`
	f := newFakeAPI(t).on("GET /api/v1/servers", 200, storedTwo).
		on("PUT /api/v1/servers?dry_run=1", 200, `{"dry_run":true,`+changesOfWeb+`,"plan":[
			{"action":"start","server":"x","replica":"","node":"n1","revision":1,"reason":"1 replica wanted, there are 0"},`+no+`,`+no+`]}`).
		on("PUT /api/v1/servers?dry_run=1", 200, `{"dry_run":true,`+changesOfWeb+`,"plan":[`+no+`]}`)
	execute(t, f.URL, fileOfWeb, "apply", "-", "--dry-run").wants(t, 0, printedOfWeb+`
WOULD  SERVER  REVISION  REPLICA  NODE  REASON
start  x       1         -        n1    1 replica wanted, there are 0

cannot be placed: 2 replicas of web: no node fits: 2 nodes lack memory
`, "")
	execute(t, f.URL, fileOfWeb, "apply", "-", "--dry-run").wants(t, 0, printedOfWeb+`nothing would start or stop

cannot be placed: 1 replica of web: no node fits: 2 nodes lack memory
`, "")
}

// The output of get -o json can be applied again, for all servers or one. A $
// stays a $, and a masked secret is sent back as the mask.
func TestApplyWhatGetPrinted(t *testing.T) {
	const stored = `{"servers":[` + leaving + `,
		{"name":"old","state":"READY","desired":1,"ready":1,"revision":3,"spec":{"image":"o","args":["$HOME","${X}"],"env":{"KEY":"***"},"replicas":1},"last_ended":[]},
		{"name":"web","state":"READY","desired":1,"ready":1,"revision":1,"spec":{"image":"w1","replicas":1}}],
		"default_server":"old","etag":"7.41","index":44}`
	f := newFakeAPI(t).on("GET /api/v1/servers", 200, stored).
		on("GET /api/v1/servers/web", 200, `{"name":"web","state":"READY","spec":{"image":"w1","replicas":1},"etag":"3"}`).
		on("PUT /api/v1/servers?dry_run=1", 200, `{"changes":[]}`).on("PUT /api/v1/servers", 200, `{"changes":[]}`)
	all := execute(t, f.URL, "", "get", "-o", "json")
	execute(t, f.URL, strings.Replace(all.out, `"w1"`, `"w2"`, 1), "apply", "-").wants(t, 0, "nothing to change\n", "")
	_, file := sent(t, f)
	servers := file["servers"].(map[string]any)
	old, web := servers["old"].(map[string]any), servers["web"].(map[string]any)
	if !reflect.DeepEqual(old["args"], []any{"$HOME", "${X}"}) || !reflect.DeepEqual(old["env"], map[string]any{"KEY": "***"}) || web["image"] != "w2" ||
		len(servers) != 2 || file["default_server"] != "old" {
		t.Errorf("sent %v", file)
	}
	one := execute(t, f.URL, "", "get", "web", "-o", "json")
	execute(t, f.URL, strings.Replace(one.out, `"w1"`, `"w3"`, 1), "apply", "-", "--prune").wants(t, 0, "nothing to change\n", "")
	if _, file := sent(t, f); !reflect.DeepEqual(serversOf(file), "web") || file["servers"].(map[string]any)["web"].(map[string]any)["image"] != "w3" {
		t.Errorf("sent %v", file)
	}
}

func TestApplyRefused(t *testing.T) {
	const changed = `{"detail":"precondition failed: the set of servers has changed","code":"precondition_failed"}`
	for _, tt := range []struct {
		name     string
		arrange  func(*fakeAPI)
		args     string
		in       string
		code     int
		out, err string
	}{
		{name: "changed before the plan", arrange: func(f *fakeAPI) {
			f.on("PUT /api/v1/servers?dry_run=1", 412, changed)
		}, code: exitChanged, err: "nothing was applied, because somebody changed the fleet meanwhile"},
		{name: "changed after the plan", arrange: func(f *fakeAPI) {
			f.on("PUT /api/v1/servers?dry_run=1", 200, `{`+changesOfWeb+`}`).on("PUT /api/v1/servers", 412, changed)
		}, code: exitChanged, out: printedOfWeb, err: "nothing was applied, because somebody changed the fleet meanwhile"},
		{name: "no leader", arrange: func(f *fakeAPI) {
			f.on("PUT /api/v1/servers?dry_run=1", 200, `{`+changesOfWeb+`}`).on("PUT /api/v1/servers", 503, `{"detail":"no leader could be reached","code":"no_leader"}`)
		}, code: 1, out: printedOfWeb, err: "no leader could be reached"},
		{name: "unknown outcome", arrange: func(f *fakeAPI) {
			f.on("PUT /api/v1/servers?dry_run=1", 200, `{`+changesOfWeb+`}`).on("PUT /api/v1/servers", 503, `{"detail":"the leader was lost","code":"outcome_unknown"}`)
		}, code: exitUnknown, out: printedOfWeb, err: "it is unknown whether the change was made; check before you try again: the leader was lost"},
		{name: "answer lost", arrange: func(f *fakeAPI) {
			f.on("PUT /api/v1/servers?dry_run=1", 200, `{`+changesOfWeb+`}`).on("PUT /api/v1/servers", 0, "")
		}, code: exitUnknown, out: printedOfWeb, err: "it is unknown whether the change was made"},
		{name: "several errors", arrange: func(f *fakeAPI) {
			f.on("PUT /api/v1/servers?dry_run=1", 422, `{"detail":"servers.web.replicas: no","code":"invalid","errors":[{"path":"servers.web.replicas","message":"no"},{"path":"servers.x.image","message":"neither"}]}`)
		}, code: 1, err: "servers.web.replicas: no\n  servers.web.replicas: no\n  servers.x.image: neither"},
		{name: "nothing to change", arrange: func(f *fakeAPI) {
			f.on("PUT /api/v1/servers?dry_run=1", 200, `{"changes":[],"plan":[]}`).on("PUT /api/v1/servers", 200, `{"servers":[],"changes":[],"etag":"7.41","index":44}`)
		}, out: "nothing to change\n"},
		{name: "bad file", in: "servers: {x: {imag: y}}", code: 1, err: "stdin:1:15: servers.x.imag: unknown key; did you mean image?"},
		{name: "missing variable", in: `servers: {x: {image: y, env: {A: "${NOT_THERE}"}}}`, code: 1, err: "NOT_THERE"},
		{name: "no file", args: "apply -f /does/not/exist", code: 1, err: "read the fleet file: open /does/not/exist"},
		{name: "no argument", args: "apply", code: 2, err: "FILE is missing"},
		{name: "given twice", args: "apply a.yaml -f b.yaml", code: 2, err: "FILE is given twice: --file b.yaml and a.yaml"},
		{name: "two arguments", args: "apply a.yaml b.yaml", code: 2, err: `unexpected argument "b.yaml"; the command is: mcpfleet apply FILE|-`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAPI(t).on("GET /api/v1/servers", 200, storedTwo)
			if tt.arrange != nil {
				tt.arrange(f)
			}
			in, args := fileOfWeb, "apply -f -"
			if tt.in != "" {
				in = tt.in
			}
			if tt.args != "" {
				args = tt.args
			}
			execute(t, f.URL, in, strings.Fields(args)...).wants(t, tt.code, tt.out, tt.err)
		})
	}
}

// With --wait the exit code says whether the servers became ready. The error
// has the reasons.
func TestApplyWaits(t *testing.T) {
	const (
		rolling = `{"servers":[{"name":"web","state":"UPDATING","reason":"1 of 2","desired":2,"ready":2,"revision":2,"spec":{},"rollout":{"from":1,"to":2}},{"name":"x","state":"STOPPED","desired":0,"ready":0,"revision":1,"spec":{}}]}`
		done    = `{"servers":[{"name":"web","state":"READY","desired":2,"ready":2,"revision":2,"spec":{}},{"name":"x","state":"STOPPED","desired":0,"ready":0,"revision":1,"spec":{}}]}`
		stuck   = `{"servers":[{"name":"web","state":"UNAVAILABLE","reason":"exit code 1:\n  no key","desired":2,"ready":0,"revision":2,"spec":{}}]}`
	)
	const replicas = `{"replicas":[{"id":"web-2-a","server":"web","revision":2,"phase":"READY"},{"id":"web-1-a","server":"web","revision":1,"phase":"READY"},
		{"id":"web-2-b","server":"web","revision":2,"phase":"PULLING","reason":"layer 1 of 3"}]}`
	f := applying(t).on("GET /api/v1/replicas", 200, replicas).on("GET /api/v1/servers", 200, rolling).on("GET /api/v1/servers", 503, `{"detail":"between leaders","code":"no_leader"}`).on("GET /api/v1/servers", 200, done)
	execute(t, f.URL, fileOfWeb, "apply", "-f", "-", "--wait").wants(t, 0, printedOfWeb+`applied
web: UPDATING, 2/2 ready, revision 1 -> 2, 1 new ready, 1 pulling
x: STOPPED, 0/0 ready, revision 1
fleet: cannot reach a controller
web: READY, 2/2 ready, revision 2
`, "")

	f = applying(t).on("GET /api/v1/servers", 200, stuck).on("GET /api/v1/replicas", 200, `{"replicas":[]}`)
	execute(t, f.URL, fileOfWeb, "apply", "-f", "-", "--wait", "--timeout", "1s").wants(t, exitUnready, printedOfWeb+`applied
web: UNAVAILABLE, 0/2 ready, revision 2: exit code 1: no key
x: somebody has deleted it
`, "not ready after 1s\n  web: UNAVAILABLE, 0/2 ready, revision 2: exit code 1: no key\n  x: somebody has deleted it")

	// With -o json, stdout has only the answer.
	f = applying(t).on("GET /api/v1/servers", 200, done)
	r := execute(t, f.URL, fileOfWeb, "apply", "-f", "-", "--wait", "-o", "json")
	var out map[string]any
	if err := json.Unmarshal([]byte(r.out), &out); err != nil || out["etag"] != "7.45" || r.code != 0 {
		t.Errorf("%v, %v: %s", r.err, err, r.out)
	}
}

// A wait ends as soon as it is known that no replica will come of it.
func TestApplyWaitsInVain(t *testing.T) {
	const answer = `{"servers":[{"name":"web","revision":2},{"name":"x","revision":1}],` + changesOfWeb + `,"etag":"7.45","index":45}`
	const x = `{"name":"x","state":"IDLE","reason":"idle: a call starts it","desired":0,"ready":0,"revision":1,"spec":{}}`
	web := func(members string) string {
		return `{"servers":[{"name":"web","state":"UPDATING","reason":"r","desired":1,"ready":1,"spec":{},` + members + `},` + x + `]}`
	}
	for name, tt := range map[string]struct{ then, shown, err string }{
		"rolled back": {
			web(`"revision":1,"rollout":{"from":2,"to":1},"failed":{"revision":2,"reason":"exit code 1: no key"}`), "web: UPDATING, 1/1 ready, revision 2 -> 1 (2 failed), 0 new ready",
			"web: revision 2 was rolled back to revision 1: exit code 1: no key",
		},
		"held": {
			web(`"revision":2,"rollout":{"from":1,"to":2,"held":"tool a is gone"}`), "web: UPDATING, 1/1 ready, revision 1 -> 2, 0 new ready, held",
			"web: the rollout of revision 2 is held: tool a is gone; mcpfleet rollout resume web lets it go on, and mcpfleet rollout undo web ends it",
		},
		"paused": {
			web(`"revision":2,"rollout":{"from":1,"to":2,"paused":true,"step":1,"steps":3,"share":25}`), "web: UPDATING, 1/1 ready, revision 1 -> 2, 0 new ready, canary step 2 of 3: 25% of the calls, paused",
			"web: the rollout of revision 2 is paused; mcpfleet rollout resume web lets it go on",
		},
		"superseded": {
			web(`"revision":3,"rollout":{"from":1,"to":3}`), "web: UPDATING, 1/1 ready, revision 1 -> 3, 0 new ready",
			"web: somebody has changed it meanwhile: revision 3 is wanted now, not 2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeAPI(t).on("GET /api/v1/servers", 200, storedTwo).on("PUT /api/v1/servers?dry_run=1", 200, `{`+changesOfWeb+`}`).
				on("PUT /api/v1/servers", 202, answer).on("GET /api/v1/servers", 200, tt.then).on("GET /api/v1/replicas", 200, `{"replicas":[]}`)
			execute(t, f.URL, fileOfWeb, "apply", "-f", "-", "--wait").wants(t, 1,
				printedOfWeb+"applied\n"+tt.shown+"\nx: IDLE, 0/0 ready, revision 1: idle: a call starts it\n", tt.err)
		})
	}
}

// A spec that was rolled back is not rolled out again without --retry.
func TestApplyRetry(t *testing.T) {
	const warning = `"warnings":[{"path":"servers.web","message":"revision 2 with this spec was rolled back, and revision 1 stays: exit code 1; use --retry to try it again"},
		{"path":"servers.x.image","line":3,"message":"about the file"}]`
	const said = "unchanged web: revision 2 with this spec was rolled back, and revision 1 stays: exit code 1; use --retry to try it again\n"
	f := newFakeAPI(t).on("GET /api/v1/servers", 200, storedTwo).
		on("PUT /api/v1/servers?dry_run=1", 200, `{"dry_run":true,"changes":[],"plan":[],`+warning+`}`).
		on("PUT /api/v1/servers", 200, `{"servers":[{"name":"web","revision":1,"failed":{"revision":2}}],"changes":[],`+warning+`}`).
		on("GET /api/v1/servers", 200, `{"servers":[{"name":"web","state":"READY","desired":1,"ready":1,"revision":1,"failed":{"revision":2,"reason":"exit code 1"},"spec":{}}]}`)
	file := `{servers: {web: {image: w2}}}`
	execute(t, f.URL, file, "apply", "-", "--dry-run").wants(t, 0, said+"nothing would start or stop\n", "")
	execute(t, f.URL, file, "apply", "-").wants(t, 0, said+"nothing to change\n", "")
	execute(t, f.URL, file, "apply", "-", "--wait").wants(t, 1, said+"nothing to change\nweb: READY, 1/1 ready, revision 1 (2 failed)\n",
		"web: revision 2 was rolled back to revision 1: exit code 1")

	f = newFakeAPI(t).on("GET /api/v1/servers", 200, storedTwo).on("PUT /api/v1/servers?dry_run=1&retry=1", 200, `{`+changesOfWeb+`}`).
		on("PUT /api/v1/servers?retry=1", 202, `{"servers":[],`+changesOfWeb+`}`)
	execute(t, f.URL, fileOfWeb, "apply", "-", "--retry").wants(t, 0, printedOfWeb+"applied\n", "")
}

// Paths in the file are relative to the file.
func TestApplyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "fleet.yaml")
	if err := os.WriteFile(path, []byte("servers: {x: {image: y, mounts: ['./data:/data']}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	f := applying(t)
	if r := execute(t, f.URL, "", "apply", "-f", "fleet.yaml"); r.code != 0 {
		t.Fatal(r.err)
	}
	if want := filepath.Join(dir, "data"); !strings.Contains(f.writes(), `"source":"`+want+`"`) {
		t.Errorf("want %s in\n%s", want, f.writes())
	}
}

// The output of get -o yaml is an equivalent fleet file.
func TestGetYAML(t *testing.T) {
	f := newFakeAPI(t).on("GET /api/v1/servers", 200, `{"servers":[
		{"name":"on","spec":{"image":"a:1","args":["--x=$HOME","yes","012"],"env":{"KEY":"***"},"replicas":3,"resources":{"cpus":0.5,"memory":536870912},"call_timeout":"1m0s"}},
		{"name":"web","spec":{"command":["sh","-c","echo ${X}"],"replicas":0}}],"default_server":"on"}`)
	r := execute(t, f.URL, "", "get", "-o", "yaml")
	r.wants(t, 0, `default_server: "on"
servers:
  "on":
    image: a:1
    args:
      - --x=$$HOME
      - "yes"
      - "012"
    env:
      KEY: '***'
    replicas: 3
    resources:
      cpus: 0.5
      memory: 536870912
    call_timeout: 1m0s
  web:
    command:
      - sh
      - -c
      - echo $${X}
    replicas: 0
`, "")
	file, err := fleetfile.Parse([]byte(r.out), fleetfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if on := file.Servers["on"]; !reflect.DeepEqual(on.Args, []string{"--x=$HOME", "yes", "012"}) || on.Env["KEY"] != "***" || file.DefaultServer != "on" {
		t.Errorf("read again: %+v", file)
	}
	empty := newFakeAPI(t).on("GET /api/v1/servers", 200, `{"servers":[]}`)
	execute(t, empty.URL, "", "get", "-o", "yaml").wants(t, 0, "servers: {}\n", "")
}
