package status

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
)

// serverOf returns one server of a state. st is nil if the reconciler has not
// seen it yet.
func serverOf(all *desired.State, name fleet.ServerName, sv *desired.Server, st *reconcile.ServerStatus, now time.Time) api.Server {
	spec, err := json.Marshal(fleetfile.View(&sv.Spec))
	if err != nil { // plain data always encodes
		spec = []byte("{}")
	}
	wanted := sv.Fleet(name)
	out := api.Server{
		Name: name, Desired: sv.Replicas, DesiredBy: desiredBy(wanted.Target.By), Revision: sv.Revision, Generation: sv.Generation, Stable: sv.Stable,
		Rollout: rolloutOf(&wanted), Autoscaling: autoscalingOf(&wanted, now),
		Spec: spec, ETag: sv.ETag(all.Incarnation), Index: sv.Index,
	}
	if c := sv.Catalogue(sv.Revision); c != nil {
		out.Era, out.Protocol = c.Era, c.Protocol
	}
	if f := sv.Failed; f != nil {
		out.Failed = &api.FailedRevision{Revision: f.Revision, Reason: f.Reason, At: f.At}
	}
	out.State, out.Reason = stateOf(sv, st)
	if st != nil {
		out.Ready, out.Spares, out.Restarts = st.Ready, st.Spares, st.Restarts
		switch {
		case wanted.Sessionless:
			out.Desired = wanted.Target.Replicas
		case sv.Spec.PerSession():
			out.Desired = st.Sessions
			out.Sessions = &api.Sessions{Open: st.Sessions, Waiting: st.SessionsWaiting, Max: sv.Spec.MaxSessions}
		}
		out.LastEnded = endedOf(st)
	}
	return out
}

func desiredBy(source fleet.TargetSource) string {
	switch source {
	case fleet.ByScale:
		return api.DesiredByScale
	case fleet.ByAutoscaling:
		return api.DesiredByAutoscaling
	case fleet.BySessions:
		return api.DesiredBySessions
	default:
		return api.DesiredBySpec
	}
}

func rolloutOf(s *fleet.Server) *api.Rollout {
	r, update := s.Rollout, s.Spec.UpdatePolicy()
	if r == nil {
		return nil
	}
	out := &api.Rollout{
		From: r.From, To: s.Revision, StartedAt: r.Started, Deadline: r.Started.Add(update.ProgressDeadline),
		Paused: r.Paused, Held: r.Held, Checked: r.Checked, Warning: r.Warning, Step: r.Step,
	}
	if update.Canary != nil {
		out.Steps = len(update.Canary.Steps)
	}
	if share, ok := s.CanaryShare(); ok {
		out.Share = &share
	}
	return out
}

func autoscalingOf(s *fleet.Server, now time.Time) *api.Autoscaling {
	a := s.Spec.Autoscaling
	if a == nil {
		return nil
	}
	out := &api.Autoscaling{MinReplicas: a.MinReplicas, MaxReplicas: a.MaxReplicas}
	if s.Floor.At(now) > 0 {
		out.Floor = &api.Floor{MinReplicas: s.Floor.MinReplicas, Until: s.Floor.Until}
	}
	return out
}

// deletedOf returns a server that is no longer desired and still runs.
func deletedOf(st *reconcile.ServerStatus) api.Server {
	return api.Server{
		Name: st.Name, State: fleet.StateDeleting, Reason: st.Reason, Ready: st.Ready, Restarts: st.Restarts,
		Spec: []byte("{}"), LastEnded: endedOf(st),
	}
}

func endedOf(st *reconcile.ServerStatus) (out []api.Ended) {
	for _, r := range st.LastEnded {
		out = append(out, api.EndedOf(r))
	}
	return out
}

// current reports whether the reconciler has seen the last write to a server,
// apart from its target.
func current(sv *desired.Server, st *reconcile.ServerStatus) bool {
	return st.Revision == sv.Revision && st.Generation == sv.Generation
}

// stateOf returns a server's state and its reason in words. st may be older
// than the last write to the server, or nil.
func stateOf(sv *desired.Server, st *reconcile.ServerStatus) (fleet.State, string) {
	switch {
	case st == nil || st.State == fleet.StateDeleting:
		return fleet.StateDeploying, "the server was just deployed"
	case !current(sv, st):
		return fleet.StateUpdating, fmt.Sprintf("a change to revision %d was just made", sv.Revision)
	case sv.Target().Stopped() && !st.Target.Stopped():
		return fleet.StateStopped, sv.Target().StopReason()
	case st.Target.Replicas == sv.Replicas && st.Target.Stopped() == sv.Target().Stopped():
		return st.State, st.Reason
	case sv.Target().Idle():
		return fleet.StateIdle, "it just went idle: a call starts it"
	}
	reason := fmt.Sprintf("it was just scaled: %d ready, %d wanted", st.Ready, sv.Replicas)
	switch {
	case st.State == fleet.StateIdle || st.State == fleet.StateStopped:
		return fleet.StateDeploying, reason
	case st.State == fleet.StateReady && st.Ready < sv.Replicas:
		return fleet.StateDegraded, reason
	}
	return st.State, st.Reason
}
