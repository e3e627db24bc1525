package httpapi

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/web"
)

// docs/HTTP.md tells of every route and every code.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/HTTP.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	for _, r := range newFixture().api.Routes() {
		if !strings.Contains(doc, r.Method+" "+r.Pattern) {
			t.Errorf("docs/HTTP.md does not tell of %s %s", r.Method, r.Pattern)
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
			t.Errorf("docs/HTTP.md does not tell of %s %s", status, code)
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
