package controller

import (
	"errors"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/catalogue"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestStartingKnowsNotWhatIsMissing(t *testing.T) {
	offers := catalogue.New()
	offers.Update(catalogue.View{})
	why := "not caught up"
	c := &starting{Catalogue: offers, incomplete: func() string { return why }, empty: func() bool { return true }}
	ask := map[string]func() error{
		"tools":             func() error { _, err := c.Tools(""); return err },
		"tools of a server": func() error { _, err := c.Tools("a"); return err },
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
