package desired

import (
	"errors"
	"fmt"
	"slices"
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
	// two rolls from revision 1, which is stable, to revision 2.
	two := []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0), put("x", spec("b", 1))}
	gated := spec("b", 1)
	gated.Update = &fleet.Update{Canary: &fleet.Canary{Steps: []float64{5, 50}, Gate: fleet.GateManual}}
	bTwice := spec("b", 2)
	then := func(before []Command, more ...Command) []Command { return slices.Concat(before, more) }
	pause, resume := SetRollout{Name: "x", Verb: PauseRollout}, SetRollout{Name: "x", Verb: ResumeRollout}
	advance := func(step int, held string) Command {
		return AdvanceRollout{Name: "x", Revision: 2, Checked: true, Step: step, Held: held}
	}
	capped := autoscaled("a", 1, 5)
	capped.Autoscaling.Schedules = []fleet.ScalingSchedule{{Cron: "0 22 * * *", For: 8 * time.Hour, MaxReplicas: new(2)}}
	floor := func(n int) Command { return SetFloor{Name: "x", MinReplicas: n, Until: later} }

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
		{"a new server that scales by itself", nil, put("x", autoscaled("a", 2, 5)), "created x@1", "x r1 t2 g0 w2 s0 [1] 0>1", "x"},
		{"initial replicas", nil, put("x", initially(3, autoscaled("a", 0, 5))), "created x@1", "x r1 t3 g0 w2 s0 [1] 0>1", "x"},
		{"a server begins to scale by itself", []Command{put("x", spec("a", 4))}, put("x", autoscaled("a", 1, 5)),
			"tuned x@1 replicas:4> " + autoscalingAdded(1, 5), "x r1 t4 g0 w3 s0 [1] 0>1", "x"},
		{"a server with too many replicas begins to scale by itself", []Command{put("x", spec("a", 9))}, put("x", autoscaled("a", 1, 5)),
			"tuned x@1 replicas:9> " + autoscalingAdded(1, 5), "x r1 t5 g0 w3 s0 [1] 0>1", "x"},
		{"a new minimum", []Command{put("x", autoscaled("a", 1, 5))}, put("x", autoscaled("a", 3, 5)),
			"tuned x@1 autoscaling.min_replicas:1>3", "x r1 t3 g0 w3 s0 [1] 0>1", "x"},
		{"a new maximum", []Command{put("x", autoscaled("a", 1, 5)), target("x", 5, 2)}, put("x", autoscaled("a", 1, 4)),
			"tuned x@1 autoscaling.max_replicas:5>4", "x r1 t4 g0 w4 s0 [1] 0>1", "x"},
		{"a new minimum below the floor", []Command{put("x", autoscaled("a", 1, 9)), floor(4)}, put("x", autoscaled("a", 2, 9)),
			"tuned x@1 autoscaling.min_replicas:1>2", "x r1 t4 g0 w4 s0 [1] 0>1", "x"},
		{"a template keeps the target of autoscaling", []Command{put("x", autoscaled("a", 1, 5)), target("x", 4, 2)}, put("x", autoscaled("b", 1, 5)),
			`updated x@2 image:"a">"b"`, "x r2 t4 g0 w4 s0 [1 2] 0>2", "x"},
		{"a fixed number again", []Command{put("x", autoscaled("a", 1, 5)), target("x", 4, 2)}, put("x", spec("a", 0)),
			"tuned x@1 replicas:>0 " + autoscalingGone(1, 5), "x r1 t0 g0 w4 s0 [1] 0>1", "x"},
		{"a target", []Command{put("x", autoscaled("a", 1, 5))}, target("x", 3, 2), "scaled x@1 (load) replicas:1>3", "x r1 t3 g0 w2 s0 [1] 0>1", "x"},
		{"the same target", []Command{put("x", autoscaled("a", 1, 5))}, target("x", 1, 2), "", "x r1 t1 g0 w2 s0 [1] 0>1", "x"},
		{"a target of a spec before", []Command{put("x", autoscaled("a", 1, 5)), put("x", autoscaled("a", 1, 6))}, target("x", 3, 2), "", "x r1 t1 g0 w3 s0 [1] 0>1", "x"},
		{"a target of a server with a fixed number", []Command{put("x", spec("a", 1))}, target("x", 3, 2), "", "x r1 t1 g0 w2 s0 [1] 0>1", "x"},
		{"a target of nothing", nil, target("x", 3, 2), "", "", ""},
		{"a floor", []Command{put("x", autoscaled("a", 1, 5))}, floor(3),
			`floor_set x@1 floor.min_replicas:>3 floor.until:>"2030-01-02T13:00:00Z" replicas:1>3`, "x r1 t3 g0 w2 s0 [1] 0>1", "x"},
		{"a floor above the cap of a schedule, perhaps", []Command{put("x", capped)}, floor(3),
			`floor_set x@1 floor.min_replicas:>3 floor.until:>"2030-01-02T13:00:00Z"`, "x r1 t1 g0 w2 s0 [1] 0>1", "x"},
		{"a floor below the target", []Command{put("x", autoscaled("a", 4, 5))}, floor(3),
			`floor_set x@1 floor.min_replicas:>3 floor.until:>"2030-01-02T13:00:00Z"`, "x r1 t4 g0 w2 s0 [1] 0>1", "x"},
		{"the same floor", []Command{put("x", autoscaled("a", 1, 5)), floor(3)}, floor(3), "", "x r1 t3 g0 w2 s0 [1] 0>1", "x"},
		{"no floor any more", []Command{put("x", autoscaled("a", 1, 5)), floor(3)}, SetFloor{Name: "x"},
			`floor_set x@1 floor.min_replicas:3> floor.until:"2030-01-02T13:00:00Z">`, "x r1 t3 g0 w2 s0 [1] 0>1", "x"},
		{"a rollout that failed", two, failed("x", 2, 0), `rolled_back x@1 (revision 2 failed: it ends) image:"b">"a"`, "x r1 t1 g0 w5 s1 [1 2] 2>1 failed 2", "x"},
		{"a rollout that failed, of an older revision", two, failed("x", 1, 0), "", "x r2 t1 g0 w4 s1 [1 2] 1>2", "x"},
		{"a rollout that failed, of an older generation", then(two, restart("x", "")), failed("x", 2, 0), "", "x r2 t1 g1 w4 s1 [1 2] 1>2", "x"},
		{"a rollout that failed after its end", then(two, rolledOut("x", 2, 0)), failed("x", 2, 0), "", "x r2 t1 g0 w4 s2 [1 2]", "x"},
		{"a first rollout that failed", []Command{put("x", spec("a", 1))}, failed("x", 1, 0), "", "x r1 t1 g0 w2 s0 [1] 0>1", "x"},
		{"a restart that failed", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0), restart("x", "")}, failed("x", 1, 1), "", "x r1 t1 g1 w2 s1 [1] 1>1", "x"},
		{"the way back failed", then(two, failed("x", 2, 0)), failed("x", 1, 0), "", "x r1 t1 g0 w5 s1 [1 2] 2>1 failed 2", "x"},
		{"the way back ends", then(two, failed("x", 2, 0)), rolledOut("x", 1, 0), "rolled_out x@1", "x r1 t1 g0 w5 s1 [1 2] failed 2", "x"},
		{"the failed template again", then(two, failed("x", 2, 0)), put("x", spec("b", 1)), "", "x r1 t1 g0 w5 s1 [1 2] 2>1 failed 2", "x"},
		{"the failed template with another count", then(two, failed("x", 2, 0)), put("x", bTwice), "tuned x@1 replicas:1>2", "x r1 t2 g0 w6 s1 [1 2] 2>1 failed 2", "x"},
		{"the failed template once more, on purpose", then(two, failed("x", 2, 0)), PutServer{Name: "x", Spec: bTwice, Retry: true},
			`updated x@3 image:"a">"b" replicas:1>2`, "x r3 t2 g0 w6 s1 [1 2 3] 1>3", "x"},
		{"a set with the failed template", then(two, failed("x", 2, 0)), putAll("", map[fleet.ServerName]fleet.Spec{"x": bTwice}),
			"tuned x@1 replicas:1>2", "x r1 t2 g0 w6 s1 [1 2] 2>1 failed 2", "x"},
		{"a set with the failed template, on purpose", then(two, failed("x", 2, 0)), PutServers{Servers: map[fleet.ServerName]fleet.Spec{"x": spec("b", 1)}, Retry: true},
			`updated x@3 image:"a">"b"`, "x r3 t1 g0 w6 s1 [1 2 3] 1>3", "x"},
		{"another template after a failure", then(two, failed("x", 2, 0)), put("x", spec("c", 1)), `updated x@3 image:"a">"c"`, "x r3 t1 g0 w6 s1 [1 2 3] 1>3", "x"},
		{"rollback by hand to the failed revision", then(two, failed("x", 2, 0)), rollback("x", 2, ""), `rolled_back x@2 image:"a">"b"`, "x r2 t1 g0 w6 s1 [1 2] 1>2", "x"},
		{"pause", two, pause, "rollout_paused x@2", "x r2 t1 g0 w4 s1 [1 2] 1>2 paused", "x"},
		{"pause twice", then(two, pause), pause, "", "x r2 t1 g0 w4 s1 [1 2] 1>2 paused", "x"},
		{"resume", then(two, pause), resume, "rollout_resumed x@2", "x r2 t1 g0 w4 s1 [1 2] 1>2", "x"},
		{"resume of what goes on", two, resume, "", "x r2 t1 g0 w4 s1 [1 2] 1>2", "x"},
		{"an update of a paused rollout", then(two, pause), put("x", spec("c", 1)), `updated x@3 image:"b">"c"`, "x r3 t1 g0 w6 s1 [1 2 3] 1>3", "x"},
		{"hold", two, AdvanceRollout{Name: "x", Revision: 2, Held: "tool t is gone"}, "rollout_held x@2 (tool t is gone)", "x r2 t1 g0 w4 s1 [1 2] 1>2 held", "x"},
		{"hold twice", then(two, AdvanceRollout{Name: "x", Revision: 2, Held: "h"}), AdvanceRollout{Name: "x", Revision: 2, Held: "h"}, "", "x r2 t1 g0 w4 s1 [1 2] 1>2 held", "x"},
		{"resume after a hold", then(two, AdvanceRollout{Name: "x", Revision: 2, Held: "h"}), resume, "rollout_resumed x@2", "x r2 t1 g0 w4 s1 [1 2] 1>2 checked", "x"},
		{"hold after someone has looked", then(two, AdvanceRollout{Name: "x", Revision: 2, Held: "h"}, resume), AdvanceRollout{Name: "x", Revision: 2, Held: "h"},
			"", "x r2 t1 g0 w4 s1 [1 2] 1>2 checked", "x"},
		{"a step", two, advance(1, ""), "rollout_advanced x@2 step:0>1", "x r2 t1 g0 w4 s1 [1 2] 1>2 checked step 1", "x"},
		{"a step back", then(two, advance(2, "")), advance(1, ""), "", "x r2 t1 g0 w4 s1 [1 2] 1>2 checked step 2", "x"},
		{"the next step at a manual gate", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0), put("x", gated), advance(1, "5% of the calls")}, resume,
			"rollout_resumed x@2", "x r2 t1 g0 w4 s1 [1 2] 1>2 checked step 2", "x"},
		{"a hold before the steps of a manual gate", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0), put("x", gated), AdvanceRollout{Name: "x", Revision: 2, Held: "h"}}, resume,
			"rollout_resumed x@2", "x r2 t1 g0 w4 s1 [1 2] 1>2 checked", "x"},
		{"a step of an older revision", two, AdvanceRollout{Name: "x", Revision: 1, Checked: true, Step: 1}, "", "x r2 t1 g0 w4 s1 [1 2] 1>2", "x"},
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

func target(name fleet.ServerName, n int, written uint64) Command {
	return SetTarget{Name: name, Replicas: n, Written: written, Reason: "load"}
}

func initially(n int, s fleet.Spec) fleet.Spec {
	s.Autoscaling.InitialReplicas = &n
	return s
}

// autoscalingAdded and autoscalingGone show the differences that autoscaling makes
// to a fixed number.
func autoscalingAdded(least, most int) string {
	a := autoscaled("", least, most).Autoscaling
	return shownDifferences(compare(nil, autoscalingFields(a)))
}

func autoscalingGone(least, most int) string {
	a := autoscaled("", least, most).Autoscaling
	return shownDifferences(compare(autoscalingFields(a), nil))
}

// Whoever writes the template of the revision that was rolled back is told so, in a
// dry run too, and whether or not anything else changes.
func TestWarnsOfFailedRevision(t *testing.T) {
	h := newHistory(t)
	h.do(put("x", spec("a", 1)), rolledOut("x", 1, 0), put("x", spec("b", 1)), failed("x", 2, 0))
	want := []Warning{{Server: "x", Text: "revision 2 with this spec was rolled back, and revision 1 stays: it ends; use --retry to try it again"}}
	for _, replicas := range []int{1, 2} {
		c := put("x", spec("b", replicas))
		if got := h.s.DryRun(noon, c).Warnings; !slices.Equal(got, want) {
			t.Errorf("dry run with %d replicas: warnings %+v, want %+v", replicas, got, want)
		}
		if got := h.do(c).Warnings; !slices.Equal(got, want) {
			t.Errorf("%d replicas: warnings %+v, want %+v", replicas, got, want)
		}
	}
	for _, c := range []Command{PutServer{Name: "x", Spec: spec("b", 1), Retry: true}, put("x", spec("a", 5)), put("x", spec("c", 1))} {
		if got := h.s.DryRun(noon, c).Warnings; got != nil {
			t.Errorf("%+v: warnings %+v", c, got)
		}
	}
	if r := h.try(put("x", spec("b", -1))); r.Err == nil || r.Warnings != nil {
		t.Errorf("refused with %v: warnings %+v", r.Err, r.Warnings)
	}
}

// A rollback without a number goes to a revision that has served.
func TestRollbackByDefault(t *testing.T) {
	held := AdvanceRollout{Name: "x", Revision: 3, Held: "h"}
	twice := []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0), put("x", spec("b", 1))}
	for _, tt := range []struct {
		name  string
		setup []Command
		want  fleet.Revision
	}{
		{"the one before", append(twice, rolledOut("x", 2, 0)), 1},
		{"in mid-rollout", twice, 1},
		{"a third one is held", append(twice, put("x", spec("c", 1)), held), 1},
		{"in a state of an earlier format", append(twice, put("x", spec("c", 1))), 2},
		{"past one that failed", append(twice, failed("x", 2, 0), put("x", spec("c", 1)), held), 1},
		{"after one that failed, rolled out", append(twice, failed("x", 2, 0), rolledOut("x", 1, 0), put("x", spec("c", 1)), rolledOut("x", 3, 0)), 1},
	} {
		h := newHistory(t)
		h.do(tt.setup...)
		h.do(Rollback{Name: "x"})
		if got := h.s.Servers["x"].Revision; got != tt.want {
			t.Errorf("%s: back to revision %d, want %d", tt.name, got, tt.want)
		}
		if r := h.s.Servers["x"].Rollout; h.s.Format >= 3 && r.From <= r.To {
			t.Errorf("%s: rollout %+v, want it from the revision that was left", tt.name, r)
		}
	}
}

// The state says whether a revision that failed may get calls.
func TestUnfitRevision(t *testing.T) {
	verified := func(image string) fleet.Spec {
		s := spec(image, 1)
		s.Update = &fleet.Update{Verify: []fleet.VerifyCall{{Tool: "t", Expect: "ok"}}}
		return s
	}
	for _, tt := range []struct {
		name             string
		next             fleet.Spec
		checked          bool
		unfit, unchecked bool
	}{
		{"made no progress", spec("b", 1), false, false, false},
		{"served worse", spec("b", 1), true, true, false},
		{"failed a check", verified("b"), false, true, true},
		{"passed its checks, and served worse", verified("b"), true, true, false},
		{"was never ready for its checks", verified("b"), false, false, true},
	} {
		h := newHistory(t)
		h.do(put("x", spec("a", 1)), rolledOut("x", 1, 0), put("x", tt.next), AdvanceRollout{Name: "x", Revision: 2, Checked: tt.checked},
			FailRollout{Name: "x", Revision: 2, Reason: "it ends", Unfit: tt.unfit})
		sv := h.s.Servers["x"]
		if f := sv.Failed; f == nil || f.Unfit != tt.unfit || sv.Kept(2).Unchecked != tt.unchecked {
			t.Errorf("%s: %+v, unchecked %v; want unfit %v, unchecked %v", tt.name, f, sv.Kept(2).Unchecked, tt.unfit, tt.unchecked)
		}
	}
}

// A template that is put back while another is being rolled out is the stable revision
// again. Once the other is rolled out, it is a new one.
func TestPutBack(t *testing.T) {
	begin := []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0), put("x", spec("b", 1))}
	checked := AdvanceRollout{Name: "x", Revision: 2, Checked: true}
	for _, tt := range []struct {
		name     string
		commands []Command
		want     fleet.Revision
		rolls    bool
	}{
		{"in mid-rollout", []Command{checked, put("x", spec("a", 4))}, 1, true},
		{"with the third in mid-rollout", []Command{checked, put("x", spec("c", 1)), put("x", spec("a", 1))}, 1, true},
		{"a template that was not stable", []Command{checked, put("x", spec("c", 1)), put("x", spec("b", 1))}, 4, true},
		{"after the rollout", []Command{checked, rolledOut("x", 2, 0), put("x", spec("a", 1))}, 3, true},
		{"put back, and rolled out", []Command{checked, put("x", spec("a", 1)), rolledOut("x", 1, 0)}, 1, false},
		{"in a state of an earlier format", []Command{put("x", spec("a", 1))}, 3, true},
	} {
		h := newHistory(t)
		h.do(slices.Concat(begin, tt.commands)...)
		sv := h.s.Servers["x"]
		if sv.Revision != tt.want || (sv.Rollout != nil) != tt.rolls || !equalTemplates(&sv.Spec.Template, &sv.Kept(sv.Revision).Template) {
			t.Errorf("%s: revision %d, rollout %+v; want %d", tt.name, sv.Revision, sv.Rollout, tt.want)
		}
	}
}

// A revision that is given up before it has passed its checks stays unchecked, until
// it is rolled out again. One that is restarted has come as far as it had.
func TestGivenUpUnchecked(t *testing.T) {
	verified := spec("b", 1)
	verified.Update = &fleet.Update{Verify: []fleet.VerifyCall{{Tool: "t", Expect: "ok"}}}
	begin := []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0), put("x", verified)}
	checked := AdvanceRollout{Name: "x", Revision: 2, Checked: true, Warning: "w", Step: 1}
	for _, tt := range []struct {
		name     string
		commands []Command
		want     bool // revision 2 is unchecked
	}{
		{"being checked", nil, false}, // the rollout says so
		{"undone", []Command{Rollback{Name: "x"}}, true},
		{"superseded", []Command{put("x", spec("c", 1))}, true},
		{"checked, and undone", []Command{checked, Rollback{Name: "x"}}, false},
		{"rolled out again", []Command{Rollback{Name: "x"}, Rollback{Name: "x", Revision: 2}}, false},
		{"restarted", []Command{checked, Restart{Name: "x"}}, false},
	} {
		h := newHistory(t)
		h.do(append(begin, tt.commands...)...)
		before := h.s
		if got := before.Servers["x"].Kept(2).Unchecked; got != tt.want {
			t.Errorf("%s: unchecked %v, want %v", tt.name, got, tt.want)
		}
		h.do(Rollback{Name: "x", Revision: 1}, Rollback{Name: "x", Revision: 2})
		if got := before.Servers["x"].Kept(2).Unchecked; got != tt.want {
			t.Errorf("%s: a later write has changed the state of then", tt.name)
		}
		if r := before.Servers["x"].Rollout; tt.name == "restarted" && (!r.Checked || r.Warning != "w" || r.Step != 1) {
			t.Errorf("%s: %+v", tt.name, r)
		}
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
		{put("x", autoscaled("b", 0, 5)), fleet.Target{Replicas: 3, By: fleet.ByAutoscaling}, 0},
		{target("x", 0, 10), fleet.Target{By: fleet.ByAutoscaling}, 0},
		{put("x", spec("b", 0)), fleet.Target{}, 0},
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
		{"floor of nothing", SetFloor{Name: "y", MinReplicas: 1, Until: noon.Add(time.Hour)}, fleet.ErrUnknownServer, "y"},
		{"pause of nothing", SetRollout{Name: "y", Verb: PauseRollout}, fleet.ErrUnknownServer, "y"},
		{"old ETag at a floor", SetFloor{Name: "auto", Match: Match{ETags: []string{"1.1"}}}, fleet.ErrPrecondition, "1.4"},
		{"old ETag at a pause", SetRollout{Name: "x", Verb: PauseRollout, Match: Match{ETags: []string{"1.1"}}}, fleet.ErrPrecondition, "1.2"},
		{"pause without a rollout", SetRollout{Name: "x", Verb: PauseRollout}, fleet.ErrConflict, "no rollout of server x is under way, so there is nothing to pause"},
		{"an unknown verb of a rollout", SetRollout{Name: "x", Verb: "paint"}, fleet.ErrInvalid, "paint"},
		{"a floor of a fixed number", SetFloor{Name: "x", MinReplicas: 1, Until: noon.Add(time.Hour)}, fleet.ErrConflict, "scale it with replicas"},
		{"a floor below 0", SetFloor{Name: "auto", MinReplicas: -1, Until: noon.Add(time.Hour)}, fleet.ErrInvalid, "between 0 and 5"},
		{"a floor above the maximum", SetFloor{Name: "auto", MinReplicas: 6, Until: noon.Add(time.Hour)}, fleet.ErrInvalid, "between 0 and 5"},
		{"a floor that is past", SetFloor{Name: "auto", MinReplicas: 1, Until: noon}, fleet.ErrInvalid, "not past"},
		{"a floor without an end", SetFloor{Name: "auto", MinReplicas: 1}, fleet.ErrInvalid, "end"},
		{"a floor past all calendars", SetFloor{Name: "auto", MinReplicas: 1, Until: noon.AddDate(7969, 0, 0)}, fleet.ErrInvalid, "year"},
		{"scale of a server that scales by itself", scale("auto", 3), fleet.ErrConflict, "from 1 to 5 replicas: set a floor with min_replicas and ttl"},
		{"a target below 0", SetTarget{Name: "auto", Replicas: -1, Written: 4}, fleet.ErrInvalid, "-1"},
		{"a least number above the greatest", put("y", autoscaled("a", 6, 5)), fleet.ErrInvalid, "server y: autoscaling: need 0 <= min_replicas (6)"},
		{"initial replicas above the greatest", put("y", initially(9, autoscaled("a", 1, 5))), fleet.ErrInvalid, "initial_replicas (9)"},
		{"autoscaling to nothing", put("y", autoscaled("a", 0, 0)), fleet.ErrInvalid, "max_replicas (0)"},
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
			h.do(present, rolledOut("x", 1, 0))
			if tc.command.Subject().Server == "auto" {
				h.do(put("auto", autoscaled("a", 1, 5)))
			}
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
