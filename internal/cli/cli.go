// Package cli is the mcpfleet command: what a person or a script asks a fleet
// over its HTTP API, and `mcpfleet up`, which runs a whole one here.
//
// It promises that what goes to stdout is the answer and nothing else, that -o
// json is the API's own JSON, and that the exit code tells apart what went
// wrong; see exitCodes. It leaves the API to package api and running a cluster
// to package up. Commands end when they are done or a signal comes; they leave
// no goroutine behind.
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

// Config is the world around one run of the command.
type Config struct {
	Args    []string // without the program's name
	In      io.Reader
	Out     io.Writer
	Err     io.Writer
	Env     []string                    // for the programs that up starts
	Lookup  func(string) (string, bool) // of environment variables
	Version string
	BinDir  string // where the program itself is
	Called  string // as what the user called it, such as bin/mcpfleet; "" is mcpfleet
}

// Execute runs one command. Its error has not been shown yet.
func Execute(ctx context.Context, cfg Config) error {
	a := &app{Config: cfg, counts: map[*cobra.Command]cobra.PositionalArgs{}, rules: map[*cobra.Command]rule{}}
	root := a.root()
	root.SetArgs(cfg.Args)
	root.SetIn(cfg.In)
	root.SetOut(cfg.Out)
	root.SetErr(cfg.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.understood {
		return &usageError{err, cmd.CommandPath()}
	}
	return err
}

// ExitCode returns what the process should end with.
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

// Text is an error as it is shown: it may quote what servers wrote, which must
// not steer a terminal.
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
	address    string
	output     string
	understood bool // flags and arguments were fine
	counts     map[*cobra.Command]cobra.PositionalArgs
	rules      map[*cobra.Command]rule
}

const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml" // of some commands

	// moreFormats is the annotation of a command with a format of its own;
	// ownOutput that of one whose --output is something else.
	moreFormats = "formats"
	ownOutput   = "output"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "mcpfleet",
		Short: "Run stdio MCP servers as a fleet behind one HTTP address",
		Long: "Run stdio MCP servers as a fleet behind one HTTP address.\n\n" +
			"--address takes several controllers, with commas between them: the first that answers is asked.\n\n" + exitCodes,
		Version:       a.Version,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			if err := a.wrong(cmd, args); err != nil {
				return err
			}
			a.understood = true
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.address, "address", "http://127.0.0.1:8000", "where a controller listens, or several with commas")
	flags.StringVarP(&a.output, "output", "o", formatTable, "table or json")
	backup, backupOutput := a.backupCommand()
	root.AddCommand(a.upCommand(), a.statusCommand(), a.toolsCommand(), a.callCommand(), a.logsCommand(), a.eventsCommand(),
		a.applyCommand(), a.getCommand(), a.scaleCommand(), a.restartCommand(), a.rollbackCommand(), a.revisionsCommand(), a.deleteCommand(),
		a.nodesCommand(), a.drainCommand(), a.cordonCommand(), a.uncordonCommand(), a.controllersCommand(),
		backup, a.restoreCommand(), a.schemaCommand(), a.versionCommand())
	root.SetHelpCommand(a.helpCommand())
	a.checked(root)
	root.SetFlagErrorFunc(a.flagError)
	root.SetVersionTemplate("mcpfleet {{.Version}}\n")
	root.InitDefaultCompletionCmd()
	envflag.Document(flags)
	document(root)
	backupOutput() // a file is no variable's business
	return root
}

// document names the variables of the flags of all commands below.
func document(parent *cobra.Command) {
	for _, c := range parent.Commands() {
		if c.Name() != "completion" {
			envflag.Document(c.Flags())
			document(c)
		}
	}
}

// asking makes the RunE of a command that asks the controller. A signal ends
// it; a second one does so at once.
func (a *app) asking(ask func(ctx context.Context, client *api.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		client, err := a.client()
		if err != nil {
			a.understood = false
			return err
		}
		return ask(ctx, client, args)
	}
}

// json prints a value of the API.
func (a *app) json(v any) error {
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
				return a.json(map[string]string{"version": a.Version})
			}
			fmt.Fprintln(a.Out, "mcpfleet", a.Version)
			return nil
		},
	}
}

// completing offers the names of servers for the first argument, and those of
// a server's tools for the second.
func (a *app) completing(withTools bool) cobra.CompletionFunc {
	return a.offering(func(ctx context.Context, client *api.Client, args []string) []string {
		switch {
		case len(args) == 0:
			return serverNames(ctx, client)
		case len(args) == 1 && withTools:
			return toolNames(ctx, client, args[0])
		}
		return nil
	})
}

// completingAll offers the names of servers for every argument.
func (a *app) completingAll() cobra.CompletionFunc {
	return a.offering(func(ctx context.Context, client *api.Client, args []string) []string {
		return slices.DeleteFunc(serverNames(ctx, client), func(n string) bool { return slices.Contains(args, n) })
	})
}

// completingNodes offers the names of workers for the first argument.
func (a *app) completingNodes() cobra.CompletionFunc {
	return a.offering(func(ctx context.Context, client *api.Client, args []string) []string {
		if len(args) > 0 {
			return nil
		}
		return nodeNames(ctx, client)
	})
}

func (a *app) offering(names func(context.Context, *api.Client, []string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(context.Background(), completionPatience)
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
