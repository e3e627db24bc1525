package up

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/cli/shell"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
)

const (
	pollTimeout = 5 * time.Second
	pollStart   = 200 * time.Millisecond // until the cluster is ready
	pollReady   = 2 * time.Second
	idlePolls   = 10 // polls without progress after which the reason is reported

	defaultAddress = "127.0.0.1:8000" // the default --address of the other commands
)

// snapshot is the state of the cluster according to the controller.
type snapshot struct {
	ready    api.Ready
	replicas []api.Replica
	nodes    []api.Node
}

func takeSnapshot(ctx context.Context, client *api.Client) (snapshot, error) {
	var s snapshot
	var err error
	if s.ready, err = client.Ready(ctx); err != nil {
		return s, err
	}
	if s.replicas, err = client.Replicas(ctx); err != nil {
		return s, err
	}
	s.nodes, err = client.Nodes(ctx)
	return s, err
}

// watcher prints the progress of a cluster.
type watcher struct {
	client      *api.Client // of the first controller
	controllers int
	workers     int
	out         *progress.Printer
	file        *fleetfile.File // the user's fleet file, or nil
	path        string          // its name
	called      string          // how the user calls mcpfleet

	compared bool // the file has been compared with the deployed servers
	phases   phases
	idle     int // number of polls without progress
}

// run shows the progress until everything is ready, announces that, and then
// shows changes of the servers until ctx ends. It prints nothing while the
// controller cannot be reached, since its supervisor reports why.
func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(pollStart)
	defer tick.Stop()
	w.phases = phases{}
	announced := false
	for {
		s, err := takeSnapshot(ctx, w.client)
		if err == nil {
			w.compareFile(ctx)
		}
		switch {
		case err != nil:
		case !announced && s.ready.Ready && s.joined(fleet.RoleWorker) >= w.workers && s.joined(fleet.RoleController) >= w.controllers:
			lines := announcement(w.client.Address(), w.called, s, toolsOf(ctx, w.client, s))
			w.out.Progress(w.startRows(s))
			w.out.Announce(lines)
			announced = true
			w.out.MarkReported(w.phases.serverRows(s, false))
			tick.Reset(pollReady)
		case announced:
			w.out.Progress(w.phases.serverRows(s, false))
		default:
			w.out.Progress(w.startRows(s))
			w.reportIdle(s)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// startRows returns the rows to show during the start.
func (w *watcher) startRows(s snapshot) []progress.Row {
	rows := w.phases.serverRows(s, true)
	if w.controllers > 1 {
		rows = append(rows, joinedRow("controllers", s.joined(fleet.RoleController), w.controllers))
	}
	return append(rows, joinedRow("workers", s.joined(fleet.RoleWorker), w.workers))
}

// reportIdle reports once why nothing happens, if all workers have joined and no
// server has started for some polls.
func (w *watcher) reportIdle(s snapshot) {
	if s.joined(fleet.RoleWorker) < w.workers || len(s.replicas) > 0 || len(s.ready.Servers) == 0 {
		w.idle = 0
		return
	}
	if w.idle++; w.idle == idlePolls {
		first := s.ready.Servers[0]
		w.out.Event(fmt.Sprintf("nothing has started yet; %s: %s", first.Name, progress.OneLine(first.Reason)))
	}
}

// compareFile prints a hint, once, if the fleet file differs from the deployed
// servers. The file is applied to new clusters only.
func (w *watcher) compareFile(ctx context.Context) {
	if w.compared || w.file == nil {
		return
	}
	stored, err := w.client.List(ctx, api.ReadOptions{})
	if err != nil || stored.ETag == "" || strings.HasSuffix(stored.ETag, ".0") {
		return // nothing is written yet: the controllers will apply the file
	}
	body, err := fleetfile.Encode(w.file)
	if err != nil {
		w.compared = true
		return
	}
	would, err := w.client.Apply(ctx, body, api.WriteOptions{DryRun: true, IfMatch: stored.ETag})
	if err != nil {
		return
	}
	w.compared = true
	if len(would.Changes) == 0 {
		return
	}
	at := strings.TrimPrefix(w.client.Address(), "http://")
	address := ""
	if at != defaultAddress {
		address = " --address " + at
	}
	w.out.Event(fmt.Sprintf("%s was not applied: the data directory has a fleet already, and the file differs from it; to apply the file: %s%s apply -f %s --prune",
		w.path, w.called, address, shell.Quote(w.path)))
}

// joined returns the number of READY nodes with a role.
func (s *snapshot) joined(role fleet.Role) int {
	n := 0
	for _, node := range s.nodes {
		if node.Role == role && node.State == api.NodeReady {
			n++
		}
	}
	return n
}

// phases are the furthest phases that servers have reached in their current
// state. They only move forward, so that a replica that ends between two polls
// does not cause the same lines again.
type phases map[fleet.ServerName]phase

type phase struct {
	state   fleet.State
	replica fleet.Phase // the furthest phase of a replica that is not ready
}

// advance records the current phase of a server, and returns the furthest one.
func (p phases) advance(name fleet.ServerName, state fleet.State, replica fleet.Phase) phase {
	now := phase{state, replica}
	if was := p[name]; was.state == state {
		now.replica = max(was.replica, replica)
	}
	p[name] = now
	return now
}

// serverRows returns a row for each server. During the start, each phase makes a
// new key. Later only the state and the number of wanted replicas do.
func (p phases) serverRows(s snapshot, starting bool) []progress.Row {
	rows := make([]progress.Row, 0, len(s.ready.Servers))
	for _, server := range s.ready.Servers {
		counts := map[string]int{}
		r := progress.Row{Name: string(server.Name)}
		for _, replica := range s.replicas {
			if replica.Server == server.Name && replica.Phase != fleet.PhaseReady.String() {
				counts[replica.Phase]++
				if r.Detail == "" {
					r.Detail = replica.Reason
				}
			}
		}
		furthest := fleet.PhaseUnknown
		r.Text = fmt.Sprintf("%s, %d/%d ready", server.State, server.Ready, server.Desired)
		for p := fleet.PhasePending; p <= fleet.PhaseFailed; p++ {
			n := counts[p.String()]
			if n == 0 {
				continue
			}
			r.Text += fmt.Sprintf(", %d %s", n, strings.ToLower(p.String()))
			if p == fleet.PhasePulling || p == fleet.PhaseStarting {
				furthest = p
			}
		}
		reached := p.advance(server.Name, server.State, furthest)
		r.Key = fmt.Sprintf("%s, %d wanted", server.State, server.Desired)
		if starting {
			r.Key = fmt.Sprintf("%s, %s", server.State, reached.replica)
		}
		switch {
		case server.State == fleet.StateUnavailable || server.State == fleet.StateDegraded:
			r.Text += ": " + progress.OneLine(server.Reason)
			r.Detail = ""
		case server.State == fleet.StateDeploying && furthest == fleet.PhaseUnknown:
			if starting && reached.replica == fleet.PhaseUnknown {
				r.Key = "" // nothing has started, so there is nothing to print
			}
			r.Detail = server.Reason
		}
		rows = append(rows, r)
	}
	return rows
}

// joinedRow returns the row for the number of nodes that have joined. Its key
// changes when all have.
func joinedRow(name string, joined, wanted int) progress.Row {
	return progress.Row{Name: name, Key: fmt.Sprint(joined >= wanted), Text: fmt.Sprintf("%d/%d joined", joined, wanted)}
}

// toolsOf picks the tool for the example: one of the default server, or else one
// of the first server that is ready, and then with that server's path.
func toolsOf(ctx context.Context, client *api.Client, s snapshot) exampleTools {
	servers, err := client.Servers(ctx)
	if err != nil {
		return exampleTools{}
	}
	if root, err := client.Tools(ctx, ""); err == nil {
		if i := slices.IndexFunc(root.Tools, func(t api.Tool) bool { return !strings.Contains(t.Name, "__") }); i >= 0 {
			return pickExample("", servers, root.Tools[i].Server, root.Tools)
		}
	}
	for _, server := range s.ready.Servers {
		if server.Ready == 0 {
			continue
		}
		if own, err := client.Tools(ctx, fleet.Scope(server.Name)); err == nil {
			return pickExample(server.Name, servers, server.Name, own.Tools)
		}
	}
	return exampleTools{}
}
