package fleet

import "log/slog"

// Trace identifies the request that a call serves. Every program that the call
// passes through keeps it and logs it.
type Trace struct {
	RequestID   string // X-Request-ID; "" for a call that no request asked for
	Traceparent string // of W3C trace context; "" if the client sent none
}

// Attr returns the attributes that a log line about the call carries:
// request_id and traceparent, each left out if it is empty.
func (t Trace) Attr() slog.Attr {
	var attrs []slog.Attr
	if t.RequestID != "" {
		attrs = append(attrs, slog.String("request_id", t.RequestID))
	}
	if t.Traceparent != "" {
		attrs = append(attrs, slog.String("traceparent", t.Traceparent))
	}
	return slog.Attr{Value: slog.GroupValue(attrs...)} // a group without a name is inlined
}
