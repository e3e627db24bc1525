package cmdline

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestParse(t *testing.T) {
	for name, tt := range map[string]struct {
		args string
		want string // the problems, one per line
		rest string // the arguments between the flags
	}{
		"nothing wrong":           {"--workers 3 a -v b", "", "a b"},
		"unknown":                 {"--worker 3 --verbos a", "unknown flag: --worker for \"prog\"; did you mean \"--workers\"?\nunknown flag: --verbos for \"prog\"; did you mean \"--verbose\"?", "a"},
		"unknown with a value":    {"--worker=3", `unknown flag: --worker for "prog"; did you mean "--workers"?`, ""},
		"unknown and far":         {"--qqqqqq", "unknown flag: --qqqqqq for \"prog\"", ""},
		"unknown shorthand":       {"a -x -vz b", "unknown flag: -x for \"prog\"\nunknown flag: -z for \"prog\"", "a b"},
		"bad value":               {"--workers x --wait=soon a", "--workers: \"x\" is not valid (int)\n--wait: \"soon\" is not valid (duration)", "a"},
		"bad value of shorthand":  {"-w x -wy a", "--workers: \"x\" is not valid (int)\n--workers: \"y\" is not valid (int)", "a"},
		"missing value":           {"--bogus --workers", "unknown flag: --bogus for \"prog\"\n--workers needs a value (int)", ""},
		"missing, shorthand":      {"-x -w", "unknown flag: -x for \"prog\"\n--workers needs a value (int)", ""},
		"bad syntax":              {"--=x a", "bad flag syntax: --=x", "a"},
		"what follows two dashes": {"--workers 3 -- --bogus", "", "--bogus"},
		"all kinds": {"--worker 1 --wait x -q -w", "unknown flag: --worker for \"prog\"; did you mean \"--workers\"?\n--wait: \"x\" is not valid (duration)\n" +
			"unknown flag: -q for \"prog\"\n--workers needs a value (int)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			flags := pflag.NewFlagSet("prog", pflag.ContinueOnError)
			flags.SetOutput(io.Discard)
			flags.IntP("workers", "w", 1, "")
			flags.Duration("wait", time.Second, "")
			flags.BoolP("verbose", "v", false, "")
			var got []string
			for _, err := range Parse("prog", flags, strings.Fields(tt.args)) {
				got = append(got, err.Error())
			}
			if strings.Join(got, "\n") != tt.want {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), tt.want)
			}
			if !slices.Equal(flags.Args(), strings.Fields(tt.rest)) {
				t.Errorf("got the arguments %q, want %q", flags.Args(), tt.rest)
			}
		})
	}
}

func TestParseHelp(t *testing.T) {
	flags := pflag.NewFlagSet("prog", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	if got := Parse("prog", flags, []string{"--bogus", "--help"}); len(got) != 1 || !errors.Is(got[0], pflag.ErrHelp) {
		t.Errorf("got %v", got)
	}
}

func TestJoin(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	if Join() != nil || Join(nil, nil) != nil || Join(one).Error() != "one" {
		t.Errorf("got %v and %v", Join(nil), Join(one))
	}
	got := Join(nil, errors.Join(one, nil, two))
	if got.Error() != "2 problems:\n  one\n  two" || !errors.Is(got, one) || !errors.Is(got, two) {
		t.Errorf("got %v", got)
	}
}
