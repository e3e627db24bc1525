// Package envflag gives every flag of a program an environment variable. Its
// name is the flag's in upper case with underscores, after MCPFLEET_. A flag on
// the command line takes precedence, and an empty variable counts as not set.
// The flags help, version and recover replace the program's work by something
// else and have no variable.
//
// The package has no state and starts no goroutine.
package envflag

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Name returns the name of the variable for a flag.
func Name(flag string) string {
	return "MCPFLEET_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Apply sets flags that are not on the command line from their variables. It is
// called after the flags are parsed. lookup is os.LookupEnv. The error joins one
// error for each variable with an invalid value. Flags that Apply sets count as
// changed.
func Apply(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var problems []error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || hasNoVariable(f) {
			return
		}
		value, found := lookup(Name(f.Name))
		if !found || value == "" {
			return
		}
		if setErr := flags.Set(f.Name, value); setErr != nil {
			// The flag's own error adds nothing to this text.
			problems = append(problems, fmt.Errorf("environment variable %s: %q is not valid for --%s (%s)", Name(f.Name), value, f.Name, f.Value.Type()))
		}
	})
	return errors.Join(problems...)
}

// Document adds the names of the variables to the usage of the flags.
func Document(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if !hasNoVariable(f) && !f.Hidden {
			f.Usage += " [$" + Name(f.Name) + "]"
		}
	})
}

func hasNoVariable(f *pflag.Flag) bool {
	return f.Name == "help" || f.Name == "version" || f.Name == "recover"
}
