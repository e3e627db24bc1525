package fleet

import "log/slog"

// Trace identifies the request that a call serves. Controllers and workers log it
// with the call.
type Trace struct {
	RequestID   string // X-Request-ID; "" for a call without a request
	Traceparent string // of W3C trace context; "" if the client did not send it
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
