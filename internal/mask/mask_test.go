package mask

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestMask(t *testing.T) {
	for _, tc := range []struct {
		name     string
		env      []string
		in, want string
	}{
		{"nothing to mask", nil, "plain text", "plain text"},
		{"a key", []string{"sk-12345"}, "bad key sk-12345, sk-12345!", "bad key ***, ***!"},
		{"a part of a word", []string{"hunter2"}, "xhunter2y", "x***y"},
		{"short values are left", []string{"1", "on", "abc"}, "1 on abc 123", "1 on abc 123"},
		{"settings are left", []string{"true", "Debug", "production", "stdio", "8080", "3.14"}, "true Debug production stdio 8080 3.14", "true Debug production stdio 8080 3.14"},
		{"four characters", []string{"s3cr"}, "is s3cr right", "is *** right"},
		{"long numbers", []string{"123456"}, "pin 123456", "pin ***"},
		{"the longest wins", []string{"secret", "secret-and-more"}, "secret-and-more secret", "*** ***"},
		{"overlapping", []string{"abcdef", "defghi"}, "_abcdefghi_", "_***_"},
		{"adjacent", []string{"abcdef", "ghijkl"}, "abcdefghijkl", "***"},
		{"several lines", []string{"-----BEGIN-----\nline one\nline two\n"}, "read line two of -----BEGIN-----", "read *** of ***"},
		{"as JSON writes it", []string{"a\"b\\c\nd"}, `{"key":"a\"b\\c\nd"}`, `{"key":"***"}`},
		{"as a URL writes it", []string{"p@ss word/1"}, "https://u:p%40ss+word%2F1@h p%40ss%20word%2F1", "https://u:***@h ***"},
		{"as base64 writes it", []string{"correct horse"}, "Basic Y29ycmVjdCBob3JzZQ==", "Basic ***=="},
		{"as Python's json writes it", []string{"p@ss w0rd/äö😀\"q\\x<&"}, "\"p@ss w0rd/\\u00e4\\u00f6\\ud83d\\ude00\\\"q\\\\x<&\"", "\"***\""},
		{"as JavaScript's JSON writes it", []string{"p@ss w0rd/äö😀\"q\\x<&"}, "\"p@ss w0rd/äö😀\\\"q\\\\x<&\"", "\"***\""},
		{"as Python shows it", []string{"p@ss w0rd/äö😀\"q\\x<&"}, "'p@ss w0rd/äö😀\"q\\\\x<&'", "'***'"},
		{"as Python's quote writes it", []string{"p@ss w0rd/äö😀\"q\\x<&"}, "?k=p%40ss%20w0rd/%C3%A4%C3%B6%F0%9F%98%80%22q%5Cx%3C%26", "?k=***"},
		{"as encodeURIComponent writes it", []string{"it's (a) *key*!"}, "k=it's%20(a)%20*key*!", "k=***"},
		{"as encodeURI writes it", []string{"a/b?c=d&e f"}, "http://h/a/b?c=d&e%20f", "http://h/***"},
		{"in base64 after u:", []string{"correct horse"}, "Basic dTpjb3JyZWN0IGhvcnNl", "Basic dTp***"},
		{"in base64 after me:", []string{"correct horse"}, "Basic bWU6Y29ycmVjdCBob3JzZQ==", "Basic bWU6***=="},
		{"in base64 after you:", []string{"correct horse"}, "Basic eW91OmNvcnJlY3QgaG9yc2U=", "Basic eW91Om***U="},
		{"a mask is no secret", []string{"***"}, "a *** b", "a *** b"},
		{"white space around it", []string{" padded-key \n"}, "key padded-key.", "key ***."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			env := map[string]string{}
			for i, v := range tc.env {
				env[string(rune('A'+i))] = v
			}
			if got := New(env).Text(tc.in); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// However a text is cut, no part of a secret worth the name is left of it.
func TestMaskCut(t *testing.T) {
	const secret = "sk-0123456789abcdef"
	m := New(map[string]string{"KEY": secret, "OTHER": "9abcdefXYZ"})
	for _, text := range []string{
		"the key " + secret + " was refused, and much more is said of it here",
		strings.Repeat(secret, 20),
		strings.Repeat(secret+" ", 20),
		secret + "XYZ" + strings.Repeat("x", 100),
	} {
		for n := range len(text) {
			got := m.Cut(text, n)
			for from := range len(secret) - minSecret {
				if part := secret[from : from+minSecret]; strings.Contains(got, part) {
					t.Fatalf("cut after %d of %q: %q has %q", n, text, got, part)
				}
			}
			if len(got) > n+len("...") {
				t.Fatalf("cut after %d: %d bytes", n, len(got))
			}
		}
	}
	if got := m.Partial("the key is sk-0123"); got != "the key is ***" {
		t.Errorf("got %q", got)
	}
	if got := m.Cut("short", 100); got != "short" {
		t.Errorf("got %q", got)
	}
}

func TestMaskedLog(t *testing.T) {
	var out strings.Builder
	m := New(map[string]string{"KEY": "hunter2"})
	log := slog.New(m.Handler(slog.NewTextHandler(&out, nil))).With("at", "hunter2").WithGroup("g")
	log.Info("said", "line", "it is hunter2", "error", errors.New("bad hunter2"), slog.Group("in", "x", "hunter2"), "n", 7)
	if got := out.String(); strings.Contains(got, "hunter2") || strings.Count(got, "***") != 4 || !strings.Contains(got, "g.n=7") {
		t.Errorf("logged %s", got)
	}
}
