package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/cli/up"
	"github.com/mcpfleet/mcpfleet/internal/program"
)

func (a *app) upCommand() *cobra.Command {
	cfg := up.Config{}
	cmd := &cobra.Command{
		Use:   "up [FILE]",
		Short: "Run a whole cluster on this machine until Ctrl-C",
		Long: `Run a whole cluster on this machine until Ctrl-C: one or more controllers, workers, and the servers of a fleet file.
Without a file it serves a demo server, or with a data directory that was used before, the servers that are deployed there.
A file is applied to a new cluster only. To change a cluster that has state already, use mcpfleet apply.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Out, cfg.Env, cfg.Lookup, cfg.BinDir = a.Out, a.Env, a.Lookup, a.BinDir
			cfg.Called = a.Called
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			stopListening := listen(ctx, &cfg)
			defer stopListening()
			return up.Run(ctx, cfg)
		},
	}
	a.rules[cmd] = func(args []string) error {
		var problems []error
		if len(args) == 1 {
			if cfg.File != args[0] && a.onCommandLine(cmd, "config") {
				problems = append(problems, fmt.Errorf("there are two fleet files, %s and --config %s: pass only one", args[0], cfg.File))
			}
			cfg.File = args[0]
		}
		if !cmd.Flags().Changed("runtime") {
			cfg.Runtime = ""
		}
		if !cmd.Flags().Changed("controllers") {
			cfg.Controllers = 0
		} else if cfg.Controllers == 0 {
			problems = append(problems, errors.New("--controllers must be 1 or more, not 0"))
		}
		if !cmd.Flags().Changed("workers") {
			cfg.Workers = 0
		} else if cfg.Workers == 0 {
			problems = append(problems, fmt.Errorf("--workers must be between 1 and %d, not 0", up.MaxWorkers))
		}
		return errors.Join(append(problems, cfg.Validate())...)
	}
	flags := cmd.Flags()
	flags.StringVarP(&cfg.File, "config", "c", "", "fleet file, YAML or JSON, for an empty cluster; without it the demo server runs")
	flags.IntVar(&cfg.Controllers, "controllers", 1, "how many controllers to run, unless the data directory has several already; three survive the loss of any one")
	flags.IntVar(&cfg.Workers, "workers", 3, "how many workers to run, unless the data directory had another number last; fewer where a server of the file needs more room")
	flags.StringVar(&cfg.Runtime, "runtime", "auto", "runtimes to offer: podman for images, process for commands, or both with a comma; auto is process, and podman where it works")
	flags.Float64Var(&cfg.CPUs, "cpus", 0, "how many CPUs each worker offers (default: an equal share of the machine's)")
	flags.StringVar(&cfg.Memory, "memory", "", "how much memory each worker offers, such as 4g (default: an equal share of the machine's)")
	flags.StringVar(&cfg.HTTP, "http", "127.0.0.1:8000", "host:port of the first controller's HTTP API; others use free ports of the same host")
	flags.BoolVar(&cfg.Insecure, "insecure", false, "allow an --http that other machines can reach: there is no access control yet")
	flags.StringSliceVar(&cfg.AllowedHosts, "allowed-hosts", nil, "further host names by which clients call the controllers; their web pages may use them, too; see controller --help")
	flags.BoolVar(&cfg.LegacySSE, "legacy-sse", false, "also offer the deprecated HTTP+SSE transport of MCP; see controller --help")
	flags.StringVar(&cfg.DataDir, "data-dir", "", "directory for the state; without it the state is gone at the end")
	return cmd
}

// listen turns the first signal into a stop and the second into a kill. HUP, for
// a closed terminal, counts unless nohup ignores it.
func listen(ctx context.Context, cfg *up.Config) (stop func()) {
	stopped, force := make(chan struct{}), make(chan struct{})
	cfg.Stop, cfg.Force = stopped, force
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	c := make(chan os.Signal, 2)
	signal.Notify(c, signals...)
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(done)
		var known program.Signals
		for next := []chan struct{}{stopped, force}; len(next) > 0; {
			select {
			case s := <-c:
				if known.Copy(s, time.Now()) {
					continue
				}
				close(next[0])
				next = next[1:]
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
		signal.Stop(c)
	}
}
