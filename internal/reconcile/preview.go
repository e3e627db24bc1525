package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// Bounds of a preview.
const (
	previewSteps   = 1000
	previewActions = 10_000
)

// scene is what a plan is made from, apart from the loop's own: it may be
// looked at from any goroutine.
type scene struct {
	mem     *memory
	snap    *observe.Snapshot
	desired []fleet.Server
	intents map[fleet.NodeID]fleet.NodeIntent
	now     time.Time
}

// scene copies what the loop has now.
func (p *pass) scene(now time.Time) scene {
	m := newMemory(p.log, middling, newHistory())
	m.leads, m.drained = true, maps.Clone(p.mem.drained)
	for id, f := range p.mem.fences {
		m.fences[id] = &fence{order: order{acked: f.acked, first: f.first}, refused: f.refused}
	}
	for _, u := range p.mem.units {
		c := *u
		c.start = nil
		m.put(&c)
	}
	return scene{m, p.snap, p.desired, p.intents, now}
}

// Preview tells what Lead would do, start by start and stop by stop, were these
// servers and intents desired (nil: as they are) and did every start succeed.
// It changes nothing. The error wraps fleet.ErrNotLeader unless Lead runs, or
// is ctx's.
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
	if servers != nil {
		s.desired = servers
	}
	if nodes != nil {
		s.intents = nodes
	}
	return s.play(), nil
}

// play plans and acts in thought until there is nothing left to do. Every start
// succeeds, and every stop is over, by the next plan. A drain's deadline does
// not pass.
func (s *scene) play() (out []PlannedAction) {
	m := s.mem
	for step := 0; step < previewSteps && len(out) < previewActions; step++ {
		for _, u := range m.all() {
			m.stand(u, s.snap.Nodes[u.node], s.intents[u.node], s.now)
			if u.phase < fleet.PhaseReady && u.reachable {
				u.phase, u.readyAt = fleet.PhaseReady, s.now
			}
			if u.stopping() && u.reachable {
				m.drop(u.id)
			}
		}
		servers := m.servers(s.desired)
		for i := range servers {
			servers[i].back, servers[i].stable = backoff{everReady: true}, backoff{everReady: true}
		}
		began := len(out)
		for i, d := range plan(s.now, servers, newRoom(m.rooms(s.snap, s.intents, s.now), m.all())) {
			for _, a := range d.actions {
				out = append(out, s.act(&servers[i], a, len(out)))
			}
		}
		if len(out) == began {
			break
		}
	}
	return slices.Clip(out)
}

// act carries out one action in thought.
func (s *scene) act(w *want, a action, n int) PlannedAction {
	if u := a.stop; u != nil {
		u.stop = &order{reason: a.reason}
		return PlannedAction{Server: u.server, Replica: u.id, Node: u.node, Revision: u.rev, Reason: a.reason}
	}
	id := fleet.ReplicaID(fmt.Sprintf("%s-%d-preview-%06d", w.name, a.rev, n))
	s.mem.begin(id, w.desired, a, s.snap.Nodes[a.node].Member.Life, s.now)
	return PlannedAction{Start: true, Server: w.name, Node: a.node, Revision: a.rev, Reason: a.reason}
}
