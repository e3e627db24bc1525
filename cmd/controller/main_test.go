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
		"--bogus --log-level=loud --expect-workers=-1 word --body-limit=x": "5 problems:\n  unknown flag: --bogus for \"controller\"\n  " +
			"unexpected argument \"word\": controller takes flags only\n  --expect-workers: must be 0 or more, not -1\n  --body-limit: must be a size of up to 64m, such as 16m, not \"x\"\n  --log-level: must be debug, info, warn or error, not \"loud\"",
		"word":                   `unexpected argument "word"`,
		"--log-level=loud":       `--log-level: must be debug, info, warn or error, not "loud"`,
		"--body-limit=none":      `--body-limit: must be a size of up to 64m, such as 16m, not "none"`,
		"--body-limit=0":         `--body-limit: must be a size of up to 64m, such as 16m, not "0"`,
		"--body-limit=65m":       `--body-limit: must be a size of up to 64m, such as 16m, not "65m"`,
		"--http=1 --body-limit=": "--body-limit",
		"--shutdown-delay=-1s":   "--shutdown-delay: must be 0 or more, not -1s",
		"--drain-timeout=0s":     "--drain-timeout: must be more than 0, not 0s",
		"--allowed-hosts=a:1":    `--allowed-hosts: "a:1" has a port`,
	} {
		err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
}
