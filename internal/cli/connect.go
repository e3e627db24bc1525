package cli

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"regexp"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/bridge"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/program"
)

// memoryTarget is what connect uses only with large messages. Above it, memory is
// given back sooner.
const memoryTarget = 256 << 20

func (a *app) connectCommand() *cobra.Command {
	var gateway, level string
	cmd := &cobra.Command{
		Use:   "connect [SERVER]",
		Short: "Connect an MCP client that speaks stdio only to the fleet",
		Long: `Connect an MCP client that speaks stdio only to the fleet. The client starts this command like a server: messages come from stdin
and go to stdout, one a line, and logs go to stderr. Without a server the client gets the tools of all servers.

With several controllers in --address, another one takes over when one is lost. Use mcp-config to print the configuration of a
client.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeServer(false),
		RunE: a.withClient(func(ctx context.Context, _ *api.Client, args []string) error {
			signal.Ignore(syscall.SIGPIPE) // a client that is gone is an error of the write, and the session still ends
			if limit, set := a.Lookup("GOMEMLIMIT"); !set || limit == "" {
				debug.SetMemoryLimit(memoryTarget)
			}
			log, err := program.Logger(a.Err, "text", level)
			if err != nil {
				return err
			}
			bases, err := a.bases()
			if err != nil {
				return err
			}
			view := viewOf(args, gateway)
			for i := range bases {
				bases[i] += view.path()
			}
			return bridge.Run(ctx, bridge.Config{In: a.In, Out: a.Out, URLs: bases, Agent: "mcpfleet/" + a.Version, Log: log})
		}),
	}
	a.rules[cmd] = func(args []string) error {
		if err := viewOf(args, gateway).check(); err != nil {
			return err
		}
		return program.CheckLog("text", level)
	}
	cmd.Flags().StringVar(&gateway, "gateway", "", "connect to this gateway instead of a server")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// view is what a client gets of the fleet: all servers, one, or a gateway.
type view struct {
	server, gateway string
}

func viewOf(args []string, gateway string) view {
	if len(args) == 0 {
		return view{gateway: gateway}
	}
	return view{args[0], gateway}
}

func (v view) check() error {
	if v.server != "" && v.gateway != "" {
		return errors.New("pass a server or --gateway, not both: a gateway has its own list of servers")
	}
	for what, name := range map[string]string{"SERVER": v.server, "--gateway": v.gateway} {
		if name != "" && !label.MatchString(name) {
			return fmt.Errorf("%s must be a name in lower case, such as my-server, not %q", what, name)
		}
	}
	return nil
}

// label matches the names of servers and gateways: DNS labels in lower case.
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// scope returns the endpoint that the view is.
func (v view) scope() fleet.Scope {
	if v.gateway != "" {
		return fleet.GatewayScope(v.gateway)
	}
	return fleet.Scope(v.server)
}

// path returns the path of the view's MCP endpoint.
func (v view) path() string {
	switch {
	case v.server != "":
		return "/" + v.server + "/mcp"
	case v.gateway != "":
		return "/g/" + v.gateway + "/mcp"
	}
	return "/mcp"
}
