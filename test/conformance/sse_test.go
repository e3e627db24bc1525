//go:build linux

package conformance

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mcpfleet/mcpfleet/test/tsclient"
)

// The official client can do over the deprecated HTTP+SSE transport what it can do over
// Streamable HTTP, although its messages arrive at another controller than the one that
// has its stream.
func TestSSE(t *testing.T) {
	s := install(t)
	into := tsclient.Scripts(t, s.dir, sub(t, scripts, "clients"))
	notes := t.TempDir()
	t.Setenv("FIXTURE_NOTES", notes)
	f := startFleet(t)
	for name := range fixtures {
		spec := s.spec(name)
		spec["env"] = map[string]string{"FIXTURE_NOTES": notes}
		f.deploy(t, name, spec)
	}
	for server := range fixtures {
		t.Run(server, func(t *testing.T) {
			got := s.check(t, []string{s.node, filepath.Join(into, "ts1.mjs")}, f.front+"/"+server+"/sse", legacy, server)
			for _, check := range slices.Sorted(maps.Keys(got)) {
				if failed(got[check]) {
					t.Errorf("%s: %s", check, got[check])
				}
			}
			t.Logf("failed checks: %s", summary(got))
		})
	}
}
