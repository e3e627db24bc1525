package cli

import (
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestSettled(t *testing.T) {
	for name, tc := range map[string]struct {
		server api.Server
		want   bool
	}{
		"all are ready":               {api.Server{State: fleet.StateReady, Desired: 3, Ready: 3}, true},
		"scaled a moment ago":         {api.Server{State: fleet.StateReady, Desired: 3, Ready: 2}, false},
		"one is missing":              {api.Server{State: fleet.StateDegraded, Desired: 3, Ready: 2}, false},
		"one is too many":             {api.Server{State: fleet.StateReady, Desired: 3, Ready: 4}, false},
		"stopped":                     {api.Server{State: fleet.StateStopped}, true},
		"deployed a moment ago, at 0": {api.Server{State: fleet.StateDeploying, Rollout: &api.Rollout{To: 1}}, false},
		"stopping":                    {api.Server{State: fleet.StateStopped, Ready: 1}, false},
		"idle":                        {api.Server{State: fleet.StateIdle}, true},
		"idle, and never called":      {api.Server{State: fleet.StateIdle, Rollout: &api.Rollout{To: 1}}, true},
		"stopped, and updated":        {api.Server{State: fleet.StateStopped, Rollout: &api.Rollout{From: 1, To: 2}}, true},
		"idle, and updated":           {api.Server{State: fleet.StateIdle, Rollout: &api.Rollout{From: 1, To: 2}}, false},
		"going idle":                  {api.Server{State: fleet.StateIdle, Ready: 1}, false},
		"it ended as nobody called":   {api.Server{State: fleet.StateIdle, Desired: 3}, true},
		"it rolls out":                {api.Server{State: fleet.StateReady, Desired: 3, Ready: 3, Rollout: &api.Rollout{From: 1, To: 2}}, false},
		"the first one rolls out":     {api.Server{State: fleet.StateReady, Desired: 3, Ready: 3, Rollout: &api.Rollout{To: 1}}, true},
	} {
		if got := settled(&tc.server); got != tc.want {
			t.Errorf("%s: settled is %v", name, got)
		}
	}
}

func TestServerRow(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	at := func(s int) *time.Time { return new(now.Add(time.Duration(s) * time.Second)) }
	share := 5.0
	one := func(revision fleet.Revision, phase string, ready *time.Time) api.Replica {
		return api.Replica{Server: "web", Revision: revision, Phase: phase, ReadyAt: ready, Reason: "reason of " + phase}
	}
	replicas := []api.Replica{
		one(3, "READY", at(-100)), one(4, "READY", at(-9)), one(4, "READY", at(-2)), one(4, "DRAINING", at(-1)),
		{Server: "web", Revision: 4, Phase: "READY", Spare: true, ReadyAt: at(0)}, {Server: "other", Revision: 4, Phase: "PULLING"},
	}
	rolling := api.Rollout{From: 3, To: 4}
	server := func(state fleet.State, r *api.Rollout, reason, spec string) api.Server {
		return api.Server{Name: "web", State: state, Ready: 3, Desired: 3, Revision: 4, Rollout: r, Reason: reason, Spec: []byte(spec)}
	}
	for name, tt := range map[string]struct {
		server      api.Server
		more        []api.Replica
		text        string
		detail      string
		done, total int
	}{
		"ready":   {server(fleet.StateReady, nil, "all is well", `{}`), nil, "READY, 3/3 ready, revision 4", "", 3, 3},
		"rolling": {server(fleet.StateUpdating, &rolling, "1 of 3", `{}`), nil, "UPDATING, 3/3 ready, revision 3 -> 4, 2 new ready", "an old replica may go in 3s", 2, 3},
		"min_ready": {server(fleet.StateUpdating, &rolling, "1 of 3", `{"update":{"min_ready":"1m0s"}}`), nil,
			"UPDATING, 3/3 ready, revision 3 -> 4, 2 new ready", "an old replica may go in 58s", 2, 3},
		"available": {server(fleet.StateUpdating, &rolling, "1 of 3", `{"update":{"min_ready":"2s"}}`), nil, "UPDATING, 3/3 ready, revision 3 -> 4, 2 new ready", "1 of 3", 2, 3},
		"pulling": {server(fleet.StateUpdating, &rolling, "1 of 3", `{}`), []api.Replica{one(4, "PULLING", nil), one(4, "STARTING", nil), one(4, "PENDING", nil)},
			"UPDATING, 3/3 ready, revision 3 -> 4, 2 new ready, 1 pulling, 2 starting", "reason of PULLING", 2, 3},
		"a canary": {server(fleet.StateUpdating, &api.Rollout{From: 3, To: 4, Steps: 3, Share: &share}, "2 of 3", `{}`), nil,
			"UPDATING, 3/3 ready, revision 3 -> 4, 2 new ready, canary step 1 of 3: 5% of the calls", "2 of 3", 2, 3},
		"held": {server(fleet.StateUpdating, &api.Rollout{From: 3, To: 4, Held: "a tool is gone"}, "held", `{}`), nil,
			"UPDATING, 3/3 ready, revision 3 -> 4, 2 new ready, held", "held", 2, 3},
		"restarting":   {server(fleet.StateUpdating, &api.Rollout{From: 4, To: 4}, "1 of 3", `{}`), nil, "UPDATING, 3/3 ready, revision 4 (restarting)", "1 of 3", 3, 3},
		"the first":    {server(fleet.StateDeploying, &api.Rollout{To: 4}, "1 of 3", `{}`), []api.Replica{one(4, "STARTING", nil)}, "DEPLOYING, 3/3 ready, revision 4, 1 starting", "1 of 3", 3, 3},
		"cannot start": {server(fleet.StateUnavailable, &api.Rollout{To: 4}, "exit\ncode 1", `{}`), nil, "UNAVAILABLE, 3/3 ready, revision 4: exit code 1", "", 3, 3},
		"idle": {api.Server{Name: "web", State: fleet.StateIdle, Revision: 4, Reason: "idle: a call starts it", Autoscaling: &api.Autoscaling{MaxReplicas: 9}}, nil,
			"IDLE, 0/0 ready, revision 4: idle: a call starts it", "", 0, 0},
	} {
		r := serverRow(&tt.server, append(replicas, tt.more...), now)
		if r.Text != tt.text || r.Detail != tt.detail || r.Done != tt.done || r.Total != tt.total {
			t.Errorf("%s: got %q (%s) %d/%d; want %q (%s) %d/%d", name, r.Text, r.Detail, r.Done, r.Total, tt.text, tt.detail, tt.done, tt.total)
		}
	}
}
