package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Paths are matched decoded, with or without a slash at the end, and nothing is
// ever redirected.
func TestPaths(t *testing.T) {
	var routes []Route
	for _, pattern := range []string{"/", "/tools", "/{server}/tools", "/api/v1/servers", "/api/v1/servers/{name}", "/api/v1/servers/{name}/scale", "/ui/{path...}"} {
		routes = append(routes, Get(pattern, Read, func(w *Response, r *http.Request) error {
			return w.JSON(http.StatusOK, fmt.Sprint(pattern, " ", r.PathValue("server"), r.PathValue("name"), r.PathValue("path")))
		}))
	}
	m := newMux(Config{}, routes...)
	const none = ""
	for path, want := range map[string]string{
		"/tools":                         "/tools ",
		"/tools/":                        "/tools ",
		"/t%6Fols":                       "/tools ",
		"/tools?x=//":                    "/tools ",
		"/a/tools":                       "/{server}/tools a",
		"/a/tools/":                      "/{server}/tools a",
		"/tools/tools":                   "/{server}/tools tools",
		"/%C3%BC%20%25/tools":            "/{server}/tools ü %",
		"/./tools":                       "/{server}/tools .",
		"/../tools":                      "/{server}/tools ..",
		"/%2e%2e/tools":                  "/{server}/tools ..",
		"/.a/tools/":                     "/{server}/tools .a",
		"/a/tools/.":                     none,
		"/a/../tools":                    none,
		"/a%2Ftools":                     "/{server}/tools a",
		"/a%2Fb/tools":                   none,
		"/":                              "/ ",
		"//":                             none,
		"//tools":                        none,
		"//a/tools":                      none,
		"/a//tools":                      none,
		"/tools//":                       none,
		"/a/tools/b":                     none,
		"/a":                             none,
		"/api":                           none,
		"/api/":                          none,
		"/api/tools":                     none,
		"/api/v1":                        none,
		"/api/v1/servers/":               "/api/v1/servers ",
		"/api/v1/servers/a":              "/api/v1/servers/{name} a",
		"/api/v1/servers/a/":             "/api/v1/servers/{name} a",
		"/api/v1/servers/..":             "/api/v1/servers/{name} ..",
		"/api/v1/servers/../scale":       "/api/v1/servers/{name}/scale ..",
		"/api/v1/servers/%7Bname%7D":     "/api/v1/servers/{name} {name}",
		"/api/v1/servers//scale":         none,
		"/api/v1/servers/a/scale/b":      none,
		"/api/v1/servers/a%2Fscale":      "/api/v1/servers/{name}/scale a",
		"/ui":                            "/ui/{path...} ",
		"/ui/":                           "/ui/{path...} ",
		"/ui/tools":                      "/ui/{path...} tools",
		"/ui/a/b.js":                     "/ui/{path...} a/b.js",
		"/uix/tools":                     "/{server}/tools uix",
		"http://elsewhere.example/tools": "/tools ",
	} {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{"GET", "CONNECT"} {
			w := httptest.NewRecorder()
			m.ServeHTTP(w, &http.Request{Method: method, URL: u, RequestURI: path, Host: "x:80", Header: http.Header{}, Body: http.NoBody})
			switch {
			case want == none:
				wantError(t, w.Code, w.Header(), w.Body, 404, api.CodeNotFound, "see /, /tools, /{server}/tools, /api/v1/servers, ")
			case method == "CONNECT":
				wantError(t, w.Code, w.Header(), w.Body, 405, api.CodeMethodNotAllowed, "CONNECT")
			case w.Code != 200 || strings.TrimSpace(w.Body.String()) != fmt.Sprintf("%q", want):
				t.Errorf("%s: got %d %s, want %q", path, w.Code, w.Body, want)
			}
		}
	}
	for _, uri := range []string{"*", ""} {
		w := httptest.NewRecorder()
		m.ServeHTTP(w, &http.Request{Method: "OPTIONS", URL: &url.URL{Path: uri}, RequestURI: uri, Header: http.Header{}, Body: http.NoBody, ProtoMajor: 1, ProtoMinor: 1})
		wantError(t, w.Code, w.Header(), w.Body, 404, api.CodeNotFound, "")
	}
}

func TestMethods(t *testing.T) {
	answer := func(w *Response, r *http.Request) error { return w.JSON(http.StatusOK, r.Method) }
	m := newMux(Config{}, Delete("/a/{b}", Write, answer), Get("/a/{b}", Read, answer), Put("/a/{b}", Write, answer), Post("/a/{b}/c", Write, answer))
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		if w := do(m, method, "/a/x", ""); w.Code != 200 || strings.TrimSpace(w.Body.String()) != fmt.Sprintf("%q", method) {
			t.Errorf("%s: got %d %s", method, w.Code, w.Body)
		}
	}
	for path, want := range map[string]string{"/a/x": "GET, HEAD, PUT, DELETE", "/a/x/c": "POST", "/echo": "POST", "/well": "GET, HEAD"} {
		w := do(m, "PATCH", path, "")
		wantError(t, w.Code, w.Header(), w.Body, 405, api.CodeMethodNotAllowed, `"PATCH"`)
		if got := w.Header().Get("Allow"); got != want {
			t.Errorf("%s: Allow %q, want %q", path, got, want)
		}
	}
	// Over a connection a HEAD has the headers of the GET, and no body.
	resp, err := http.Head(serve(t, m).URL + "/well")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.ContentLength != int64(len(`{"status":"ok"}`+"\n")) {
		t.Errorf("HEAD: %s %v", resp.Status, resp.Header)
	}
}

// A route that is hidden is served, and not suggested.
func TestHiddenRoutes(t *testing.T) {
	hidden := Get("/secret", Read, func(w *Response, _ *http.Request) error { return w.JSON(http.StatusOK, "here") })
	hidden.Hidden = true
	m := newMux(Config{}, hidden, Get("/shown", Read, hidden.Handle))
	if w := do(m, "GET", "/secret", ""); w.Code != 200 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if w := do(m, "GET", "/elsewhere", ""); w.Code != 404 || strings.Contains(w.Body.String(), "/secret") || !strings.Contains(w.Body.String(), "/shown") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// Routes of different fronts that conflict are found when the mux is made.
func TestConflictingRoutes(t *testing.T) {
	for _, second := range []string{"/a/{b}", "/a/{c}"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("/a/{b} and %s were accepted", second)
				}
			}()
			newMux(Config{}, Get("/a/{b}", Read, well), Get(second, Read, well))
		}()
	}
}

func BenchmarkRoute(b *testing.B) {
	answer := func(*Response, *http.Request) error { return nil }
	t := newMux(Config{}, Get("/a/b/{c}", Read, answer), Post("/{server}/call", Call, answer)).table
	for _, path := range []string{"/echo", "/x/call", "/a/b/x", "/nothing"} {
		b.Run(path, func(b *testing.B) {
			r := httptest.NewRequest("POST", path, nil)
			w := new(Response)
			b.ReportAllocs()
			for b.Loop() {
				t.match(w, r)
			}
		})
	}
}

// A front gives the errors of its paths a form of its own, also those that no handler
// returned.
func TestErrorBody(t *testing.T) {
	route := Post("/own", Call, func(w *Response, r *http.Request) error {
		if _, err := w.ReadJSON(r); err != nil {
			return err
		}
		return fmt.Errorf("call: %w", fleet.ErrOverloaded)
	})
	route.Errors = func(_ error, e *api.Error) any {
		if e.Code == api.CodeMethodNotAllowed {
			e.Status = http.StatusTeapot
		}
		return map[string]string{"own": e.Code + " " + e.RetryAfter.String()}
	}
	mux := newMux(Config{MaxBody: 10}, route)
	for _, c := range []struct {
		method, body, origin string
		status               int
		want                 string
	}{
		{"POST", `{}`, "", 503, "overloaded 1s"},
		{"POST", `{"a":"long"}`, "", 413, "body_too_large 0s"},
		{"POST", `{}`, "http://evil.example", 403, "forbidden 0s"},
		{"PUT", `{}`, "", 418, "method_not_allowed 0s"},
	} {
		r := httptest.NewRequest(c.method, "/own", strings.NewReader(c.body))
		r.Header.Set("Content-Type", "application/json")
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if want := fmt.Sprintf("{\"own\":%q}\n", c.want); w.Code != c.status || w.Body.String() != want {
			t.Errorf("%s %s: got %d %q, want %d %q", c.method, c.body, w.Code, w.Body, c.status, want)
		}
	}
}
