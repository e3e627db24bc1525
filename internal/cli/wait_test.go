package cli

import (
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestSettled(t *testing.T) {
	for name, tc := range map[string]struct {
		server api.Server
		want   bool
	}{
		"all are ready":             {api.Server{State: fleet.StateReady, Desired: 3, Ready: 3}, true},
		"scaled a moment ago":       {api.Server{State: fleet.StateReady, Desired: 3, Ready: 2}, false},
		"one is missing":            {api.Server{State: fleet.StateDegraded, Desired: 3, Ready: 2}, false},
		"one is too many":           {api.Server{State: fleet.StateReady, Desired: 3, Ready: 4}, false},
		"stopped":                   {api.Server{State: fleet.StateStopped}, true},
		"stopping":                  {api.Server{State: fleet.StateStopped, Ready: 1}, false},
		"idle":                      {api.Server{State: fleet.StateIdle}, true},
		"idle, and never called":    {api.Server{State: fleet.StateIdle, Rollout: &api.Rollout{To: 1}}, true},
		"idle, and updated":         {api.Server{State: fleet.StateIdle, Rollout: &api.Rollout{From: 1, To: 2}}, false},
		"going idle":                {api.Server{State: fleet.StateIdle, Ready: 1}, false},
		"it ended as nobody called": {api.Server{State: fleet.StateIdle, Desired: 3}, true},
		"it rolls out":              {api.Server{State: fleet.StateReady, Desired: 3, Ready: 3, Rollout: &api.Rollout{}}, false},
	} {
		if got := settled(&tc.server); got != tc.want {
			t.Errorf("%s: settled is %v", name, got)
		}
	}
}
