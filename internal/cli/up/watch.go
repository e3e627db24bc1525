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
	pollStart   = 200 * time.Millisecond // while things start
	pollReady   = 2 * time.Second
	idleLooks   = 10 // after which it is said why nothing happens

	defaultAddress = "127.0.0.1:8000" // of the other commands
)

// snapshot is how the cluster is, as the controller tells it.
type snapshot struct {
	ready    api.Ready
	replicas []api.Replica
	nodes    []api.Node
}

func look(ctx context.Context, client *api.Client) (snapshot, error) {
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

// watcher tells how a cluster fares.
type watcher struct {
	client      *api.Client // of the first controller
	controllers int
	workers     int
	out         *progress.Printer
	file        *fleetfile.File // the fleet file given, or nil
	path        string          // its name
	called      string          // how the user calls mcpfleet

	compared bool // the file with what is deployed
	phases   phases
	idle     int // looks at which nothing was under way
}

// run shows progress until all is ready, says so once, and then tells how
// servers fare until ctx ends. While the controller cannot be asked there is
// nothing to tell: its keeper tells why.
func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(pollStart)
	defer tick.Stop()
	w.phases = phases{}
	announced := false
	for {
		s, err := look(ctx, w.client)
		if err == nil {
			w.compare(ctx)
		}
		switch {
		case err != nil:
		case !announced && s.ready.Ready && s.joined(fleet.RoleWorker) >= w.workers && s.joined(fleet.RoleController) >= w.controllers:
			lines := announcement(w.client.Address(), w.called, s, toolsOf(ctx, w.client, s))
			w.out.Progress(w.startRows(s))
			w.out.Announce(lines)
			announced = true
			w.out.Note(w.phases.serverRows(s, false))
			tick.Reset(pollReady)
		case announced:
			w.out.Progress(w.phases.serverRows(s, false))
		default:
			w.out.Progress(w.startRows(s))
			w.tellIdle(s)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// startRows tell how far all is while it starts.
func (w *watcher) startRows(s snapshot) []progress.Row {
	rows := w.phases.serverRows(s, true)
	if w.controllers > 1 {
		rows = append(rows, joinedRow("controllers", s.joined(fleet.RoleController), w.controllers))
	}
	return append(rows, joinedRow("workers", s.joined(fleet.RoleWorker), w.workers))
}

// tellIdle says once why nothing happens, when all workers are there and no
// server has begun to start for some looks.
func (w *watcher) tellIdle(s snapshot) {
	if s.joined(fleet.RoleWorker) < w.workers || len(s.replicas) > 0 || len(s.ready.Servers) == 0 {
		w.idle = 0
		return
	}
	if w.idle++; w.idle == idleLooks {
		first := s.ready.Servers[0]
		w.out.Event(fmt.Sprintf("nothing has started yet; %s: %s", first.Name, progress.OneLine(first.Reason)))
	}
}

// compare tells once when the fleet file given is not what is deployed: it is
// the beginning of a new cluster only.
func (w *watcher) compare(ctx context.Context) {
	if w.compared || w.file == nil {
		return
	}
	stored, err := w.client.List(ctx, api.ReadOptions{})
	if err != nil || stored.ETag == "" || strings.HasSuffix(stored.ETag, ".0") {
		return // nobody has written anything yet: the controllers are about to
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
	w.out.Event(fmt.Sprintf("%s was not applied: the data directory has a fleet already, which differs from it; to apply the file: %s%s apply -f %s --prune",
		w.path, w.called, address, shell.Quote(w.path)))
}

// joined counts the nodes of a role that do their work.
func (s *snapshot) joined(role fleet.Role) int {
	n := 0
	for _, node := range s.nodes {
		if node.Role == role && node.State == api.NodeReady {
			n++
		}
	}
	return n
}

// phases are how far each server has come in its present state. They only grow,
// so that a replica that ends between two looks does not start the story again.
type phases map[fleet.ServerName]phase

type phase struct {
	state   fleet.State
	replica fleet.Phase // the furthest of a replica that is not ready
}

// reach notes how far a server is now, and returns how far it has come.
func (p phases) reach(name fleet.ServerName, state fleet.State, replica fleet.Phase) phase {
	now := phase{state, replica}
	if was := p[name]; was.state == state {
		now.replica = max(was.replica, replica)
	}
	p[name] = now
	return now
}

// serverRows tells of each server how far it is. While all is starting, each
// phase is news. Later only the state is, and how many replicas are wanted.
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
		reached := p.reach(server.Name, server.State, furthest)
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
				r.Key = "" // no news: nothing has begun
			}
			r.Detail = server.Reason
		}
		rows = append(rows, r)
	}
	return rows
}

// joinedRow tells how many have joined. It is news at first, and when it is all.
func joinedRow(name string, joined, wanted int) progress.Row {
	return progress.Row{Name: name, Key: fmt.Sprint(joined >= wanted), Text: fmt.Sprintf("%d/%d joined", joined, wanted)}
}

// toolsOf returns the tools to make an example of: those of the default server,
// or of the first one that serves, and that server's name in the second case.
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
		if own, err := client.Tools(ctx, server.Name); err == nil {
			return pickExample(server.Name, servers, server.Name, own.Tools)
		}
	}
	return exampleTools{}
}
