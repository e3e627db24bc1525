package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/gossip"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
)

// state shows the fleet to the HTTP front as it was last published.
type state struct {
	cfg      Config
	self     fleet.Member
	ring     *gossip.Ring
	observer *observe.Observer

	published atomic.Pointer[published]

	mu      sync.Mutex
	ended   bool
	streams map[*stream]struct{}
}

type published struct {
	status []reconcile.ServerStatus
	snap   *observe.Snapshot
}

func (s *state) publish(status []reconcile.ServerStatus, snap *observe.Snapshot) {
	s.published.Store(&published{status, snap})
}

// Servers implements httpapi.Fleet.
func (s *state) Servers() []api.Server {
	p := s.published.Load()
	out := make([]api.Server, 0, len(p.status))
	for _, st := range p.status {
		out = append(out, serverOf(&st))
	}
	return out
}

func serverOf(st *reconcile.ServerStatus) api.Server {
	spec, err := json.Marshal(fleetfile.View(&st.Spec))
	if err != nil { // plain data always encodes
		spec = []byte("{}")
	}
	out := api.Server{
		Name: st.Name, State: st.State, Reason: st.Reason, Desired: st.Desired, Ready: st.Ready,
		Restarts: st.Restarts, Revision: st.Revision, Spec: spec,
	}
	for _, r := range st.LastEnded {
		out.LastEnded = append(out.LastEnded, api.EndedOf(r))
	}
	return out
}

// Ready implements httpapi.Fleet.
func (s *state) Ready() api.Ready {
	out := api.Ready{Ready: true}
	for _, st := range s.published.Load().status {
		if st.State == fleet.StateDeleting {
			continue
		}
		out.Servers = append(out.Servers, api.ServerReady{
			Name: st.Name, State: st.State, Reason: st.Reason, Desired: st.Desired, Ready: st.Ready,
		})
		out.Ready = out.Ready && st.Settled
	}
	return out
}

// Replicas implements httpapi.Fleet.
func (s *state) Replicas() []api.Replica {
	var out []api.Replica
	for _, r := range s.published.Load().snap.Sorted() {
		out = append(out, api.ReplicaOf(r))
	}
	return out
}

// Nodes implements httpapi.Fleet: the controllers, then the workers, by name.
func (s *state) Nodes() []api.Node {
	snap := s.published.Load().snap
	var out []api.Node
	for _, m := range s.ring.Members() {
		if m.Role != fleet.RoleController {
			continue
		}
		n := api.Node{Name: m.Node, Role: m.Role, PID: m.PID, HTTP: m.HTTP, Gossip: m.Gossip, Life: m.Life, State: api.NodeReady}
		if m.Life == s.self.Life {
			n.Zone, n.Version = s.cfg.Zone, s.cfg.Version
		}
		out = append(out, n)
	}
	controllers := len(out)
	use := make(map[fleet.NodeID]fleet.Resources)
	count := make(map[fleet.NodeID]int)
	for _, r := range snap.Replicas {
		use[r.Node] = use[r.Node].Add(r.Resources)
		count[r.Node]++
	}
	for name, n := range snap.Nodes {
		out = append(out, api.Node{
			Name: name, Role: fleet.RoleWorker, PID: n.Member.PID, Zone: n.Info.Zone, Labels: n.Info.Labels,
			GRPC: n.Member.GRPC, Gossip: n.Member.Gossip, Life: n.Member.Life, State: stateOf(&n),
			Runtime: n.Info.Runtime, Version: n.Info.Version, Replicas: count[name],
			Capacity: api.ResourcesOf(n.Info.Capacity), Allocated: api.ResourcesOf(use[name]),
		})
	}
	slices.SortFunc(out[controllers:], func(a, b api.Node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func stateOf(n *observe.Node) string {
	switch {
	case n.Lost:
		return api.NodeLost
	case n.Draining:
		return api.NodeDraining
	case n.Connected:
		return api.NodeReady
	case !n.Reported():
		return api.NodeJoining
	default:
		return api.NodeUnreachable
	}
}

// stream is a reader of logs that is still there.
type stream struct{ cancel context.CancelFunc }

// Logs implements httpapi.Logs: from the replica's worker while it runs, else
// from what is kept of its end.
func (s *state) Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func(fleet.LogLine)) error {
	snap := s.observer.Snapshot()
	if r := snap.Replicas[id]; r != nil {
		worker := snap.Nodes[r.Node].Worker
		if worker == nil {
			return fmt.Errorf("logs of replica %s: node %s cannot be reached: %w", id, r.Node, fleet.ErrReplicaLost)
		}
		ctx, end := s.stream(ctx)
		defer end()
		return worker.Logs(ctx, id, tail, follow, func(lines []fleet.LogLine) error {
			for _, l := range lines {
				on(l)
			}
			return ctx.Err()
		})
	}
	for _, list := range snap.Ended {
		for _, r := range list {
			if r.ID == id {
				lines := r.Log
				if tail > 0 && len(lines) > tail {
					lines = lines[len(lines)-tail:]
				}
				for _, l := range lines {
					on(fleet.LogLine{Time: r.EndedAt, Text: l})
				}
				return nil
			}
		}
	}
	return fmt.Errorf("%w %q", fleet.ErrUnknownReplica, id)
}

// stream notes a reader, so that a stop can end it.
func (s *state) stream(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	st := &stream{cancel}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		cancel()
	}
	if s.streams == nil {
		s.streams = make(map[*stream]struct{})
	}
	s.streams[st] = struct{}{}
	return ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, st)
		cancel()
	}
}

// endStreams ends all readers, present and future.
func (s *state) endStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for st := range s.streams {
		st.cancel()
	}
}

var (
	descReplicas = prometheus.NewDesc("mcpfleet_server_replicas", "Replicas of a server, wanted and ready.", []string{"server", "which"}, nil)
	descRestarts = prometheus.NewDesc("mcpfleet_server_restarts_total", "Replicas started to replace failed ones.", []string{"server"}, nil)
	descNodes    = prometheus.NewDesc("mcpfleet_nodes", "Workers by state.", []string{"state"}, nil)
)

// Describe implements prometheus.Collector.
func (s *state) Describe(ch chan<- *prometheus.Desc) {
	ch <- descReplicas
	ch <- descRestarts
	ch <- descNodes
}

// Collect implements prometheus.Collector.
func (s *state) Collect(ch chan<- prometheus.Metric) {
	p := s.published.Load()
	for _, st := range p.status {
		name := string(st.Name)
		ch <- prometheus.MustNewConstMetric(descReplicas, prometheus.GaugeValue, float64(st.Desired), name, "desired")
		ch <- prometheus.MustNewConstMetric(descReplicas, prometheus.GaugeValue, float64(st.Ready), name, "ready")
		ch <- prometheus.MustNewConstMetric(descRestarts, prometheus.CounterValue, float64(st.Restarts), name)
	}
	states := map[string]int{api.NodeReady: 0}
	for _, n := range p.snap.Nodes {
		states[stateOf(&n)]++
	}
	for state, n := range states {
		ch <- prometheus.MustNewConstMetric(descNodes, prometheus.GaugeValue, float64(n), state)
	}
}
