package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// patience is how long a request that surely was not sent is tried again.
	patience = 15 * time.Second

	firstPause = 100 * time.Millisecond
	longPause  = 5 * time.Second
)

// endpoints are the addresses of one MCP endpoint at several controllers.
type endpoints struct {
	urls    []string
	client  http.RoundTripper
	agent   string // User-Agent
	current atomic.Int64
}

// answer is an HTTP response, and the endpoint that it came from.
type answer struct {
	*http.Response
	at int64
}

// unsentError means that no endpoint got the request, so that it surely had no
// effect.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return "no controller answers: " + e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

// send sends a request to the endpoint that answered last, and to the next one if
// it surely was not sent. If none got it the error is an *unsentError.
func (e *endpoints) send(ctx context.Context, method string, header http.Header, body []byte) (answer, error) {
	begin := e.current.Load()
	var failed []error
	for i := range e.urls {
		at := (begin + int64(i)) % int64(len(e.urls))
		resp, sent, err := e.try(ctx, e.urls[at], method, header, body) //nolint:bodyclose // the caller closes it
		switch {
		case err == nil:
			e.current.Store(at)
			return answer{resp, at}, nil
		case ctx.Err() != nil:
			e.leave(at) // it may hang
			return answer{}, context.Cause(ctx)
		case sent:
			e.leave(at)
			return answer{}, err
		}
		failed = append(failed, err)
	}
	return answer{}, &unsentError{errors.Join(failed...)}
}

// sendPatiently is send, and tries again for a while as long as the request
// surely was not sent.
func (e *endpoints) sendPatiently(ctx context.Context, method string, header http.Header, body []byte) (answer, error) {
	deadline := time.Now().Add(patience)
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		resp, err := e.send(ctx, method, header, body)
		if _, unsent := errors.AsType[*unsentError](err); !unsent || time.Now().Add(pause).After(deadline) {
			return resp, err
		}
		if err := sleep(ctx, pause); err != nil {
			return answer{}, err
		}
	}
}

// leave makes another endpoint the first to try, if at still is.
func (e *endpoints) leave(at int64) {
	e.current.CompareAndSwap(at, (at+1)%int64(len(e.urls)))
}

// try sends a request to one endpoint. sent reports, with an error, whether the
// endpoint may have got the whole request.
func (e *endpoints) try(ctx context.Context, to, method string, header http.Header, body []byte) (resp *http.Response, sent bool, err error) {
	req, err := http.NewRequestWithContext(ctx, method, to, nil)
	if err != nil {
		return nil, false, err
	}
	req.Header = header.Clone()
	req.Header.Set("User-Agent", e.agent)
	var handed atomic.Bool
	if body != nil {
		req.ContentLength = int64(len(body))
		req.GetBody = func() (io.ReadCloser, error) {
			handed.Store(false)
			return io.NopCloser(&handedOver{bytes.NewReader(body), &handed}), nil
		}
		req.Body, _ = req.GetBody()
	}
	resp, err = e.client.RoundTrip(req)
	if err == nil {
		return resp, true, nil
	}
	dial, ok := errors.AsType[*net.OpError](err)
	unsent := ok && dial.Op == "dial" || body != nil && !handed.Load()
	return nil, !unsent, fmt.Errorf("%s %s: %w", method, hideQuery(to), err)
}

// handedOver notes when the transport has taken the whole body. Before that no
// server can have read it.
type handedOver struct {
	*bytes.Reader
	whole *atomic.Bool
}

// Read implements io.Reader.
func (h *handedOver) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if h.Len() == 0 {
		h.whole.Store(true)
	}
	return n, err
}

// WriteTo implements io.WriterTo.
func (h *handedOver) WriteTo(w io.Writer) (int64, error) {
	h.whole.Store(true)
	return h.Reader.WriteTo(w)
}

// hideQuery removes what may be secret from a URL.
func hideQuery(to string) string {
	u, err := url.Parse(to)
	if err != nil {
		return to
	}
	u.RawQuery = ""
	return u.Redacted()
}

// sleep waits for about d.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d/2 + rand.N(d/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// isSSE reports whether a response is a stream of events.
func (a answer) isSSE() bool {
	media, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(media), "text/event-stream")
}

// NewTransport returns a transport for connections to controllers. It notices
// within half a minute that a machine is gone.
func NewTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{
		Timeout:         3 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
	}).DialContext
	t.MaxIdleConnsPerHost = 64
	t.DisableCompression = true // events must arrive at once
	return t
}
