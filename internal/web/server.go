package web

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// maxHeader is how large a request's line and headers may be together. The
// handler checks it to the byte; net/http stops reading at up to 4 KiB more than
// it is told, plus what it had read ahead.
const maxHeader = 64 << 10

// Server serves a Handler within limits that no slow, silent or half-open client
// can pass. It speaks HTTP/1.1, and HTTP/2 without TLS to clients that begin
// with it.
type Server struct{ *http.Server }

// NewServer returns a server for the handler. Writing has no limit here: the
// handler gives every write its own. When ctx ends all requests do, streams too.
func NewServer(ctx context.Context, handler http.Handler, log *slog.Logger) *Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &Server{&http.Server{
		Handler:           markHandled(handler),
		Protocols:         &protocols,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withConn,
		ConnState:         connState,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       60 * time.Second, // of header and body; large bodies that keep coming get more
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    maxHeader,
		// OPTIONS * is a route that we do not have.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.With("component", "http").Handler(), slog.LevelDebug),
	}}
}

// Serve serves the connections of a listener until the server is shut down.
func (s *Server) Serve(l net.Listener) error { return s.Server.Serve(s.Listener(l)) }

// Listener returns the listener that Serve makes of another one. It is for tests
// that serve by themselves.
func (s *Server) Listener(l net.Listener) net.Listener { return jsonListener{l} }
