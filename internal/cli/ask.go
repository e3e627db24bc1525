package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/format"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

const (
	readTimeout       = 30 * time.Second // of requests that are answered from memory
	completionTimeout = 2 * time.Second
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "status [SERVER]",
		Short:             "Show the servers and their replicas",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeServer(false),
		RunE: a.withClient(func(ctx context.Context, client *api.Client, args []string) error {
			ctx, cancel := context.WithTimeout(ctx, readTimeout)
			defer cancel()
			var out struct {
				Servers  []api.Server  `json:"servers"`
				Replicas []api.Replica `json:"replicas"`
			}
			servers, err := a.knownServers(ctx, client)
			if err != nil {
				return err
			}
			replicas, err := client.Replicas(ctx)
			if err != nil {
				return err
			}
			out.Servers, out.Replicas = []api.Server{}, []api.Replica{}
			for _, s := range servers {
				if len(args) == 0 || string(s.Name) == args[0] {
					out.Servers = append(out.Servers, s)
				}
			}
			for _, r := range replicas {
				if len(args) == 0 || string(r.Server) == args[0] {
					out.Replicas = append(out.Replicas, r)
				}
			}
			if len(args) == 1 && len(out.Servers) == 0 {
				return fmt.Errorf("there is no server named %q%s", args[0], nearServer(args[0], servers))
			}
			if a.output == formatJSON {
				return a.printJSON(out)
			}
			if err := a.statusTable(out.Servers, out.Replicas, len(args) == 1); err != nil || len(args) == 1 {
				return err
			}
			nodes, err := client.Nodes(ctx)
			if err != nil {
				return err
			}
			return a.controllersTable(nodes)
		}),
	}
}

// knownServers returns all servers. Without a leader it returns the last state
// that the controller knew, and says so on stderr.
func (a *app) knownServers(ctx context.Context, client *api.Client) ([]api.Server, error) {
	servers, err := client.Servers(ctx)
	if !isCode(err, api.CodeNoLeader) {
		return servers, err
	}
	last, staleErr := client.List(ctx, api.ReadOptions{Stale: true})
	if staleErr != nil {
		return nil, err
	}
	fmt.Fprintln(a.Err, "mcpfleet: there is no leader now; this is the last known state")
	return last.Servers, nil
}

// controllersTable prints the controllers if there are several.
func (a *app) controllersTable(nodes []api.Node) error {
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n api.Node) bool { return n.Role != fleet.RoleController })
	if len(nodes) < 2 {
		return nil
	}
	fmt.Fprintln(a.Out)
	t := newTable(a.Out, "CONTROLLER", "STATE", "ADDRESS")
	for _, n := range nodes {
		t.row(n.Name, format.NodeState(&n, time.Now()), n.HTTP)
	}
	return t.flush()
}

// statusTable shows servers and their replicas. named means that the only server was asked
// for by name: then more is shown of it.
func (a *app) statusTable(servers []api.Server, replicas []api.Replica, named bool) error {
	t := newTable(a.Out, "SERVER", "STATE", "READY", "RESTARTS", "REVISION", "REASON")
	for _, s := range servers {
		t.row(s.Name, s.State, format.Ready(&s), s.Restarts, format.Revision(&s), s.Reason)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(servers) == 1 { // there is room for the whole reason
		if s := strings.Join(strings.Fields(progress.Printable(servers[0].Reason)), " "); s != progress.Shorten(s, widestCell) {
			fmt.Fprintf(a.Out, "\nREASON  %s\n", s)
		}
		if s := &servers[0]; named && s.Era != fleet.EraAuto {
			fmt.Fprintf(a.Out, "\nERA  %s, MCP %s\n", s.Era, s.Protocol)
		}
	}
	if len(replicas) == 0 {
		return nil
	}
	fmt.Fprintln(a.Out)
	t, now := newTable(a.Out, "REPLICA", "NODE", "PHASE", "ONGOING", "CALLS", "AGE", "REASON"), time.Now()
	for _, r := range replicas {
		t.row(r.ID, r.Node, format.Phase(&r), r.Ongoing, r.TotalCalls, format.Age(r.StartedAt, now), r.Reason)
	}
	return t.flush()
}

// nearServer returns a hint at servers with a similar name, or "".
func nearServer(name string, servers []api.Server) string {
	names := make([]string, len(servers))
	for i, s := range servers {
		names[i] = string(s.Name)
	}
	return nearest.Hint(name, names, nil)
}

func nodeNames(ctx context.Context, client *api.Client) []string {
	nodes, err := client.Nodes(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for _, n := range nodes {
		if n.Role == fleet.RoleWorker {
			names = append(names, string(n.Name))
		}
	}
	return names
}

func serverNames(ctx context.Context, client *api.Client) []string {
	servers, err := client.List(ctx, api.ReadOptions{Stale: true})
	if err != nil {
		return nil
	}
	var names []string
	for _, s := range servers.Servers {
		names = append(names, string(s.Name))
	}
	return names
}

// widestCell is the most runes of a cell that are printed.
const widestCell = 160

// table prints rows in aligned columns.
type table struct {
	w       *tabwriter.Writer
	columns int
}

func newTable(out io.Writer, header ...any) *table {
	t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0), columns: len(header)}
	t.row(header...)
	return t
}

func (t *table) row(cells ...any) {
	for i, c := range cells {
		text := progress.Shorten(progress.Printable(fmt.Sprint(c)), widestCell)
		if text == "" {
			text = "-"
		}
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, text)
	}
	fmt.Fprintln(t.w)
}

// continueRow prints another line in the last column.
func (t *table) continueRow(text string) {
	fmt.Fprintln(t.w, strings.Repeat("\t", t.columns-1)+progress.Printable(text))
}

func (t *table) flush() error { return t.w.Flush() }
