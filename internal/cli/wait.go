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
	cmd.Flags().DurationVar(&w.timeout, "timeout", waitTimeout, "how long --wait waits")
}

// unreadyError means that the command was done, but its effect was not seen
// before the wait ended.
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

// waitUntil polls until nothing is left to wait for, and shows the progress. It
// keeps polling while no controller can be reached.
func (a *app) waitUntil(ctx context.Context, timeout time.Duration, poll func(context.Context) (all, left []progress.Row, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out := a.Out
	if a.output != formatTable {
		out = a.Err
	}
	show := progress.New(out)
	defer show.Finish()
	tick := time.NewTicker(waitPeriod)
	defer tick.Stop()
	var last []progress.Row
	for {
		pollCtx, cancel := context.WithTimeout(ctx, readTimeout)
		all, left, err := poll(pollCtx)
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
			show.Progress(all)
			if last = left; len(left) == 0 {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			why := fmt.Sprintf("not ready after %s", timeout)
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				why = "stopped waiting before it was ready; the change itself was made"
			}
			return &unreadyError{why, last}
		}
	}
}

// untilReady waits until the servers are settled.
func (a *app) untilReady(ctx context.Context, client *api.Client, timeout time.Duration, names ...fleet.ServerName) error {
	return a.waitUntil(ctx, timeout, func(ctx context.Context) (all, left []progress.Row, err error) {
		servers, err := client.Servers(ctx)
		if err != nil {
			return nil, nil, err
		}
		for _, name := range names {
			i := slices.IndexFunc(servers, func(s api.Server) bool { return s.Name == name })
			if i < 0 {
				left = append(left, progress.Row{Name: string(name), Key: "gone", Text: "somebody has deleted it"})
				all = append(all, left[len(left)-1])
				continue
			}
			r := serverRow(&servers[i])
			all = append(all, r)
			if !settled(&servers[i]) {
				left = append(left, r)
			}
		}
		return all, left, nil
	})
}

// settled reports whether a server is as desired. An idle server may have no
// replicas. Until it is called for the first time, its first rollout goes on.
func settled(s *api.Server) bool {
	uncalled := s.State == fleet.StateIdle && s.Rollout != nil && s.Rollout.From == 0
	if s.Rollout != nil && !uncalled {
		return false
	}
	if s.Desired == 0 {
		return s.Ready == 0
	}
	return s.State == fleet.StateReady && s.Ready == s.Desired || s.State == fleet.StateIdle
}

func serverRow(s *api.Server) progress.Row {
	r := progress.Row{Name: string(s.Name), Text: fmt.Sprintf("%s, %d/%d ready, revision %s", s.State, s.Ready, s.Desired, format.Revision(s))}
	r.Key = r.Text
	if s.Reason != "" && s.State != fleet.StateReady {
		r.Detail = progress.OneLine(s.Reason)
		if s.State == fleet.StateUnavailable { // not only on a terminal
			r.Text, r.Detail = r.Text+": "+r.Detail, ""
		}
	}
	return r
}

// untilGone waits until the servers and all their replicas are gone.
func (a *app) untilGone(ctx context.Context, client *api.Client, timeout time.Duration, names ...fleet.ServerName) error {
	return a.waitUntil(ctx, timeout, func(ctx context.Context) (all, left []progress.Row, err error) {
		servers, err := client.Servers(ctx)
		if err != nil {
			return nil, nil, err
		}
		replicas, err := client.Replicas(ctx)
		if err != nil {
			return nil, nil, err
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
			all = append(all, r)
			if n > 0 || slices.ContainsFunc(servers, func(s api.Server) bool { return s.Name == name }) {
				left = append(left, r)
			}
		}
		return all, left, nil
	})
}

// untilEmpty waits until a node has no replicas.
func (a *app) untilEmpty(ctx context.Context, client *api.Client, timeout time.Duration, name fleet.NodeID) error {
	return a.waitUntil(ctx, timeout, func(ctx context.Context) (all, left []progress.Row, err error) {
		nodes, err := client.Nodes(ctx)
		if err != nil {
			return nil, nil, err
		}
		for _, n := range nodes {
			if n.Name != name || n.Role != fleet.RoleWorker {
				continue
			}
			r := progress.Row{Name: string(name), Text: fmt.Sprintf("%s, %d replicas", format.NodeState(&n, time.Now()), n.Replicas)}
			r.Key = r.Text
			all = append(all, r)
			if n.Replicas > 0 {
				left = append(left, r)
			}
		}
		return all, left, nil
	})
}
