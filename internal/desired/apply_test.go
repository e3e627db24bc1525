package desired

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// The first command of a case has index 2: entry 1 founds the cluster.
func TestApply(t *testing.T) {
	env := func(value string) fleet.Spec {
		s := spec("a", 1)
		s.Env = map[string]string{"TOKEN": value}
		return s
	}
	queued := spec("a", 1)
	queued.MaxQueuedRequests = 5
	later := noon.Add(time.Hour)

	for _, tc := range []struct {
		name    string
		before  []Command
		command Command
		changes string
		servers string
		def     fleet.ServerName
	}{
		{"a new server", nil, put("x", spec("a", 2)), "created x@1", "x r1 t2 g0 w2 s0 [1] 0>1", "x"},
		{"a new template", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0)}, put("x", spec("b", 1)),
			`updated x@2 image:"a">"b"`, "x r2 t1 g0 w4 s1 [1 2] 1>2", "x"},
		{"a new template in mid-rollout", []Command{put("x", spec("a", 1)), put("x", spec("b", 1))}, put("x", spec("c", 1)),
			`updated x@3 image:"b">"c"`, "x r3 t1 g0 w4 s0 [1 2 3] 0>3", "x"},
		{"a limit", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0)}, put("x", queued),
			"tuned x@1 max_queued_requests:0>5", "x r1 t1 g0 w4 s1 [1]", "x"},
		{"an equal spec", []Command{put("x", spec("a", 1))}, put("x", spec("a", 1)), "", "x r1 t1 g0 w2 s0 [1] 0>1", "x"},
		{"an equal spec after scale", []Command{put("x", spec("a", 1)), scale("x", 5)}, put("x", spec("a", 1)), "", "x r1 t5 g0 w2 s0 [1] 0>1", "x"},
		{"scale", []Command{put("x", spec("a", 1))}, scale("x", 0), "scaled x@1 replicas:1>0", "x r1 t0 g0 w2 s0 [1] 0>1", "x"},
		{"scale to the same", []Command{put("x", spec("a", 3))}, scale("x", 3), "", "x r1 t3 g0 w2 s0 [1] 0>1", "x"},
		{"a template after scale keeps the target", []Command{put("x", spec("a", 1)), scale("x", 5)}, put("x", spec("b", 1)),
			`updated x@2 image:"a">"b"`, "x r2 t5 g0 w4 s0 [1 2] 0>2", "x"},
		{"declared replicas after scale set the target", []Command{put("x", spec("a", 1)), scale("x", 5)}, put("x", spec("a", 2)),
			"tuned x@1 replicas:1>2", "x r1 t2 g0 w4 s0 [1] 0>1", "x"},
		{"restart", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0)}, restart("x", ""), "restarted x@1", "x r1 t1 g1 w2 s1 [1] 1>1", "x"},
		{"rolled out", []Command{put("x", spec("a", 1))}, rolledOut("x", 1, 0), "rolled_out x@1", "x r1 t1 g0 w2 s1 [1]", "x"},
		{"rolled out twice", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0)}, rolledOut("x", 1, 0), "", "x r1 t1 g0 w2 s1 [1]", "x"},
		{"rolled out, but of an older revision", []Command{put("x", spec("a", 1)), put("x", spec("b", 1))}, rolledOut("x", 1, 0), "", "x r2 t1 g0 w3 s0 [1 2] 0>2", "x"},
		{"rolled out, but of an older generation", []Command{put("x", spec("a", 1)), restart("x", "")}, rolledOut("x", 1, 0), "", "x r1 t1 g1 w2 s0 [1] 0>1", "x"},
		{"rolled out, but deleted", []Command{put("x", spec("a", 1)), del("x")}, rolledOut("x", 1, 0), "", "", ""},
		{"rollback to the one before", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0), put("x", spec("b", 1)), rolledOut("x", 2, 0)}, rollback("x", 0, ""),
			`rolled_back x@1 image:"b">"a"`, "x r1 t1 g0 w6 s2 [1 2] 2>1", "x"},
		{"rollback keeps counts and limits", []Command{put("x", spec("a", 1)), put("x", spec("b", 4)), scale("x", 6)}, rollback("x", 1, ""),
			`rolled_back x@1 image:"b">"a"`, "x r1 t6 g0 w5 s0 [1 2] 0>1", "x"},
		{"rollback forward", []Command{put("x", spec("a", 1)), put("x", spec("b", 1)), rollback("x", 1, "")}, rollback("x", 2, ""),
			`rolled_back x@2 image:"a">"b"`, "x r2 t1 g0 w5 s0 [1 2] 0>2", "x"},
		{"rollback to the present one", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0)}, rollback("x", 1, ""), "", "x r1 t1 g0 w2 s1 [1]", "x"},
		{"rollback to the present one begins its rollout again", []Command{put("x", spec("a", 1))}, rollback("x", 1, ""), "rolled_back x@1", "x r1 t1 g0 w2 s0 [1] 0>1", "x"},
		{"a template after rollback has a fresh number", []Command{put("x", spec("a", 1)), put("x", spec("b", 1)), rollback("x", 1, "")}, put("x", spec("b", 1)),
			`updated x@3 image:"a">"b"`, "x r3 t1 g0 w5 s0 [1 2 3] 0>3", "x"},
		{"delete", []Command{put("x", spec("a", 1)), put("y", spec("a", 1))}, del("x"), "deleted x@1", "y r1 t1 g0 w3 s0 [1] 0>1", "y"},
		{"a number is not used again after delete", []Command{put("x", spec("a", 1)), restart("x", ""), del("x")}, put("x", spec("a", 1)), "created x@2", "x r2 t1 g0 w5 s0 [2] 0>2", "x"},
		{"delete of the default server", []Command{
			putAll("x", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1), "y": spec("a", 1), "z": spec("a", 1)})}, del("x"),
			"deleted x@1", "y r1 t1 g0 w2 s0 [1] 0>1; z r1 t1 g0 w2 s0 [1] 0>1", ""},
		{"the whole set", []Command{put("gone", spec("a", 1)), put("same", spec("a", 1)), put("other", spec("a", 1))},
			putAll("same", map[fleet.ServerName]fleet.Spec{"same": spec("a", 1), "other": spec("b", 1), "new": spec("c", 1)}),
			`deleted gone@1; created new@1; updated other@2 image:"a">"b"; default_set same default_server:>"same"`,
			"new r1 t1 g0 w5 s0 [1] 0>1; other r2 t1 g0 w5 s0 [1 2] 0>2; same r1 t1 g0 w3 s0 [1] 0>1", "same"},
		{"an equal set", []Command{putAll("x", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1)})}, putAll("x", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1)}),
			"", "x r1 t1 g0 w2 s0 [1] 0>1", "x"},
		{"no default any more", []Command{putAll("x", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1), "y": spec("a", 1)})},
			putAll("", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1), "y": spec("a", 1)}), `default_set  default_server:"x">`,
			"x r1 t1 g0 w2 s0 [1] 0>1; y r1 t1 g0 w2 s0 [1] 0>1", ""},
		{"a masked secret is the stored one", []Command{put("x", env("s3cret"))}, put("x", env(fleet.Masked)), "", "x r1 t1 g0 w2 s0 [1] 0>1", "x"},
		{"a changed secret is not shown", []Command{put("x", env("s3cret"))}, put("x", env("other")), `updated x@2 env.TOKEN:"***">"***"`, "x r2 t1 g0 w3 s0 [1 2] 0>2", "x"},
		{"masked secrets of a set, per server", []Command{put("x", env("one")), put("y", env("two"))},
			putAll("", map[fleet.ServerName]fleet.Spec{"x": env(fleet.Masked), "y": env(fleet.Masked)}), "", "x r1 t1 g0 w2 s0 [1] 0>1; y r1 t1 g0 w3 s0 [1] 0>1", ""},
		{"cordon", nil, node("n", fleet.NodeIntent{Cordoned: true}), "cordoned n", "", ""},
		{"cordon twice", []Command{node("n", fleet.NodeIntent{Cordoned: true})}, node("n", fleet.NodeIntent{Cordoned: true}), "", "", ""},
		{"drain", []Command{node("n", fleet.NodeIntent{Cordoned: true})}, node("n", fleet.NodeIntent{DrainUntil: later}), "draining n", "", ""},
		{"drain with another deadline", []Command{node("n", fleet.NodeIntent{DrainUntil: later})}, node("n", fleet.NodeIntent{DrainUntil: later.Add(1)}), "draining n", "", ""},
		{"drain twice", []Command{node("n", fleet.NodeIntent{DrainUntil: later})}, node("n", fleet.NodeIntent{Cordoned: true, DrainUntil: later.In(time.FixedZone("", 3600))}), "", "", ""},
		{"cordon of a draining node", []Command{node("n", fleet.NodeIntent{DrainUntil: later})}, node("n", fleet.NodeIntent{Cordoned: true}), "", "", ""},
		{"uncordon", []Command{node("n", fleet.NodeIntent{DrainUntil: later})}, node("n", fleet.NodeIntent{}), "uncordoned n", "", ""},
		{"uncordon of an ordinary node", nil, node("n", fleet.NodeIntent{}), "", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHistory(t)
			h.do(tc.before...)
			before := h.s.Index
			r := h.do(tc.command)
			if got := summary(r.Changes); got != tc.changes {
				t.Errorf("changes\n got %s\nwant %s", got, tc.changes)
			}
			if got := shown(r.State); got != tc.servers {
				t.Errorf("servers\n got %s\nwant %s", got, tc.servers)
			}
			if got := r.State.Default(); got != tc.def {
				t.Errorf("default server is %q, want %q", got, tc.def)
			}
			want := before
			if tc.changes != "" {
				want = r.Index
			}
			if r.State.Index != want {
				t.Errorf("index is %d, want %d", r.State.Index, want)
			}
		})
	}
}

// The spec stays as written; the target says how many are wanted and who asked.
func TestTarget(t *testing.T) {
	h := newHistory(t)
	for _, step := range []struct {
		command Command
		want    fleet.Target
		written int
	}{
		{put("x", spec("a", 2)), fleet.Target{Replicas: 2}, 2},
		{scale("x", 5), fleet.Target{Replicas: 5, By: fleet.ByScale}, 2},
		{put("x", spec("b", 2)), fleet.Target{Replicas: 5, By: fleet.ByScale}, 2},
		{scale("x", 0), fleet.Target{By: fleet.ByScale}, 2},
		{scale("x", 2), fleet.Target{Replicas: 2}, 2},
		{put("x", spec("b", 0)), fleet.Target{}, 0},
		{scale("x", 1), fleet.Target{Replicas: 1, By: fleet.ByScale}, 0},
		{put("x", spec("b", 3)), fleet.Target{Replicas: 3}, 3},
	} {
		h.do(step.command)
		if got := h.s.List()[0]; got.Target != step.want || got.Spec.Replicas != step.written {
			t.Errorf("entry %d: target %+v with %d in the spec, want %+v with %d", h.s.Applied, got.Target, got.Spec.Replicas, step.want, step.written)
		}
	}
}

func TestRefused(t *testing.T) {
	masked := spec("a", 1)
	masked.Env = map[string]string{"PLAIN": "p", "TOKEN": fleet.Masked}
	present := putAll("x", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1)}) // index 2, ETag 1.2

	for _, tc := range []struct {
		name    string
		command Command
		is      error
		says    string
	}{
		{"delete of nothing", del("y"), fleet.ErrUnknownServer, "y"},
		{"scale of nothing", scale("y", 1), fleet.ErrUnknownServer, "y"},
		{"restart of nothing", restart("y", "k"), fleet.ErrUnknownServer, "y"},
		{"rollback of nothing", rollback("y", 0, ""), fleet.ErrUnknownServer, "y"},
		{"delete of nothing with If-Match", DeleteServer{Name: "y", Match: Match{ETags: []string{"*"}}}, fleet.ErrUnknownServer, "y"},
		{"scale below 0", scale("x", -1), fleet.ErrInvalid, "-1"},
		{"scale too far", scale("x", MaxReplicas+1), fleet.ErrInvalid, "10001"},
		{"replicas below 0", put("y", spec("a", -1)), fleet.ErrInvalid, "replicas"},
		{"too many replicas in a set", putAll("", map[fleet.ServerName]fleet.Spec{"a": spec("a", 1), "y": spec("a", MaxReplicas+1)}), fleet.ErrInvalid, "server y: replicas"},
		{"no name", put("", spec("a", 1)), fleet.ErrInvalid, "name"},
		{"a default that is not there", putAll("y", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1)}), fleet.ErrInvalid, "default_server"},
		{"a mask over nothing", put("y", masked), fleet.ErrInvalid, "env.TOKEN"},
		{"a mask over nothing of a stored server", put("x", masked), fleet.ErrInvalid, "env.TOKEN"},
		{"a mask over nothing in a set", putAll("", map[fleet.ServerName]fleet.Spec{"a": spec("a", 1), "x": masked}), fleet.ErrInvalid, "server x: env.TOKEN"},
		{"no earlier revision", rollback("x", 0, ""), fleet.ErrUnknownRevision, "there are 1"},
		{"no such revision", rollback("x", 9, ""), fleet.ErrUnknownRevision, "no revision 9; there are 1"},
		{"old ETag", put("x", spec("b", 1), "1.1"), fleet.ErrPrecondition, "1.2"},
		{"ETag of another incarnation", put("x", spec("b", 1), "0.2"), fleet.ErrPrecondition, "1.2"},
		{"If-Match on nothing", put("y", spec("b", 1), "*"), fleet.ErrPrecondition, "does not exist"},
		{"If-Match on nothing, empty", put("y", spec("b", 1), ""), fleet.ErrPrecondition, "does not exist"},
		{"create only", PutServer{Name: "x", Spec: spec("b", 1), Match: Match{New: true}}, fleet.ErrPrecondition, "exists already"},
		{"create the set only", PutServers{Match: Match{New: true}}, fleet.ErrPrecondition, "exists already"},
		{"old ETag of the set", putAll("", nil, "1.0"), fleet.ErrPrecondition, "1.2"},
		{"old ETag at delete", DeleteServer{Name: "x", Match: Match{ETags: []string{"1.1"}}}, fleet.ErrPrecondition, "1.2"},
		{"old ETag at scale", Scale{Name: "x", Replicas: 2, Match: Match{ETags: []string{"1.1"}}}, fleet.ErrPrecondition, "1.2"},
		{"old ETag at restart", Restart{Name: "x", Match: Match{ETags: []string{"1.1"}}}, fleet.ErrPrecondition, "1.2"},
		{"old ETag at rollback", Rollback{Name: "x", Revision: 1, Match: Match{ETags: []string{"1.1"}}}, fleet.ErrPrecondition, "1.2"},
		{"a node without a name", node("", fleet.NodeIntent{Cordoned: true}), fleet.ErrInvalid, "name"},
		{"a drain past all calendars", node("n", fleet.NodeIntent{DrainUntil: noon.AddDate(7969, 0, 0)}), fleet.ErrInvalid, "year"},
		{"a drain without a deadline", SetNode{Name: "n", Verb: Drain}, fleet.ErrInvalid, "deadline"},
		{"an unknown verb", SetNode{Name: "n", Verb: "paint"}, fleet.ErrInvalid, "paint"},
		{"a key too long", restart("x", strings.Repeat("k", 256)), fleet.ErrInvalid, "255"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHistory(t)
			h.do(present)
			r := h.try(tc.command)
			if !errors.Is(r.Err, tc.is) || !strings.Contains(fmt.Sprint(r.Err), tc.says) {
				t.Errorf("got %v; want %v that says %q", r.Err, tc.is, tc.says)
			}
			if r.Changes != nil {
				t.Errorf("a refused command has changes: %s", summary(r.Changes))
			}
			if !h.s.NeedsEntry(tc.command) {
				t.Error("NeedsEntry says false of a refused command: nobody would learn of the refusal")
			}
		})
	}
}
