package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
)

func (a *app) controllersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "controllers",
		Short: "Show and change the controllers of the cluster",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "list",
			Short: "List the controllers with their roles and state",
			Args:  cobra.NoArgs,
			RunE: a.withClient(func(ctx context.Context, client *api.Client, _ []string) error {
				ctx, cancel := withReadTimeout(ctx)
				defer cancel()
				controllers, err := client.Controllers(ctx)
				if err != nil {
					return err
				}
				return a.showControllers(controllers)
			}),
		},
		&cobra.Command{
			Use:   "remove NAME",
			Short: "Remove a controller, by name or id, from the cluster for good",
			Args:  cobra.ExactArgs(1),
			RunE:  a.changeControllers((*api.Client).RemoveController),
		},
		&cobra.Command{
			Use:   "transfer NAME",
			Short: "Make a controller, by name or id, the leader",
			Args:  cobra.ExactArgs(1),
			RunE:  a.changeControllers((*api.Client).Transfer),
		},
	)
	return cmd
}

func (a *app) changeControllers(do func(*api.Client, context.Context, string) (api.Controllers, error)) func(*cobra.Command, []string) error {
	return a.withClient(func(ctx context.Context, client *api.Client, args []string) error {
		controllers, err := do(client, ctx, args[0])
		if err != nil {
			return writeError(err)
		}
		return a.showControllers(controllers)
	})
}

func (a *app) showControllers(c api.Controllers) error {
	if a.output == formatJSON {
		return a.printJSON(c)
	}
	t := newTable(a.Out, "CONTROLLER", "ROLE", "STATE", "HTTP", "RAFT", "VERSION", "ID")
	led := false
	for _, one := range c.Controllers {
		state := "gone"
		switch {
		case one.Leader:
			state, led = "leader", true
		case one.Alive:
			state = "alive"
		}
		t.row(one.Name, one.Role, state, one.HTTP, one.Raft, one.Version, one.ID)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, one := range c.Controllers {
		if one.Problem != "" {
			fmt.Fprintf(a.Err, "mcpfleet: controller %s: %s\n", cmp.Or(string(one.Name), string(one.ID)), progress.Printable(one.Problem))
		}
	}
	switch {
	case c.Cluster == "":
		fmt.Fprintf(a.Err, "mcpfleet: the cluster has not been founded yet\n")
	case !led:
		fmt.Fprintf(a.Err, "mcpfleet: there is no leader now: nothing can be changed until a majority of the voters is back\n")
	}
	return nil
}
