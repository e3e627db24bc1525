// Package cmdline parses command lines and reports every problem with their
// flags. The flag library alone stops at the first mistake. For an unknown flag
// the error suggests the flags with similar names.
//
// The package has no state and starts no goroutine.
package cmdline

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// Parse parses arguments into flags and returns one error for each flag that is
// wrong. It skips wrong flags, so afterwards flags has the valid flags and the
// arguments between them. command is the name that the user knows, such as
// "mcpfleet apply". If the user asks for help, pflag.ErrHelp is the only error.
func Parse(command string, flags *pflag.FlagSet, args []string) []error {
	var problems []error
	for {
		err := flags.Parse(args)
		if errors.Is(err, pflag.ErrHelp) {
			return []error{err}
		}
		if err == nil {
			return problems
		}
		problems = append(problems, explain(command, flags, err))
		from, n := find(flags, args, err)
		if n == 0 {
			return problems
		}
		args = slices.Delete(slices.Clone(args), from, from+n)
	}
}

// UnknownFlag is the error for a flag that a command does not have.
type UnknownFlag struct {
	Name  string
	Meant bool // the text suggests a flag with a similar name
	text  string
}

func (e *UnknownFlag) Error() string { return e.text }

// Join returns one error for several problems, each on a line of its own. It
// takes joined errors apart and leaves out nil errors.
func Join(problems ...error) error {
	if problems = flat(problems); len(problems) < 2 {
		return errors.Join(problems...)
	}
	text := fmt.Sprintf("%d problems:", len(problems))
	for _, p := range problems {
		text += "\n  " + strings.ReplaceAll(p.Error(), "\n", "\n  ")
	}
	return &several{text, problems}
}

func flat(errs []error) (out []error) {
	for _, err := range errs {
		switch joined, ok := err.(interface{ Unwrap() []error }); {
		case err == nil:
		case ok:
			out = append(out, flat(joined.Unwrap())...)
		default:
			out = append(out, err)
		}
	}
	return out
}

type several struct {
	text string
	all  []error
}

func (e *several) Error() string   { return e.text }
func (e *several) Unwrap() []error { return e.all }

func explain(command string, flags *pflag.FlagSet, err error) error {
	unknown, value, missing := new(pflag.NotExistError), new(pflag.InvalidValueError), new(pflag.ValueRequiredError)
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return &UnknownFlag{Name: unknown.GetSpecifiedName(), text: fmt.Sprintf("unknown flag: -%s for %q", unknown.GetSpecifiedName(), command)}
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		hint := nearestFlag(flags, name)
		return &UnknownFlag{Name: name, Meant: hint != "", text: fmt.Sprintf("unknown flag: --%s for %q%s", name, command, hint)}
	case errors.As(err, &value):
		f := value.GetFlag()
		return fmt.Errorf("--%s: %q is not valid (%s)", f.Name, value.GetValue(), f.Value.Type())
	case errors.As(err, &missing):
		f := missing.GetFlag()
		return fmt.Errorf("--%s needs a value (%s)", f.Name, f.Value.Type())
	}
	return err
}

func nearestFlag(flags *pflag.FlagSet, name string) string {
	names := visible(flags)
	shown := make([]string, len(names))
	for i, n := range names {
		shown[i] = "--" + n
	}
	return nearest.Hint(name, names, shown)
}

func visible(flags *pflag.FlagSet) (names []string) {
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return names
}

// find locates the arguments that caused an error of the flag library: the
// index of the first, and their number, which is 0 if there are none. A word
// after an unknown flag belongs to it if the most similar flag takes a value.
func find(flags *pflag.FlagSet, args []string, err error) (from, n int) {
	unknown, value, missing, syntax := new(pflag.NotExistError), new(pflag.InvalidValueError), new(pflag.ValueRequiredError), new(pflag.InvalidSyntaxError)
	matches := func(string) bool { return false }
	switch {
	case errors.As(err, &unknown):
		matches = named(unknown.GetSpecifiedName(), unknown.GetSpecifiedShortnames())
	case errors.As(err, &missing):
		matches = named(missing.GetSpecifiedName(), missing.GetSpecifiedShortnames())
	case errors.As(err, &syntax):
		matches = func(arg string) bool { return arg == syntax.GetSpecifiedFlag() }
	case errors.As(err, &value):
		f, text := value.GetFlag(), value.GetValue()
		for i, arg := range args {
			switch {
			case arg == "--"+f.Name+"="+text, hasShorthand(arg, f) && strings.HasSuffix(arg, text) && text != "":
				return i, 1
			case (arg == "--"+f.Name || hasShorthand(arg, f)) && i+1 < len(args) && args[i+1] == text:
				return i, 2
			}
		}
	}
	i := slices.IndexFunc(args, matches)
	if i < 0 {
		return 0, 0
	}
	if names := visible(flags); unknown.GetSpecifiedName() != "" && !strings.Contains(args[i], "=") && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
		if meant := nearest.Find(unknown.GetSpecifiedName(), names); len(meant) > 0 && flags.Lookup(names[meant[0]]).NoOptDefVal == "" {
			return i, 2
		}
	}
	return i, 1
}

// named returns a function that matches the argument with a flag, by its name
// or within a group of shorthands.
func named(name, shorthands string) func(arg string) bool {
	return func(arg string) bool {
		if shorthands != "" {
			return strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") && strings.HasSuffix(arg, shorthands)
		}
		return arg == "--"+name || strings.HasPrefix(arg, "--"+name+"=")
	}
}

func hasShorthand(arg string, f *pflag.Flag) bool {
	return f.Shorthand != "" && strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") && strings.Contains(arg, f.Shorthand)
}
