package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func (a *app) scaleCommand() *cobra.Command {
	var w waitFlags
	var o api.WriteOptions
	var f floorFlags
	cmd := &cobra.Command{
		Use:   "scale SERVER N",
		Short: "Set the number of replicas of a server, or a floor if it scales by itself",
		Long: `Set the number of replicas of a server; 0 stops it.

A server with autoscaling has no fixed number. --floor with --ttl asks for at least so many replicas for some time, such as
before a launch. --floor 0 takes that back.`,
		Example: `  mcpfleet scale web 3
  mcpfleet scale auto --floor 20 --ttl 2h`,
		ValidArgsFunction: a.completeServer(false),
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if f.given(cmd) && len(args) <= 2 {
			return nil // see floorFlags.check
		}
		return cobra.ExactArgs(2)(cmd, args)
	}
	cmd.RunE = a.change(&w, &o, func(ctx context.Context, client *api.Client, args []string) (api.Written, error) {
		if f.given(cmd) {
			return client.SetFloor(ctx, fleet.ServerName(args[0]), f.least, f.ttl, o)
		}
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return api.Written{}, err
		}
		return client.Scale(ctx, fleet.ServerName(args[0]), n, o)
	})
	a.rules[cmd] = func(args []string) error {
		if err := f.check(cmd, args); err != nil || f.given(cmd) || len(args) < 2 {
			return err
		}
		if n, err := strconv.Atoi(args[1]); err != nil || n < 0 {
			return fmt.Errorf("the number of replicas must be 0 or more, not %q", args[1])
		}
		return nil
	}
	cmd.Flags().IntVar(&f.least, "floor", 0, "least number of replicas of a server with autoscaling; 0 for that of its spec")
	cmd.Flags().DurationVar(&f.ttl, "ttl", 0, "how long the floor holds, from 1s to 720h")
	dryRunFlag(cmd, &o)
	w.flags(cmd, "the server has that many ready replicas")
	return cmd
}

// floorFlags are the flags of scale for a server that scales by itself.
type floorFlags struct {
	least int
	ttl   time.Duration
}

// given reports whether a floor is to be set, rather than a number.
func (f *floorFlags) given(cmd *cobra.Command) bool { return cmd.Flags().Changed("floor") }

// check refuses flags that do not go together.
func (f *floorFlags) check(cmd *cobra.Command, args []string) error {
	timed := cmd.Flags().Changed("ttl")
	switch {
	case !f.given(cmd) && timed:
		return errors.New("--ttl goes with --floor: it says how long the floor holds")
	case !f.given(cmd):
		return nil
	case len(args) == 0:
		return errors.New("SERVER is missing; the command is: mcpfleet scale SERVER --floor N --ttl TIME")
	case len(args) == 2:
		return errors.New("pass N or --floor, not both: N is for a fixed number of replicas, --floor for a server with autoscaling")
	case f.least < 0:
		return fmt.Errorf("--floor must be 0 or more, not %d", f.least)
	case f.least == 0 && timed:
		return errors.New("--ttl does not go with --floor 0, which removes the floor at once")
	case f.least > 0 && !timed:
		return errors.New("--ttl is missing: how long the floor holds, such as 10m")
	case timed && f.ttl <= 0:
		return fmt.Errorf("--ttl must be above 0, not %s", f.ttl)
	}
	return nil
}
