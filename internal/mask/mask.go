// Package mask replaces secrets by asterisks in texts that quote a server. Every
// value of a server's env is a secret, apart from short ones and usual settings,
// since nobody says which ones are. Other programs' ways to write a value, as in
// JSON, URLs and base64, are found too.
//
// The package is pure, and a Masker may be used from anywhere.
package mask

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// minSecret is the length below which a value is not masked. Masking short
	// values would make texts unreadable, and secrets are longer.
	minSecret = 4
	// minNumber is the same for numbers. Ports, sizes and counts are shorter.
	minNumber = 6
	// minPart is the length below which a part of a value's base64 is not masked.
	minPart = 8
)

// plainWords are usual values that are settings, not secrets.
var plainWords = []string{
	"true", "false", "none", "null", "auto", "default", "enabled", "disabled",
	"debug", "info", "warn", "warning", "error", "trace", "verbose",
	"production", "development", "staging", "prod", "test",
	"stdio", "http", "https", "localhost", "utf-8", "json", "text", "unbuffered",
}

// Masker masks the values of a server's env. It never changes. A nil Masker masks
// nothing.
type Masker struct {
	secrets []string // longest first
}

// New returns a Masker of env's values: each value, each line of it, and their
// forms in JSON, URLs and base64.
func New(env map[string]string) *Masker {
	m := &Masker{}
	for _, value := range env {
		m.add(value)
		for line := range strings.Lines(value) {
			m.add(strings.TrimSpace(line))
		}
	}
	slices.SortFunc(m.secrets, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b))
	})
	m.secrets = slices.Compact(m.secrets)
	return m
}

func (m *Masker) add(value string) {
	if !isSecret(value) {
		return
	}
	m.secrets = append(m.secrets, value)
	m.secrets = append(m.secrets, urlForms(value)...)
	m.secrets = append(m.secrets, jsonForms(value)...)
	m.secrets = append(m.secrets, base64Forms(value)...)
}

// urlForms returns the forms of a value in a path and in a query, and those of
// JavaScript's encodeURI and encodeURIComponent.
func urlForms(value string) []string {
	query := url.QueryEscape(value)
	component := strings.ReplaceAll(query, "+", "%20")
	script := strings.NewReplacer("%21", "!", "%27", "'", "%28", "(", "%29", ")", "%2A", "*").Replace(component)
	whole := strings.NewReplacer("%3B", ";", "%2F", "/", "%3F", "?", "%3A", ":", "%40", "@", "%26", "&", "%3D", "=", "%2B", "+", "%24", "$", "%2C", ",", "%23", "#").Replace(script)
	return []string{query, component, script, whole, url.PathEscape(value), strings.ReplaceAll(component, "%2F", "/")}
}

// jsonForms returns the forms of a value in a JSON string, with and without escapes for
// HTML and for non-ASCII characters, and its form in Python.
func jsonForms(value string) []string {
	html, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	escaped := string(html[1 : len(html)-1])
	plain := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&", `\u2028`, "\u2028", `\u2029`, "\u2029").Replace(escaped)
	var ascii strings.Builder
	for _, r := range plain {
		switch high, low := utf16.EncodeRune(r); {
		case r < utf8.RuneSelf:
			ascii.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&ascii, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&ascii, `\u%04x`, r)
		}
	}
	return []string{escaped, plain, ascii.String(), strings.ReplaceAll(value, `\`, `\\`)}
}

// base64Forms returns the base64 of a value alone and within a longer text, such as the
// user:password of a header: the part of it that does not depend on what comes before
// and after.
func base64Forms(value string) (forms []string) {
	for _, code := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		forms = append(forms, code.EncodeToString([]byte(value)))
		for before := range 3 {
			s := code.EncodeToString(append(make([]byte, before), value...))
			if (before+len(value))%3 != 0 {
				s = s[:len(s)-1]
			}
			if before > 0 {
				s = s[before+1:]
			}
			if len(s) >= minPart {
				forms = append(forms, s)
			}
		}
	}
	return forms
}

// isSecret reports whether a value of env is masked. Most values are, because a worker
// cannot know which are secret.
func isSecret(value string) bool {
	if len(value) < minSecret || value == fleet.Masked || slices.Contains(plainWords, strings.ToLower(value)) {
		return false
	}
	return len(value) >= minNumber || strings.Trim(value, "0123456789.") != ""
}

// Text returns s with every secret masked. Secrets that overlap or touch become one
// mask.
func (m *Masker) Text(s string) string {
	if m == nil {
		return s
	}
	return replace(s, m.find(s))
}

// Cut returns the first n bytes of s at most, masked, with an ellipsis. A secret that
// the cut splits is masked too.
func (m *Masker) Cut(s string, n int) string {
	if len(s) <= n {
		return m.Text(s)
	}
	s = m.Partial(s[:min(len(s), n+m.Longest())])
	return strings.ToValidUTF8(s[:min(len(s), n)], "\uFFFD") + "..."
}

// Partial masks a text that was cut off, so that a secret may begin at its end.
func (m *Masker) Partial(s string) string {
	if m == nil {
		return s
	}
	longest := 0
	for _, secret := range m.secrets {
		for n := min(len(secret)-1, len(s)); n > longest; n-- {
			if strings.HasSuffix(s, secret[:n]) {
				longest = n
			}
		}
	}
	hits := m.find(s)
	if longest >= minSecret {
		hits = append(hits, span{len(s) - longest, len(s)})
	}
	return replace(s, hits)
}

// Longest returns the length of the longest secret.
func (m *Masker) Longest() int {
	if m == nil || len(m.secrets) == 0 {
		return 0
	}
	return len(m.secrets[0])
}

// span is the position of a secret in a text.
type span struct{ from, to int }

func (m *Masker) find(s string) (hits []span) {
	for _, secret := range m.secrets {
		for from := 0; ; {
			i := strings.Index(s[from:], secret)
			if i < 0 {
				break
			}
			hits = append(hits, span{from + i, from + i + len(secret)})
			from += i + 1
		}
	}
	return hits
}

func replace(s string, hits []span) string {
	if len(hits) == 0 {
		return s
	}
	slices.SortFunc(hits, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var b strings.Builder
	end := 0
	for _, h := range hits {
		if h.from > end || end == 0 {
			b.WriteString(s[end:h.from])
			b.WriteString(fleet.Masked)
		}
		end = max(end, h.to)
	}
	b.WriteString(s[end:])
	return b.String()
}
