package shell

import "testing"

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"":                 "''",
		"/var/lib/a-b_c.1": "/var/lib/a-b_c.1",
		"a b":              "'a b'",
		"it's":             `'it'\''s'`,
		"$HOME":            "'$HOME'",
		`{"a":1}`:          `'{"a":1}'`,
		"a\nb":             "'a\nb'",
		"ü":                "'ü'",
	} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}
