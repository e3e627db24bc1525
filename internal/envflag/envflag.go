// Package envflag gives every flag of a program an environment variable: the
// flag's name in upper case with underscores, after MCPFLEET_. A flag on the
// command line wins, an empty variable counts as none. Flags that ask for
// something else than the program's work (help, version, recover) have none.
//
// It keeps nothing and starts no goroutine.
package envflag

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Prefix begins the name of every variable.
const Prefix = "MCPFLEET_"

// Name returns the name of the variable for a flag.
func Name(flag string) string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Apply sets the flags that were not given from their variables, after the
// flags were parsed. The function lookup is os.LookupEnv. Each variable that its
// flag refuses is an error that names both, joined to the others; flags set so
// count as changed.
func Apply(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var problems []error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || asks(f) {
			return
		}
		value, found := lookup(Name(f.Name))
		if !found || value == "" {
			return
		}
		if setErr := flags.Set(f.Name, value); setErr != nil {
			// The flag's own error holds only what is said here.
			problems = append(problems, fmt.Errorf("environment variable %s: %q is not valid for --%s (%s)", Name(f.Name), value, f.Name, f.Value.Type()))
		}
	})
	return errors.Join(problems...)
}

// Document adds the names of the variables to the flags' usage.
func Document(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if !asks(f) && !f.Hidden {
			f.Usage += " [$" + Name(f.Name) + "]"
		}
	})
}

func asks(f *pflag.Flag) bool {
	return f.Name == "help" || f.Name == "version" || f.Name == "recover"
}
