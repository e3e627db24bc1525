package cli

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/format"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func (a *app) nodesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "Show the controllers and workers",
		Args:  cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, client *api.Client, _ []string) error {
			ctx, cancel := withReadTimeout(ctx)
			defer cancel()
			nodes, err := client.Nodes(ctx)
			if err != nil {
				return err
			}
			if a.output == formatJSON {
				return a.printJSON(api.Nodes{Nodes: nodes})
			}
			columns := []any{"NODE", "ROLE", "STATE", "RUNTIME", "ZONE", "REPLICAS", "CPUS", "MEMORY", "ADDRESS", "PID"}
			reasons := slices.ContainsFunc(nodes, func(n api.Node) bool { return n.Reason != "" })
			if reasons {
				columns = append(columns, "REASON")
			}
			t, now := newTable(a.Out, columns...), time.Now()
			for _, n := range nodes {
				address := cmp.Or(n.HTTP, n.GRPC)
				cells := []any{n.Name, n.Role, format.NodeState(&n, now), runtimesText(&n), n.Zone, n.Replicas,
					format.CPUShare(&n), format.MemoryShare(&n), address, n.PID}
				if reasons {
					cells = append(cells, n.Reason)
				}
				t.row(cells...)
			}
			return t.flush()
		}),
	}
}

// runtimesText returns the runtimes that a worker offers, as one word. A
// controller of the previous version sets only Runtime.
func runtimesText(n *api.Node) string {
	if len(n.Runtimes) == 0 {
		return n.Runtime
	}
	return strings.Join(n.Runtimes, ",")
}

func (a *app) drainCommand() *cobra.Command {
	var w waitFlags
	var o api.WriteOptions
	var deadline time.Duration
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Move all replicas off a node, and place no new ones there",
		Long: `Move all replicas off a node, and place no new ones there. Each replica is stopped once its replacement is ready.
Replicas that are left at the deadline are stopped. The node stays cordoned until it is uncordoned.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNode(),
		RunE: a.withClient(func(ctx context.Context, client *api.Client, args []string) error {
			node := fleet.NodeID(args[0])
			done, err := client.Drain(ctx, node, deadline, o)
			if err != nil {
				return writeError(err)
			}
			if err := a.printOutcome(done, done.Changes, done.Effect); err != nil || !w.wait || o.DryRun {
				return err
			}
			timeout := w.timeout
			if timeout == 0 { // replicas also need a while to stop
				timeout = time.Minute
				if done.DrainUntil != nil {
					timeout += max(0, time.Until(*done.DrainUntil)) // clocks may differ
				}
			}
			return a.untilEmpty(ctx, client, timeout, node)
		}),
	}
	a.rules[cmd] = func([]string) error {
		if deadline < 0 {
			return errors.New("--deadline must not be negative")
		}
		return nil
	}
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "stop the replicas that are left after this long; 0 for 10m")
	dryRunFlag(cmd, &o)
	cmd.Flags().BoolVar(&w.wait, "wait", false, "wait until the node runs nothing")
	cmd.Flags().DurationVar(&w.timeout, "timeout", 0, "how long --wait waits; 0 for a minute longer than the deadline")
	return cmd
}

func (a *app) cordonCommand() *cobra.Command {
	return a.nodeCommand("cordon NODE", "Place no new replicas on a node", (*api.Client).Cordon)
}

func (a *app) uncordonCommand() *cobra.Command {
	return a.nodeCommand("uncordon NODE", "Use a cordoned or drained node again", (*api.Client).Uncordon)
}

func (a *app) nodeCommand(use, short string, do func(*api.Client, context.Context, fleet.NodeID, api.WriteOptions) (api.NodeWritten, error)) *cobra.Command {
	var o api.WriteOptions
	cmd := &cobra.Command{
		Use:               use,
		Short:             short,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNode(),
		RunE: a.withClient(func(ctx context.Context, client *api.Client, args []string) error {
			done, err := do(client, ctx, fleet.NodeID(args[0]), o)
			if err != nil {
				return writeError(err)
			}
			return a.printOutcome(done, done.Changes, done.Effect)
		}),
	}
	dryRunFlag(cmd, &o)
	return cmd
}
