package fleetfile

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mozillazg/go-unidecode"
)

// reserved are the first segments of the HTTP API's paths.
var reserved = []string{"-", "api", "call", "docs", "g", "healthz", "mcp", "metrics", "openapi.json", "readyz", "sse", "tools", "ui"}

const maxName = 63 // of a DNS label

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// badName returns the problem with a server's name, or "".
func badName(name string) string {
	switch {
	case slices.Contains(reserved, name):
		return fmt.Sprintf("the name %q is reserved", name)
	case len(name) > maxName:
		return fmt.Sprintf("a server's name has at most %d characters, not %d", maxName, len(name))
	case !dnsLabel.MatchString(name):
		return "a server's name consists of lower case letters, digits and inner hyphens"
	}
	return ""
}

var notInLabel = regexp.MustCompile(`[^a-z0-9]+`)

// proposeName makes a valid name from a bad one, or returns "". It transliterates
// other scripts to Latin letters.
func proposeName(name string) string {
	s := strings.ToLower(unidecode.Unidecode(name))
	if slices.Contains(reserved, s) {
		s += "-server"
	}
	s = strings.Trim(notInLabel.ReplaceAllString(s, "-"), "-")
	s = strings.TrimRight(s[:min(len(s), maxName)], "-")
	if badName(s) != "" {
		return ""
	}
	return s
}

// labelFor makes an unused valid name for a server of a client's file.
func labelFor(name string, taken map[string]bool) string {
	label := cmp.Or(proposeName(name), "server")
	for i, base := 2, label; taken[label]; i++ {
		suffix := "-" + strconv.Itoa(i)
		label = strings.TrimRight(base[:min(len(base), maxName-len(suffix))], "-") + suffix
	}
	return label
}

// badText returns why s cannot be passed on, or "". Specs are stored and sent as
// JSON, which would change text that is not UTF-8.
func badText(s string) string {
	switch {
	case strings.ContainsRune(s, 0):
		return "must not contain a NUL byte"
	case !utf8.ValidString(s):
		return "must be UTF-8"
	}
	return ""
}

// badWord returns why s cannot be one word of a command line, or "".
func badWord(s string) string {
	switch {
	case strings.HasPrefix(s, "-"):
		return "must not begin with a hyphen"
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return "must not contain white space"
	}
	return ""
}

var envName = regexp.MustCompile(`^` + envPattern + `$`)

// replicaVariable marks the processes of a replica, so that the sweep finds them.
const replicaVariable = "MCPFLEET_REPLICA"

// badEnvName returns the problem with the name of a variable, or "".
func badEnvName(name string) string {
	switch {
	case name == replicaVariable:
		return replicaVariable + " is set by mcpfleet itself"
	case !envName.MatchString(name):
		return "not a valid name for a variable"
	}
	return ""
}
