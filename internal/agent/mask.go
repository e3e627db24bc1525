package agent

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// minSecret is the length below which a value is not masked: texts would
	// become unreadable, and nothing that short is a secret.
	minSecret = 4
	// minNumber is the same for numbers: ports, sizes and counts are shorter.
	minNumber = 6
)

// plainWords are usual values that are settings, not secrets.
var plainWords = []string{
	"true", "false", "none", "null", "auto", "default", "enabled", "disabled",
	"debug", "info", "warn", "warning", "error", "trace", "verbose",
	"production", "development", "staging", "prod", "test",
	"stdio", "http", "https", "localhost", "utf-8", "json", "text", "unbuffered",
}

// masker replaces the values of a replica's env in whatever quotes the replica.
// It is immutable; a nil masker masks nothing.
type masker struct {
	secrets []string // longest first
}

// newMasker returns a masker of env's values: each value, each line of one that
// has several, and the forms in which JSON, URLs and base64 write them.
func newMasker(env map[string]string) *masker {
	m := &masker{}
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

func (m *masker) add(value string) {
	if !isSecret(value) {
		return
	}
	m.secrets = append(m.secrets, value, url.QueryEscape(value), strings.ReplaceAll(url.QueryEscape(value), "+", "%20"),
		base64.RawStdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)))
	if quoted, err := json.Marshal(value); err == nil {
		m.secrets = append(m.secrets, string(quoted[1:len(quoted)-1]))
	}
}

// isSecret reports whether a value of env is masked. Most are: a worker cannot
// know which are secret.
func isSecret(value string) bool {
	if len(value) < minSecret || value == fleet.Masked || slices.Contains(plainWords, strings.ToLower(value)) {
		return false
	}
	return len(value) >= minNumber || strings.Trim(value, "0123456789.") != ""
}

// text returns s with every secret in it replaced. Those that overlap or touch
// become one mask.
func (m *masker) text(s string) string {
	if m == nil {
		return s
	}
	return replace(s, m.find(s))
}

// cut returns the beginning of s, masked, of at most n bytes and an ellipsis. A
// secret that the cut splits is masked, too.
func (m *masker) cut(s string, n int) string {
	if len(s) <= n {
		return m.text(s)
	}
	s = m.partial(s[:min(len(s), n+m.longest())])
	return strings.ToValidUTF8(s[:min(len(s), n)], "\uFFFD") + "..."
}

// partial masks a text whose rest was lost: a secret may begin at its end.
func (m *masker) partial(s string) string {
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

func (m *masker) longest() int {
	if m == nil || len(m.secrets) == 0 {
		return 0
	}
	return len(m.secrets[0])
}

// span is where a secret stands in a text.
type span struct{ from, to int }

func (m *masker) find(s string) (hits []span) {
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

// handler returns a log handler that masks the values of all attributes.
func (m *masker) handler(h slog.Handler) slog.Handler {
	if m == nil || len(m.secrets) == 0 {
		return h
	}
	return maskHandler{h, m}
}

type maskHandler struct {
	slog.Handler
	mask *masker
}

// Handle implements slog.Handler.
func (h maskHandler) Handle(ctx context.Context, r slog.Record) error {
	masked := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		masked.AddAttrs(h.attr(a))
		return true
	})
	return h.Handler.Handle(ctx, masked)
}

// WithAttrs implements slog.Handler.
func (h maskHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	masked := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		masked[i] = h.attr(a)
	}
	return maskHandler{h.Handler.WithAttrs(masked), h.mask}
}

// WithGroup implements slog.Handler.
func (h maskHandler) WithGroup(name string) slog.Handler {
	return maskHandler{h.Handler.WithGroup(name), h.mask}
}

func (h maskHandler) attr(a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(h.mask.text(v.String()))
	case slog.KindGroup:
		group := slices.Clone(v.Group())
		for i := range group {
			group[i] = h.attr(group[i])
		}
		a.Value = slog.GroupValue(group...)
	case slog.KindAny:
		// Errors above all. What has no secret in it keeps its type.
		if text := fmt.Sprint(v.Any()); h.mask.text(text) != text {
			a.Value = slog.StringValue(h.mask.text(text))
		}
	default: // numbers, times
	}
	return a
}
