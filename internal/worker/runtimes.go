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

// Prepare implements fleet.Runtime.
func (rs runtimes) Prepare(ctx context.Context, l fleet.Launch) error {
	rt, err := rs.of(l.Template)
	if err != nil {
		return err
	}
	return rt.Prepare(ctx, l)
}

// Start implements fleet.Runtime.
func (rs runtimes) Start(ctx context.Context, l fleet.Launch) (fleet.Process, error) {
	rt, err := rs.of(l.Template)
	if err != nil {
		return nil, err
	}
	return rt.Start(ctx, l)
}

// of returns the runtime that the template needs.
func (rs runtimes) of(t *fleet.Template) (fleet.Runtime, error) {
	for _, rt := range rs {
		if fleet.CanRun([]string{rt.Name()}, t) {
			return rt, nil
		}
	}
	return nil, fmt.Errorf("the server needs the %s runtime: this node offers only %s (--runtime)", t.NeededRuntime(), rs.Name())
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
