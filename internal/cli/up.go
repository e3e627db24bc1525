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
		Long: `Run a whole cluster on this machine until Ctrl-C: a controller or several, some workers, and the servers of a fleet file.
Without a file it serves the demo server, or in a data directory that was used before what is deployed there. A file is only the beginning of
a new cluster: one that has state already is changed by mcpfleet apply.`,
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
			if cfg.File != args[0] && a.given(cmd, "config") {
				problems = append(problems, fmt.Errorf("two fleet files are given, %s and --config %s: take one", args[0], cfg.File))
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
	flags.StringVarP(&cfg.File, "config", "c", "", "fleet file, YAML or JSON, for an empty cluster; without it the demo server is served")
	flags.IntVar(&cfg.Controllers, "controllers", 1, "how many controllers to run, if the data directory does not have several already; three survive the loss of any one")
	flags.IntVar(&cfg.Workers, "workers", 3, "how many workers to run, if the data directory did not have another number last; fewer where a server of the file needs the room")
	flags.StringVar(&cfg.Runtime, "runtime", "auto", "what runs servers: podman for images, process for commands, or both with a comma; auto is podman where it works, and process")
	flags.Float64Var(&cfg.CPUs, "cpus", 0, "how many CPUs each worker offers (default: an equal share of the machine's)")
	flags.StringVar(&cfg.Memory, "memory", "", "how much memory each worker offers, such as 4g (default: an equal share of the machine's)")
	flags.StringVar(&cfg.HTTP, "http", "127.0.0.1:8000", "where the first controller listens; others take free ports beside it")
	flags.BoolVar(&cfg.Insecure, "insecure", false, "allow an --http that other machines can reach, without access control")
	flags.StringSliceVar(&cfg.AllowedHosts, "allowed-hosts", nil, "more host names by which clients call the controllers, and whose web pages may use them; see controller --help")
	flags.StringVar(&cfg.DataDir, "data-dir", "", "where to keep state; without it nothing is kept")
	return cmd
}

// listen turns the first signal into a stop and the second into a kill. Closing
// the terminal counts, unless nohup made that be ignored.
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
