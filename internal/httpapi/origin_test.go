package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A page of another origin can read and change nothing on any route.
func TestPagesAreRefusedOnEveryRoute(t *testing.T) {
	f := newFixture(func(c *config) { c.AllowedHosts = nil })
	f.router.f = func(context.Context, fleet.Call) (fleet.CallResult, error) {
		t.Error("the call was made")
		return fleet.CallResult{}, nil
	}
	paths := []string{"/nothing", "/api/nothing"}
	for _, route := range f.api.Routes() {
		paths = append(paths, strings.NewReplacer("{name}", "main", "{id}", "main", "{server}", "main").Replace(route.Pattern))
	}
	if len(paths) < 20 {
		t.Fatalf("found the routes %v", paths)
	}
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"} {
			for header, value := range map[string]string{"Host": "rebound.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"} {
				r := httptest.NewRequest(method, path, strings.NewReader(`{"tool_args":{}}`))
				r.Host = "127.0.0.1:8000"
				if header == "Host" {
					r.Host = value
				} else {
					r.Header.Set(header, value)
				}
				w := httptest.NewRecorder()
				f.handler.ServeHTTP(w, r)
				if w.Code != http.StatusForbidden || w.Header().Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s %s with %s: %d", method, path, header, w.Code)
				}
				wantError(t, w.Code, w.Header(), w.Body, http.StatusForbidden, api.CodeForbidden, header)
			}
		}
	}
	if f.desired.proposed > 0 || f.members.done != nil {
		t.Errorf("proposed %d commands, %v", f.desired.proposed, f.members.done)
	}
}

// A follower checks the origin, and forwards the request under the leader's address.
func TestForwardedWithoutOrigin(t *testing.T) {
	leader := newFixture(func(c *config) { c.AllowedHosts = nil })
	at := leader.serve(t).Listener.Addr().String()
	follower := newFixture(func(c *config) { c.AllowedHosts = []string{"fleet.example"} })
	follower.desired.become(follows(at))
	w := follower.do("GET", "http://fleet.example/api/v1/servers", "", "Origin", "https://fleet.example", "Sec-Fetch-Site", "same-origin")
	if w.Code != http.StatusOK {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
