package controller

import (
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
	"github.com/mcpfleet/mcpfleet/internal/route"
)

// Once a rollout is over nothing is routed to replicas of another revision or
// of an earlier restart, even if they still serve.
func TestSuperseded(t *testing.T) {
	for _, tc := range []struct {
		name    string
		desired fleet.Server
		replica fleet.Replica
		want    bool
	}{
		{"wanted", fleet.Server{Revision: 2, Stable: 2}, fleet.Replica{Revision: 2}, false},
		{"of the revision before, rolling", fleet.Server{Revision: 2, Stable: 1, Rolling: true}, fleet.Replica{Revision: 1}, false},
		{"of the stable revision, which is kept up", fleet.Server{Revision: 2, Stable: 1}, fleet.Replica{Revision: 1}, false},
		{"of the revision before, over", fleet.Server{Revision: 2}, fleet.Replica{Revision: 1}, true},
		{"of a later revision, after a rollback", fleet.Server{Revision: 3, Stable: 3}, fleet.Replica{Revision: 2}, true},
		{"not restarted yet", fleet.Server{Revision: 2, Generation: 1, Rolling: true}, fleet.Replica{Revision: 2}, false},
		{"not restarted, over", fleet.Server{Revision: 2, Generation: 1}, fleet.Replica{Revision: 2}, true},
		{"restarted", fleet.Server{Revision: 2, Generation: 1}, fleet.Replica{Revision: 2, Generation: 1}, false},
	} {
		if got := superseded(&tc.desired, &tc.replica); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// Replicas that list the same tools share one set, whatever else differs, and
// the set of a catalogue is made once.
func TestToolsAreShared(t *testing.T) {
	tool := func(name string) []byte { return []byte(`{"name":"` + name + `"}`) }
	snap := &observe.Snapshot{
		Replicas: map[fleet.ReplicaID]*fleet.Replica{
			"r1": {ID: "r1", Catalogue: "a"}, "r2": {ID: "r2", Catalogue: "b"}, "r3": {ID: "r3", Catalogue: "c"}, "r4": {ID: "r4", Catalogue: "none"},
		},
		Catalogues: map[string]*fleet.Catalogue{
			"a": {Tools: [][]byte{tool("x"), tool("y")}},
			"b": {Tools: [][]byte{tool("y"), tool("x")}, Instructions: "others"},
			"c": {Tools: [][]byte{tool("x")}},
		},
	}
	p := &publisher{}
	look := func() (out []route.Replica) {
		next := make(map[string]*route.Tools)
		for _, id := range []fleet.ReplicaID{"r1", "r2", "r3", "r4"} {
			out = append(out, route.Replica{ID: id, Tools: p.toolsOf(snap, out, id, next)})
		}
		p.tools = next
		return out
	}
	got := look()
	if got[0].Tools != got[1].Tools || got[0].Tools == got[2].Tools || got[3].Tools != nil {
		t.Errorf("sets %v", got)
	}
	if !got[0].Tools.Has("y") || got[2].Tools.Has("y") {
		t.Error("sets hold other names than the catalogues")
	}
	for i, r := range look() {
		if r.Tools != got[i].Tools {
			t.Errorf("the set of %s was made again", r.ID)
		}
	}
}

// The router and the catalogue see the same server as stopped, whatever its spec
// says.
func TestStoppedIsTheTarget(t *testing.T) {
	for _, tt := range []struct {
		written int
		target  fleet.Target
		stopped bool
	}{
		{0, fleet.Target{}, true},
		{2, fleet.Target{By: fleet.ByScale}, true},
		{2, fleet.Target{Replicas: 2}, false},
		{0, fleet.Target{Replicas: 2, By: fleet.ByScale}, false},
	} {
		d := fleet.Server{Spec: fleet.Spec{Replicas: tt.written}, Target: tt.target}
		st := &reconcile.ServerStatus{}
		if r, c := routeOf(&d, st, nil, &observe.Snapshot{}), offerOf(&d, st, nil); r.Stopped != tt.stopped || c.Stopped != tt.stopped {
			t.Errorf("%d written, target %+v: stopped for the router %t, for the catalogue %t; want %t", tt.written, tt.target, r.Stopped, c.Stopped, tt.stopped)
		}
	}
}
