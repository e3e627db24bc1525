package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
)

// view shows the fleet to the HTTP front as it was last published.
type view struct {
	cfg      Config
	leaving  <-chan struct{} // closed when the controller is told to stop
	self     fleet.Member
	writes   *writes
	observer *observe.Observer
	caughtUp *catchUp
	seed     *seeder

	published atomic.Pointer[published]

	mu      sync.Mutex
	ended   bool
	streams map[*stream]struct{}
}

type published struct {
	status map[fleet.ServerName]*reconcile.ServerStatus
	snap   *observe.Snapshot
}

func (s *view) publish(status map[fleet.ServerName]*reconcile.ServerStatus, snap *observe.Snapshot) {
	s.published.Store(&published{status, snap})
}

// Servers implements httpapi.Fleet: what is desired, then what is being
// deleted, by name.
func (s *view) Servers(desired *desired.State) []api.Server {
	status := s.published.Load().status
	out := make([]api.Server, 0, len(desired.Servers))
	for name, sv := range desired.Servers {
		out = append(out, serverOf(desired, name, sv, status[name]))
	}
	for name, st := range status {
		if desired.Servers[name] == nil {
			out = append(out, deletedOf(st))
		}
	}
	slices.SortFunc(out, func(a, b api.Server) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func serverOf(all *desired.State, name fleet.ServerName, sv *desired.Server, st *reconcile.ServerStatus) api.Server {
	spec, err := json.Marshal(fleetfile.View(&sv.Spec))
	if err != nil { // plain data always encodes
		spec = []byte("{}")
	}
	out := api.Server{
		Name: name, Desired: sv.Replicas, Revision: sv.Revision, Generation: sv.Generation, Stable: sv.Stable,
		Spec: spec, ETag: sv.ETag(all.Incarnation), Index: sv.Index,
	}
	if r := sv.Rollout; r != nil {
		out.Rollout = &api.Rollout{From: r.From, To: r.To, StartedAt: r.Started, Deadline: r.Deadline}
	}
	out.State, out.Reason = stateOf(sv, st)
	if st != nil {
		out.Ready, out.Restarts = st.Ready, st.Restarts
		for _, r := range st.LastEnded {
			out.LastEnded = append(out.LastEnded, api.EndedOf(r))
		}
	}
	return out
}

// stateOf is a server's state, which may have been told before what is desired
// changed.
func stateOf(sv *desired.Server, st *reconcile.ServerStatus) (fleet.State, string) {
	switch {
	case st == nil || st.State == fleet.StateDeleting:
		return fleet.StateDeploying, "the server was just deployed"
	case st.Revision != sv.Revision || st.Generation != sv.Generation:
		return fleet.StateUpdating, fmt.Sprintf("a change to revision %d was just made", sv.Revision)
	case st.Target.Replicas == sv.Replicas:
		return st.State, st.Reason
	case sv.Target().Stopped():
		return fleet.StateIdle, sv.Target().StopReason()
	}
	reason := fmt.Sprintf("%d of %d replicas ready: it was just scaled", st.Ready, sv.Replicas)
	switch {
	case st.State == fleet.StateIdle:
		return fleet.StateDeploying, reason
	case st.State == fleet.StateReady && st.Ready < sv.Replicas:
		return fleet.StateDegraded, reason
	}
	return st.State, st.Reason
}

func deletedOf(st *reconcile.ServerStatus) api.Server {
	out := api.Server{Name: st.Name, State: fleet.StateDeleting, Reason: st.Reason, Ready: st.Ready, Restarts: st.Restarts, Spec: []byte("{}")}
	for _, r := range st.LastEnded {
		out.LastEnded = append(out.LastEnded, api.EndedOf(r))
	}
	return out
}

// incomplete says why servers may be missing from what is known here; "" once
// none is.
func (s *view) incomplete() string {
	if s.writes.State().Cluster == "" && s.writes.Stateless() {
		return "this controller belongs to no cluster yet"
	}
	if missing := s.caughtUp.missing(); missing != "" {
		return missing
	}
	if !s.seed.done.Load() {
		return "the fleet file is not applied yet"
	}
	return ""
}

// mayLack says why servers that exist may be unknown here; "" if none is.
func (s *view) mayLack() string {
	if why := s.incomplete(); why != "" {
		return why
	}
	return s.writes.Store.Stale()
}

// empty tells whether no server is known here.
func (s *view) empty() bool { return len(s.writes.State().Servers) == 0 }

// Ready implements httpapi.Fleet.
func (s *view) Ready() api.Ready {
	all, status := s.writes.State(), s.published.Load().status
	out := api.Ready{Reason: cmp.Or(s.incomplete(), s.writes.Problem())}
	select {
	case <-s.leaving:
		out.Reason = "stopping"
	default:
	}
	out.Ready = out.Reason == ""
	for _, name := range slices.Sorted(maps.Keys(all.Servers)) {
		sv, st := all.Servers[name], status[name]
		one := api.ServerReady{Name: name, Desired: sv.Replicas}
		one.State, one.Reason = stateOf(sv, st)
		if st != nil {
			one.Ready = st.Ready
		}
		out.Servers = append(out.Servers, one)
		out.Ready = out.Ready && st != nil && st.Settled && st.Revision == sv.Revision && st.Generation == sv.Generation && st.Target.Replicas == sv.Replicas
	}
	return out
}

// Replicas implements httpapi.Fleet.
func (s *view) Replicas() []api.Replica {
	var out []api.Replica
	for _, r := range s.published.Load().snap.Sorted() {
		out = append(out, api.ReplicaOf(r))
	}
	return out
}

// Nodes implements httpapi.Fleet: the controllers, then the workers, by name.
func (s *view) Nodes() []api.Node {
	snap, intents := s.published.Load().snap, s.writes.State().Nodes
	leader, _, led := s.writes.Store.Leader()
	var out []api.Node
	for _, m := range s.writes.ring.Members() {
		if m.Role != fleet.RoleController {
			continue
		}
		n := api.Node{
			Name: m.Node, Role: m.Role, PID: m.PID, HTTP: m.HTTP, Gossip: m.Gossip, Life: m.Life, State: api.NodeReady,
			Leader: led && m.Controller == leader, Version: m.Version,
		}
		if m.Life == s.self.Life {
			n.Zone = s.cfg.Zone
		}
		if n.Reason = s.writes.problemOf(m.Controller); n.Reason != "" {
			n.State = api.NodeDegraded
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
		out = append(out, intended(api.Node{
			Name: name, Role: fleet.RoleWorker, PID: n.Member.PID, Zone: n.Info.Zone, Labels: n.Info.Labels,
			GRPC: n.Member.GRPC, Gossip: n.Member.Gossip, Life: n.Member.Life, State: nodeState(&n), Reason: n.Unfit,
			Runtime: strings.Join(n.Info.Runtimes, ","), Runtimes: n.Info.Runtimes, Version: n.Info.Version, Replicas: count[name],
			Capacity: api.ResourcesOf(n.Info.Capacity), Allocated: api.ResourcesOf(use[name]),
		}, intents[name]))
	}
	for name, intent := range intents {
		if _, seen := snap.Nodes[name]; !seen { // it can still be uncordoned
			out = append(out, intended(api.Node{Name: name, Role: fleet.RoleWorker, State: api.NodeLost}, intent))
		}
	}
	slices.SortFunc(out[controllers:], func(a, b api.Node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// intended adds what operators want of a node.
func intended(n api.Node, intent fleet.NodeIntent) api.Node {
	n.Cordoned = intent.Cordoned
	if !intent.DrainUntil.IsZero() {
		n.DrainUntil = &intent.DrainUntil
		if n.State == api.NodeReady {
			n.State = api.NodeDraining
		}
	}
	return n
}

func nodeState(n *observe.Node) string {
	switch {
	case n.Lost:
		return api.NodeLost
	case n.Draining:
		return api.NodeDraining
	case n.Connected && n.Unfit != "":
		return api.NodeDegraded
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
func (s *view) Logs(ctx context.Context, id fleet.ReplicaID, tail int, follow bool, on func(fleet.LogLine)) error {
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
					on(fleet.LogLine{Text: l})
				}
				return nil
			}
		}
	}
	return fmt.Errorf("%w %q", fleet.ErrUnknownReplica, id)
}

// stream notes a reader, so that a stop can end it.
func (s *view) stream(ctx context.Context) (context.Context, func()) {
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
func (s *view) endStreams() {
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
	descNodeInfo = prometheus.NewDesc("mcpfleet_node_info", "A worker that has reported, with the runtimes that it offers; always 1.",
		[]string{"node", "runtimes", "version"}, nil)
)

// Describe implements prometheus.Collector.
func (s *view) Describe(ch chan<- *prometheus.Desc) {
	ch <- descReplicas
	ch <- descRestarts
	ch <- descNodes
	ch <- descNodeInfo
}

// Collect implements prometheus.Collector.
func (s *view) Collect(ch chan<- prometheus.Metric) {
	p := s.published.Load()
	for _, st := range p.status {
		name := string(st.Name)
		ch <- prometheus.MustNewConstMetric(descReplicas, prometheus.GaugeValue, float64(st.Target.Replicas), name, "desired")
		ch <- prometheus.MustNewConstMetric(descReplicas, prometheus.GaugeValue, float64(st.Ready), name, "ready")
		ch <- prometheus.MustNewConstMetric(descRestarts, prometheus.CounterValue, float64(st.Restarts), name)
	}
	states := map[string]int{api.NodeReady: 0}
	for name, n := range p.snap.Nodes {
		states[nodeState(&n)]++
		if n.Reported() {
			ch <- prometheus.MustNewConstMetric(descNodeInfo, prometheus.GaugeValue, 1,
				string(name), strings.Join(n.Info.Runtimes, ","), n.Info.Version)
		}
	}
	for state, n := range states {
		ch <- prometheus.MustNewConstMetric(descNodes, prometheus.GaugeValue, float64(n), state)
	}
}
