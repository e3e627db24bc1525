package catalogue

import (
	"errors"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A controller that may not know all servers denies nothing that it does not
// know.
func TestIncompleteDeniesNothing(t *testing.T) {
	why := "not caught up"
	c := New(func() string { return why })
	c.Update(Source{})
	ask := map[string]func() error{
		"tools":             func() error { _, err := c.Tools(""); return err },
		"tools of a server": func() error { _, err := c.Tools("a"); return err },
		"view":              func() error { _, err := c.View(""); return err },
		"view of a server":  func() error { _, err := c.View("a"); return err },
		"view of a gateway": func() error { _, err := c.View("g/a"); return err },
		"tool of a gateway": func() error { _, err := c.Resolve("g/a", "echo"); return err },
		"tool":              func() error { _, err := c.Resolve("", "echo"); return err },
		"tool of a server":  func() error { _, err := c.Resolve("a", "echo"); return err },
		"default tool":      func() error { _, err := c.Default(""); return err },
	}
	for name, do := range ask {
		if err := do(); !errors.Is(err, fleet.ErrCatalogueUnknown) || errors.Is(err, fleet.ErrUnknownServer) || errors.Is(err, fleet.ErrUnknownTool) {
			t.Errorf("%s while starting: got %v, want %v", name, err, fleet.ErrCatalogueUnknown)
		}
	}
	why = ""
	for name, do := range ask {
		if err := do(); errors.Is(err, fleet.ErrCatalogueUnknown) {
			t.Errorf("%s once started: got %v", name, err)
		}
	}
}
