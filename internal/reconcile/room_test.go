package reconcile

import (
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// The replicas that no node has room for are counted, and what they would reserve.
func TestUnplaced(t *testing.T) {
	holding := func(s *fleet.Spec) { s.Resources = fleet.Resources{Memory: 100, Custom: map[string]int64{"gpu": 1}} }
	gpus := func(n int64) func(*node) {
		return func(x *node) { x.Capacity = fleet.Resources{Memory: 1000, Custom: map[string]int64{"gpu": n}} }
	}
	worked := backoff{everReady: true}
	held := func(x *unit) {
		x.resources = fleet.Resources{Memory: 100, Custom: map[string]int64{"gpu": 1}}
	}
	for _, tt := range []struct {
		name    string
		desired *fleet.Server
		gpus    int64
		units   []*unit
		back    backoff
		want    int
	}{
		{"all placed", ptr(server("a", 1, 3, holding)), 3, nil, worked, 0},
		{"room for some", ptr(server("a", 1, 5, holding)), 2, nil, worked, 3},
		{"room for none", ptr(server("a", 1, 5, holding)), 0, nil, worked, 5},
		{"more than may start now", ptr(server("a", 1, 20, holding)), 1, nil, backoff{}, 19},
		{"one that stops makes room", ptr(server("a", 1, 2, holding)), 1, []*unit{u("r1", "n1", held, told)}, worked, 1},
		{"full, and an update has to stop old ones first", next(2, 2, holding), 2, []*unit{u("r1", "n1", held), u("r2", "n1", held)}, worked, 0},
		{"stopped", ptr(server("a", 1, 0, holding)), 0, nil, worked, 0},
	} {
		w := want{name: "a", desired: tt.desired, units: tt.units, back: tt.back}
		d := plan(t0, []want{w}, newRoom([]node{onNode("n1", gpus(tt.gpus))}, tt.units))[0]
		s := status(t0, &w, &d, outlook{workers: 1, complete: true})
		res := s.UnplacedResources
		if s.Unplaced != tt.want || res.Memory != 100*int64(tt.want) || res.Custom["gpu"] != int64(tt.want) {
			t.Errorf("%s: %d unplaced, of %+v; want %d", tt.name, s.Unplaced, res, tt.want)
		}
	}
}
