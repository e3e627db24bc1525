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
	"github.com/mcpfleet/mcpfleet/internal/cli/format"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	waitPeriod  = 300 * time.Millisecond
	waitTimeout = 5 * time.Minute
)

// waitFlags are the flags of a command that can wait for its effect.
type waitFlags struct {
	wait    bool
	timeout time.Duration
}

func (w *waitFlags) flags(cmd *cobra.Command, until string) {
	cmd.Flags().BoolVar(&w.wait, "wait", false, "wait until "+until)
	cmd.Flags().DurationVar(&w.timeout, "timeout", waitTimeout, "how long --wait waits; 0 for as long as it takes")
}

// unreadyError means that a change was made, by this command or before, but its
// effect was not seen before the wait ended.
type unreadyError struct {
	why  string // why the wait ended
	left []progress.Row
}

func (e *unreadyError) Error() string {
	lines := []string{e.why}
	for _, r := range e.left {
		line := r.Name + ": " + r.Text
		if r.Detail != "" {
			line += ": " + r.Detail
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n  ")
}

// stuckError means that a change was made, and that its effect will not come unless
// somebody does something.
type stuckError struct{ stuck []progress.Row }

func (e *stuckError) Error() string {
	lines := make([]string, len(e.stuck))
	for i, r := range e.stuck {
		lines[i] = r.Name + ": " + r.Text
	}
	return strings.Join(lines, "\n")
}

// polled is one look at what is waited for.
type polled struct {
	all   []progress.Row
	left  []progress.Row // what to wait for
	stuck []progress.Row // what needs no wait, with the reasons as texts
}

// waitUntil polls until nothing is left to wait for, and shows the progress. It
// keeps polling while no controller can be reached. A timeout of 0 means none.
func (a *app) waitUntil(ctx context.Context, timeout time.Duration, poll func(context.Context) (polled, error)) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	out := a.Out
	if a.output != formatTable {
		out = a.Err
	}
	show := progress.NewBars(out)
	defer show.Finish()
	tick := time.NewTicker(waitPeriod)
	defer tick.Stop()
	var last []progress.Row
	for {
		pollCtx, cancel := context.WithTimeout(ctx, readTimeout)
		p, err := poll(pollCtx)
		cancel()
		if refused, ok := errors.AsType[*api.Error](err); ok && refused.Status < 500 {
			return &unreadyError{why: "cannot find out whether it is ready: " + err.Error(), left: last}
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			last = []progress.Row{{Name: "fleet", Key: "gone", Text: "cannot reach a controller", Detail: err.Error()}}
			show.Progress(last)
		default:
			show.Progress(p.all)
			switch last = append(p.left, p.stuck...); {
			case len(p.left) > 0:
			case len(p.stuck) > 0:
				return &stuckError{p.stuck}
			default:
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			why := fmt.Sprintf("not ready after %s", timeout)
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				why = "stopped waiting before it was ready; the fleet itself goes on"
			}
			return &unreadyError{why, last}
		}
	}
}

// untilGone waits until the servers and all their replicas are gone.
func (a *app) untilGone(ctx context.Context, client *api.Client, timeout time.Duration, names ...fleet.ServerName) error {
	return a.waitUntil(ctx, timeout, func(ctx context.Context) (p polled, err error) {
		servers, err := client.Servers(ctx)
		if err != nil {
			return p, err
		}
		replicas, err := client.Replicas(ctx)
		if err != nil {
			return p, err
		}
		for _, name := range names {
			n := 0
			for _, r := range replicas {
				if r.Server == name {
					n++
				}
			}
			r := progress.Row{Name: string(name), Text: fmt.Sprintf("%d replicas are left", n)}
			if n == 1 {
				r.Text = "1 replica is left"
			}
			r.Key = r.Text
			p.all = append(p.all, r)
			if n > 0 || slices.ContainsFunc(servers, func(s api.Server) bool { return s.Name == name }) {
				p.left = append(p.left, r)
			}
		}
		return p, nil
	})
}

// untilEmpty waits until a node has no replicas.
func (a *app) untilEmpty(ctx context.Context, client *api.Client, timeout time.Duration, name fleet.NodeID) error {
	return a.waitUntil(ctx, timeout, func(ctx context.Context) (p polled, err error) {
		nodes, err := client.Nodes(ctx)
		if err != nil {
			return p, err
		}
		for _, n := range nodes {
			if n.Name != name || n.Role != fleet.RoleWorker {
				continue
			}
			r := progress.Row{Name: string(name), Text: fmt.Sprintf("%s, %d replicas", format.NodeState(&n, time.Now()), n.Replicas)}
			r.Key = r.Text
			p.all = append(p.all, r)
			if n.Replicas > 0 {
				p.left = append(p.left, r)
			}
		}
		return p, nil
	})
}
