package status

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
)

// store is a Store of controller c1.
type store struct {
	state    *desired.State
	leader   fleet.ControllerID
	problems map[fleet.ControllerID]string
}

func (s *store) State() *desired.State { return s.state }

func (s *store) Leader() (fleet.ControllerID, fleet.Epoch, bool) {
	return s.leader, 1, s.leader != ""
}

func (s *store) ProblemOf(id fleet.ControllerID) string { return s.problems[id] }

type servers = map[fleet.ServerName]*desired.Server

type statuses = map[fleet.ServerName]*reconcile.ServerStatus

// A controller is ready when nothing is wrong with it and each server has
// settled as it was last written. A change that the reconciler has not seen yet
// makes no server unready that has enough replicas.
func TestReady(t *testing.T) {
	server := &desired.Server{Replicas: 2, Revision: 3, Generation: 1}
	scaling := &desired.Server{Replicas: 2, Revision: 3, Generation: 1, Spec: fleet.Spec{Autoscaling: &fleet.Autoscaling{MaxReplicas: 5}}}
	settled := func(change func(*reconcile.ServerStatus)) statuses {
		st := &reconcile.ServerStatus{State: fleet.StateReady, Settled: true, Target: fleet.Target{Replicas: 2}, Ready: 2, Revision: 3, Generation: 1}
		change(st)
		return statuses{"s": st}
	}
	same := func(*reconcile.ServerStatus) {}
	for _, tt := range []struct {
		name    string
		servers servers
		status  statuses
		unready string
		want    bool
	}{
		{"no servers", nil, nil, "", true},
		{"settled", servers{"s": server}, settled(same), "", true},
		{"something is wrong here", servers{"s": server}, settled(same), "its disk is full", false},
		{"not seen yet", servers{"s": server}, nil, "", false},
		{"not settled", servers{"s": server}, settled(func(s *reconcile.ServerStatus) { s.Settled = false }), "", false},
		{"another revision", servers{"s": server}, settled(func(s *reconcile.ServerStatus) { s.Revision = 2 }), "", true},
		{"another revision of one that could not start", servers{"s": server}, settled(func(s *reconcile.ServerStatus) { s.Revision, s.Ready = 2, 1 }), "", false},
		{"restarted", servers{"s": server}, settled(func(s *reconcile.ServerStatus) { s.Generation = 0 }), "", true},
		{"another revision of one that scales by itself", servers{"s": scaling}, settled(func(s *reconcile.ServerStatus) { s.Revision, s.Ready = 2, 1 }), "", true},
		{"another revision of one that has just woken", servers{"s": scaling}, settled(func(s *reconcile.ServerStatus) { s.Revision, s.Ready = 2, 0 }), "", false},
		{"just scaled up", servers{"s": server}, settled(func(s *reconcile.ServerStatus) { s.Target.Replicas, s.Ready = 1, 1 }), "", false},
		{"just scaled down", servers{"s": server}, settled(func(s *reconcile.ServerStatus) { s.Target.Replicas, s.Ready = 5, 5 }), "", true},
		{"just stopped", servers{"s": {Revision: 3, Generation: 1}}, settled(same), "", true},
		{"one being deleted", nil, settled(func(s *reconcile.ServerStatus) { s.Settled = false }), "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := New(Config{Store: &store{state: &desired.State{Servers: tt.servers}}, Unready: func() string { return tt.unready }})
			v.Publish(tt.status, &observe.Snapshot{})
			got := v.Ready()
			if got.Ready != tt.want || got.Reason != tt.unready || len(got.Servers) != len(tt.servers) {
				t.Errorf("got %+v, want ready: %v", got, tt.want)
			}
		})
	}
}

// Servers lists what is desired and what is being deleted, by name.
func TestServers(t *testing.T) {
	v := New(Config{Loads: func() map[fleet.ServerName]fleet.ServerLoad {
		return map[fleet.ServerName]fleet.ServerLoad{"b": {Running: 2, Queued: 5}}
	}})
	v.Publish(statuses{
		"b": {Name: "b", State: fleet.StateReady, Target: fleet.Target{Replicas: 1}, Ready: 1, Spares: 3, Restarts: 4, Revision: 1, LastEnded: []*fleet.Replica{{ID: "b-1"}}},
		"a": {Name: "a", State: fleet.StateDeleting, Reason: "1 replica still stopping", Ready: 1},
	}, &observe.Snapshot{})
	started := time.Unix(5, 0)
	got := v.Servers(&desired.State{Incarnation: 2, Servers: servers{
		"c": {Replicas: 1, Revision: 1},
		"b": {
			Replicas: 1, Revision: 1, Written: 7, Rollout: &desired.Rollout{To: 1, Started: started},
			Revisions: []desired.Revision{{Number: 1, Catalogue: &fleet.Catalogue{Era: fleet.EraModern, Protocol: "2026-07-28"}}},
		},
	}})
	if b, c := got[1], got[2]; b.Era != fleet.EraModern || b.Protocol != "2026-07-28" || c.Era != "" || c.Protocol != "" {
		t.Errorf("eras %q %q, of one that never ran %q %q", b.Era, b.Protocol, c.Era, c.Protocol)
	}
	var lines []string
	for _, s := range got {
		lines = append(lines, fmt.Sprintf("%s %s %q", s.Name, s.State, s.ETag))
	}
	if text, want := strings.Join(lines, "; "), `a DELETING ""; b READY "2.7"; c DEPLOYING "2.0"`; text != want {
		t.Fatalf("got %s, want %s", text, want)
	}
	if a := got[0]; a.Reason == "" || a.Ready != 1 || string(a.Spec) != "{}" {
		t.Errorf("being deleted: %+v", a)
	}
	if b := got[1]; b.Restarts != 4 || b.Spares != 3 || len(b.LastEnded) != 1 || b.Rollout == nil || b.Rollout.StartedAt != started || b.Ongoing != 2 || b.Queued != 5 {
		t.Errorf("running: %+v", b)
	}
}

// A server says who wants how many replicas, how its rollout goes, and what was rolled
// back.
func TestServerOfPolicies(t *testing.T) {
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
	canary := fleet.Update{ProgressDeadline: time.Minute, Canary: &fleet.Canary{Steps: []float64{5, 25, 50}, Gate: fleet.GateManual}}
	autoscaling := fleet.Autoscaling{MinReplicas: 1, MaxReplicas: 9}
	for _, tt := range []struct {
		name   string
		server desired.Server
		want   string // in JSON
	}{
		{"as written", desired.Server{Replicas: 2, Spec: fleet.Spec{Replicas: 2}}, `{"desired":2,"desired_by":"spec","rollout":null,"failed":null,"autoscaling":null}`},
		{"scaled", desired.Server{Replicas: 3, Spec: fleet.Spec{Replicas: 2}}, `{"desired":3,"desired_by":"scale","rollout":null,"failed":null,"autoscaling":null}`},
		{"by itself", desired.Server{Replicas: 3, Spec: fleet.Spec{Autoscaling: &autoscaling}},
			`{"desired":3,"desired_by":"autoscaling","rollout":null,"failed":null,"autoscaling":{"min_replicas":1,"max_replicas":9,"floor":null}}`},
		{"with a floor", desired.Server{Replicas: 3, Spec: fleet.Spec{Autoscaling: &autoscaling}, Floor: fleet.Floor{MinReplicas: 2, Until: at(101)}},
			`{"desired":3,"desired_by":"autoscaling","rollout":null,"failed":null,"autoscaling":{"min_replicas":1,"max_replicas":9,"floor":{"min_replicas":2,"until":"1970-01-01T00:01:41Z"}}}`},
		{"with a floor that has expired", desired.Server{Replicas: 3, Spec: fleet.Spec{Autoscaling: &autoscaling}, Floor: fleet.Floor{MinReplicas: 2, Until: at(100)}},
			`{"desired":3,"desired_by":"autoscaling","rollout":null,"failed":null,"autoscaling":{"min_replicas":1,"max_replicas":9,"floor":null}}`},
		{"a rollout", desired.Server{Revision: 1, Rollout: &desired.Rollout{To: 1, Started: at(60), Deadline: at(660)}},
			`{"desired":0,"desired_by":"spec","rollout":{"from":0,"to":1,"started_at":"1970-01-01T00:01:00Z","deadline":"1970-01-01T00:03:00Z","paused":false,"held":"",
			"checked":false,"step":0,"steps":0,"share":null},"failed":null,"autoscaling":null}`},
		{"a canary that waits", desired.Server{
			Revision: 2, Stable: 1, Revisions: []desired.Revision{{Number: 1}, {Number: 2}}, Spec: fleet.Spec{Update: &canary},
			Rollout: &desired.Rollout{From: 1, To: 2, Started: at(60), Paused: true, Held: "25% of the calls", Checked: true, Step: 1},
		}, `{"desired":0,"desired_by":"spec","rollout":{"from":1,"to":2,"started_at":"1970-01-01T00:01:00Z","deadline":"1970-01-01T00:02:00Z","paused":true,"held":"25% of the calls",
			"checked":true,"step":1,"steps":3,"share":25},"failed":null,"autoscaling":null}`},
		{"rolled back", desired.Server{Failed: &fleet.FailedRevision{Revision: 2, Reason: "exit code 1", At: at(60)}},
			`{"desired":0,"desired_by":"spec","rollout":null,"failed":{"revision":2,"reason":"exit code 1","at":"1970-01-01T00:01:00Z"},"autoscaling":null}`},
	} {
		got := serverOf(&desired.State{}, "s", &tt.server, nil, at(100))
		shown := api.Server{Desired: got.Desired, DesiredBy: got.DesiredBy, Rollout: got.Rollout, Failed: got.Failed, Autoscaling: got.Autoscaling}
		want := api.Server{}
		if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(shown, want) {
			text, _ := json.Marshal(shown)
			t.Errorf("%s: got %s, want %s", tt.name, text, tt.want)
		}
	}
}

func TestNodes(t *testing.T) {
	until := time.Unix(9, 0)
	reported := fleet.NodeInfo{Life: "l"}
	snap := &observe.Snapshot{
		Nodes: map[fleet.NodeID]observe.Node{
			"ready": {Connected: true, Info: reported}, "drained": {Connected: true, Info: reported}, "stops": {Connected: true, Draining: true, Info: reported},
			"unfit": {Connected: true, Unfit: "podman hangs", Info: reported}, "flaps": {Connected: true, Info: reported}, "silent": {Info: reported}, "new": {}, "lost": {Lost: true, Info: reported},
		},
		Replicas: map[fleet.ReplicaID]*fleet.Replica{
			"r1": {Node: "ready", Resources: fleet.Resources{CPUs: 1}}, "r2": {Node: "ready", Resources: fleet.Resources{CPUs: 2}},
		},
	}
	v := New(Config{
		Store: &store{
			state: &desired.State{Nodes: map[fleet.NodeID]fleet.NodeIntent{
				"drained": {DrainUntil: until}, "gone": {Cordoned: true}, "lost": {DrainUntil: until},
			}},
			leader: "c1", problems: map[fleet.ControllerID]string{"c2": "its disk is full"},
		},
		Members: func() []fleet.Member {
			return []fleet.Member{
				{Node: "m1", Role: fleet.RoleController, Controller: "c1", Life: "l1"}, {Node: "ready", Role: fleet.RoleWorker},
				{Node: "m2", Role: fleet.RoleController, Controller: "c2", Life: "l2"},
			}
		},
		Self: "l2", Zone: "z2",
		Cordons: func() map[fleet.NodeID]string {
			return map[fleet.NodeID]string{"flaps": "it flaps", "stops": "it flaps", "unfit": "it flaps"}
		},
	})
	v.Publish(nil, snap)
	var got []string
	for _, n := range v.Nodes() {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", n.Name, n.State, n.Reason)))
		switch n.Name {
		case "m1":
			if !n.Leader || n.Zone != "" {
				t.Errorf("m1 leads, and its zone is not known: %+v", n)
			}
		case "m2":
			if n.Leader || n.Zone != "z2" {
				t.Errorf("m2 is this controller, and does not lead: %+v", n)
			}
		case "ready":
			if n.Replicas != 2 || n.Allocated.CPUs != 3 {
				t.Errorf("two replicas of 3 CPUs: %+v", n)
			}
		case "gone":
			if !n.Cordoned {
				t.Errorf("cordoned: %+v", n)
			}
		case "drained", "lost":
			if n.DrainUntil == nil || !n.DrainUntil.Equal(until) {
				t.Errorf("drained: %+v", n)
			}
		}
	}
	want := "m1 READY, m2 DEGRADED its disk is full, drained DRAINING, flaps DEGRADED it flaps, gone LOST, lost LOST, new JOINING, " +
		"ready READY, silent UNREACHABLE, stops DRAINING, unfit DEGRADED podman hangs"
	if text := strings.Join(got, ", "); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestCollect(t *testing.T) {
	v := New(Config{})
	v.Publish(statuses{
		"s": {Name: "s", Target: fleet.Target{Replicas: 3}, Ready: 2, Restarts: 5, Unplaced: 2,
			UnplacedResources: fleet.Resources{CPUs: 1, Custom: map[string]int64{"fpga": 2}}},
		"t": {Name: "t", Unplaced: 1, UnplacedResources: fleet.Resources{CPUs: 0.5, Memory: 10}},
	}, &observe.Snapshot{Nodes: map[fleet.NodeID]observe.Node{
		"n1": {Connected: true, Info: fleet.NodeInfo{Life: "l", Runtimes: []string{"podman", "process"}, Version: "v1",
			Capacity: fleet.Resources{Custom: map[string]int64{"gpu": 1}}},
			Streams: fleet.StreamStats{Kept: 2, Bytes: 1000, Evicted: 3, Resumed: 4, Unattributed: 5}}, "n2": {},
	}})
	want := `
# HELP mcpfleet_log_messages_unattributed_total Log messages of servers that were dropped because it is not known whose call they belong to.
# TYPE mcpfleet_log_messages_unattributed_total counter
mcpfleet_log_messages_unattributed_total{node="n1"} 5
# HELP mcpfleet_node_info A worker that has reported, with the runtimes that it offers; always 1.
# TYPE mcpfleet_node_info gauge
mcpfleet_node_info{node="n1",runtimes="podman,process",version="v1"} 1
# HELP mcpfleet_nodes Workers by state.
# TYPE mcpfleet_nodes gauge
mcpfleet_nodes{state="JOINING"} 1
mcpfleet_nodes{state="READY"} 1
# HELP mcpfleet_server_replicas Replicas of a server, wanted and ready.
# TYPE mcpfleet_server_replicas gauge
mcpfleet_server_replicas{server="s",which="desired"} 3
mcpfleet_server_replicas{server="s",which="ready"} 2
mcpfleet_server_replicas{server="t",which="desired"} 0
mcpfleet_server_replicas{server="t",which="ready"} 0
# HELP mcpfleet_server_restarts_total Replicas started to replace failed ones.
# TYPE mcpfleet_server_restarts_total counter
mcpfleet_server_restarts_total{server="s"} 5
mcpfleet_server_restarts_total{server="t"} 0
# HELP mcpfleet_stream_bytes Bytes of the messages of these streams.
# TYPE mcpfleet_stream_bytes gauge
mcpfleet_stream_bytes{node="n1"} 1000
# HELP mcpfleet_streams Streams that a worker keeps for clients that may come back.
# TYPE mcpfleet_streams gauge
mcpfleet_streams{node="n1"} 2
# HELP mcpfleet_streams_evicted_total Streams forgotten before the end of their window.
# TYPE mcpfleet_streams_evicted_total counter
mcpfleet_streams_evicted_total{node="n1"} 3
# HELP mcpfleet_streams_resumed_total Readers of streams.
# TYPE mcpfleet_streams_resumed_total counter
mcpfleet_streams_resumed_total{node="n1"} 4
# HELP mcpfleet_unplaceable_replicas Replicas that no node has room for.
# TYPE mcpfleet_unplaceable_replicas gauge
mcpfleet_unplaceable_replicas{server="s"} 2
mcpfleet_unplaceable_replicas{server="t"} 1
# HELP mcpfleet_unplaceable_resources Resources that the replicas would reserve that no node has room for.
# TYPE mcpfleet_unplaceable_resources gauge
mcpfleet_unplaceable_resources{resource="cpus"} 1.5
mcpfleet_unplaceable_resources{resource="fpga"} 2
mcpfleet_unplaceable_resources{resource="gpu"} 0
mcpfleet_unplaceable_resources{resource="memory"} 10
mcpfleet_unplaceable_resources{resource="pids"} 0
`
	if err := testutil.CollectAndCompare(v, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestPlanned(t *testing.T) {
	got := Planned([]reconcile.PlannedAction{{Start: true, Server: "s", Node: "n"}, {Server: "s", Replica: "r", Reason: "one too many"}})
	if len(got) != 2 || got[0].Action != api.PlanStart || got[0].Node != "n" || got[1].Action != api.PlanStop || got[1].Replica != "r" || got[1].Reason == "" {
		t.Errorf("got %+v", got)
	}
}
