package web

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// maxHeader limits a request's line and headers together. Mux checks it to the
// byte: net/http reads up to 4 KiB more than its limit, and what it read ahead.
const maxHeader = 64 << 10

// Server serves a Mux, with time limits for slow, silent and half-open clients. It
// speaks HTTP/1.1, and HTTP/2 without TLS with clients that begin with it.
type Server struct{ *http.Server }

// NewServer returns a server for the handler. It sets no limit for writing, as
// Response gives every write its own. The end of ctx ends all requests.
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
		// Mux answers OPTIONS *, with 404.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.With("component", "http").Handler(), slog.LevelDebug),
	}}
}

// Serve serves the connections of a listener until the server is shut down.
func (s *Server) Serve(l net.Listener) error { return s.Server.Serve(s.Listener(l)) }

// Listener returns l as Serve uses it, for tests that serve by themselves.
func (s *Server) Listener(l net.Listener) net.Listener { return jsonListener{l} }
