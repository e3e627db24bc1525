// Package shell writes text as words of a shell's command line, for commands
// that are shown to be copied. It is pure.
package shell

import "strings"

// Quote returns s as one word.
func Quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, special) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// special tells whether a character may mean something to a shell.
func special(r rune) bool {
	return !strings.ContainsRune("/._-+:@%", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}
