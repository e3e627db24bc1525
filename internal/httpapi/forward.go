package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/leader"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

const (
	// headerForwarded names the controller that passed a request on. Such a
	// request is never passed on again.
	headerForwarded = "Mcpfleet-Forwarded-By"
	// answerTimeout is how long the leader may send nothing.
	answerTimeout = 10 * time.Second
	dialTimeout   = time.Second
	// ownWrite is how long the answer to a write waits until this controller knows of
	// it. The leader tells with its next heartbeat at the latest.
	ownWrite = 500 * time.Millisecond
	// keptIdle is less than the leader's IdleTimeout, so that no request is sent
	// on a connection that the leader is closing.
	keptIdle = 30 * time.Second
	// wholeAnswer is how much of an answer is read before any of it is passed on.
	// Most answers have arrived in full by then, or are known to be lost.
	wholeAnswer = 1 << 20
)

var (
	errLateLeader  = errors.New("it took too long")
	errLeaderMoved = errors.New("another controller leads now")
)

const (
	// movedGrace is how long the answer to a write may still arrive once another
	// controller leads. A controller that handed leadership over is alive and
	// knows the outcome of its writes.
	movedGrace = 250 * time.Millisecond
	// transferGrace is movedGrace for the request that moves leadership. The old
	// leader answers it when it knows the new one.
	transferGrace = DefaultLeaderWait
)

// newTransport returns a transport that ignores the proxies of the environment.
func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &countedConn{Conn: conn}, nil
		},
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     keptIdle,
		DisableCompression:  true,
	}
}

// countedConn counts the writes that may have reached the other side.
type countedConn struct {
	net.Conn
	writes atomic.Int64
}

// Write counts before it writes: the answer may arrive, or the connection break,
// before it returns.
func (c *countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	n, err := c.Conn.Write(p)
	if n == 0 && err != nil {
		c.writes.Add(-1)
	}
	return n, err
}

// delivery records whether a request may have reached the leader.
type delivery struct {
	conn   *countedConn
	before int64 // writes to conn before the request
	sure   bool  // the leader answered, or the connection does not count writes
}

func (d *delivery) gotConn(info httptrace.GotConnInfo) {
	if c, ok := info.Conn.(*countedConn); ok {
		d.conn, d.before = c, c.writes.Load()
	} else {
		d.sure = true
	}
}

// begun reports whether any part of the request may have reached the leader. Once
// ctx has ended the transport may still be writing.
func (d *delivery) begun(ctx context.Context) bool {
	return d.sure || d.conn != nil && (ctx.Err() != nil || d.conn.writes.Load() > d.before)
}

// forward passes a request on to the leader, and the answer back. After an error
// that wraps fleet.ErrNotLeader the request may be sent again.
func (h *API) forward(w *web.Response, r *http.Request, address string, body []byte) error {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	alarm := time.AfterFunc(answerTimeout, func() { cancel(errLateLeader) })
	defer alarm.Stop()
	var sent delivery
	out := h.outgoing(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: sent.gotConn}), w, r, address, body)

	lost := func(err error) error {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		switch {
		case !sent.begun(ctx):
			return notNow(fmt.Sprintf("the leader at %s cannot be reached: %v", address, err))
		case isRead(r):
			return notNow(fmt.Sprintf("the leader at %s did not answer: %v", address, err))
		}
		return fmt.Errorf("%w: the leader at %s did not answer: %v", fleet.ErrOutcomeUnknown, address, err) //nolint:errorlint // Format, don't wrap: callers must not match the cause.
	}
	stopWatching := h.whenMoved(ctx, r, address, cancel)
	defer stopWatching()
	resp, err := h.transport.RoundTrip(out)
	if err != nil {
		return lost(err)
	}
	defer resp.Body.Close()
	sent.sure = true
	begin, err := io.ReadAll(io.LimitReader(resp.Body, wholeAnswer))
	if err != nil {
		return lost(err)
	}
	stopWatching() // the leader has answered
	if why, ok := refusedAsFollower(resp, begin); ok {
		return notNow(why)
	}
	h.awaitWrite(r, resp)
	return h.passBack(w, r, resp, begin, alarm)
}

// awaitWrite waits until this controller knows of a write that the leader has
// answered. The caller's next request, such as a call to a new server, may come to
// this controller, too. The wait ends with ownWrite: the write is done in any case.
func (h *API) awaitWrite(r *http.Request, resp *http.Response) {
	index, err := strconv.ParseUint(resp.Header.Get(headerIndex), 10, 64)
	if err != nil || isRead(r) || resp.StatusCode < 200 || resp.StatusCode > 299 {
		return
	}
	look, cancel := h.cfg.Desired.Subscribe()
	defer cancel()
	patience := time.NewTimer(ownWrite)
	defer patience.Stop()
	for h.cfg.Desired.State().Index < index {
		select {
		case <-look:
		case <-patience.C:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// whenMoved calls giveUp once another controller leads than the one at the address,
// which may have been stopped or cut off and never answer. The function that it
// returns ends the watch and waits for it. It may be called more than once.
func (h *API) whenMoved(ctx context.Context, r *http.Request, address string, giveUp context.CancelCauseFunc) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		if h.cfg.Leader.Wait(ctx, func(l leader.Leader) bool { return l.HTTP != address }) != nil {
			return
		}
		switch {
		case isRead(r):
		case strings.HasSuffix(r.URL.Path, "/transfer"):
			sleep(ctx, transferGrace)
		default:
			sleep(ctx, movedGrace)
		}
		if ctx.Err() == nil {
			giveUp(errLeaderMoved)
		}
	})
	return func() {
		cancel()
		watch.Wait()
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// outgoing returns the request that the leader gets.
func (h *API) outgoing(ctx context.Context, w *web.Response, r *http.Request, address string, body []byte) *http.Request {
	url := *r.URL
	url.Scheme, url.Host, url.User, url.Fragment = "http", address, nil, ""
	if q := url.Query(); q.Has("index") || q.Has("wait") {
		// This controller has waited already.
		q.Del("index")
		q.Del("wait")
		url.RawQuery = q.Encode()
	}
	out := (&http.Request{
		Method: r.Method, URL: &url, Host: address, Header: r.Header.Clone(),
		Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if len(body) > 0 {
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	endToEnd(out.Header)
	// Origin and Sec-Fetch-Site refer to the Host of this controller, which has
	// checked them.
	for _, name := range []string{"Expect", "Accept-Encoding", "Content-Length", "Origin", "Sec-Fetch-Site"} {
		out.Header.Del(name)
	}
	out.Header.Set(web.HeaderRequestID, w.RequestID())
	out.Header.Set(headerForwarded, string(h.cfg.Self))
	if ip, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		out.Header.Set("X-Forwarded-For", strings.Join(append(r.Header.Values("X-Forwarded-For"), ip), ", "))
	}
	// With one of these headers, in this spelling, http.Transport sends a request
	// again after the connection was lost. But its outcome is unknown then, and
	// the client decides. In lower case the leader still finds the header.
	for _, key := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, given := out.Header[key]; given {
			delete(out.Header, key)
			out.Header[strings.ToLower(key)] = values
		}
	}
	return out
}

// endToEnd removes the headers that are about one connection.
func endToEnd(h http.Header) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		h.Del(name)
	}
}

// refusedAsFollower returns the reason in the answer of a controller that does not
// lead and has written nothing. ok reports whether it is such an answer.
func refusedAsFollower(resp *http.Response, body []byte) (why string, ok bool) {
	var e api.Error
	if resp.StatusCode != http.StatusServiceUnavailable || json.Unmarshal(body, &e) != nil || e.Code != api.CodeNoLeader {
		return "", false
	}
	return e.Detail, true
}

// passBack answers with the answer of the leader. begin is the part of its body
// that was read.
func (h *API) passBack(w *web.Response, r *http.Request, resp *http.Response, begin []byte, alarm *time.Timer) error {
	header := w.Header()
	endToEnd(resp.Header)
	for name, values := range resp.Header {
		if !slices.Contains([]string{"Content-Length", "Date", web.HeaderRequestID}, name) {
			header[name] = values
		}
	}
	whole := len(begin) < wholeAnswer
	switch {
	case whole && r.Method != http.MethodHead:
		header.Set("Content-Length", strconv.Itoa(len(begin)))
	case resp.ContentLength >= 0:
		header.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	w.WriteHeader(resp.StatusCode)
	if err := w.WriteAll(begin); err != nil || whole {
		return err
	}
	return w.Copy(&inTime{resp.Body, alarm})
}

// inTime is a body that may take answerTimeout for each read.
type inTime struct {
	body  io.Reader
	alarm *time.Timer
}

// Read implements io.Reader.
func (b *inTime) Read(p []byte) (int, error) {
	b.alarm.Reset(answerTimeout)
	return b.body.Read(p)
}
