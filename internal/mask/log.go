package mask

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
)

// Handler returns a log handler that masks the values of all attributes.
func (m *Masker) Handler(h slog.Handler) slog.Handler {
	if m == nil || len(m.secrets) == 0 {
		return h
	}
	return maskHandler{h, m}
}

type maskHandler struct {
	slog.Handler
	mask *Masker
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
		a.Value = slog.StringValue(h.mask.Text(v.String()))
	case slog.KindGroup:
		group := slices.Clone(v.Group())
		for i := range group {
			group[i] = h.attr(group[i])
		}
		a.Value = slog.GroupValue(group...)
	case slog.KindAny:
		// Mostly errors. A value without a secret keeps its type.
		if text := fmt.Sprint(v.Any()); h.mask.Text(text) != text {
			a.Value = slog.StringValue(h.mask.Text(text))
		}
	default: // numbers, times
	}
	return a
}
