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

	compared bool // the file with what is deployed
}

// run shows progress until all is ready, says so once, and then tells how
// servers fare until ctx ends. While the controller cannot be asked there is
// nothing to tell: its keeper tells why.
func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(pollStart)
	defer tick.Stop()
	announced := false
	for {
		s, err := look(ctx, w.client)
		if err == nil {
			w.compare(ctx)
		}
		switch {
		case err != nil:
		case !announced && s.ready.Ready && s.joined(fleet.RoleWorker) >= w.workers && s.joined(fleet.RoleController) >= w.controllers:
			lines := announcement(w.client.Address(), s, toolsOf(ctx, w.client, s))
			w.out.Announce(lines)
			announced = true
			w.out.Note(serverRows(s, false))
			tick.Reset(pollReady)
		case announced:
			w.out.Progress(serverRows(s, false))
		default:
			rows := serverRows(s, true)
			if w.controllers > 1 {
				rows = append(rows, joinedRow("controllers", s.joined(fleet.RoleController), w.controllers))
			}
			w.out.Progress(append(rows, joinedRow("workers", s.joined(fleet.RoleWorker), w.workers)))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
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
	w.out.Event(fmt.Sprintf("%s was not applied: the data directory has a fleet already, which differs from it; to apply the file: mcpfleet%s apply -f %s --prune",
		w.path, address, shell.Quote(w.path)))
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

// serverRows tells of each server how far it is. Replicas on their way are
// news only while all is starting.
func serverRows(s snapshot, starting bool) []progress.Row {
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
		r.Text = fmt.Sprintf("%s, %d/%d ready", server.State, server.Ready, server.Desired)
		r.Key = r.Text
		for p := fleet.PhasePending; p <= fleet.PhaseFailed; p++ {
			if n := counts[p.String()]; n > 0 {
				r.Text += fmt.Sprintf(", %d %s", n, strings.ToLower(p.String()))
			}
		}
		if starting {
			r.Key = r.Text
		}
		if server.State == fleet.StateUnavailable || server.State == fleet.StateDegraded {
			r.Text += ": " + progress.OneLine(server.Reason)
			r.Detail = ""
		}
		rows = append(rows, r)
	}
	return rows
}

func joinedRow(name string, joined, wanted int) progress.Row {
	text := fmt.Sprintf("%d/%d joined", joined, wanted)
	return progress.Row{Name: name, Key: text, Text: text}
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
