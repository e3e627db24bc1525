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

// reserved are the names that paths of the HTTP API begin with.
var reserved = []string{"-", "api", "call", "docs", "g", "healthz", "mcp", "metrics", "openapi.json", "readyz", "sse", "tools", "ui"}

const maxName = 63 // of a DNS label

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// badName says what is wrong with a server's name, or returns "".
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

// proposeName makes a valid name from a bad one, or returns "". Letters of
// other scripts are written in Latin ones.
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

// labelFor makes a name for a server of a client's file that is not taken yet.
func labelFor(name string, taken map[string]bool) string {
	label := cmp.Or(proposeName(name), "server")
	for i, base := 2, label; taken[label]; i++ {
		suffix := "-" + strconv.Itoa(i)
		label = strings.TrimRight(base[:min(len(base), maxName-len(suffix))], "-") + suffix
	}
	return label
}

// badText says why s cannot be passed on, or returns "". Specs are kept and sent
// as JSON, which would change what is no UTF-8.
func badText(s string) string {
	switch {
	case strings.ContainsRune(s, 0):
		return "must not contain a NUL byte"
	case !utf8.ValidString(s):
		return "must be UTF-8"
	}
	return ""
}

// badWord says why s cannot be one word of a command line, or returns "".
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

// replicaVariable marks the processes of a replica; the sweep finds them by it.
const replicaVariable = "MCPFLEET_REPLICA"

// badEnvName says what is wrong with the name of a variable, or returns "".
func badEnvName(name string) string {
	switch {
	case name == replicaVariable:
		return replicaVariable + " is set by mcpfleet itself"
	case !envName.MatchString(name):
		return "not a name that a variable can have"
	}
	return ""
}
