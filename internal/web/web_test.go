package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/web/webtest"
)

var wantError = webtest.WantError

// echo answers with the body that it got.
func echo(w *Response, r *http.Request) error {
	body, err := w.ReadJSON(r)
	if err != nil {
		return err
	}
	defer body.Free()
	w.BeginJSON(http.StatusOK, int64(len(body.Bytes)))
	return w.WriteAll(body.Bytes)
}

// well answers 200.
func well(w *Response, _ *http.Request) error {
	return w.JSON(http.StatusOK, map[string]string{"status": "ok"})
}

// newMux returns a mux that accepts any Host, with the routes POST /echo and GET
// /well besides those given.
func newMux(cfg Config, routes ...Route) *Mux {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.AllowedHosts = []string{"*"}
	return NewMux(cfg, append(routes, Post("/echo", Call, echo), Get("/well", Open, well))...)
}

// serve starts a real server, for what a recorder cannot show.
func serve(t *testing.T, handler http.Handler, change ...func(*http.Server)) *httptest.Server {
	t.Helper()
	server := NewServer(t.Context(), handler, slog.New(slog.DiscardHandler))
	srv := httptest.NewUnstartedServer(nil)
	srv.Config, srv.Listener = server.Server, server.Listener(srv.Listener)
	for _, c := range change {
		c(srv.Config)
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

func dial(t *testing.T, srv *httptest.Server) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

func post(t *testing.T, url, body string) *http.Response {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func do(handler http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// Any error of a handler becomes the answer.
func TestErrors(t *testing.T) {
	sentinel := &Error{Status: http.StatusTeapot, Code: "teapot", Detail: "short and stout"}
	for _, tt := range []struct {
		name         string
		err          error
		status       int
		code, detail string
		counted      string // status in metrics
	}{
		{"of this package", BadRequest("no %s", "way"), 400, api.CodeBadRequest, "no way", "400"},
		{"of a front", fmt.Errorf("pour: %w", sentinel), 418, "teapot", "pour: short and stout", "418"},
		{"of fleet", fmt.Errorf("server a: %w", fleet.ErrUnknownServer), 404, api.CodeUnknownServer, "server a: unknown server", "404"},
		{"of nobody", errors.New("secret of ours"), 500, api.CodeInternal, "internal error", "500"},
		{"of a client that left", fmt.Errorf("%w: %w", fleet.ErrReplicaLost, context.Canceled), 502, api.CodeReplicaLost, "given up", "499"},
		{"of a write that nobody waited for", fmt.Errorf("%w: %w", fleet.ErrOutcomeUnknown, context.Canceled), 503, api.CodeOutcomeUnknown, "outcome", "503"},
		{"with an answer of its own", answering{}, 500, api.CodeToolError, "told apart", "500"},
		{"whose answer is not JSON", answering{rpc: "{"}, 500, api.CodeInternal, "internal error", "500"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reg := prometheus.NewPedanticRegistry()
			m := newMux(Config{Registry: reg}, Get("/x", Read, func(*Response, *http.Request) error { return tt.err }))
			w := do(m, "GET", "/x", "")
			wantError(t, w.Code, w.Header(), w.Body, tt.status, tt.code, tt.detail)
			if n := testutil.ToFloat64(m.requests.WithLabelValues("/x", tt.counted)); n != 1 {
				t.Errorf("counted %v times with status %s", n, tt.counted)
			}
		})
	}
}

type answering struct{ rpc string }

func (answering) Error() string { return "for the log" }
func (a answering) Answer() api.Error {
	return api.Error{Status: 500, Code: api.CodeToolError, Detail: "told apart", RPC: []byte(a.rpc)}
}

// An error after an answer has begun ends the connection, so that nobody takes the
// answer for a whole one.
func TestErrorsAfterTheAnswerBegan(t *testing.T) {
	for name, then := range map[string]func() error{
		"error": func() error { return errors.New("lost") },
		"panic": func() error { panic("oh") },
		"abort": func() error { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			m := newMux(Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, Get("/x", Read, func(w *Response, _ *http.Request) error {
				w.BeginJSON(http.StatusOK, -1)
				_, _ = io.WriteString(w, `{"half":`)
				_ = w.Flush()
				return then()
			}))
			srv := serve(t, m)
			resp, err := http.Get(srv.URL + "/x")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || err == nil {
				t.Errorf("got %d %s, %v", resp.StatusCode, got, err)
			}
			srv.Close()
			if text := log.String(); !strings.Contains(text, "broken_off=true") || strings.Contains(text, "request panicked") != (name == "panic") {
				t.Errorf("logged %s", text)
			}
		})
	}
}

func TestPanicIsAnswered(t *testing.T) {
	m := newMux(Config{}, Get("/x", Read, func(*Response, *http.Request) error { panic("oh") }))
	w := do(m, "GET", "/x", "")
	wantError(t, w.Code, w.Header(), w.Body, 500, api.CodeInternal, "internal error")
}

// Once the controller is told to stop, answers close their connections.
func TestLeaving(t *testing.T) {
	leaving := make(chan struct{})
	m := newMux(Config{Leaving: leaving})
	if got := do(m, "GET", "/well", "").Header().Get("Connection"); got != "" {
		t.Errorf("Connection: %s before", got)
	}
	close(leaving)
	for _, path := range []string{"/well", "/nothing"} {
		if got := do(m, "GET", path, "").Header().Get("Connection"); got != "close" {
			t.Errorf("%s: Connection: %q", path, got)
		}
	}
}

func TestAccessLines(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, tt := range []struct {
		path string
		err  error
		want string // "" for no line at info level
	}{
		{"/well", nil, ""},
		{"/x", BadRequest("no"), ""},
		{"/x", errors.New("disk is full"), `level=INFO msg=request component=http request_id=r-1 method=GET path=/x status=500 `},
	} {
		var log bytes.Buffer
		m := newMux(Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, Get("/x", Read, func(*Response, *http.Request) error { return tt.err }))
		do(m, "GET", tt.path, "", "X-Request-ID", "r-1", "traceparent", trace)
		text := log.String()
		if tt.want == "" && text != "" || !strings.Contains(text, tt.want) {
			t.Errorf("%s, %v: logged %q, want %q", tt.path, tt.err, text, tt.want)
		}
		if tt.want != "" && (!strings.Contains(text, `err="disk is full"`) || !strings.Contains(text, "traceparent="+trace)) {
			t.Errorf("logged %q", text)
		}
	}
}
