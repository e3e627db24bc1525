package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/cli/up"
)

func (a *app) upCommand() *cobra.Command {
	cfg := up.Config{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a whole cluster on this machine until Ctrl-C",
		Long: `Run a whole cluster on this machine until Ctrl-C: a controller, some workers, and the servers of a fleet file.
Without a file it serves the demo server.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				a.understood = false
				return err
			}
			cfg.Out, cfg.Env, cfg.Lookup, cfg.BinDir = a.Out, a.Env, a.Lookup, a.BinDir
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			stopListening := listen(ctx, &cfg)
			defer stopListening()
			return up.Run(ctx, cfg)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&cfg.File, "config", "c", "", "fleet file, YAML or JSON; without it the demo server is served")
	flags.IntVar(&cfg.Workers, "workers", 3, "how many workers to run")
	flags.StringVar(&cfg.Runtime, "runtime", "auto", "auto, podman or process: auto is podman where it works")
	flags.StringVar(&cfg.HTTP, "http", "127.0.0.1:8000", "where the controller listens")
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
		for _, next := range []chan struct{}{stopped, force} {
			select {
			case <-c:
				close(next)
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
