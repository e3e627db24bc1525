package httpapi

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// docs/HTTP.md tells of every route and every code.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/HTTP.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	f := newFixture()
	mention := func(r *route) {
		for method := range strings.SplitSeq(r.allow(), ", ") {
			if method != "HEAD" && !strings.Contains(doc, method+" "+r.name) {
				t.Errorf("docs/HTTP.md does not tell of %s %s", method, r.name)
			}
		}
	}
	for _, r := range f.handler.routes {
		mention(r)
	}
	for _, r := range f.handler.things {
		mention(r)
	}
	mention(f.handler.tools)
	mention(f.handler.call)

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
