package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mcpfleet/mcpfleet/internal/cmdline"
	"github.com/mcpfleet/mcpfleet/internal/envflag"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// usageError is a mistake on the command line.
type usageError struct {
	err     error
	command string // the command whose help to suggest, or ""
}

func (e *usageError) Error() string {
	if e.command == "" {
		return e.err.Error()
	}
	return fmt.Sprintf("%s\nSee %s --help.", e.err, e.command)
}
func (e *usageError) Unwrap() error { return e.err }

// rule checks the arguments and flags of one command. It is also called with a
// wrong number of arguments, which it does not report.
type rule func(args []string) error

// offline are the commands that send no requests to a controller.
var offline = map[string]bool{"mcpfleet": true, "up": true, "restore": true, "inspect": true, "schema": true, "version": true, "help": true}

// deferArgChecks moves the argument checks of parent and all commands below it
// from the library to validate, which reports every problem.
func (a *app) deferArgChecks(parent *cobra.Command) {
	a.argChecks[parent] = parent.Args
	parent.Args = cobra.ArbitraryArgs // the library stops after a failed check of the arguments
	for _, cmd := range parent.Commands() {
		if cmd.Name() != "completion" {
			a.deferArgChecks(cmd)
		}
	}
}

// flagError is called with the library's error for the first wrong flag. It
// returns an error with every problem.
func (a *app) flagError(cmd *cobra.Command, err error) error {
	_, args, findErr := cmd.Root().Find(a.Args)
	if findErr != nil {
		return err
	}
	args, minus := splitNegative(cmd, args)
	problems := cmdline.Parse(cmd.CommandPath(), cmd.Flags(), args)
	if help := cmd.Flags().Lookup("help"); help != nil && help.Changed {
		return pflag.ErrHelp
	}
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return unknownCommand(cmd, cmd.Flags().Arg(0)) // the flags are probably meant for that command
	}
	for i, p := range problems {
		if unknown, ok := errors.AsType[*cmdline.UnknownFlag](p); ok && !unknown.Meant {
			problems[i] = fmt.Errorf("%w%s", p, otherCommandsHint(cmd, unknown.Name))
		}
	}
	return cmdline.Join(append(problems, a.validate(cmd, append(cmd.Flags().Args(), minus...)))...)
}

// otherCommandsHint returns a hint at the other commands that have a flag.
func otherCommandsHint(cmd *cobra.Command, flag string) string {
	var have []string
	for _, other := range cmd.Root().Commands() {
		if other.Flags().Lookup(flag) != nil {
			have = append(have, other.CommandPath())
		}
	}
	if len(have) == 0 {
		return ""
	}
	return "; it is one of " + nearest.Or(have)
}

// validate returns every problem with a command line, apart from the syntax of
// its flags.
func (a *app) validate(cmd *cobra.Command, args []string) error {
	lookup := a.Lookup
	if cmd.Annotations[ownOutput] != "" {
		lookup = func(name string) (string, bool) {
			if name == envflag.Name("output") {
				return "", false
			}
			return a.Lookup(name)
		}
	}
	problems := []error{envflag.Apply(cmd.Flags(), lookup), a.formatError(cmd)}
	if timeout, err := cmd.Flags().GetDuration("timeout"); err == nil && timeout < 0 {
		problems = append(problems, errors.New("--timeout must not be negative"))
	}
	if count := a.argChecks[cmd]; count != nil {
		if err := count(cmd, args); err != nil {
			problems = append(problems, argumentsError(cmd, args, err))
		}
	}
	if check := a.rules[cmd]; check != nil {
		problems = append(problems, check(args))
	}
	if !offline[cmd.Name()] {
		_, err := a.client()
		problems = append(problems, err)
	}
	return cmdline.Join(problems...)
}

func (a *app) formatError(cmd *cobra.Command) error {
	formats := []string{formatTable, formatJSON}
	must := formatTable + " or " + formatJSON
	if more := cmd.Annotations[moreFormats]; more != "" {
		must = formatTable + ", " + formatJSON + " or " + more
		formats = append(formats, more)
	}
	if slices.Contains(formats, a.output) {
		return nil
	}
	return fmt.Errorf("--output must be %s, not %q%s", must, a.output, nearest.Hint(a.output, formats, nil))
}

// argumentsError names the missing or unexpected arguments by their words in
// the usage of the command.
func argumentsError(cmd *cobra.Command, args []string, err error) error {
	if cmd.HasSubCommands() {
		if len(args) == 0 {
			return err
		}
		return unknownCommand(cmd, args[0])
	}
	words := usageWords(cmd)
	usage := strings.TrimSuffix(cmd.CommandPath(), cmd.Name()) + cmd.Use
	if len(args) > len(words) {
		return fmt.Errorf("unexpected argument %q; the command is: %s", args[len(words)], usage)
	}
	var missing []string
	for _, w := range words[len(args):] {
		if !strings.HasPrefix(w, "[") {
			missing = append(missing, strings.ReplaceAll(strings.TrimSuffix(w, "..."), "|", " or "))
		}
	}
	// A word that can only be a later argument means that SERVER is missing.
	if len(args) > 0 && words[0] == "SERVER" && isLaterArgument(words, args[0]) {
		missing = []string{"SERVER"}
	}
	if len(missing) == 0 {
		return err
	}
	return fmt.Errorf("%s; the command is: %s", missingText(missing), usage)
}

func missingText(words []string) string {
	if len(words) == 1 {
		return words[0] + " is missing"
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1] + " are missing"
}

// isLaterArgument reports whether an argument in the place of the server is a
// number or JSON, and so cannot be the name of a server.
func isLaterArgument(words []string, arg string) bool {
	_, err := strconv.Atoi(arg)
	last := words[len(words)-1]
	return err == nil && last == "N" || strings.HasPrefix(arg, "{") && last == "[JSON]"
}

// usageWords returns the arguments in a command's usage, such as "SERVER" and
// "[JSON]".
func usageWords(cmd *cobra.Command) (words []string) {
	for _, w := range strings.Fields(cmd.Use)[1:] {
		if strings.HasPrefix(w, "-") {
			break // a flag and its value
		}
		words = append(words, w)
	}
	return words
}

func unknownCommand(cmd *cobra.Command, name string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	hint := nearest.Hint(name, names, nil)
	if hint == "" && cmd.Annotations[ownOutput] == "file" { // backup, which has subcommands
		return fmt.Errorf("unexpected argument %q; the command is: %s --output FILE", name, cmd.CommandPath())
	}
	return fmt.Errorf("unknown command %q for %q%s", name, cmd.CommandPath(), hint)
}

// onCommandLine reports whether a flag is set on the command line, rather than
// by the environment.
func (a *app) onCommandLine(cmd *cobra.Command, flag string) bool {
	f := cmd.Flags().Lookup(flag)
	value, _ := a.Lookup(envflag.Name(flag))
	return f.Changed && f.Value.String() != value
}

// helpCommand is like the library's, but reports unknown commands.
func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				a.usageOK = false
				err = unknownCommand(found, rest[0])
			}
			if err != nil {
				return err
			}
			return found.Help()
		},
	}
}

// splitNegative takes negative numbers out of the arguments of a command whose
// last argument is a number. The library would take them for flags.
func splitNegative(cmd *cobra.Command, args []string) (rest, numbers []string) {
	words := usageWords(cmd)
	if len(words) == 0 || words[len(words)-1] != "N" {
		return args, nil
	}
	for _, arg := range args {
		if n, err := strconv.Atoi(arg); err == nil && n < 0 {
			numbers = append(numbers, arg)
			continue
		}
		rest = append(rest, arg)
	}
	return rest, numbers
}
