package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/rawio"
)

// net/http answers requests that it cannot read by itself, in plain text, and
// calls no handler. Here such answers are replaced by the JSON of all errors. They
// are recognised by two signs: no handler has been called, and what is written
// begins like an answer with an error status. net/http writes each of them in one
// piece and then closes the connection.

// jsonListener returns connections on which all errors are JSON.
type jsonListener struct{ net.Listener }

// Accept implements net.Listener.
func (l jsonListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &jsonConn{Conn: rawio.Conn(conn)}, nil
}

type jsonConn struct {
	net.Conn
	handled atomic.Bool // a handler was called since the connection was idle
	read    int         // bytes so far, up to len(lineOfHTTP2)
}

// lineOfHTTP2 is what net/http waits for before it takes a connection for HTTP/1.
const lineOfHTTP2 = "PRI * HTTP/2.0"

// Read implements net.Conn. A first line that is shorter than lineOfHTTP2 cannot
// be HTTP. Read appends line ends to it, so that net/http refuses it at once
// instead of waiting until ReadHeaderTimeout.
func (c *jsonConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.read >= len(lineOfHTTP2) {
		return n, err
	}
	c.read += n
	if bytes.IndexByte(p[:n], '\n') >= 0 {
		for ; c.read < len(lineOfHTTP2) && n < len(p); n++ {
			p[n] = '\n'
			c.read++
		}
	}
	return n, err
}

type connKey struct{}

// withConn is the server's ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if _, ok := c.(*jsonConn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// connState is the server's ConnState. An idle connection has answered in full.
func connState(c net.Conn, state http.ConnState) {
	if c, ok := c.(*jsonConn); ok && state == http.StateIdle {
		c.handled.Store(false)
	}
}

// markHandled marks the connection of each request: what is written from now on
// comes from a handler.
func markHandled(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*jsonConn); ok {
			c.handled.Store(true)
		}
		handler.ServeHTTP(w, r)
	})
}

// Write implements net.Conn.
func (c *jsonConn) Write(p []byte) (int, error) {
	if !c.handled.Load() {
		if own := jsonAnswer(p); own != nil {
			if _, err := c.Conn.Write(own); err != nil {
				return 0, err
			}
			return len(p), nil
		}
	}
	return c.Conn.Write(p)
}

// CloseWrite lets net/http close its half first, so that a client that is still
// sending can read the answer.
func (c *jsonConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// jsonAnswer returns the replacement for an answer of net/http itself, or nil if p
// is not one.
func jsonAnswer(p []byte) []byte {
	head, text, ok := bytes.Cut(p, []byte("\r\n\r\n"))
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	rest, isHTTP := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if !ok || !isHTTP || len(rest) < 3 {
		return nil
	}
	status, err := strconv.Atoi(string(rest[:3]))
	if err != nil || status < 400 {
		return nil
	}
	e := api.Error{Code: api.CodeBadRequest, RequestID: newRequestID()}
	// The text is "400 Bad Request: malformed Host header", or empty.
	_, detail, _ := strings.Cut(string(text), ": ")
	switch status {
	case http.StatusRequestHeaderFieldsTooLarge:
		e.Code, e.Detail = api.CodeHeadersTooLarge, errHeaders().Error()
	case http.StatusExpectationFailed:
		e.Detail = "Expect must be 100-continue"
	case http.StatusNotImplemented:
		e.Detail = "Transfer-Encoding must be chunked"
	case http.StatusHTTPVersionNotSupported:
		e.Detail = "the protocol must be HTTP/1.1, HTTP/1.0 or HTTP/2"
	default:
		e.Detail = "the request is not valid HTTP"
		if detail != "" {
			e.Detail += ": " + detail
		}
	}
	body, err := json.Marshal(e)
	if err != nil {
		return nil // cannot happen: all fields are text
	}
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%s: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n",
		status, http.StatusText(status), HeaderRequestID, e.RequestID, len(body)+1, body)
}
