package cli

import (
	"strings"
	"testing"
)

const scaled = `"changes":[{"server":"web","kind":"scaled","revision":1,"fields":[{"field":"replicas","from":1,"to":3}]}]`

func TestChangingCommands(t *testing.T) {
	const ready = `{"servers":[{"name":"web","state":"READY","desired":3,"ready":3,"revision":2,"spec":{}}]}`
	for _, tt := range []struct {
		name     string
		args     string
		arrange  func(*fakeAPI)
		code     int
		out, err string
		writes   string
	}{
		{name: "scale", args: "scale web 3", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/servers/web/scale", 202, `{"name":"web",`+scaled+`}`)
		}, out: "scale     web\n            replicas: 1 -> 3\n", writes: `POST /api/v1/servers/web/scale {"replicas":3}`},
		{name: "scale and wait", args: "scale web 3 --wait", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/servers/web/scale", 202, `{"name":"web",`+scaled+`}`)
			f.on("GET /api/v1/servers", 200, strings.Replace(ready, `"ready":3`, `"ready":1`, 1)).on("GET /api/v1/servers", 200, ready)
			f.on("GET /api/v1/replicas", 200, `{"replicas":[]}`)
		}, out: "scale     web\n            replicas: 1 -> 3\nweb: READY, 1/3 ready, revision 2\nweb: READY, 3/3 ready, revision 2\n", writes: `POST /api/v1/servers/web/scale {"replicas":3}`},
		{name: "scale and wait in vain", args: "scale web 3 --wait", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/servers/web/scale", 202, `{"name":"web",`+scaled+`}`).on("GET /api/v1/servers", 403, `{"detail":"not for you","code":"forbidden"}`)
		}, code: exitUnready, out: "scale     web\n            replicas: 1 -> 3\n", err: "cannot find out whether it is ready: not for you", writes: `POST /api/v1/servers/web/scale {"replicas":3}`},
		{name: "scale, tried out", args: "scale web 3 --dry-run --wait", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/servers/web/scale?dry_run=1", 200, `{"dry_run":true,`+scaled+`,"plan":[]}`)
		}, out: "scale     web\n            replicas: 1 -> 3\nnothing would start or stop\n", writes: `POST /api/v1/servers/web/scale?dry_run=1 {"replicas":3}`},
		{name: "scale of what scales itself", args: "scale web 3", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/servers/web/scale", 409, `{"detail":"web is autoscaled","code":"conflict"}`)
		}, code: 1, err: "web is autoscaled", writes: `POST /api/v1/servers/web/scale {"replicas":3}`},
		{name: "scale to nonsense", args: "scale web many", code: 2, err: `the number of replicas must be 0 or more, not "many"`},
		{name: "scale of no server", args: "scale nope 1", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/servers/nope/scale", 404, `{"detail":"there is no server named nope","code":"unknown_server"}`)
		}, code: 1, err: "there is no server named nope", writes: `POST /api/v1/servers/nope/scale {"replicas":1}`},
		{name: "restart", args: "restart web", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/servers/web/restart", 202, `{"name":"web","changes":[{"server":"web","kind":"restarted","revision":2,"fields":[]}]}`)
		}, out: "restart   web  (revision 2)\n", writes: `POST /api/v1/servers/web/restart with a key`},
		{name: "restart that gets lost", args: "restart web", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/servers/web/restart", 0, "")
		}, code: exitUnknown, err: "it is unknown whether the change was made", writes: `POST /api/v1/servers/web/restart with a key`},
		{name: "rollback", args: "rollback web --to 4", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/servers/web/rollback", 202, `{"name":"web","changes":[{"server":"web","kind":"rolled_back","revision":4,"fields":[{"field":"image","from":"b","to":"a"}]}]}`)
		}, out: "roll back web  (revision 4)\n            image: \"b\" -> \"a\"\n", writes: `POST /api/v1/servers/web/rollback with a key {"revision":4}`},
		{name: "rollback by one", args: "rollback web", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/servers/web/rollback", 200, `{"name":"web","changes":[]}`)
		}, out: "nothing to change\n", writes: `POST /api/v1/servers/web/rollback with a key {}`},
		{name: "delete", args: "delete web old --wait", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/servers", 200, storedTwo).on("GET /api/v1/servers", 200, `{"servers":[]}`)
			f.on("DELETE /api/v1/servers/web", 202, `{"changes":[{"server":"web","kind":"deleted","revision":1}]}`)
			f.on("DELETE /api/v1/servers/old", 202, `{"changes":[{"server":"old","kind":"deleted","revision":3}]}`)
			f.on("GET /api/v1/replicas", 200, `{"replicas":[{"id":"web-1-a","server":"web"}]}`).on("GET /api/v1/replicas", 200, `{"replicas":[]}`)
		}, out: "delete    web\ndelete    old\nweb: 1 replica is left\nold: 0 replicas are left\nweb: 0 replicas are left\n",
			writes: "DELETE /api/v1/servers/web\nDELETE /api/v1/servers/old"},
		{name: "delete of one that is not there", args: "delete web nope", arrange: func(f *fakeAPI) { f.on("GET /api/v1/servers", 200, storedTwo) },
			code: 1, err: `there is no server named "nope"; nothing was deleted`},
		{name: "delete half done", args: "delete web old", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/servers", 200, storedTwo)
			f.on("DELETE /api/v1/servers/web", 202, `{"changes":[{"server":"web","kind":"deleted","revision":1}]}`)
			f.on("DELETE /api/v1/servers/old", 503, `{"detail":"no leader","code":"no_leader"}`)
		}, code: 1, err: "deleted so far: [web]: no leader", writes: "DELETE /api/v1/servers/web\nDELETE /api/v1/servers/old"},
		{name: "drain", args: "drain n1 --deadline 90s --wait", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/nodes/n1/drain", 202, `{"name":"n1","drain_until":"2040-01-01T00:00:00Z","changes":[{"node":"n1","kind":"draining","fields":[]}]}`)
			f.on("GET /api/v1/nodes", 200, `{"nodes":[{"name":"n1","role":"worker","state":"DRAINING","replicas":2}]}`).on("GET /api/v1/nodes", 200, `{"nodes":[{"name":"n1","role":"worker","state":"DRAINING","replicas":0}]}`)
		}, out: "drain     n1\nn1: DRAINING, 2 replicas\nn1: DRAINING, 0 replicas\n", writes: `POST /api/v1/nodes/n1/drain {"deadline":"1m30s"}`},
		{name: "drain into the past", args: "drain n1 --deadline -1s", code: 2, err: "--deadline must not be negative"},
		{name: "cordon", args: "cordon n1", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/nodes/n1/cordon", 200, `{"name":"n1","changes":[{"node":"n1","kind":"cordoned","fields":[]}]}`)
		}, out: "cordon    n1\n", writes: "POST /api/v1/nodes/n1/cordon"},
		{name: "uncordon", args: "uncordon n1", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/nodes/n1/uncordon", 404, `{"detail":"unknown node n1","code":"unknown_node"}`)
		}, code: 1, err: "unknown node n1", writes: "POST /api/v1/nodes/n1/uncordon"},
		{name: "transfer", args: "controllers transfer c2", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/controllers/c2/transfer", 200, `{"cluster":"abc","controllers":[{"name":"c2","id":"22","http":"h:2","raft":"r:2","role":"voter","leader":true,"alive":true,"version":"v1"}]}`)
		}, out: "CONTROLLER  ROLE   STATE   HTTP  RAFT  VERSION  ID\nc2          voter  leader  h:2   r:2   v1       22\n", writes: "POST /api/v1/controllers/c2/transfer"},
		{name: "remove", args: "controllers remove c9", arrange: func(f *fakeAPI) {
			f.on("DELETE /api/v1/controllers/c9", 404, `{"detail":"unknown controller c9","code":"unknown_controller"}`)
		}, code: 1, err: "unknown controller c9", writes: "DELETE /api/v1/controllers/c9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAPI(t)
			if tt.arrange != nil {
				tt.arrange(f)
			}
			execute(t, f.URL, "", strings.Fields(tt.args)...).wants(t, tt.code, tt.out, tt.err)
			if got := f.writes(); got != tt.writes {
				t.Errorf("asked\n%s\nwant\n%s", got, tt.writes)
			}
		})
	}
}

func TestShowingCommands(t *testing.T) {
	for _, tt := range []struct {
		name     string
		args     string
		arrange  func(*fakeAPI)
		code     int
		out, err string
	}{
		{name: "get", args: "get", arrange: func(f *fakeAPI) { f.on("GET /api/v1/servers", 200, storedTwo) }, out: "" +
			"SERVER  STATE  READY  REVISION  RUNS  DEFAULT\n" +
			"old     READY  1/1    3         o     yes\n" +
			"web     READY  1/1    1         w1    -\n"},
		{name: "status of what scales", args: "status", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/servers", 200, `{"servers":[
				{"name":"auto","state":"READY","desired":3,"ready":3,"spares":1,"revision":4,"autoscaling":{"min_replicas":0,"max_replicas":100,"floor":{"min_replicas":3}},
				 "rollout":{"from":3,"to":4}},
				{"name":"idle","state":"IDLE","reason":"idle: a call starts it","revision":1,"autoscaling":{"min_replicas":0,"max_replicas":9}},
				{"name":"off","state":"STOPPED","reason":"stopped by hand: scaled to 0","revision":2,"failed":{"revision":3}}]}`)
			f.on("GET /api/v1/replicas", 200, `{"replicas":[{"id":"auto-4-a","server":"auto","node":"n1","phase":"READY","spare":true}]}`).on("GET /api/v1/nodes", 200, `{"nodes":[]}`)
		}, out: "" +
			"SERVER  STATE    READY                             RESTARTS  REVISION      REASON\n" +
			"auto    READY    3/3 +1 warm (0..100, at least 3)  0         3 -> 4        -\n" +
			"idle    IDLE     0/0 (0..9)                        0         1             idle: a call starts it\n" +
			"off     STOPPED  0/0                               0         2 (3 failed)  stopped by hand: scaled to 0\n" +
			"\n" +
			"REPLICA   NODE  PHASE         ONGOING  CALLS  AGE  REASON\n" +
			"auto-4-a  n1    READY, spare  0        0      -    -\n"},
		{name: "get one", args: "get web", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/servers/web", 200, `{"name":"web","state":"UPDATING","desired":2,"ready":1,"revision":3,"spec":{"command":["a","b"]},"rollout":{"from":3,"to":3}}`)
		}, out: "SERVER  STATE     READY  REVISION        RUNS  DEFAULT\nweb     UPDATING  1/2    3 (restarting)  a b   -\n"},
		{name: "get one as a file", args: "get web -o yaml", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/servers/web", 200, `{"name":"web","spec":{"image":"a"}}`)
		}, out: "servers:\n  web:\n    image: a\n"},
		{name: "get in a form that is mistyped", args: "get -o jsno", code: 2, err: `--output must be table, json or yaml, not "jsno"; did you mean "json"?`},
		{name: "get in another form", args: "get -o xml", code: 2, err: `--output must be table, json or yaml, not "xml"`},
		{name: "get of none", args: "get nope", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/servers/nope", 404, `{"detail":"there is no server named nope","code":"unknown_server"}`)
		}, code: 1, err: "there is no server named nope"},
		{name: "revisions", args: "revisions web", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/servers/web/revisions", 200, `{"revisions":[
				{"revision":3,"created_at":"2020-01-01T00:00:00Z","current":true,"changes":[{"field":"image","from":"a","to":"b"},{"field":"env.K","from":"***","to":"***"}]},
				{"revision":1,"created_at":"2020-01-01T00:00:00Z","stable":true,"changes":[]}]}`)
		}, out: "REVISION AGE STATUS CHANGES\n3 * current image: \"a\" -> \"b\"\nenv.K: \"***\" -> \"***\"\n1 * stable -\n"},
		{name: "events", args: "events --since 7-1 --server web", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/events?server=web&since=7-1", 200, `{"gap":true,"last":"7-3","events":[
				{"id":"7-2","time":"2020-01-02T03:04:05Z","kind":"updated","server":"web","revision":2,"message":"revision 2"},
				{"id":"7-3","time":"2020-01-02T03:04:06Z","kind":"node_lost","node":"n1","message":"gone\u001b[2J"}]}`)
		}, out: "* 7-2 updated web revision 2\n* 7-3 node_lost n1 gone [2J\n", err: "events may be missing here"},
		{name: "controllers", args: "controllers list", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/controllers", 200, `{"cluster":"abc","controllers":[{"name":"c1","id":"11","http":"h:1","raft":"r:1","role":"voter","alive":true,"version":"v1"},{"name":"","id":"33","role":"nonvoter"}]}`)
		}, out: "CONTROLLER  ROLE      STATE  HTTP  RAFT  VERSION  ID\nc1          voter     alive  h:1   r:1   v1       11\n-           nonvoter  gone   -     -     -        33\n",
			err: "there is no leader now"},
		{name: "controllers with a problem", args: "controllers list", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/controllers", 200, `{"cluster":"abc","controllers":[{"name":"c1","id":"11","role":"voter","alive":true,"leader":true},{"name":"c2","id":"22","role":"voter","alive":true,"problem":"the disk does not answer\u001b[2J"}]}`)
		}, out: "CONTROLLER  ROLE   STATE   HTTP  RAFT  VERSION  ID\nc1          voter  leader  -     -     -        11\nc2          voter  alive   -     -     -        22\n",
			err: "controller c2: the disk does not answer [2J"},
		{name: "nodes", args: "nodes", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/nodes", 200, `{"nodes":[{"name":"c1","role":"controller","state":"READY","leader":true,"http":"h:1","pid":1},
				{"name":"n1","role":"worker","state":"READY","cordoned":true,"grpc":"g:1","pid":2,"runtimes":["podman","process"],"runtime":"podman,process"},
				{"name":"n2","role":"worker","state":"DRAINING","cordoned":true,"drain_until":"2020-01-01T00:00:00Z","grpc":"g:2","pid":3}]}`)
		}, out: "" +
			"NODE  ROLE        STATE              RUNTIME         ZONE  REPLICAS  CPUS  MEMORY  ADDRESS  PID\n" +
			"c1    controller  READY, leader      -               -     0         -     -       h:1      1\n" +
			"n1    worker      READY, cordoned    podman,process  -     0         -     -       g:1      2\n" +
			"n2    worker      DRAINING, drained  -               -     0         -     -       g:2      3\n"},
		{name: "status without a leader", args: "status", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/servers", 503, `{"detail":"no leader","code":"no_leader"}`).on("GET /api/v1/servers?stale=1", 200, `{"servers":[]}`)
			f.on("GET /api/v1/replicas", 200, `{"replicas":[]}`)
			f.on("GET /api/v1/nodes", 200, `{"nodes":[{"name":"c1","role":"controller","state":"READY","http":"h:1"},{"name":"c2","role":"controller","state":"UNREACHABLE","http":"h:2"}]}`)
		}, out: "SERVER  STATE  READY  RESTARTS  REVISION  REASON\n\nCONTROLLER  STATE        ADDRESS\nc1          READY        h:1\nc2          UNREACHABLE  h:2\n",
			err: "there is no leader now; this is the last known state"},
		{name: "completion of nodes", args: "__complete drain n", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/nodes", 200, `{"nodes":[{"name":"n1","role":"worker"},{"name":"nc","role":"controller"}]}`)
		}, out: "n1\n:4\n", err: "Completion ended"},
		{name: "completion of several servers", args: "__complete delete web ", arrange: func(f *fakeAPI) { f.on("GET /api/v1/servers?stale=1", 200, storedTwo) },
			out: "old\n:4\n", err: "Completion ended"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAPI(t)
			if tt.arrange != nil {
				tt.arrange(f)
			}
			args := strings.Split(tt.args, " ")
			r := execute(t, f.URL, "", args...)
			if strings.Contains(tt.out, "*") {
				r.out = withoutTimes(r.out)
			}
			r.wants(t, tt.code, tt.out, tt.err)
		})
	}
}

// withoutTimes replaces times and ages by a star, and runs of spaces by one.
func withoutTimes(out string) string {
	lines := strings.Split(out, "\n")
	for i, line := range lines {
		words := strings.Fields(line)
		for j, word := range words {
			if strings.HasPrefix(word, "2020-") || len(word) > 4 && strings.HasSuffix(word, "d") && strings.Trim(word[:4], "0123456789") == "" {
				words[j] = "*"
			}
		}
		lines[i] = strings.Join(words, " ")
	}
	return strings.Join(lines, "\n")
}

func TestHelpTellsExitCodes(t *testing.T) {
	r := execute(t, "", "", "help")
	if !strings.Contains(r.out, exitCodes) || r.code != 0 {
		t.Errorf("%v: %s", r.err, r.out)
	}
	for _, word := range []string{"apply", "get", "scale", "restart", "rollback", "revisions", "delete", "drain", "cordon", "uncordon", "events", "controllers", "backup", "restore", "schema"} {
		if !strings.Contains(r.out, "\n  "+word+" ") {
			t.Errorf("the help does not know %s", word)
		}
	}
}
