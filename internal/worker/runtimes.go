package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// runtimes joins the runtimes that a node offers. The one that a replica's template
// needs starts it. It implements fleet.Runtime.
type runtimes []fleet.Runtime

func (rs runtimes) names() []string {
	names := make([]string, len(rs))
	for i, rt := range rs {
		names[i] = rt.Name()
	}
	return names
}

// Name implements fleet.Runtime.
func (rs runtimes) Name() string { return strings.Join(rs.names(), ",") }

// Start implements fleet.Runtime.
func (rs runtimes) Start(ctx context.Context, l fleet.Launch) (fleet.Process, error) {
	for _, rt := range rs {
		if fleet.CanRun([]string{rt.Name()}, l.Template) {
			return rt.Start(ctx, l)
		}
	}
	return nil, fmt.Errorf("the server needs the %s runtime: this node offers only %s (--runtime)", l.Template.NeededRuntime(), rs.Name())
}

// Sweep implements fleet.Runtime. All runtimes sweep, even if one fails.
func (rs runtimes) Sweep(ctx context.Context) (removed []string, err error) {
	var errs []error
	for _, rt := range rs {
		some, err := rt.Sweep(ctx)
		removed = append(removed, some...)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", rt.Name(), err))
		}
	}
	return removed, errors.Join(errs...)
}

// Close implements fleet.Runtime. All are closed, even if one fails.
func (rs runtimes) Close(ctx context.Context) error {
	var errs []error
	for _, rt := range rs {
		errs = append(errs, rt.Close(ctx))
	}
	return errors.Join(errs...)
}
