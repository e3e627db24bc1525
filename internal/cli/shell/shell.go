// Package shell quotes text for a shell's command line, for commands that users
// copy from the output. It is pure.
package shell

import "strings"

// Quote returns s quoted as one word, if it needs quotes.
func Quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, special) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// special reports whether a character may have a meaning to a shell.

func special(r rune) bool {
	return !strings.ContainsRune("/._-+:@%", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}
