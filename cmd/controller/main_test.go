package main

import (
	"io"
	"strings"
	"testing"
)

func TestBadFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--bogus":   "unknown flag: --bogus for \"controller\"",
		"--htpp=:1": `unknown flag: --htpp for "controller"; did you mean "--http"?`,
		"--bogus --log-level=loud --expect-workers=-1 word --body-limit=x": "5 things are wrong:\n  unknown flag: --bogus for \"controller\"\n  " +
			"unexpected argument \"word\": controller takes flags only\n  --expect-workers: -1 is negative\n  --body-limit: \"x\" is no size of up to 64m, such as 16m\n  --log-level: \"loud\"",
		"word":                   `unexpected argument "word"`,
		"--log-level=loud":       `--log-level: "loud"`,
		"--body-limit=none":      `--body-limit: "none" is no size of up to 64m, such as 16m`,
		"--body-limit=0":         `--body-limit: "0" is no size of up to 64m, such as 16m`,
		"--body-limit=65m":       `--body-limit: "65m" is no size of up to 64m, such as 16m`,
		"--http=1 --body-limit=": "--body-limit",
		"--shutdown-delay=-1s":   "--shutdown-delay: -1s is negative",
		"--drain-timeout=0s":     "--drain-timeout: 0s is not positive",
		"--allowed-hosts=a:1":    `--allowed-hosts: "a:1" has a port`,
	} {
		err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
}
