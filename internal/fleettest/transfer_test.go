package fleettest

import (
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// TestTransferAnswersWithTheLeader: whoever is asked, the list that answers
// shows the new leader, not the moment without one.
func TestTransferAnswersWithTheLeader(t *testing.T) {
	c := Start(t, Options{Controllers: 3, File: echoFile(1, "")})
	for i := range 6 {
		leader := c.Leader()
		next := others(leader)[i%2]
		list, err := c.Controller([]fleet.NodeID{leader, next, others(leader)[(i+1)%2]}[i%3]).Transfer(t.Context(), string(next))
		if err != nil {
			t.Fatal(err)
		}
		var leads []api.Controller
		for _, one := range list.Controllers {
			if one.Leader {
				leads = append(leads, one)
			}
		}
		if len(leads) != 1 || leads[0].Name != next {
			t.Errorf("transfer from %s to %s: %+v lead", leader, next, leads)
		}
	}
}
