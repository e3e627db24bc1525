package mcphttp

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

const (
	// relayTimeout bounds how long a message waits at the controller that has its stream.
	relayTimeout = openTimeout + 15*time.Second
	// maxRelayed bounds the answer, which is short.
	maxRelayed = 1 << 20
)

// headerForwarded names the controller that passed a message on. Such a message is never
// passed on again.
const headerForwarded = "Mcpfleet-Forwarded-By"

// relayed are the headers of a message and of its answer that are passed on.
var relayed = [...]string{
	"Accept", "Authorization", "Content-Type", "Retry-After", "Traceparent", "Tracestate", "User-Agent", "X-Forwarded-For", "X-Request-Timeout",
}

// newRelay returns the client that sends messages to other controllers. Whatever the
// environment says, it uses no proxy.
func newRelay() *http.Client {
	return &http.Client{Timeout: relayTimeout, Transport: &http.Transport{
		DialContext: (&net.Dialer{Timeout: 3 * time.Second}).DialContext, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
	}}
}

// relay sends a message to the controller that has its stream, and passes on the answer.
func (f *Front) relay(w *web.Response, r *http.Request, life fleet.LifeID, raw []byte) error {
	address := f.cfg.Peer(life)
	if address == "" || r.Header.Get(headerForwarded) != "" {
		return errPipe
	}
	at := url.URL{Scheme: "http", Host: address, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, at.String(), bytes.NewReader(raw))
	if err != nil {
		return err
	}
	copyHeaders(req.Header, r.Header)
	req.Header.Set(web.HeaderRequestID, w.RequestID())
	req.Header.Set(headerForwarded, string(f.cfg.Self))
	res, err := f.peers.Do(req)
	if err != nil {
		f.log.Info("message not relayed", "controller", address, "err", err)
		return errUnreachable
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxRelayed))
	if err != nil {
		return errUnreachable
	}
	copyHeaders(w.Header(), res.Header)
	w.WriteHeader(res.StatusCode)
	return w.WriteAll(body)
}

func copyHeaders(to, from http.Header) {
	for _, name := range relayed {
		if values := from[name]; values != nil {
			to[name] = values
		}
	}
}

var errUnreachable = &web.Error{
	Status: http.StatusServiceUnavailable, Code: nameUnavailable,
	Detail: "the controller that has the stream cannot be reached: open another one with GET",
}
