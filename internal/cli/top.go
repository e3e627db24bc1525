package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/cli/top"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

const (
	topInterval = 2 * time.Second
	topShortest = 200 * time.Millisecond
	// topTimeout bounds one reading. It is short, because old figures mislead. The
	// leader gets topLeader of it.
	topTimeout = 5 * time.Second
	topLeader  = 2 * time.Second
)

func (a *app) topCommand() *cobra.Command {
	var cfg top.Config
	var once bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show calls, latency, queues, CPU and memory as they change",
		Long: `Show the servers, replicas and nodes of the fleet with their calls, latency, queues, CPU and memory, as they change.
Press ? for the keys. Away from a terminal, and with --once or -o json, everything is printed once, after one interval.

Calls, errors and latencies are those between two readings; latencies are estimated from the buckets that workers count in.
Errors are results with isError, JSON-RPC errors, timeouts, and calls that were lost with their replica. CPU is in cores.
Queued are the calls that wait at all controllers, as the leader knows them; while there is no leader, those at the
controller that answers.`,
		Args: cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, client *api.Client, _ []string) error {
			cfg.In, cfg.Out, cfg.At = a.In, a.Out, a.address
			cfg.Read = func(ctx context.Context) (top.Reading, error) {
				ctx, cancel := context.WithTimeout(ctx, topTimeout)
				defer cancel()
				return readTop(ctx, client, topLeader)
			}
			if a.output == formatTable && !once && progress.IsTerminal(a.In) && progress.IsTerminal(a.Out) {
				return top.Live(ctx, cfg)
			}
			report, err := top.Twice(ctx, cfg)
			if err != nil {
				return err
			}
			if a.output == formatJSON {
				return a.printJSON(report)
			}
			if report.Note != "" {
				fmt.Fprintln(a.Err, "mcpfleet: "+report.Note)
			}
			return top.Print(a.Out, &report, cfg.Sort)
		}),
	}
	a.rules[cmd] = func([]string) error {
		var problems []error
		if cfg.Interval < topShortest {
			problems = append(problems, fmt.Errorf("--interval must be at least %s", topShortest))
		}
		columns := top.Columns()
		if cfg.Sort != "" && !slices.ContainsFunc(columns, func(c string) bool { return strings.EqualFold(c, cfg.Sort) }) {
			problems = append(problems, fmt.Errorf("--sort: no view has a column %q%s; the columns are %s",
				cfg.Sort, nearest.Hint(strings.ToUpper(cfg.Sort), columns, nil), strings.Join(columns, ", ")))
		}
		return errors.Join(problems...)
	}
	cmd.Flags().DurationVar(&cfg.Interval, "interval", topInterval, "time between two readings")
	cmd.Flags().StringVar(&cfg.Sort, "sort", "", "column to sort by, in each view that has it; CALLS/S if not set")
	cmd.Flags().BoolVar(&once, "once", false, "print everything once")
	return cmd
}

// readTop reads all that top shows. If the leader does not answer in time, the servers
// are those that the controller itself knows.
func readTop(ctx context.Context, client *api.Client, leader time.Duration) (r top.Reading, err error) {
	leaderCtx, cancel := context.WithTimeout(ctx, leader)
	defer cancel()
	listed, err := client.List(leaderCtx, api.ReadOptions{})
	if isCode(err, api.CodeNoLeader) || err != nil && leaderCtx.Err() != nil && ctx.Err() == nil {
		listed, err = client.List(ctx, api.ReadOptions{Stale: true})
		r.Note = "the leader does not answer: states and queues are what this controller knows"
	}
	if err != nil {
		return r, err
	}
	r.Servers = listed.Servers
	if r.Replicas, err = client.Replicas(ctx); err != nil {
		return r, err
	}
	r.At = time.Now()
	r.Nodes, err = client.Nodes(ctx)
	return r, err
}
