package status

import (
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
)

// A status from before the last write is not shown as the state of what was written.
func TestStateOf(t *testing.T) {
	ready := func(n int) *reconcile.ServerStatus {
		return &reconcile.ServerStatus{State: fleet.StateReady, Target: fleet.Target{Replicas: n}, Ready: n, Revision: 2, Generation: 1}
	}
	stopped := &reconcile.ServerStatus{State: fleet.StateStopped, Revision: 2, Generation: 1}
	failed := &reconcile.ServerStatus{State: fleet.StateUnavailable, Reason: "exit code 3", Target: fleet.Target{Replicas: 2}, Revision: 2, Generation: 1}
	for name, tt := range map[string]struct {
		target     int
		revision   fleet.Revision
		generation uint64
		st         *reconcile.ServerStatus
		want       fleet.State
		reason     bool
	}{
		"as it is":                  {2, 2, 1, ready(2), fleet.StateReady, false},
		"new":                       {2, 1, 0, nil, fleet.StateDeploying, true},
		"put again while it went":   {2, 3, 0, &reconcile.ServerStatus{State: fleet.StateDeleting}, fleet.StateDeploying, true},
		"another revision":          {2, 3, 1, ready(2), fleet.StateUpdating, true},
		"restarted":                 {2, 2, 2, ready(2), fleet.StateUpdating, true},
		"scaled up":                 {3, 2, 1, ready(2), fleet.StateDegraded, true},
		"scaled down":               {1, 2, 1, ready(2), fleet.StateReady, false},
		"stopped":                   {0, 2, 1, ready(2), fleet.StateStopped, true},
		"started again":             {2, 2, 1, stopped, fleet.StateDeploying, true},
		"scaled, and cannot start":  {3, 2, 1, failed, fleet.StateUnavailable, true},
		"stopped, and cannot start": {0, 2, 1, failed, fleet.StateStopped, true},
	} {
		got, reason := stateOf(&desired.Server{Replicas: tt.target, Revision: tt.revision, Generation: tt.generation}, tt.st)
		if got != tt.want || (reason != "") != tt.reason {
			t.Errorf("%s: %s %q, want %s and a reason: %v", name, got, reason, tt.want, tt.reason)
		}
	}
}
