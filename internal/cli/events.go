package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func (a *app) eventsCommand() *cobra.Command {
	var o api.EventOptions
	var server string
	var follow bool
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened in the fleet, oldest first",
		Args:  cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, client *api.Client, _ []string) error {
			o.Server = fleet.ServerName(server)
			if follow {
				return a.followEvents(ctx, client, o)
			}
			ctx, cancel := withReadTimeout(ctx)
			defer cancel()
			events, err := client.Events(ctx, o)
			if err != nil {
				return err
			}
			if a.output == formatJSON {
				return a.printJSON(events)
			}
			if events.Gap {
				a.warnGap()
			}
			for _, e := range events.Events {
				if err := a.printEvent(e); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	a.rules[cmd] = func([]string) error {
		if o.Limit < 0 {
			return errors.New("--limit must not be negative")
		}
		return nil
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "keep showing new events")
	cmd.Flags().StringVar(&o.Since, "since", "", "only events after the one with this id")
	cmd.Flags().StringVar(&server, "server", "", "only events of this server")
	cmd.Flags().StringSliceVar(&o.Kinds, "kind", nil, "only events of this kind; comma-separated or repeated")
	cmd.Flags().IntVar(&o.Limit, "limit", 0, "only this many of the newest events; 0 for 1000, or with --since for all")
	return cmd
}

func (a *app) followEvents(ctx context.Context, client *api.Client, o api.EventOptions) error {
	// A controller that never answers is an error. Later on, FollowEvents waits
	// for one that is gone for a while.
	first, cancel := withReadTimeout(ctx)
	defer cancel()
	if _, err := client.Events(first, api.EventOptions{Limit: 1, Server: o.Server, Kinds: o.Kinds}); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	err := client.FollowEvents(ctx, o, func(e api.Event) {
		if e.Kind == api.EventGap && e.ID == "" && a.output != formatJSON {
			a.warnGap()
			return
		}
		if err := a.printEvent(e); err != nil {
			stop(err) // stdout has lost its reader
		}
	})
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

func (a *app) warnGap() {
	fmt.Fprintln(a.Err, "mcpfleet: events may be missing here: the controller does not know the id to start after")
}

// printEvent prints an event as one line of text or JSON.
func (a *app) printEvent(e api.Event) error {
	if a.output == formatJSON {
		enc := json.NewEncoder(a.Out)
		enc.SetEscapeHTML(false)
		return enc.Encode(e)
	}
	subject := string(e.Server)
	switch {
	case e.Replica != "":
		subject = string(e.Replica)
	case subject == "":
		subject = string(e.Node)
	}
	line := fmt.Sprintf("%s  %-8s %-16s %-20s %s", e.Time.Local().Format(time.RFC3339), e.ID, e.Kind, subject, e.Message)
	_, err := fmt.Fprintln(a.Out, progress.Printable(line))
	return err
}
