package catalogue

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
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

// What merged lists lack is logged when it changes, and only then.
func TestMissingIsLogged(t *testing.T) {
	var log bytes.Buffer
	w, c := world{}, New(nil)
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	show := func(want string, servers ...Server) {
		t.Helper()
		log.Reset()
		c.Update(Source{Lookup: w.lookup, Servers: servers})
		if got := log.String(); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("logged %q, want %q", got, want)
		}
	}
	here, slow := Server{Name: "a", Offers: w.offer("h", "x")}, Server{Name: "b", Reason: "1 starting"}
	show("", here)
	show(`msg="merged lists incomplete" missing=[b]`, here, slow)
	slow.Reason = "image is being pulled"
	show("", here, slow)
	slow.Offers = here.Offers
	show(`msg="merged lists complete"`, here, slow)
}
