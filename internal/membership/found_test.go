package membership

import (
	"fmt"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

var start = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)

// controller is a member whose node is named for its id.
func controller(id string, edit ...func(*fleet.Member)) fleet.Member {
	m := fleet.Member{Node: fleet.NodeID("n" + id), Life: fleet.LifeID("life-" + id), Role: fleet.RoleController, Controller: fleet.ControllerID(id), Started: start, Expect: 3}
	for _, e := range edit {
		e(&m)
	}
	return m
}

func expects(n int) func(*fleet.Member) { return func(m *fleet.Member) { m.Expect = n } }
func of(c string) func(*fleet.Member) {
	return func(m *fleet.Member) { m.Cluster, m.Expect = fleet.ClusterID(c), 0 }
}
func named(n string) func(*fleet.Member) { return func(m *fleet.Member) { m.Node = fleet.NodeID(n) } }
func started(d time.Duration) func(*fleet.Member) {
	return func(m *fleet.Member) { m.Started = start.Add(d) }
}

func TestFound(t *testing.T) {
	a, b, c, d := controller("a"), controller("b"), controller("c"), controller("d")
	worker := fleet.Member{Node: "w", Role: fleet.RoleWorker}
	tests := []struct {
		name    string
		self    fleet.Member
		members []fleet.Member
		want    string // voters
		why     string
	}{
		{"alone, and nobody else is expected", controller("a", expects(1)), []fleet.Member{controller("a", expects(1)), worker}, "[a]", ""},
		{"alone in an empty ring", controller("a", expects(1)), nil, "[a]", ""},
		{"all here, and this one is the lowest", a, []fleet.Member{c, worker, b, a}, "[a b c]", ""},
		{"all here, and another one is the lowest", b, []fleet.Member{a, b, c}, "[]", "waiting for na to found the cluster"},
		{"too few", a, []fleet.Member{a, c}, "[]", "2 of 3 controllers are here: na, nc"},
		{"too many", a, []fleet.Member{a, b, c, d}, "[]", "4 controllers want to found a cluster of 3: na, nb, nc, nd; stop the surplus"},
		{"no agreement", a, []fleet.Member{a, b, controller("c", expects(1))}, "[]", "--bootstrap-expect is 3 here, and 1 at nc"},
		{"one of a cluster", a, []fleet.Member{a, b, controller("c", of("k1"))}, "[]", "waiting to be taken into cluster k1, which nc belongs to"},
		{"one of a cluster, in the place of a fourth", a, []fleet.Member{a, b, c, controller("d", of("k1"))}, "[]", "waiting to be taken into cluster k1, which nd belongs to"},
		{"one with state that knows no cluster yet", b, []fleet.Member{b, c, d, controller("a", expects(-1))}, "[]", "waiting for na, which has state, to name its cluster"},
		{"member of a cluster itself", controller("a", of("k1"), expects(1)), nil, "[]", "this controller belongs to cluster k1"},
		{"not to found any", controller("a", expects(0)), []fleet.Member{b, c, d}, "[]", "waiting to be taken into a cluster: without --bootstrap-expect this controller founds none"},
		{"others that are not to found any do not count", a, []fleet.Member{a, b, c, controller("d", expects(0))}, "[a b c]", ""},
		{"a dead life with another id does not count", a, []fleet.Member{a, b, controller("c0", named("nc"), started(-time.Minute)), c}, "[a b c]", ""},
		{"its own dead life neither", a, []fleet.Member{a, controller("a0", named("na"), started(-time.Minute)), b, c}, "[a b c]", ""},
		{"an id in two lives counts once", a, []fleet.Member{a, b, controller("b", named("old"), started(-time.Minute))}, "[]", "2 of 3 controllers are here: na, nb"},
		{"a worker that is old and has no id", a, []fleet.Member{a, b, {Node: "x", Role: fleet.RoleController, Expect: 3}}, "[]", "2 of 3 controllers are here: na, nb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			voters, why := Found(tt.self, tt.members)
			if got := fmt.Sprint(voters); got != tt.want || why != tt.why {
				t.Errorf("got  %s, %q\nwant %s, %q", got, why, tt.want, tt.why)
			}
		})
	}
}

// Of those that see the same ring, one founds, and no more.
func TestOneFounds(t *testing.T) {
	all := []fleet.Member{controller("q"), controller("c"), controller("x")}
	var founders []fleet.ControllerID
	for _, m := range all {
		if voters, _ := Found(m, all); len(voters) > 0 {
			founders = append(founders, m.Controller)
		}
	}
	if fmt.Sprint(founders) != "[c]" {
		t.Errorf("founders are %v, want [c]", founders)
	}
}
