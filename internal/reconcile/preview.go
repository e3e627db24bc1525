package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// Bounds of a preview.
const (
	previewSteps   = 1000
	previewActions = 10_000
	// previewAge is longer than any min_ready.
	previewAge = 1000 * time.Hour
)

// scene is what a plan is made from, apart from the loop's own. Any goroutine
// may use it.
type scene struct {
	state   *state
	snap    *observe.Snapshot
	desired []fleet.Server
	intents map[fleet.NodeID]fleet.NodeIntent
	now     time.Time
}

// scene copies what the loop has now.
func (p *pass) scene(now time.Time) scene {
	return scene{p.state, p.snap, p.desired, p.intents, now}.copied()
}

// copied returns a scene to act in that leaves this one as it is.
func (s scene) copied() scene {
	s.state = s.state.copied()
	return s
}

// Preview returns the starts and stops that Lead would make if these servers and
// intents were desired, and every start succeeded. nil means as they are. Actions
// that Lead would take anyhow are left out. A start without a node is of a replica
// that no node has room for, and its reason says why. Preview changes nothing. The
// error wraps fleet.ErrNotLeader unless Lead runs, or is ctx's.
func (r *Reconciler) Preview(ctx context.Context, servers []fleet.Server, nodes map[fleet.NodeID]fleet.NodeIntent) ([]PlannedAction, error) {
	r.mu.Lock()
	leading := r.leading
	r.mu.Unlock()
	if leading == nil {
		return nil, fmt.Errorf("preview: %w", fleet.ErrNotLeader)
	}
	shown := make(chan scene, 1)
	select {
	case r.asked <- shown:
	case <-leading:
		return nil, fmt.Errorf("preview: %w", fleet.ErrNotLeader)
	case <-ctx.Done():
		return nil, fmt.Errorf("preview: %w", context.Cause(ctx))
	}
	s := <-shown
	anyhow := s.copied()
	if servers != nil {
		s.desired = servers
	}
	if nodes != nil {
		s.intents = nodes
	}
	return withoutActions(s.play(), anyhow.play()), nil
}

// withoutActions returns the actions of a plan that are not in another one. Starts on
// different nodes count as the same.
func withoutActions(plan, other []PlannedAction) (out []PlannedAction) {
	type key struct {
		start, placed bool
		server        fleet.ServerName
		replica       fleet.ReplicaID
		revision      fleet.Revision
	}
	of := func(a PlannedAction) key { return key{a.Start, a.Node != "", a.Server, a.Replica, a.Revision} }
	known := map[key]int{}
	for _, a := range other {
		known[of(a)]++
	}
	for _, a := range plan {
		if k := of(a); known[k] > 0 {
			known[k]--
			continue
		}
		out = append(out, a)
	}
	return out
}

// play simulates plans until there is nothing left to do, and adds the replicas
// that have no room then. By the next plan every start has succeeded, long ago, and
// every stop is over. New revisions pass their trials. Time stands still, so no drain
// deadline passes.
func (s *scene) play() (out []PlannedAction) {
	st := s.state
	s.desired = withoutTrials(s.desired)
	st.observeNodes(s.snap, s.intents)
	for step := 0; step < previewSteps && len(out) < previewActions; step++ {
		for _, u := range st.replicas.sorted() {
			st.observeNodeOf(u, s.now)
			if u.phase < fleet.PhaseReady && u.reachable {
				u.phase, u.readyAt = fleet.PhaseReady, s.now
			}
			if u.ready() && !u.readyAt.IsZero() {
				u.readyAt = s.now.Add(-previewAge)
			}
			if u.activate != nil && u.reachable {
				u.spare, u.activate = false, nil
			}
			if u.stopping() && u.reachable {
				st.replicas.remove(u.id)
			}
		}
		servers := st.servers(s.desired)
		for i := range servers {
			servers[i].back, servers[i].stable = backoff{everReady: true}, backoff{everReady: true}
		}
		began := len(out)
		decisions := plan(s.now, servers, st.room(s.now))
		for i, d := range decisions {
			for _, a := range d.actions {
				out = append(out, s.act(&servers[i], a, len(out)))
			}
		}
		if len(out) == began {
			return slices.Clip(append(out, unplacedStarts(servers, decisions, previewActions-len(out))...))
		}
	}
	return slices.Clip(out)
}

// withoutTrials returns the servers as they are once their rollouts have passed
// every trial and wait for nobody.
func withoutTrials(servers []fleet.Server) []fleet.Server {
	out := slices.Clone(servers)
	for i := range out {
		if r := out[i].Rollout; r != nil && !r.Paused {
			past := *r
			past.Checked, past.Held = true, ""
			if c := out[i].Spec.UpdatePolicy().Canary; c != nil {
				past.Step = len(c.Steps)
			}
			out[i].Rollout = &past
		}
	}
	return out
}

// unplacedStarts returns the starts that no node has room for, up to most.
func unplacedStarts(servers []want, decisions []decision, most int) (out []PlannedAction) {
	for i, d := range decisions {
		if d.unplaced == "" {
			continue
		}
		for range min(d.need, most-len(out)) {
			out = append(out, PlannedAction{Start: true, Server: servers[i].name, Revision: servers[i].desired.Revision, Reason: d.unplaced})
		}
	}
	return out
}

// act simulates one action.
func (s *scene) act(w *want, a action, n int) PlannedAction {
	if u := a.activate; u != nil {
		u.activate = &order{reason: a.reason}
		return PlannedAction{Start: true, Server: u.server, Replica: u.id, Node: u.node, Revision: u.rev, Reason: a.reason + " (a warm spare)"}
	}
	if u := a.stop; u != nil {
		u.stop = &order{reason: a.reason}
		return PlannedAction{Server: u.server, Replica: u.id, Node: u.node, Revision: u.rev, Reason: a.reason}
	}
	id := fleet.ReplicaID(fmt.Sprintf("%s-%d-preview-%06d", w.name, a.rev, n))
	s.state.replicas.start(id, w.desired, a, s.snap.Nodes[a.node].Member.Life, s.now)
	return PlannedAction{Start: true, Server: w.name, Node: a.node, Revision: a.rev, Reason: a.reason}
}
