// Package cli implements the mcpfleet command. Most commands ask a fleet over
// its HTTP API, for a person or a script. `mcpfleet up` runs a whole fleet on
// this machine.
//
// Only the answer goes to stdout; everything else goes to stderr. With -o json
// the answer is the JSON of the API. The exit code says what went wrong, see
// exitCodes. The requests are left to package api, and running a cluster to
// package up. A command ends when it is done or gets a signal, and leaves no
// goroutine behind.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/envflag"
)

// Config is the environment of one run of the command.
type Config struct {
	Args    []string // without the program's name
	In      io.Reader
	Out     io.Writer
	Err     io.Writer
	Env     []string                    // for the programs that up starts
	Lookup  func(string) (string, bool) // finds environment variables
	Version string
	BinDir  string // directory of the program itself
	Called  string // the program as the user typed it, such as bin/mcpfleet; "" is mcpfleet
}

// Execute runs one command. It does not print the error that it returns.
func Execute(ctx context.Context, cfg Config) error {
	a := &app{Config: cfg, argChecks: map[*cobra.Command]cobra.PositionalArgs{}, rules: map[*cobra.Command]rule{}}
	root := a.root()
	root.SetArgs(cfg.Args)
	root.SetIn(cfg.In)
	root.SetOut(cfg.Out)
	root.SetErr(cfg.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.usageOK {
		return &usageError{err, cmd.CommandPath()}
	}
	return err
}

// ExitCode returns the exit code for an error of Execute.
func ExitCode(err error) int {
	_, usage := errors.AsType[*usageError](err)
	_, unready := errors.AsType[*unreadyError](err)
	_, unknown := errors.AsType[*unknownError](err)
	switch {
	case err == nil:
		return 0
	case usage:
		return exitUsage
	case unready:
		return exitUnready
	case unknown:
		return exitUnknown
	case isCode(err, api.CodePrecondition):
		return exitChanged
	}
	return exitError
}

// Text returns the text of an error for a terminal. Errors may quote the output
// of servers, so control characters are replaced.
func Text(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		lines[i] = progress.Printable(line)
	}
	return strings.Join(lines, "\n")
}

// app is one run of the command.
type app struct {
	Config
	address   string
	output    string
	usageOK   bool // flags and arguments are valid
	argChecks map[*cobra.Command]cobra.PositionalArgs
	rules     map[*cobra.Command]rule
}

const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml" // some commands only

	// A command with the annotation moreFormats has one more format. The
	// --output of a command with the annotation ownOutput is not a format.
	moreFormats = "formats"
	ownOutput   = "output"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "mcpfleet",
		Short: "Run stdio MCP servers as a fleet behind one HTTP address",
		Long: "Run stdio MCP servers as a fleet behind one HTTP address.\n\n" +
			"--address takes several controllers, separated by commas. The first one that answers gets the requests.\n\n" + exitCodes,
		Version:       a.Version,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			if err := a.validate(cmd, args); err != nil {
				return err
			}
			a.usageOK = true
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.address, "address", "http://127.0.0.1:8000", "address of a controller, or of several with commas")
	flags.StringVarP(&a.output, "output", "o", formatTable, "table or json")
	backup, backupOutput := a.backupCommand()
	root.AddCommand(a.upCommand(), a.statusCommand(), a.topCommand(), a.toolsCommand(), a.callCommand(), a.connectCommand(), a.mcpConfigCommand(), a.logsCommand(), a.eventsCommand(),
		a.applyCommand(), a.getCommand(), a.scaleCommand(), a.restartCommand(), a.rolloutCommand(), a.rollbackCommand(), a.revisionsCommand(), a.deleteCommand(),
		a.nodesCommand(), a.drainCommand(), a.cordonCommand(), a.uncordonCommand(), a.controllersCommand(),
		backup, a.restoreCommand(), a.schemaCommand(), a.versionCommand())
	root.SetHelpCommand(a.helpCommand())
	a.deferArgChecks(root)
	root.SetFlagErrorFunc(a.flagError)
	root.SetVersionTemplate("mcpfleet {{.Version}}\n")
	root.InitDefaultCompletionCmd()
	envflag.Document(flags)
	documentVariables(root)
	backupOutput() // after documentVariables, because this flag has no variable
	return root
}

// documentVariables adds the names of environment variables to the flags of all
// commands below parent.
func documentVariables(parent *cobra.Command) {
	for _, c := range parent.Commands() {
		if c.Name() != "completion" {
			envflag.Document(c.Flags())
			documentVariables(c)
		}
	}
}

// withClient returns the RunE of a command that sends requests to a controller.
// A signal cancels its context, and a second one kills the process.
func (a *app) withClient(run func(ctx context.Context, client *api.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		client, err := a.client()
		if err != nil {
			a.usageOK = false
			return err
		}
		return run(ctx, client, args)
	}
}

// printJSON prints a value of the API as JSON.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.Out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.output == formatJSON {
				return a.printJSON(map[string]string{"version": a.Version})
			}
			fmt.Fprintln(a.Out, "mcpfleet", a.Version)
			return nil
		},
	}
}

// completeServer completes the first argument with the names of servers and, if
// withTools is set, the second one with the names of that server's tools.
func (a *app) completeServer(withTools bool) cobra.CompletionFunc {
	return a.completion(func(ctx context.Context, client *api.Client, args []string) []string {
		switch {
		case len(args) == 0:
			return serverNames(ctx, client)
		case len(args) == 1 && withTools:
			return toolNames(ctx, client, args[0])
		}
		return nil
	})
}

// completeServers completes every argument with the names of servers.
func (a *app) completeServers() cobra.CompletionFunc {
	return a.completion(func(ctx context.Context, client *api.Client, args []string) []string {
		return slices.DeleteFunc(serverNames(ctx, client), func(n string) bool { return slices.Contains(args, n) })
	})
}

// completeNode completes the first argument with the names of workers.
func (a *app) completeNode() cobra.CompletionFunc {
	return a.completion(func(ctx context.Context, client *api.Client, args []string) []string {
		if len(args) > 0 {
			return nil
		}
		return nodeNames(ctx, client)
	})
}

func (a *app) completion(names func(context.Context, *api.Client, []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
		defer cancel()
		if err := envflag.Apply(cmd.Flags(), a.Lookup); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		client, err := a.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		found := slices.DeleteFunc(names(ctx, client, args), func(n string) bool { return !strings.HasPrefix(n, prefix) })
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}
