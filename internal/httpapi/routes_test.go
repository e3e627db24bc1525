package httpapi

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// docs/HTTP.md has every route and every code.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/HTTP.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	for _, r := range newFixture().api.Routes() {
		if !strings.Contains(doc, r.Method+" "+r.Pattern) {
			t.Errorf("docs/HTTP.md lacks %s %s", r.Method, r.Pattern)
		}
	}

	source, err := os.ReadFile("../api/error.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`Code\w+\s+= "(\w+)"\s+// (\d+)`).FindAllStringSubmatch(string(source), -1)
	if len(codes) < 20 {
		t.Fatalf("found %d codes", len(codes))
	}
	for _, m := range codes {
		if code, status := m[1], m[2]; status != "499" && !regexp.MustCompile(`\| `+status+` \|.*`+"`"+code+"`").MatchString(doc) {
			t.Errorf("docs/HTTP.md lacks %s %s", status, code)
		}
	}
}

func TestEveryRouteNeedsAPermission(t *testing.T) {
	for _, r := range newFixture().api.Routes() {
		if r.Needs < web.Open || r.Needs > web.Admin {
			t.Errorf("%s %s needs the permission %d", r.Method, r.Pattern, r.Needs)
		}
		if r.Method != http.MethodGet && r.Needs != web.Call && r.Needs < web.Write {
			t.Errorf("%s %s changes something and needs only %d", r.Method, r.Pattern, r.Needs)
		}
	}
}

// A 405 lists all methods of the path.
func TestAllow(t *testing.T) {
	f := newFixture()
	for path, want := range map[string]string{
		"/api/v1/servers":                      "GET, HEAD, PUT",
		"/api/v1/servers/x":                    "GET, HEAD, PUT, DELETE",
		"/api/v1/servers/x/scale":              "POST",
		"/api/v1/servers/x/restart":            "POST",
		"/api/v1/servers/x/rollout":            "POST",
		"/api/v1/servers/x/rollback":           "POST",
		"/api/v1/servers/x/wake":               "POST",
		"/api/v1/servers/x/revisions":          "GET, HEAD",
		"/api/v1/nodes":                        "GET, HEAD",
		"/api/v1/nodes/x/drain":                "POST",
		"/api/v1/nodes/x/cordon":               "POST",
		"/api/v1/nodes/x/uncordon":             "POST",
		"/api/v1/events":                       "GET, HEAD",
		"/api/v1/controllers":                  "GET, HEAD",
		"/api/v1/controllers/x":                "DELETE",
		"/api/v1/controllers/x/transfer":       "POST",
		"/api/v1/backup":                       "GET, HEAD",
		"/api/v1/schema":                       "GET, HEAD",
		"/api/v1/replicas":                     "GET, HEAD",
		"/api/v1/replicas/every-1-abcd/logs":   "GET, HEAD",
		"/api/v1/servers/x/y":                  "",
		"/api/v1/servers/x/scale/y":            "",
		"/api/v1/servers//scale":               "",
		"/api/v1/nodes/x":                      "",
		"/api/servers/x/scale":                 "",
		"/api/v1/controllers/x/cordon":         "",
		"/api/v1/v1/servers/x":                 "",
		"/{server}/call":                       "POST", // of a server of that name
		"/api/v1/servers/x/revisions/1/rollba": "",
	} {
		w := f.do("PATCH", path, "")
		if want == "" {
			wantError(t, w.Code, w.Header(), w.Body, 404, api.CodeNotFound, "")
			continue
		}
		wantError(t, w.Code, w.Header(), w.Body, 405, api.CodeMethodNotAllowed, "PATCH")
		if got := w.Header().Get("Allow"); got != want {
			t.Errorf("%s: Allow %q, want %q", path, got, want)
		}
	}
}
