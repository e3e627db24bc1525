package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// replicasOfWeb are those of a rollout from revision 3 to 4.
const replicasOfWeb = `{"replicas":[
	{"id":"web-3-a","server":"web","revision":3,"phase":"READY","total_calls":200,"calls":{"ok":198,"is_error":2,"latency":[0,0,0,0,200]}},
	{"id":"web-3-b","server":"web","revision":3,"phase":"DRAINING","total_calls":100,"calls":{"ok":100,"latency":[0,0,0,0,100]}},
	{"id":"web-4-a","server":"web","revision":4,"phase":"READY","total_calls":20,"calls":{"ok":15,"is_error":4,"timed_out":1}},
	{"id":"web-4-b","server":"web","revision":4,"phase":"READY","spare":true},
	{"id":"x-1-a","server":"x","revision":1,"phase":"READY"}]}`

func TestShowRollout(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct{ server, want string }{
		"a canary": {`{"name":"web","state":"UPDATING","reason":"revision 4: 1 of 2","desired":2,"ready":3,"spares":1,"revision":4,"stable":3,
			"rollout":{"from":3,"to":4,"started_at":"2026-11-28T11:59:30Z","deadline":"2026-11-28T12:01:30Z","checked":true,"step":1,"steps":3,"share":25}}`, `
SERVER    web: UPDATING, 3/2 +1 warm ready
ROLLOUT   revision 3 -> 4
STATE     rolling, 1 new ready, canary step 2 of 3: 25% of the calls
STARTED   30s ago; without progress it is rolled back in 1m30s at the earliest
REASON    revision 4: 1 of 2
`},
		"held": {`{"name":"web","state":"UPDATING","reason":"r","desired":2,"ready":2,"revision":4,"stable":3,
			"rollout":{"from":3,"to":4,"started_at":"2026-11-28T11:00:00Z","deadline":"2026-11-28T11:02:00Z","held":"tool a\n is gone","paused":true}}`, `
SERVER    web: UPDATING, 2/2 ready
ROLLOUT   revision 3 -> 4
STATE     held, 1 new ready
HELD      tool a is gone
STARTED   1h0m ago
REASON    r
`},
		"checking": {`{"name":"web","state":"UPDATING","desired":2,"ready":2,"revision":4,"stable":3,"spec":{"update":{"verify":[{"tool":"t"}]}},
			"rollout":{"from":3,"to":4,"started_at":"2026-11-28T11:59:58Z","deadline":"2026-11-28T12:01:58Z"}}`, `
SERVER    web: UPDATING, 2/2 ready
ROLLOUT   revision 3 -> 4
STATE     checking, 1 new ready
STARTED   2s ago; without progress it is rolled back in 1m58s at the earliest
`},
		"paused": {`{"name":"web","state":"UPDATING","reason":"the rollout is held: wait","desired":2,"ready":2,"revision":4,"stable":3,
			"rollout":{"from":3,"to":4,"started_at":"2026-11-28T11:59:58Z","deadline":"2026-11-28T12:01:58Z","paused":true,"held":"","checked":true}}`, `
SERVER    web: UPDATING, 2/2 ready
ROLLOUT   revision 3 -> 4
STATE     paused, 1 new ready
STARTED   2s ago
REASON    the rollout is held: wait
`},
		"stopped": {`{"name":"web","state":"STOPPED","reason":"stopped by hand: scaled to 0","desired":0,"ready":0,"revision":4,"stable":3,
			"rollout":{"from":3,"to":4,"started_at":"2026-11-28T11:59:58Z","deadline":"2026-11-28T12:01:58Z"}}`, `
SERVER    web: STOPPED, 0/0 ready
ROLLOUT   revision 3 -> 4
STATE     waits until the server is started, 1 new ready
STARTED   2s ago
REASON    stopped by hand: scaled to 0
`},
		"rolled back": {`{"name":"web","state":"READY","reason":"revision 4 was rolled back: exit code 1: no key","desired":2,"ready":2,"revision":3,"stable":3,
			"failed":{"revision":4,"reason":"exit code 1: no key","at":"2026-11-28T11:50:00Z"}}`, `
SERVER    web: READY, 2/2 ready
ROLLOUT   none is under way; revision 3 is wanted
FAILED    revision 4, 10m ago: exit code 1: no key
`},
		"rolling back": {`{"name":"web","state":"UPDATING","desired":2,"ready":2,"revision":3,"stable":3,"failed":{"revision":4,"reason":"exit code 1","at":"2026-11-28T11:59:00Z"},
			"rollout":{"from":4,"to":3,"started_at":"2026-11-28T11:59:58Z","deadline":"2026-11-28T12:01:58Z"}}`, `
SERVER    web: UPDATING, 2/2 ready
ROLLOUT   revision 4 -> 3, rolled back
STATE     rolling, 1 new ready
STARTED   2s ago
FAILED    revision 4, 1m0s ago: exit code 1
`},
		"the first": {`{"name":"web","state":"DEPLOYING","desired":2,"ready":0,"revision":4,"rollout":{"from":0,"to":4,"started_at":"2026-11-28T11:59:58Z","deadline":"2026-11-28T12:01:58Z"}}`, `
SERVER    web: DEPLOYING, 0/2 ready
ROLLOUT   revision 4, the first one
STATE     rolling
STARTED   2s ago
`},
	} {
		t.Run(name, func(t *testing.T) {
			var s api.Server
			var all api.Replicas
			if err := json.Unmarshal([]byte(tt.server), &s); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(replicasOfWeb), &all); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			a := &app{Config: Config{Out: &out}}
			if err := a.showRollout(&s, all.Replicas[:4], now); err != nil {
				t.Fatal(err)
			}
			want := strings.TrimPrefix(tt.want, "\n") + `
REVISION  REPLICAS                 CALLS  FAILED     P50   P95
4         1 READY; 1 READY, spare  20     5 (25.0%)  -     -
3         1 DRAINING; 1 READY      300    2 (0.7%)   15ms  19ms
`
			if got := out.String(); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestRolloutCommands(t *testing.T) {
	const at = "POST /api/v1/servers/web/rollout"
	for _, tt := range []struct {
		name     string
		args     string
		arrange  func(*fakeAPI)
		code     int
		out, err string
		writes   string
	}{
		{name: "pause", args: "rollout pause web", arrange: func(f *fakeAPI) {
			f.on(at, 200, `{"name":"web","changes":[{"server":"web","kind":"rollout_paused","revision":2}]}`)
		}, out: "pause rollout web  (revision 2)\n", writes: at + ` {"action":"pause"}`},
		{name: "resume and wait", args: "rollout resume web --wait", arrange: func(f *fakeAPI) {
			f.on(at, 200, `{"name":"web","revision":2,"changes":[{"server":"web","kind":"rollout_resumed","revision":2}]}`)
			f.on("GET /api/v1/servers", 200, `{"servers":[{"name":"web","state":"READY","desired":1,"ready":1,"revision":2}]}`)
		}, out: "resume rollout web  (revision 2)\nweb: READY, 1/1 ready, revision 2\n", writes: at + ` {"action":"resume"}`},
		{name: "nothing to pause", args: "rollout pause web", arrange: func(f *fakeAPI) {
			f.on(at, 409, `{"detail":"no rollout of server web is under way, so there is nothing to pause","code":"conflict"}`)
		}, code: 1, err: "no rollout of server web is under way, so there is nothing to pause", writes: at + ` {"action":"pause"}`},
		{name: "undo", args: "rollout undo web --to 4", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/servers/web/rollback", 202, `{"name":"web","changes":[{"server":"web","kind":"rolled_back","revision":4}]}`)
		}, out: "roll back web  (revision 4)\n", writes: `POST /api/v1/servers/web/rollback with a key {"revision":4}`},
		{name: "a floor", args: "scale web --floor 5 --ttl 10m", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/servers/web/scale", 202, `{"name":"web","changes":[{"server":"web","kind":"floor_set","revision":1,"fields":[{"field":"floor.min_replicas","from":null,"to":5}]}]}`)
		}, out: "set floor web\n            floor.min_replicas: (none) -> 5\n", writes: `POST /api/v1/servers/web/scale {"min_replicas":5,"ttl":"10m0s"}`},
		{name: "no floor", args: "scale web --floor 0", arrange: func(f *fakeAPI) {
			f.on("POST /api/v1/servers/web/scale", 200, `{"name":"web","changes":[]}`)
		}, out: "nothing to change\n", writes: `POST /api/v1/servers/web/scale {"min_replicas":0}`},
		{name: "status of none", args: "rollout status nope", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/servers/nope", 404, `{"detail":"there is no server named nope","code":"unknown_server"}`)
		}, code: 1, err: "there is no server named nope"},
		{name: "watch one that succeeds", args: "rollout status web -w", arrange: func(f *fakeAPI) {
			const rolling = `{"name":"web","state":"UPDATING","desired":1,"ready":1,"revision":2,"rollout":{"from":1,"to":2}}`
			f.on("GET /api/v1/servers/web", 200, rolling).on("GET /api/v1/servers", 200, `{"servers":[`+rolling+`]}`).on("GET /api/v1/replicas", 200, `{"replicas":[]}`)
			f.on("GET /api/v1/servers", 200, `{"servers":[{"name":"web","state":"READY","desired":1,"ready":1,"revision":2}]}`)
		}, out: "web: UPDATING, 1/1 ready, revision 1 -> 2, 0 new ready\nweb: READY, 1/1 ready, revision 2\n"},
		{name: "watch a restart after a failure", args: "rollout status web -w", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/servers/web", 200, `{"name":"web","revision":1,"failed":{"revision":2},"rollout":{"from":1,"to":1}}`)
			f.on("GET /api/v1/servers", 200, `{"servers":[{"name":"web","state":"READY","desired":1,"ready":1,"revision":1,"failed":{"revision":2}}]}`)
		}, out: "web: READY, 1/1 ready, revision 1 (2 failed)\n"},
		{name: "watch one that is deleted meanwhile", args: "rollout status web -w", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/servers/web", 200, `{"name":"web","state":"UPDATING","desired":1,"ready":1,"revision":2,"rollout":{"from":1,"to":2}}`)
			f.on("GET /api/v1/servers", 200, `{"servers":[{"name":"web","state":"DELETING","desired":0,"ready":1,"revision":2}]}`).on("GET /api/v1/replicas", 200, `{"replicas":[]}`)
		}, code: 1, out: "web: somebody has deleted it\n", err: "web: somebody has deleted it"},
		{name: "watch one that is gone", args: "rollout status web -w", arrange: func(f *fakeAPI) {
			f.on("GET /api/v1/servers/web", 200, `{"name":"web","state":"UPDATING","desired":1,"ready":1,"revision":2,"rollout":{"from":1,"to":2}}`)
			f.on("GET /api/v1/servers", 200, `{"servers":[]}`)
		}, code: 1, out: "web: somebody has deleted it\n", err: "web: somebody has deleted it"},
		{name: "watch one that was rolled back", args: "rollout status web --watch", arrange: func(f *fakeAPI) {
			const back = `{"name":"web","state":"READY","desired":1,"ready":1,"revision":1,"failed":{"revision":2,"reason":"exit code 1"}}`
			f.on("GET /api/v1/servers/web", 200, back).on("GET /api/v1/servers", 200, `{"servers":[`+back+`]}`)
		}, code: 1, out: "web: READY, 1/1 ready, revision 1 (2 failed)\n", err: "web: revision 2 was rolled back to revision 1: exit code 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeAPI(t)
			tt.arrange(f)
			execute(t, f.URL, "", strings.Fields(tt.args)...).wants(t, tt.code, tt.out, tt.err)
			if got := f.writes(); got != tt.writes {
				t.Errorf("asked\n%s\nwant\n%s", got, tt.writes)
			}
		})
	}
	f := newFakeAPI(t).on("GET /api/v1/servers/web", 200, `{"name":"web","revision":4}`).on("GET /api/v1/replicas", 200, replicasOfWeb)
	f.on("GET /api/v1/servers", 200, `{"servers":[{"name":"web","state":"READY","revision":4}]}`)
	for _, args := range []string{"rollout status web -o json", "rollout status web -w -o json"} {
		r := execute(t, f.URL, "", strings.Fields(args)...)
		var out rolloutStatus
		if err := json.Unmarshal([]byte(r.out), &out); err != nil || out.Server.Revision != 4 || len(out.Replicas) != 4 {
			t.Errorf("%s: %v, %v: %s", args, r.err, err, r.out)
		}
	}
}
